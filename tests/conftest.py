"""What the tests share: where MNIST is, tiny model files, ways to run train.py."""

import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), *(str(ROOT / name) for name in ("results", "baselines", "demo"))]

import train  # noqa: E402
import utils  # noqa: E402

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # no GPU: two equal runs on one differ in some bits
torch.set_num_threads(1)  # as in the processes below, for the same bits
DIGITS = functools.cache(utils.rendered_digits)

PLOTS = {"accuracy.png", "loss.png", "learning_rate.png", "mistakes.png"}
FILES = PLOTS | {"args.json", "metrics.csv", "learning_rate.csv", "mistakes.csv", "rf.md",
                 "model.pt", "last.pt"}

# A net that trains in no time, with everything that resuming has to get right: dropout draws from
# torch's own random state, BatchNorm has buffers, the weight average is a second net.
TINY = '''
from torch import nn
RECIPE = dict(epochs=4, batch_size=100,
              optimizer=dict(name="SGD", {lr}momentum=0.9, nesterov=True, weight_decay=1e-4),
              scheduler=dict({scheduler}), augment=dict(rotate=10, shift=1, scale=0.1, shear=5),
              label_smoothing=0.02, average=0.9)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), nn.BatchNorm2d(4), nn.ReLU(),
                                    nn.Dropout(0.1), nn.Flatten(), nn.Linear(256, 10))

    def forward(self, images):
        return self.layers(images)
'''
ONE_CYCLE = TINY.format(lr="", scheduler='name="OneCycleLR", max_lr=0.1, cycle_momentum=True')
PLATEAU = TINY.format(lr="lr=0.1, ", scheduler='name="ReduceLROnPlateau", factor=0.5, patience=0, '
                                               'threshold=0.2')
STEP = TINY.format(lr="lr=0.1, ", scheduler='name="StepLR", step_size=2, gamma=0.5')
BY_EPOCH = TINY.format(lr="", scheduler='name="ByEpoch", rates=[1, 0.02, 0.05, 0.01]')


def source_of(name):
    """A fixture: the path of a model file with one of the sources above."""
    def write_source(tmp_path):
        path = tmp_path / f"{name.lower()}.py"
        path.write_text(globals()[name])
        return path
    return pytest.fixture(write_source, name=name.lower())


one_cycle, plateau, step, by_epoch = map(source_of, ("ONE_CYCLE", "PLATEAU", "STEP", "BY_EPOCH"))


@pytest.fixture(scope="session")
def mnist():
    """The folder with the real MNIST, or a skip: the tests download nothing."""
    if not all((ROOT / "data" / "MNIST" / "raw" / name).is_file() for name in utils.RAW_FILES):
        pytest.skip("MNIST is not in data/")
    return ROOT / "data"


@pytest.fixture
def main(tmp_path, monkeypatch, capsys):
    """train.main() in this process and in an empty folder: (status, stdout, stderr). Its digits are
    rendered once, its pictures are empty files: these take ten times as long as all the rest."""
    monkeypatch.setattr(utils, "mistakes", lambda *args: None)
    monkeypatch.setattr(utils, "curves", lambda *args: dict.fromkeys(PLOTS - {"mistakes.png"}))
    monkeypatch.setattr(utils, "png", lambda figure: b"a picture")
    monkeypatch.setattr(utils, "rendered_digits", DIGITS)
    monkeypatch.chdir(tmp_path)

    def call(*args):
        capsys.readouterr()
        try:
            status = train.main([str(arg) for arg in args])
        except SystemExit as stop:  # argparse's way out
            status = stop.code
        return status, *capsys.readouterr()
    return call


SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pytest", "torchsummary", "torch._dynamo"])


@pytest.fixture(scope="session", autouse=True)
def server():
    """Start what spawn() forks from, so that its imports overlap with the first tests."""
    forkserver.ensure_running()


def spawn(*args, here=ROOT):
    """train.py as a process of its own, to be killed. A server that has imported torch already
    forks it, which takes no time. What it prints is in the file `printed`. here: the folder with
    the train.py that --runs begins."""
    process = SERVER.Process(target=run_script, args=(args, here))
    process.start()
    return process


def run_script(args, here):
    """What spawn() has the new process do."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    utils.HERE, sys.argv = here, ["train.py", *map(str, args)]
    with open("printed", "w", buffering=1) as sys.stdout:
        sys.stderr = sys.stdout
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


def wait_until(is_alive, condition):
    """Return once the condition holds; fail if the process has ended before, or after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert is_alive() and time.monotonic() < deadline
        time.sleep(0.02)


def environment():
    """One thread, and a proxy that refuses, so that a run here finds no network anywhere."""
    refuse = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
                           "http://127.0.0.1:9")
    return os.environ | refuse | dict(OMP_NUM_THREADS="1", no_proxy="", NO_PROXY="")


def shell(command, cwd, **env):
    """A command in bash, which knows $PYTHON and $TRAIN: (status, stdout, stderr)."""
    env = environment() | dict(PYTHON=sys.executable, TRAIN=str(ROOT / "train.py")) | env
    done = subprocess.run(["bash", "-c", command], cwd=cwd, env=env, capture_output=True,
                          text=True, timeout=170)
    return done.returncode, done.stdout, done.stderr


def table(text):
    """The rows of a Markdown table in a text, as dicts of text."""
    header, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")]
                         for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(header, line, strict=True)) for line in lines]


def equal(a, b):
    """Bit for bit, through nested dicts and lists; but for the time that things took."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def contents(folder):
    """What two equal runs share: their states, tables and weights."""
    tables = "metrics.csv", "learning_rate.csv", "mistakes.csv"
    return [utils.load(folder / "last.pt"), utils.load(folder / "model.pt"),
            *(utils.read_csv(folder / name) for name in tables)]
