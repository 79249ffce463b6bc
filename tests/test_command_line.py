"""train.py as a user runs it: processes of its own, their output, exit status and files."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import ONE_CYCLE, PLATEAU, ROOT, environment, run, start
from PIL import Image

import train
import utils

PLOTS = ("accuracy.png", "loss.png", "learning_rate.png", "mistakes.png")
FILES = {"args.json", "metrics.csv", "learning_rate.csv", "mistakes.csv", "model.pt", "last.pt",
         *PLOTS}


@pytest.fixture
def main(tmp_path, monkeypatch, capsys):
    """train.main() in this process, which saves importing torch: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        capsys.readouterr()
        try:
            status = train.main([str(arg) for arg in args])
        except SystemExit as stop:  # argparse's way out
            status = stop.code
        return status, *capsys.readouterr()
    return call


@pytest.fixture
def one_thread():
    """As in the processes that run() and start() begin, for the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---- a run and what it leaves ------------------------------------------------------------------
def test_dry_run_goes_the_whole_way_and_says_that_it_is_not_mnist(tmp_path):
    began = time.perf_counter()
    out, err = run("--model", "3", "--dry-run", cwd=tmp_path)
    assert time.perf_counter() - began < 60
    folder = tmp_path / "runs" / "model3" / "dry-run-seed0"
    assert {path.name for path in folder.iterdir()} == FILES
    assert out.count("NOT MNIST") >= 2 and "Target (" not in out
    assert "Device: " in out and "Total params: " in out and "budget: fewer than 8,000" in out
    assert err == ""  # no terminal, so no progress bar
    args = json.loads((folder / "args.json").read_text())
    assert args["data"] == "rendered digits, NOT MNIST" and args["seed"] == 0
    assert args["recipe"]["epochs"] == 2 and args["recipe"]["scheduler"]["max_lr"] == 0.4
    assert args["torch"] == torch.__version__ and args["threads"] == 1
    rows = read_csv(folder / "metrics.csv")
    assert list(rows[0]) == ["epoch", "train_loss", "train_acc", "test_loss", "test_acc", "lr",
                             "seconds"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    lines = [line for line in out.splitlines() if line.startswith("Epoch")]
    assert len(lines) == 2
    assert lines[1].startswith(f"Epoch  2/2 | Train Loss: {float(rows[1]['train_loss']):.4f} | ")
    assert f"Test Acc: {float(rows[1]['test_acc']):.2f}% | LR: " in lines[1]
    rates = read_csv(folder / "learning_rate.csv")
    assert [int(row["step"]) for row in rates] == list(range(1, 9))  # 2 epochs of 2000 / 512
    for name in PLOTS:
        with Image.open(folder / name) as image:
            assert image.format == "PNG" and min(image.size) > 200
            colours = image.convert("RGB").getcolors(1 << 24)
            assert len(colours) > 50, "an empty picture"
    _, net_class, _ = train.load_model_file("3")
    net = net_class()
    net.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    images, labels = utils.rendered_digits(500, seed=1)
    _, accuracy, guesses = utils.evaluate(net, utils.deskew(images), labels)  # as the recipe says
    assert accuracy == float(rows[-1]["test_acc"])
    wrong = [dict(index=str(i), label=str(label), prediction=str(guess)) for i, (label, guess) in
             enumerate(zip(labels.tolist(), guesses.tolist())) if label != guess]
    assert wrong and read_csv(folder / "mistakes.csv") == wrong


def test_plots_show_what_they_are_named_after():
    rows = [dict(epoch=i, train_loss=1 / i, train_acc=90 + i, test_loss=0.5 / i, test_acc=95 + i,
                 lr=0.1, seconds=1.0) for i in (1, 2, 3)]
    figures = utils.curves(rows, [0.1, 0.3, 0.2, 0.1], "a title")
    axes = {name: figure.axes[0] for name, figure in figures.items()}
    assert set(axes) == set(PLOTS[:3]) and {a.get_title() for a in axes.values()} == {"a title"}
    labels = {name: (a.get_xlabel(), a.get_ylabel()) for name, a in axes.items()}
    assert labels == {"accuracy.png": ("epoch", "accuracy (%)"),
                      "loss.png": ("epoch", "loss (cross-entropy)"),
                      "learning_rate.png": ("step", "learning rate")}
    lines = {name: [line.get_ydata() for line in a.lines] for name, a in axes.items()}
    assert [list(y) for y in lines["accuracy.png"]] == [[91, 92, 93], [96, 97, 98], [99.4] * 3]
    assert [list(y) for y in lines["loss.png"]] == [[1, 1 / 2, 1 / 3], [0.5, 0.25, 0.5 / 3]]
    assert list(lines["learning_rate.png"][0]) == [0.1, 0.3, 0.2, 0.1]
    low, high = axes["accuracy.png"].get_ylim()
    assert low <= 92 and high == 100


@pytest.mark.parametrize("accuracies, layers, verdict", [
    ([50, 99.4, 99.4, 99.4, 99.4, 99.4], "", "met"),
    ([50, 99.39, 99.9, 99.9, 99.9, 99.9], "", "not met"),  # one of the last five
    ([99.9] * 4, "", "not met"),  # no five epochs
    ([99.9] * 16, "", "not met"),  # too many
    ([99.9] * 5, "nn.Linear(256, 32), nn.Linear(32, 10)", "not met"),  # too many parameters
])
def test_the_verdict_at_the_end(monkeypatch, main, one_cycle, accuracies, layers, verdict):
    digits, left = utils.rendered_digits(99, seed=0), [*accuracies, accuracies[-1]]

    def evaluate(net, images, labels):
        return 1.0, left.pop(0) if len(labels) == 99 else 10.0, torch.zeros_like(labels)

    monkeypatch.setattr(train, "load_data", lambda args: (digits, digits))
    monkeypatch.setattr(utils, "evaluate", evaluate)
    one_cycle.write_text(one_cycle.read_text().replace("nn.Linear(256, 10)",
                                                       layers or "nn.Linear(256, 10)"))
    _, out, _ = main("--model", one_cycle, "--epochs", len(accuracies))
    assert f"within budget): {verdict}\n" in out and not left
    assert f"last {min(5, len(accuracies))} epochs {min(accuracies[-5:]):.2f}%" in out


def test_mistakes_shows_the_wrong_ones_with_index_true_label_and_prediction():
    images, labels = utils.rendered_digits(30, seed=0)
    predictions = labels.clone()
    predictions[7], predictions[20] = (labels[7] + 1) % 10, (labels[20] + 5) % 10
    figure = utils.mistakes(images, labels, predictions, "a title")
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == [
        f"{i}: {labels[i]} → {predictions[i]}" for i in (7, 20)]
    assert (shown[1].images[0].get_array() == images[20].numpy()).all()
    assert "2 of 30 wrong" in figure.get_suptitle()
    many = utils.mistakes(images, labels, (labels + 1) % 10, "", most=20)
    assert len([axes for axes in many.axes if axes.images]) == 20
    assert "the first 20" in many.get_suptitle()
    assert "0 of 30 wrong" in utils.mistakes(images, labels, labels, "").get_suptitle()


def test_a_second_run_never_overwrites_the_first(tmp_path, main, one_cycle):
    for _ in range(2):
        assert main("--model", one_cycle, "--dry-run", "--epochs", "1", "--out", "here")[0] == 0
    first, second = tmp_path / "here" / "dry-run-seed0", tmp_path / "here" / "dry-run-seed0-2"
    metrics = [read_csv(folder / "metrics.csv") for folder in (first, second)]
    assert [dict(rows[0], seconds=0) for rows in metrics][0] == dict(metrics[1][0], seconds=0)
    assert main("--model", one_cycle, "--dry-run", "--epochs", "1", "--out", "here")[0] == 0
    assert (tmp_path / "here" / "dry-run-seed0-3" / "metrics.csv").exists()


def test_flags_change_the_recipe_and_the_seed(tmp_path, main, one_cycle, plateau):
    main("--model", one_cycle, "--dry-run", "--epochs", "1", "--batch-size", "500", "--lr", "0.3",
         "--seed", "9", "--device", "cpu", "--out", "a")
    args = json.loads((tmp_path / "a" / "dry-run-seed9" / "args.json").read_text())
    assert args["recipe"]["epochs"] == 1 and args["recipe"]["batch_size"] == 500
    assert args["recipe"]["scheduler"]["max_lr"] == 0.3 and args["seed"] == 9
    assert len(read_csv(tmp_path / "a" / "dry-run-seed9" / "learning_rate.csv")) == 4
    main("--model", plateau, "--dry-run", "--lr", "0.3", "--out", "b")
    assert read_csv(tmp_path / "b" / "dry-run-seed0" / "metrics.csv")[0]["lr"] == "0.3"


def test_help_names_every_flag_with_its_default(main):
    status, out, _ = main("--help")
    text = " ".join(out.split())
    assert status == 0
    for flag in ("model", "epochs", "batch-size", "lr", "seed", "runs", "device", "data-dir", "out",
                 "holdout", "resume", "dry-run", "no-progress"):
        after = text[text.index(f" --{flag}", text.index("options:")):]
        assert "(default: " in after[:330], flag


def test_a_copied_and_edited_model_file_trains(tmp_path):
    source = (ROOT / "model3.py").read_text(encoding="utf-8")
    edited = source.replace("Linear(16, 10)", "Linear(16, 10, bias=False)")
    edited = edited.replace("max_lr=0.4", "max_lr=0.05")
    assert "bias=False)," in edited and "max_lr=0.05" in edited
    (tmp_path / "my net.py").write_text(edited, encoding="utf-8")
    out, _ = run("--model", "my net.py", "--dry-run", cwd=tmp_path)
    args = json.loads((tmp_path / "runs" / "my net" / "dry-run-seed0" / "args.json").read_text())
    assert args["recipe"]["scheduler"]["max_lr"] == 0.05 and args["model"] == "my net.py"
    _, net_class, _ = train.load_model_file(str(tmp_path / "my net.py"))
    assert args["parameters"] == sum(p.numel() for p in net_class().parameters()) == 7920


def test_a_model_file_may_have_dataclasses_and_another_encoding(tmp_path, main):
    head = "# -*- coding: latin-1 -*- \u00e9\nfrom __future__ import annotations\n" \
           "import dataclasses\n@dataclasses.dataclass\nclass Width:\n    first: int = 4\n"
    (tmp_path / "odd.py").write_bytes((head + ONE_CYCLE).encode("latin-1"))
    assert main("--model", "odd.py", "--dry-run", "--epochs", "1")[0] == 0


def test_a_summary_that_cannot_be_printed_and_plots_that_cannot_be_drawn_cost_nothing_else(
        tmp_path, monkeypatch, main, one_cycle):
    def fail(*args, **kwargs):
        raise RuntimeError("out of order")
    monkeypatch.setattr(train.torchsummary, "summary", fail)
    monkeypatch.setattr(utils, "curves", fail)
    status, out, err = main("--model", one_cycle, "--dry-run", "--epochs", "1")
    assert status == 0 and err.count("out of order") == 2 and "warning: no plots" in err
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    assert {path.name for path in folder.iterdir()} == FILES - set(PLOTS)
    assert "Written: " in out


def test_printing_the_summary_changes_no_bit_of_the_run(tmp_path, monkeypatch, main, one_cycle):
    for summary in (train.torchsummary.summary, lambda *args, **kwargs: None):
        monkeypatch.setattr(train.torchsummary, "summary", summary)
        assert main("--model", one_cycle, "--dry-run", "--epochs", "1")[0] == 0
    first, second = (torch.load(tmp_path / "runs" / "one_cycle" / name / "model.pt",
                                weights_only=True) for name in ("dry-run-seed0", "dry-run-seed0-2"))
    assert all(torch.equal(first[key], second[key]) for key in first)


# ---- interrupted and resumed -------------------------------------------------------------------
def wait_for(process, text):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(text):
            return lines
    raise AssertionError("".join(lines) + process.stderr.read())


def contents(folder):
    """What two equal runs share: states and figures, without the times that they took."""
    state = utils.load(folder / "last.pt")
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in state.pop("rows")]
    csv_rows = [{k: v for k, v in row.items() if k != "seconds"}
                for row in read_csv(folder / "metrics.csv")]
    return [state.pop(k) for k in ("net", "average", "optimizer", "scheduler", "generator", "rng",
                                   "rates")] + [
        rows, csv_rows, (folder / "learning_rate.csv").read_text(),
        torch.load(folder / "model.pt", weights_only=True)]


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return all(map(equal, a, b)) if isinstance(a, list) else a == b


@pytest.mark.parametrize("kind, how", [("one_cycle", signal.SIGKILL), ("plateau", signal.SIGINT)])
def test_killed_in_mid_epoch_and_resumed_gives_the_same_bits(tmp_path, main, kind, how, request,
                                                               one_thread):
    command = ("--model", request.getfixturevalue(kind), "--dry-run", "--epochs", "4",
               "--batch-size", "8", "--no-progress")  # 250 steps an epoch: time enough to be hit
    process = start(*command, "--out", "cut", cwd=tmp_path)
    wait_for(process, "Epoch  2/4")
    time.sleep(0.05)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    cut = tmp_path / "cut" / "dry-run-seed0"
    assert 2 <= len(utils.load(cut / "last.pt")["rows"]) < 4 and "Epoch  4/4" not in out
    if how == signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in err
        assert "python train.py --resume cut/dry-run-seed0" in err
    else:
        assert process.returncode == -signal.SIGKILL
    run("--resume", "cut/dry-run-seed0", "--no-progress", cwd=tmp_path)
    torch.manual_seed(1)  # the run in one go happens in this process, at the same thread count
    assert main(*command, "--out", "whole")[0] == 0
    assert equal(contents(cut), contents(tmp_path / "whole" / "dry-run-seed0"))
    assert {path.name for path in cut.iterdir()} >= FILES


@pytest.mark.parametrize("moment", ["half written", "not yet renamed"])
def test_a_kill_in_mid_write_leaves_the_old_checkpoint_whole(tmp_path, moment):
    """The process kills itself at the worst moments of its second save."""
    script = """
import os, signal, sys, torch, utils
utils.save(sys.argv[1], dict(i=0, weights=torch.zeros(100000)))

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

class Half:
    def __init__(self, *args):
        self.file = open(*args)
    def __enter__(self):
        return self
    def __exit__(self, *args):
        pass
    def write(self, data):
        self.file.write(bytes(data)[:len(data) // 2])
        self.file.flush()
        die()

if sys.argv[2] == "half written":
    utils.open = Half
else:
    os.replace = die
utils.save(sys.argv[1], dict(i=1, weights=torch.ones(100000)))
"""
    process = subprocess.run([sys.executable, "-c", script, tmp_path / "last.pt", moment], cwd=ROOT,
                             env=environment())
    assert process.returncode == -signal.SIGKILL
    state = utils.load(tmp_path / "last.pt")
    assert state["i"] == 0 and (state["weights"] == 0).all()


def test_ctrl_c_before_the_first_epoch_is_over(tmp_path, one_cycle):
    process = start("--model", one_cycle, "--dry-run", "--batch-size", "1", cwd=tmp_path)
    wait_for(process, "Estimated Total Size")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "nothing to resume" in err


def test_ctrl_c_stops_all_of_several_runs_and_each_can_be_resumed(tmp_path, one_cycle):
    process = start("--model", one_cycle, "--dry-run", "--batch-size", "5", "--epochs", "50",
                    "--runs", "9", cwd=tmp_path, start_new_session=True)
    runs = tmp_path / "runs" / "one_cycle"
    at_once = min(9, os.cpu_count())
    deadline = time.monotonic() + 60
    while len(list(runs.glob("*/last.pt"))) < at_once and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.count("--resume") == at_once == len(list(runs.iterdir()))


def test_several_runs_are_the_same_as_single_ones_and_close_with_their_mean(
        tmp_path, main, one_cycle, one_thread):
    out, _ = run("--model", one_cycle, "--dry-run", "--runs", "2", "--seed", "3", cwd=tmp_path,
                 threads=2)
    assert out.count("threads: 2") == 1 and out.count("threads: 1") == 2 and "2 runs" in out
    assert main("--model", one_cycle, "--dry-run", "--seed", "4", "--out", "alone")[0] == 0
    third, together, alone = (read_csv(tmp_path / folder / "metrics.csv") for folder in (
        "runs/one_cycle/dry-run-seed3", "runs/one_cycle/dry-run-seed4", "alone/dry-run-seed4"))
    assert [row | dict(seconds=0) for row in together] == [row | dict(seconds=0) for row in alone]
    final = [float(rows[-1]["test_acc"]) for rows in (third, together)]
    mean, deviation = sum(final) / 2, abs(final[0] - final[1]) / 2 ** 0.5  # n - 1 is 1
    assert f"{mean:.3f} ± {deviation:.3f}%" in out and f"minimum {min(final):.2f}%" in out
    assert len(set(final)) > 1 and "0 of 2 runs" in out


def test_a_failing_seed_ends_several_runs_with_its_status(tmp_path, one_cycle):
    (tmp_path / "explodes.py").write_text(one_cycle.read_text().replace("max_lr=0.1", "max_lr=1e6"))
    out, err = run("--model", "explodes.py", "--dry-run", "--runs", "9", cwd=tmp_path, status=1)
    assert "the loss is" in err and "accuracy in the last epoch" not in out
    assert len(list((tmp_path / "runs" / "explodes").iterdir())) <= 2 * os.cpu_count()


# ---- what goes wrong ---------------------------------------------------------------------------
BROKEN = {  # model files, and what the message must say about them
    "raises.py": ("import torch\n\nx = 1 / 0\n", ["ZeroDivisionError", "line 3"]),
    "syntax.py": ("def f(:\n", ["SyntaxError", "line 1"]),
    "imports.py": ("import no_such_module\n", ["no_such_module"]),
    "exits.py": ("raise SystemExit(0)\n", ["SystemExit"]),
    "no_net.py": ("RECIPE = {}\n", ["has no Net", "class Net(nn.Module)"]),
    "no_recipe.py": ("class Net: pass\n", ["has no RECIPE"]),
    "recipe_list.py": ("RECIPE = []\nclass Net: pass\n", ["has no RECIPE"]),
    "unknown_key.py": (ONE_CYCLE + "RECIPE['dropout'] = 0.1\n",
                       ["unknown key 'dropout'", "label_smoothing"]),
    "lacks_key.py": (ONE_CYCLE + "del RECIPE['epochs']\n", ["'epochs' is 'missing'", "integer"]),
    "epochs.py": (ONE_CYCLE + "RECIPE['epochs'] = '15'\n", ["'epochs' is '15'", "integer >= 1"]),
    "batch.py": (ONE_CYCLE + "RECIPE['batch_size'] = 0\n", ["'batch_size' is 0", "integer >= 1"]),
    "augment.py": (ONE_CYCLE + "RECIPE['augment'] = dict(flip=1)\n", ["augment is {'flip': 1}"]),
    "far.py": (ONE_CYCLE + "RECIPE['augment'] = dict(shift=29)\n", ["shift (at most 28 pixels)"]),
    "no_augment.py": (ONE_CYCLE + "RECIPE['augment'] = None\n", ["'augment' is None", "a dict of"]),
    "strength.py": (ONE_CYCLE + "RECIPE['augment']['rotate'] = 'x'\n",
                    ["'augment' is {'rotate': 'x'"]),
    "smooth.py": (ONE_CYCLE + "RECIPE['label_smoothing'] = 2.0\n", ["label_smoothing"]),
    "average.py": (ONE_CYCLE + "RECIPE['average'] = 1.5\n", ["average is 1.5", "below 1"]),
    "optimizer.py": (ONE_CYCLE + "RECIPE['optimizer'] = dict(name='SDG')\n", ["SDG"]),
    "option.py": (PLATEAU + "RECIPE['optimizer']['speed'] = 1\n", ["speed"]),
    "scheduler.py": (PLATEAU + "RECIPE['scheduler'] = dict(name='Step')\n",
                     ["scheduler 'Step'", "OneCycleLR"]),
    "tensor.py": ("import torch\n" + ONE_CYCLE + "RECIPE['average'] = torch.tensor(0.9)\n",
                  ["not JSON serializable"]),
    "module.py": (ONE_CYCLE + "RECIPE['augment'] = nn\n", ["not JSON serializable"]),
    "negative.py": (PLATEAU + "RECIPE['optimizer']['lr'] = -0.1\n", ["rate is not above 0"]),
    "deskew.py": (ONE_CYCLE + "RECIPE['deskew'] = 'yes'\n",
                  ["'deskew' is 'yes'", "expected True or False"]),
    "negative_peak.py": (ONE_CYCLE + "RECIPE['scheduler']['max_lr'] = -0.1\n",
                         ["rate is not above 0"]),
    "lazy.py": (ONE_CYCLE.replace("Linear(256", "LazyLinear(").replace("(, ", "("), ["uninit"]),
    "fixed.py": (ONE_CYCLE.replace("layers(images)", "layers(images.view(50, 1, 28, 28))"),
                 ["RuntimeError", "invalid for input"]),
    "two_rates.py": (ONE_CYCLE + "RECIPE['optimizer']['lr'] = 1\n", ["leave out"]),
    "closure.py": (PLATEAU + "RECIPE['optimizer'] = dict(name='LBFGS')\n", ["closure"]),
    "shape.py": (ONE_CYCLE.replace("Linear(256, 10)", "Linear(256, 11)"),
                 ["(50, 11)", "expected (50, 10)"]),
    "mismatch.py": (ONE_CYCLE.replace("Linear(256", "Linear(255"), ["shapes cannot", "line"]),
    "net_raises.py": (ONE_CYCLE.replace("super().__init__()", "self.x = undefined"),
                      ["NameError", "undefined", "line 11"]),
}
ARGUMENTS = {  # a wrong command line, and what argparse must name
    "--epochs 0": ["--epochs", "from 1 to"], "--epochs 1.5": ["--epochs", "integer"],
    "--batch-size 0": ["--batch-size", "from 1 to 60000"], "--lr -0.1": ["--lr", "number from"],
    "--lr nan": ["--lr", "'nan'"], "--seed -1": ["--seed", "from 0 to"], "--runs 0": ["--runs"],
    "--holdout 60000": ["--holdout", "from 0 to 59999"], "--device tpu": ["--device", "cuda"],
    "--sede 1": ["--sede"], "--model 4": ["--model 4", "expected 1, 2, 3 or the path"],
    "--model nowhere.py": ["--model nowhere.py"], "--model README.md": ["--model README.md"],
    "--dry-run --batch-size 2001": ["--batch-size 2001", "at most 2000"],
    "--holdout 59000 --batch-size 1001": ["--batch-size 1001", "at most 1000"],
    "--resume x --runs 2": ["--runs", "--resume"], "--resume x --out y": ["--out", "--resume"],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_model_file_is_one_message_with_the_file_and_the_reason(tmp_path, main, name):
    source, parts = BROKEN[name]
    (tmp_path / name).write_text(source)
    status, _, err = main("--model", name, "--dry-run", "--batch-size", "50")
    assert status == 2 and err.startswith(f"train.py: error: {name}") and err.count("\n") == 1
    assert all(part in err for part in parts), err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("line", ARGUMENTS)
def test_wrong_argument_is_named_with_its_range(tmp_path, main, line):
    status, _, err = main(*line.split())
    assert status == 2 and all(part in err for part in ARGUMENTS[line]), err
    assert not (tmp_path / "runs").exists()


def test_unavailable_device_is_one_line(main, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = main("--dry-run", "--device", "cuda")
    assert status == 2 and err.count("\n") == 1 and "--device cuda" in err and "available: " in err


@pytest.mark.parametrize("there, expected", [((True, True), "cuda"), ((False, True), "mps"),
                                             ((False, False), "cpu")])
def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch, there, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there[0])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there[1])
    assert utils.pick_device("auto").type == expected
    assert utils.pick_device("cpu").type == "cpu"


def test_errors_of_a_process_end_in_one_message_and_a_status(tmp_path):
    """Exit statuses as a shell sees them, and a download without a network."""
    (tmp_path / "explodes.py").write_text(ONE_CYCLE.replace("max_lr=0.1", "max_lr=1e6"))
    cases = {
        ("--epochs", "0"): (2, ["--epochs", "from 1 to"]),
        ("--data-dir", "empty"): (1, ["download failed", "empty/MNIST/raw", "--data-dir",
                                      *utils.RAW_FILES]),
        ("--dry-run", "--model", "explodes.py"): (1, ["the loss is ", "in epoch ", "step "]),
    }
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda case: run(*case, cwd=tmp_path, status=cases[case][0]), cases)
        for case, (_, err) in zip(cases, results):
            assert all(part in err for part in cases[case][1]), (case, err)
            assert err.count("error: ") == 1


def test_wrong_files_end_in_one_message_and_a_status(tmp_path, main, one_cycle):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at all")
    (tmp_path / "foreign").mkdir()
    torch.save([1, 2], tmp_path / "foreign" / "last.pt")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "last.pt").write_text("no zip")
    cases = {
        ("--model", "bad.py"): (2, ["bad.py", "ZeroDivisionError"]),
        ("--dry-run", "--model", one_cycle, "--out", "file"): (1, ["file/"]),
        ("--dry-run", "--model", one_cycle, "--out", "dangling"): (1, ["dangling"]),
        ("--resume", "nowhere"): (1, ["nowhere/last.pt: no such checkpoint"]),
        ("--resume", "foreign"): (1, ["foreign/last.pt is not a checkpoint"]),
        ("--resume", "text"): (1, ["text/last.pt is damaged"]),
    }
    for case, (expected, parts) in cases.items():
        status, _, err = main(*case)
        assert status == expected and all(part in err for part in parts), (case, err)
        assert err.count("error: ") == err.count("\n") == 1


def test_checkpoint_of_another_run_is_refused(tmp_path, main, one_cycle):
    assert main("--model", one_cycle, "--dry-run", "--epochs", "1")[0] == 0
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    before = (folder / "last.pt").read_bytes()
    for change, part in [(("label_smoothing=0.02", "label_smoothing=0.1"), "label_smoothing"),
                         (("Dropout(0.1)", "Dropout(0.2)"), "model file"),
                         (("self.layers(images)", "self.layers(-images)"), "model file")]:
        one_cycle.write_text(ONE_CYCLE.replace(*change))
        status, _, err = main("--resume", folder)
        assert status == 1 and f"last.pt comes from a run with another {part}" in err
        assert err.count("\n") == 1
    one_cycle.write_text(ONE_CYCLE)
    for flag, value, part in [("--seed", "1", "seed"), ("--epochs", "3", "epochs")]:
        status, _, err = main("--resume", folder, flag, value)
        assert status == 1 and f"another {part}" in err
    assert (folder / "last.pt").read_bytes() == before
    (folder / "loss.png").unlink()
    assert main("--resume", folder)[0] == 0  # a finished run: nothing to train, all is written
    assert {path.name for path in folder.iterdir()} == FILES


def test_a_damaged_checkpoint_is_named(tmp_path, main, one_cycle):
    assert main("--model", one_cycle, "--dry-run", "--epochs", "1")[0] == 0
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    data = (folder / "last.pt").read_bytes()
    for damaged in (data[:-200], b"", data[:3000] + bytes([data[3000] ^ 1]) + data[3001:]):
        (folder / "last.pt").write_bytes(damaged)
        status, _, err = main("--resume", folder)
        assert status == 1 and "last.pt is damaged" in err and err.count("\n") == 1


# ---- on real MNIST -----------------------------------------------------------------------------
def test_damaged_mnist_ends_in_one_message(mnist, tmp_path, main):
    shutil.copytree(mnist / "MNIST" / "raw", tmp_path / "MNIST" / "raw")
    labels = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.chmod(0o644)
    labels.write_bytes(labels.read_bytes()[:-1])
    status, _, err = main("--data-dir", tmp_path, "--epochs", "1")
    assert status == 1 and err.count("\n") == 1
    assert "train-labels-idx1-ubyte is damaged: 60007 bytes" in err


def test_holdout_trains_on_real_digits_and_never_opens_the_test_set(mnist, tmp_path, main, plateau):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in utils.RAW_FILES:
        if name.startswith("train"):
            (raw / name).symlink_to(mnist.resolve() / "MNIST" / "raw" / name)
        else:
            (raw / name).write_text("nonsense, to be opened by nobody")
    flags = "--model", plateau, "--data-dir", tmp_path / "data", "--epochs", "1"
    status, out, _ = main(*flags, "--holdout", "48000")
    row = read_csv(tmp_path / "runs" / "plateau" / "seed0" / "metrics.csv")[-1]
    assert status == 0 and float(row["val_acc"]) > 85 and "test_acc" not in row
    assert "Val Acc: " in out and "Test" not in out
    assert main(*flags)[0] == 1


@pytest.mark.parametrize("model, floor", [("1", 95), ("2", 85), ("3", 85)])
def test_one_short_training_on_real_digits_beats_a_floor(mnist, model, floor):
    """One epoch on the first 12,000 training images, judged by the last 2,000."""
    images, labels = utils.load_mnist(mnist, train=True)
    _, net_class, recipe = train.load_model_file(model)
    torch.manual_seed(0)
    _, rows, _ = train.train(net_class(), recipe | dict(epochs=1), 0,
                             (images[:12000], labels[:12000]), (images[-2000:], labels[-2000:]))
    assert rows[-1]["test_acc"] > floor
