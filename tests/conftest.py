"""What the tests share: where MNIST is, a way to run train.py as a user does, a tiny model file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "results"), str(ROOT / "baselines")]

import utils  # noqa: E402

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


@pytest.fixture
def one_cycle(tmp_path):
    (tmp_path / "one_cycle.py").write_text(ONE_CYCLE)
    return tmp_path / "one_cycle.py"


@pytest.fixture
def plateau(tmp_path):
    (tmp_path / "plateau.py").write_text(PLATEAU)
    return tmp_path / "plateau.py"


@pytest.fixture(scope="session")
def mnist():
    """The folder with the real MNIST, or a skip: the tests download nothing."""
    for place in (ROOT / "data", ROOT.parent / "shared" / "mnist"):
        if all((place / "MNIST" / "raw" / name).is_file() for name in utils.RAW_FILES):
            return place
    pytest.skip("MNIST is neither in data/ nor in ../shared/mnist/")


def environment():
    """One thread, and a proxy that refuses, so that a run here finds no network anywhere."""
    refuse = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
                           "http://127.0.0.1:9")
    return os.environ | refuse | dict(OMP_NUM_THREADS="1", no_proxy="", NO_PROXY="")


def start(*args, cwd, threads=1, **options):
    """train.py as a process of its own, its output to be read while it runs. It gets Ctrl-C even if
    the tests themselves run in the background, where shells have it ignored."""
    return subprocess.Popen([sys.executable, ROOT / "train.py", *map(str, args)], cwd=cwd,
                            text=True, env=environment() | dict(OMP_NUM_THREADS=str(threads)),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def run(*args, cwd, status=0, threads=1):
    """train.py run to its end; returns (stdout, stderr) after checking its exit status."""
    process = start(*args, cwd=cwd, threads=threads)
    out, err = process.communicate(timeout=170)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    assert "Traceback" not in out + err
    return out, err
