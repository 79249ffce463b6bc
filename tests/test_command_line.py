"""train.py as a user meets it: command lines, output, exit statuses, files, what goes wrong."""

import functools
import io
import json
import math
import os
import pickle
import resource
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from conftest import (
    BY_EPOCH,
    FILES,
    ONE_CYCLE,
    PLATEAU,
    PLOTS,
    ROOT,
    STEP,
    environment,
    equal,
    shell,
    spawn,
)
from PIL import Image

import train
import utils

DRY = "--dry-run", "--epochs", "1"


def snapshot(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def refused(result, status, *parts):
    """Whether `result` of main() is this status and one message that has the parts."""
    found, _, err = result
    assert found == status, err
    assert err.startswith("train.py: error: ") and err.count("error: ") == 1
    assert "Traceback" not in err and all(part in err for part in parts), err
    return True


def after_steps(steps, statement):
    """ONE_CYCLE whose net, in training, runs a statement once it has seen so many batches."""
    return "import sys\n" + ONE_CYCLE.replace("        return self.layers(images)", f"""
        logits = self.layers(images)
        if self.training and self.layers[1].num_batches_tracked > {steps}:
            {statement}
        return logits""")


# ---- a run and what it leaves ------------------------------------------------------------------
def test_dry_run_goes_the_whole_way_and_says_that_it_is_not_mnist(tmp_path, main, one_cycle):
    one_cycle.write_text(ONE_CYCLE + "RECIPE |= dict(epochs=15, deskew=True)")
    status, out, err = main("--model", one_cycle, "--dry-run")
    assert status == 0 and err == ""  # no terminal, so no progress bar
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    assert {path.name for path in folder.iterdir()} == FILES
    assert out.count("NOT MNIST") >= 2 and "Target (" not in out
    assert "Device: " in out and "Total params: " in out and "budget: fewer than 8,000" in out

    args = json.loads((folder / "args.json").read_text())
    _, net_class, recipe = train.load_model_file(one_cycle)
    assert args["data"] == "rendered digits, NOT MNIST" and args["seed"] == 0
    assert args["torch"] == torch.__version__ and args["threads"] == 1
    assert args["recipe"] == recipe | dict(epochs=2)

    rows = utils.read_csv(folder / "metrics.csv")
    assert list(rows[0]) == ["epoch", "train_loss", "train_acc", "test_loss", "test_acc", "lr",
                             "seconds"]
    lines = [line for line in out.splitlines() if line.startswith("Epoch")]
    assert len(lines) == len(rows) == 2
    assert lines[1].startswith(f"Epoch  2/2 | Train Loss: {float(rows[1]['train_loss']):.4f} | ")
    assert f"Test Acc: {float(rows[1]['test_acc']):.2f}% | LR: " in lines[1]
    rates = utils.read_csv(folder / "learning_rate.csv")
    assert [int(row["step"]) for row in rates] == list(range(1, 41))  # 2 × 2,000 images by 100

    net = net_class()
    net.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    assert (folder / "rf.md").read_text() == utils.receptive_field_table(net)
    images, labels = utils.rendered_digits(500, seed=1)
    _, accuracy, guesses = utils.evaluate(net, utils.prepare(images, recipe), labels)
    assert accuracy == float(rows[-1]["test_acc"])
    wrong = [dict(index=str(i), label=str(label), prediction=str(guess)) for i, (label, guess) in
             enumerate(zip(labels.tolist(), guesses.tolist())) if label != guess]
    assert wrong and utils.read_csv(folder / "mistakes.csv") == wrong


def test_plots_show_what_they_are_named_after():
    rows = [dict(epoch=i, train_loss=1 / i, train_acc=90 + i, test_loss=0.5 / i, test_acc=95 + i)
            for i in (1, 2, 3)]
    figures = utils.curves(rows, [0.1, 0.3, 0.2, 0.1], "a title",
                           dict(augment=dict(shift=1), label_smoothing=0.1))
    axes = {name: figure.axes[0] for name, figure in figures.items()}
    lines = {name: [list(line.get_ydata()) for line in a.lines] for name, a in axes.items()}
    assert lines == {"accuracy.png": [[91, 92, 93], [96, 97, 98], [utils.TARGET] * 3],
                     "loss.png": [[1, 1 / 2, 1 / 3], [0.5, 0.25, 0.5 / 3]],
                     "learning_rate.png": [[0.1, 0.3, 0.2, 0.1]]}
    assert {each.get_title() for each in axes.values()} == {"a title"}
    legend = [text.get_text() for text in axes["loss.png"].get_legend().get_texts()]
    assert "augmented images, smoothed labels" in legend[0]
    low, high = axes["accuracy.png"].get_ylim()
    assert low <= 92 and high == 100


def test_mistakes_shows_the_wrong_ones_with_index_true_label_and_prediction():
    images, labels = utils.rendered_digits(30, seed=0)
    predictions = labels.clone()
    predictions[7], predictions[20] = (labels[7] + 1) % 10, (labels[20] + 5) % 10
    figure = utils.mistakes(images, labels, predictions, "a title")
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert texts == [f"{i}: {labels[i]} → {predictions[i]}" for i in (7, 20)]
    assert (axes.images[1].get_array() == images[20].numpy()).all()
    left, right, _, top = axes.images[1].get_extent()
    x, y = axes.texts[1].get_position()
    assert left < x < right and y < top  # above its own image: the axis points down
    assert "a title\n2 of 30 wrong" in figure.get_suptitle()
    many = utils.mistakes(images, labels, (labels + 1) % 10, "a title", first=500, most=20)
    assert len(many.axes[0].images) == 20 and "the first 20" in many.get_suptitle()
    assert many.axes[0].texts[19].get_text().startswith("519: ")
    none = utils.mistakes(images, labels, labels, "a title")
    assert "0 of 30 wrong" in none.get_suptitle() and not none.axes[0].images
    for each in (figure, many, none):  # nothing is cut off
        each.savefig(file := io.BytesIO(), dpi=50)
        pixels = numpy.asarray(Image.open(file).convert("L"))
        assert (pixels[0] == 255).all() and (pixels[:, 0] == 255).all()


@pytest.mark.parametrize("accuracies, size, verdict", [
    ([50, 99.4, 99.4, 99.4, 99.4, 99.4], 7999, "met"),
    ([50, 99.39, 99.9, 99.9, 99.9, 99.9], 7999, "not met"),  # one of the last five
    ([99.9] * 4, 7999, "not met"),  # no five epochs
    ([99.9] * 16, 7999, "not met"),  # too many
    ([99.9] * 5, 8000, "not met"),  # too many parameters
])
def test_the_verdict_at_the_end(accuracies, size, verdict):
    rows = [dict(train_acc=10.0, test_acc=accuracy, seconds=1) for accuracy in accuracies]
    words = train.closing_words(SimpleNamespace(dry_run=False, holdout=0), rows, size, "here")
    assert f"within budget): {verdict}\n" in words and f"Parameters: {size:,}" in words
    assert f"last {min(5, len(rows))} epochs {min(accuracies[-5:]):.2f}%" in words


def test_held_out_images_say_nothing_about_the_target():
    rows = [dict(train_acc=99.9, val_acc=99.9, seconds=1)] * 5
    words = train.closing_words(SimpleNamespace(dry_run=False, holdout=10000), rows, 7999, "here")
    assert "Target (" not in words and "held-out" in words and "Val accuracy: final 99.90%" in words


def test_a_second_run_never_overwrites_the_first(tmp_path, monkeypatch, main, one_cycle):
    command = "--model", one_cycle, *DRY, "--out", "here"
    first = tmp_path / "here" / "dry-run-seed0"
    assert main(*command)[0] == 0
    before, mkdir = snapshot(first), Path.mkdir

    def late(path, *args, **kwargs):
        if path.name == "dry-run-seed0-2":
            os.mkdir(path)  # by another run, after this one has looked and before it acts
        mkdir(path, *args, **kwargs)
    monkeypatch.setattr(Path, "mkdir", late)
    assert main(*command)[0] == 0
    assert snapshot(first) == before
    assert not list((tmp_path / "here" / "dry-run-seed0-2").iterdir())
    third = tmp_path / "here" / "dry-run-seed0-3"
    assert {path.name for path in third.iterdir()} == FILES


def test_printing_and_drawing_that_fail_cost_nothing_else(tmp_path, monkeypatch, main, one_cycle):
    def fail(*args, **kwargs):
        raise RuntimeError("out of order")
    monkeypatch.setattr(train.torchsummary, "summary", fail)
    monkeypatch.setattr(utils, "receptive_field_table", fail)
    status, out, err = main("--model", one_cycle, *DRY)
    assert status == 0 and "Written: " in out
    assert "warning: no layer table: RuntimeError: out of order\n" in err
    assert "warning: no rf.md: RuntimeError: out of order\n" in err
    folder = tmp_path / "runs" / "one_cycle"
    assert {path.name for path in (folder / "dry-run-seed0").iterdir()} == FILES - {"rf.md"}
    monkeypatch.undo()
    monkeypatch.setattr(utils, "curves", fail)
    status, out, err = main("--model", one_cycle, *DRY, "--out", folder)
    assert status == 0 and "warning: not all of the plots: RuntimeError: out of order\n" in err
    assert {path.name for path in (folder / "dry-run-seed0-2").iterdir()} == FILES - PLOTS


@pytest.mark.parametrize("layers, shown, true", [
    ("nn.Linear(256, 16), *[nn.Linear(16, 16)] * 3, nn.Linear(16, 10)", 5210, 4666),  # shared
    ("nn.Linear(256, 10)); self.bare = nn.Parameter(torch.zeros(7)", 2682, 2689),
    ("nn.Linear(256, 10)", 2682, 2682)])
def test_a_total_of_torchsummary_that_is_wrong_is_said_so(main, one_cycle, layers, shown, true):
    one_cycle.write_text("import torch\n" + ONE_CYCLE.replace("nn.Linear(256, 10)", layers))
    _, out, _ = main("--model", one_cycle, *DRY)
    assert f"Total params: {shown:,}\n" in out and f"Parameters: {true:,} (budget" in out
    assert (f"there are {true:,}." in out) == (shown != true)


# ---- what surrounds a run ----------------------------------------------------------------------
def test_a_reader_that_leaves_costs_nothing_but_the_log(tmp_path, one_cycle):
    """The command in a shell: its output read by nobody, in a terminal that knows no ±, with a
    backend for plots that is not installed."""
    command = '"$PYTHON" "$TRAIN" --model one_cycle.py --dry-run --epochs 1 2>&- | head -1'
    status, out, _ = shell(f"set -o pipefail; {command}", tmp_path, PYTHONIOENCODING="ascii",
                           MPLBACKEND="nowhere")
    assert status == 0 and out.startswith("Device: ") and out.count("\n") == 1
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    assert {path.name for path in folder.iterdir()} == FILES
    for name in PLOTS:
        with Image.open(folder / name) as image:
            assert image.format == "PNG" and min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 24)) > 50, "an empty picture"


@pytest.mark.parametrize("stream", [lambda: None, lambda: open("/dev/full", "w")])
def test_any_standard_output_will_do(tmp_path, monkeypatch, main, one_cycle, stream):
    monkeypatch.setattr("sys.stdout", stream())
    monkeypatch.setattr("sys.stderr", stream())
    assert main("--model", one_cycle, *DRY)[0] == 0
    assert (tmp_path / "runs" / "one_cycle" / "dry-run-seed0" / "model.pt").exists()


@pytest.mark.parametrize("optimize", [0, 2])
def test_it_runs_in_a_notebook_and_without_docstrings(monkeypatch, main, one_cycle, optimize):
    monkeypatch.setattr("sys.stdout", io.StringIO())  # has no reconfigure()
    monkeypatch.setattr("sys.argv", ["train.py", "--model", str(one_cycle), *DRY])
    code = compile((ROOT / "train.py").read_text("utf-8"), "train.py", "exec", optimize=optimize)
    with pytest.raises(SystemExit) as stop:
        exec(code, dict(__name__="__main__", __doc__=None))
    assert stop.value.code == 0 and "Written: " in sys.stdout.getvalue()


def test_ctrl_c_while_python_imports_is_one_line(tmp_path):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt\n")
    status, out, err = shell('"$PYTHON" "$TRAIN" --help', tmp_path, PYTHONPATH=str(tmp_path))
    assert status == 130 and out == "" and err.count("\n") == 1 and "nterrupted" in err


def test_ctrl_c_before_the_first_epoch_is_over_leaves_no_folder(tmp_path, monkeypatch, main,
                                                               one_cycle):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt
    monkeypatch.setattr(train, "print_summary", interrupt)
    status, _, err = main("--model", one_cycle, *DRY)
    assert status == 130 and err.count("\n") == 1 and "nothing to resume" in err
    assert not list((tmp_path / "runs" / "one_cycle").iterdir())


# ---- recipe and flags --------------------------------------------------------------------------
def test_flags_and_set_change_the_recipe(tmp_path, main, plateau):
    settings = ("augment={}", "scheduler.patience=7", "optimizer.name=Adagrad", "average=0",
                "optimizer={'name': 'SGD', 'lr': 0.5}", "epochs=3", "scheduler.threshold=1e-3")
    command = [part for setting in settings for part in ("--set", setting)]
    assert main("--model", plateau, "--dry-run", *command, "--batch-size", 500, "--lr", 0.3,
                "--seed", 9, "--device", "cpu", "--out", "a")[0] == 0
    args = json.loads((tmp_path / "a" / "dry-run-seed9" / "args.json").read_text())
    _, _, recipe = train.load_model_file(plateau)
    assert args["seed"] == 9 and args["recipe"] == recipe | dict(
        augment={}, scheduler=recipe["scheduler"] | dict(patience=7, threshold=1e-3), average=0,
        optimizer=dict(name="SGD", lr=0.3), epochs=3, batch_size=500)
    rates = utils.read_csv(tmp_path / "a" / "dry-run-seed9" / "learning_rate.csv")
    assert [row["lr"] for row in rates] == ["0.3"] * 3 * 4  # 2,000 images


def test_set_changes_this_recipe_alone(step):
    step.write_text(STEP.replace("augment=dict(rotate=10, shift=1, scale=0.1, shear=5),", ""))
    _, _, recipe = train.load_model_file(step)
    train.override(recipe, ["augment.rotate=9"])
    assert train.load_model_file(step)[2]["augment"] == train.DEFAULTS["augment"] == {}


def test_as_many_seeds_run_at_once_as_there_are_cores_for_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5}, raising=False)
    assert train.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert train.cores() == os.cpu_count()


def test_lr_is_the_peak_of_one_cycle():
    args = train.parse_arguments(["--lr", "0.3", "--model", "1"])
    assert train.read_recipe(args)[2]["scheduler"]["max_lr"] == 0.3


@pytest.mark.parametrize("flags, part", [
    ("--holdout 10000", slice(50000, 60000)), ("--holdout 10000 --fold 0", slice(0, 10000)),
    ("--holdout 7000 --fold 3", slice(21000, 28000)),
    ("--holdout 1 --fold 59999", slice(59999, 60000))])
def test_a_fold_is_the_k_th_part_and_the_rest_is_trained_on(monkeypatch, flags, part):
    images = torch.zeros(1, 28, 28, dtype=torch.uint8).expand(60000, 28, 28)
    monkeypatch.setattr(utils, "find_mnist", lambda folder: folder)
    monkeypatch.setattr(utils, "load_mnist", lambda root, train: (images, torch.arange(60000)))
    args = train.parse_arguments(flags.split())
    (_, trained), (_, held_out) = train.load_data(args, {}, torch.device("cpu"))
    assert held_out.tolist() == list(range(60000))[part]
    assert sorted(trained.tolist() + held_out.tolist()) == list(range(60000))
    assert train.number_of_images(args) == len(trained)


def test_help_names_every_flag_with_its_default(main):
    status, out, _ = main("--help")
    options = " ".join(out.split()).partition("options:")[2]
    flags = vars(train.parse_arguments([]))
    assert status == 0 and len(flags) >= 15
    for flag in flags:
        _, _, after = options.partition(f" --{flag.replace('_', '-')} ")
        assert "(default: " in after[:330], flag


def test_a_model_file_may_have_dataclasses_another_encoding_and_a_space_in_its_name(tmp_path, main):
    head = "# -*- coding: latin-1 -*- \u00e9\nfrom __future__ import annotations\n" \
           "import dataclasses\n@dataclasses.dataclass\nclass Width:\n    first: int = 4\n"
    (tmp_path / "my net.py").write_bytes((head + ONE_CYCLE).encode("latin-1"))
    assert main("--model", "my net.py", *DRY)[0] == 0
    assert (tmp_path / "runs" / "my net" / "dry-run-seed0" / "model.pt").exists()


BROKEN = {  # a model file, and what the message must say about it
    "import torch\n\nx = 1 / 0\n": ["ZeroDivisionError"],
    "def f(:\n": ["SyntaxError", "line 1"],
    "import no_such_module\n": ["no_such_module"],
    "raise SystemExit(0)\n": ["SystemExit"],
    "RECIPE = {}\n": ["has no Net", "class Net(nn.Module)"],
    "class Net: pass\n": ["has no RECIPE"],
    "RECIPE = {}\nclass Net: pass\n": ["has no Net(nn.Module)"],
    "RECIPE = []\nclass Net: pass\n": ["has no RECIPE"],
    ONE_CYCLE + "RECIPE['dropout'] = 0.1\n": ["unknown key 'dropout'", "label_smoothing"],
    ONE_CYCLE + "del RECIPE['epochs']\n": ["'epochs' is missing", "integer"],
    ONE_CYCLE + "RECIPE['epochs'] = '15'\n": ["'epochs' is '15'", "an integer of at least 1"],
    ONE_CYCLE + "RECIPE['epochs'] = True\n": ["'epochs' is True", "an integer of at least 1"],
    ONE_CYCLE + "RECIPE['batch_size'] = 0\n": ["'batch_size' is 0", "an integer of at least 1"],
    ONE_CYCLE + "RECIPE['augment'] = dict(flip=1)\n": ["augment has 'flip'", "thickness"],
    ONE_CYCLE + "RECIPE['augment'] = dict(shift=29)\n": ["shift is 29", "0 to 28 (pixels)"],
    ONE_CYCLE + "RECIPE['augment'] = None\n": ["'augment' is None", "a dict of"],
    ONE_CYCLE + "RECIPE['augment']['rotate'] = 'x'\n": ["'augment' is {'rotate': 'x'"],
    ONE_CYCLE + "RECIPE['augment']['nearest'] = 0.5\n": ["'nearest': 0.5", "nearest=True"],
    ONE_CYCLE + "RECIPE['augment']['rotate'] = True\n": ["'rotate': True", "a dict of numbers"],
    ONE_CYCLE + "RECIPE['augment'] = [dict(p=2)]\n": ["p is 2", "0 to 1 (a probability)"],
    ONE_CYCLE + "RECIPE['augment'] = [dict(shift=1), 3]\n": ["'augment' is", "a list of such"],
    ONE_CYCLE + "RECIPE |= dict(deskew=True, upright=True)\n": ["leave out deskew"],
    ONE_CYCLE + "RECIPE['plain_epochs'] = -1\n": ["'plain_epochs' is -1"],
    ONE_CYCLE + "for _ in range(100000):\n    RECIPE = dict(augment=RECIPE)\n": ["recursion"],
    ONE_CYCLE + "RECIPE['label_smoothing'] = 2.0\n": ["'label_smoothing' is 2.0", "below 1"],
    ONE_CYCLE + "RECIPE['average'] = 1.5\n": ["'average' is 1.5", "below 1"],
    ONE_CYCLE + "RECIPE['average'] = 'x'\n": ["'average' is 'x'", "below 1"],
    ONE_CYCLE + "RECIPE['deskew'] = 'yes'\n": ["'deskew' is 'yes'", "True or False"],
    ONE_CYCLE + "RECIPE['optimizer'] = 'SGD'\n": ["'optimizer' is 'SGD'", "dict(name="],
    ONE_CYCLE + "RECIPE['optimizer'] = dict(name='SDG')\n": ["'SDG' is not in torch.optim"],
    ONE_CYCLE + "RECIPE['optimizer']['lr'] = 1\n": ["leave out the optimizer's lr"],
    ONE_CYCLE + "RECIPE['scheduler']['max_lr'] = -0.1\n": ["scheduler.max_lr is -0.1", "above 0"],
    ONE_CYCLE + "del RECIPE['scheduler']['max_lr']\n": ["max_lr"],
    "import torch\n" + ONE_CYCLE + "RECIPE['average'] = torch.tensor(0.9)\n": ["not JSON"],
    PLATEAU + "RECIPE['optimizer']['speed'] = 1\n": ["speed"],
    PLATEAU + "RECIPE['optimizer']['lr'] = -0.1\n": ["optimizer.lr is -0.1", "above 0"],
    PLATEAU + "RECIPE['optimizer']['lr'] = 'fast'\n": ["optimizer.lr is 'fast'", "above 0"],
    PLATEAU + "RECIPE['scheduler'] = dict(name='Step')\n": ["scheduler 'Step'", "OneCycleLR"],
    PLATEAU + "RECIPE['scheduler']['mode'] = 'max'\n": ["scheduler.mode is 'max'", "'min'"],
    PLATEAU + "RECIPE['scheduler']['factor'] = 2\n": ["Factor"],
    STEP + "RECIPE['scheduler']['gamma'] = -1\n": ["scheduler.gamma is -1", "above 0"],
    STEP + "RECIPE['scheduler']['gamma'] = 'x'\n": ["scheduler.gamma is 'x'", "above 0"],
    STEP + "RECIPE['scheduler']['step_size'] = -1\n": ["scheduler.step_size is -1", "an integer"],
    STEP + "RECIPE['scheduler']['step_size'] = 1.5\n": ["scheduler.step_size is 1.5", "an integer"],
    BY_EPOCH + "RECIPE['scheduler']['rates'] = []\n": ["scheduler.rates is []", "each of 4 epochs"],
    BY_EPOCH + "RECIPE['scheduler']['rates'][3] = 0\n": ["scheduler.rates is [1, ", "above 0"],
    BY_EPOCH + "RECIPE['scheduler']['rates'] = 0.1\n": ["scheduler.rates is 0.1", "a list"],
    BY_EPOCH + "del RECIPE['scheduler']['rates']\n": ["scheduler.rates is None", "a list"],
    BY_EPOCH + "RECIPE['epochs'] = 5\n": ["scheduler.rates is [1, ", "each of 5 epochs"],
    BY_EPOCH + "RECIPE['optimizer']['lr'] = 1\n": ["leave out the optimizer's lr"],
    ONE_CYCLE.replace("Linear(256, 10)", "Linear(256, 11)"): ["(60, 11)", "expected (60, 10)"],
    ONE_CYCLE.replace("return self.layers(images)", "return self.layers(images), 1"):
        ["<class 'tuple'>", "expected (60, 10)"],
    ONE_CYCLE.replace("Linear(256", "LazyLinear(").replace("(, ", "("): ["uninit"],
    ONE_CYCLE.replace("Linear(256", "Linear(255"): ["a training step on 60", "shapes cannot"],
    ONE_CYCLE.replace("super().__init__()", "self.x = undefined"): ["NameError", "'undefined'"],
    ONE_CYCLE.replace("return self", "raise SystemExit\n        return self"): ["SystemExit"],
    ONE_CYCLE.replace("return self", "if len(images) == 60: 1 / 0\n        return self"):
        ["a training step on 60 images", "ZeroDivisionError"],  # what fails on a full batch alone
    ONE_CYCLE.replace("return self", "if len(images) == 20: 1 / 0\n        return self"):
        ["a training step on 20 images", "ZeroDivisionError"],  # and on the last, smaller one
    PLATEAU + "RECIPE['optimizer'] = dict(name='LBFGS')\n": ["closure"],
}


@pytest.mark.parametrize("source", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_model_file_is_one_message_with_the_file_and_the_reason(tmp_path, main, source):
    (tmp_path / "net.py").write_text(source)
    status, _, err = main("--model", "net.py", "--dry-run", "--batch-size", "60")
    first, *traceback = err.splitlines()
    assert status == 2 and first.startswith("train.py: error: net.py")
    assert all(part in first for part in BROKEN[source]), err
    assert not traceback or traceback[0].startswith("Traceback")
    assert not (tmp_path / "runs").exists()


# ---- what goes wrong ---------------------------------------------------------------------------
ARGUMENTS = {  # a wrong command line, and what the message must name
    "--epochs 0": ["--epochs", "from 1 to"], "--epochs 1.5": ["--epochs", "an integer"],
    "--batch-size 0": ["--batch-size", "from 1 to 60000"], "--lr -0.1": ["--lr", "a number from"],
    "--lr nan": ["--lr", "'nan'"], "--seed -1": ["--seed", "from 0 to"], "--runs 0": ["--runs"],
    "--runs 2 --seed 4294967295": ["--seed 4294967295 --runs 2", "above 4294967295"],
    "--holdout 60000": ["--holdout", "from 0 to 59999"], "--device tpu": ["--device", "cuda"],
    "--dry-run --holdout 100": ["--holdout", "--dry-run"], "--fold 1": ["--fold", "--holdout"],
    "--holdout 10000 --fold 6": ["--fold 6", "the last fold of 10000 images is 5"],
    "--holdout 9 --fold -1": ["--fold"],
    "--sede 1": ["--sede"], "--model 4": ["--model 4", "expected 1, 2, 3 or the path"],
    "--recipe 4": ["--recipe 4", "expected 1, 2, 3"], "--recipe no.py": ["--recipe no.py"],
    "--model nowhere.py": ["--model nowhere.py"], "--model README.md": ["--model README.md"],
    "--dry-run --batch-size 2001": ["batches of 2001", "at most 2000"],
    "--holdout 59000 --batch-size 1001": ["batches of 1001", "at most 1000"],
    "--resume x --runs 2": ["--runs", "--resume"],
    "--set epochs": ["--set epochs", "key=value"], "--set =1": ["unknown key ''"],
    "--set epoch=1": ["--set epoch=1", "unknown key 'epoch'", "known: epochs"],
    "--set augmnt.rotate=3": ["--set augmnt.rotate=3", "unknown key 'augmnt'", " epochs,"],
    "--set augment.a.b=1": ["unknown key 'a'"], "--set epochs.a=1": ["--set epochs.a=1", "no keys"],
    "--set average=fast": ["'average' is 'fast'"], "--set average=1j": ["complex"],
    "--set average={[]:1}": ["--set average", "{[]:1}"], "--set augment={1}": ["set"],
    "--set scheduler.maxlr=3": ["model3.py with --set scheduler.maxlr=3", "argument 'maxlr'"],
    "--set scheduler.pct_start=2": ["--set scheduler.pct_start=2", "pct_start"],
    f"--set average=1{400 * '0'}": ["'average' is 1000", "below 1"],
    "--set scheduler.pct_start=1.0": ["scheduler.pct_start is 1.0", "below 1"],
    "--set scheduler.max_lr=0": ["scheduler.max_lr is 0"],
    "--set scheduler.pct_start=x": ["scheduler.pct_start is 'x'", "above 0"],
    "--set scheduler.div_factor=-3": ["scheduler.div_factor is -3", "above 0"],
    "--set scheduler.total_steps=5": ["scheduler.total_steps", "leave it out"],
    "--set scheduler.last_epoch=3": ["RECIPE: KeyError"],
    "--set optimizer={'name':'SparseAdam'}": ["RECIPE: RuntimeError", "SparseAdam"],
    "--set epochs=" + "9" * 400: ["RECIPE: OverflowError"],
    "--model 2 --set scheduler.patience=x": ["RECIPE: TypeError"],
    "--model 2 --set scheduler.cooldown=x": ["RECIPE: TypeError"],  # seen when the rate falls
}


@pytest.mark.parametrize("line", ARGUMENTS)
def test_a_wrong_argument_is_named_with_its_range(tmp_path, main, line):
    status, _, err = main(*line.split())
    assert status == 2 and all(part in err for part in ARGUMENTS[line]), err
    assert "Traceback" not in err and err.count("error: ") == 1
    assert not (tmp_path / "runs").exists()


def test_a_net_is_trained_by_another_files_recipe(tmp_path, main, one_cycle, plateau):
    assert main("--model", one_cycle, "--recipe", plateau, "--dry-run", "--epochs", 1)[0] == 0
    args = json.loads((tmp_path / "runs" / "one_cycle" / "dry-run-seed0" / "args.json").read_text())
    _, _, recipe = train.load_model_file(plateau)
    assert args["model"] == "one_cycle.py" and args["recipe"] == recipe | dict(epochs=1)
    result = main("--model", one_cycle, "--recipe", plateau, *DRY, "--set", "optimizer.foo=2")
    assert refused(result, 2, f"with --recipe {plateau} with --set optimizer.foo=2: RECIPE: ")


def test_lr_does_not_say_which_of_many_rates(main, by_epoch):
    assert refused(main("--model", by_epoch, "--dry-run", "--lr", 1), 2, "--lr 1.0", "rates=[...]")
    changed = main("--model", by_epoch, "--dry-run", "--set", "scheduler.rates=[0.3, 0.2]")
    assert changed[0] == 0


@pytest.mark.parametrize("cuda, mps, expected", [(True, True, "cuda"), (False, True, "mps"),
                                                 (False, False, "cpu")])
def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch, main, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert utils.pick_device("auto").type == expected
    assert utils.pick_device("cpu").type == "cpu"
    assert cuda or refused(main(*DRY, "--device", "cuda"), 2, "--device cuda", "available: ")


def test_a_folder_that_cannot_be_made_is_named(tmp_path, main, one_cycle):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at all")
    for name in ("file", "dangling", "file/below"):
        assert refused(main("--model", one_cycle, *DRY, "--out", name), 1, name.split("/")[0])


@pytest.mark.parametrize("seen, epochs", [(0, 0), (50, 2)])
@pytest.mark.parametrize("statement, status, words", [
    ("logits = logits * float('nan')", 1, ["train_loss is nan in epoch", "lower learning rate"]),
    ("sys.exit()", 2, ["net.py: ", "SystemExit"]),
    ("raise RuntimeError('a\\nb')", 2, ["net.py: ", "RuntimeError: a b"])])
def test_a_run_that_ends_itself_says_why_and_leaves_what_was_finished(
        tmp_path, main, seen, epochs, statement, status, words):
    (tmp_path / "net.py").write_text(after_steps(seen, statement))
    found, out, err = main("--model", "net.py", "--dry-run", "--epochs", 4)
    first, *others = err.splitlines()
    assert found == status and first.startswith("train.py: error: "), err
    assert all(word in first for word in words) and out.count("Epoch ") == epochs
    assert ("Traceback" in err) == ("raise" in statement or "sys" in statement)
    folder = tmp_path / "runs" / "net" / "dry-run-seed0"
    assert folder.exists() == bool(epochs)
    if epochs:
        assert "add --resume to the same command" in others[0]
        assert len(utils.load(folder / "last.pt")["rows"]) == epochs


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_ends_a_run_as_ctrl_c_does(tmp_path, main, ending):
    def ignore(*args):
        pass
    before = signal.signal(ending, ignore)
    (tmp_path / "net.py").write_text(
        after_steps(50, f"__import__('os').kill(__import__('os').getpid(), {int(ending)})"))
    try:
        status, _, err = main("--model", "net.py", "--dry-run", "--epochs", 4)
        assert signal.getsignal(ending) is ignore  # as it was
    finally:
        signal.signal(ending, before)
    assert status == 130 and err.count("\n") == 1
    assert "interrupted. " in err and "add --resume to the same command" in err


@pytest.mark.parametrize("ending, warnings", [("nn.Softmax(dim=1)", 1), ("nn.LogSoftmax(dim=1)", 0),
                                              ("nn.ReLU()", 0)])
def test_a_net_that_ends_in_softmax_is_warned_about_once(main, one_cycle, ending, warnings):
    one_cycle.write_text(ONE_CYCLE.replace("Linear(256, 10)", f"Linear(256, 10), {ending}"))
    status, _, err = main("--model", one_cycle, *DRY, "--batch-size", 99)
    assert status == 0 and err.count("logits") == err.count("\n") == warnings


# ---- files that cannot be written --------------------------------------------------------------
@pytest.mark.parametrize("times", [1, 10 ** 6])
def test_a_table_that_somebody_has_open_ends_no_run(tmp_path, monkeypatch, main, one_cycle, times):
    replace, failures = os.replace, []

    def locked(source, target):
        if target.name == "metrics.csv" and len(failures) < times:
            failures.append(target)
            raise PermissionError(13, "Permission denied", str(target))
        replace(source, target)
    monkeypatch.setattr(os, "replace", locked)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    status, _, err = main("--model", one_cycle, *DRY)
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    assert status == 0 and len(failures) >= min(times, 3)
    assert (f"warning: cannot write {folder.relative_to(tmp_path)}/metrics.csv" in err) == (
        times > 1)
    written = FILES - {"metrics.csv"} if times > 1 else FILES
    assert {path.name for path in folder.iterdir()} == written


def test_a_file_that_grows_too_large_is_named_and_nothing_is_left(tmp_path, main, one_cycle):
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, most))
    try:
        result = main("--model", one_cycle, *DRY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert refused(result, 1, "cannot write runs/one_cycle/dry-run-seed0/last.pt", "too large")
    assert not list((tmp_path / "runs" / "one_cycle").iterdir())


def test_a_disk_that_fills_up_leaves_the_last_epoch_to_resume(tmp_path, monkeypatch, main,
                                                              one_cycle):
    command = "--model", one_cycle, "--dry-run", "--epochs", 4
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:  # two files an epoch
            raise OSError(28, "No space left on device")
        fsync(descriptor)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = main(*command)
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    assert refused(result, 1, f"cannot write {folder.relative_to(tmp_path)}/last.pt: No space",
                   "last.pt has the last finished epoch; add --resume")
    assert {path.name for path in folder.iterdir()} == {"last.pt", "metrics.csv"}
    status, out, _ = main(*command, "--resume")
    assert status == 0 and "after epoch 2" in out


# ---- checkpoints -------------------------------------------------------------------------------
@pytest.fixture
def finished(tmp_path, tmp_path_factory, main, one_cycle):
    """(folder, resume): a finished run, trained once and copied; its command with --resume."""
    command = "--model", one_cycle, "--dry-run", "--epochs", 2
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    kept = tmp_path_factory.getbasetemp() / "finished"
    if kept.exists():
        shutil.copytree(kept, folder)
    else:
        assert main(*command)[0] == 0
        shutil.copytree(folder, kept)
    return folder, lambda *more: main(*command, "--resume", *more)


def test_a_finished_run_may_be_resumed_by_folder_or_file_wherever_it_lies(finished, one_cycle,
                                                                          tmp_path):
    folder, resume = finished
    elsewhere = tmp_path / "else where"
    folder.rename(elsewhere)
    one_cycle.write_text("# a comment\n" + ONE_CYCLE.replace("Dropout(0.1)", "Dropout(p=0.1)"))
    for name in (elsewhere, elsewhere / "last.pt"):
        (elsewhere / "loss.png").unlink()
        status, out, err = resume(name)
        assert status == 0 and err == "" and f"Resuming {elsewhere} after epoch 2" in out
        assert {path.name for path in elsewhere.iterdir()} == FILES
    assert refused(resume("nowhere"), 1, "--resume nowhere: no such folder")
    (elsewhere / "last.pt").unlink()
    before = snapshot(elsewhere)
    assert refused(resume(elsewhere), 1, "no last.pt to go on from")
    assert snapshot(elsewhere) == before


def test_resume_runs_no_code_beside_the_checkpoint(finished, one_cycle, tmp_path):
    folder, resume = finished
    for name in (one_cycle.name, "model.py", "numpy.py"):
        (folder / name).write_text("open('executed', 'w')\n")
    assert resume(folder)[0] == 0
    assert not list(tmp_path.rglob("executed"))


@pytest.mark.parametrize("flags, source, word", [
    (["--seed", 1], ONE_CYCLE, "seed"), (["--epochs", 3], ONE_CYCLE, "epochs"),
    (["--set", "augment.rotate=9"], ONE_CYCLE, "augment"), (["--lr", 1], ONE_CYCLE, "scheduler"),
    ([], ONE_CYCLE.replace("smoothing=0.02", "smoothing=0.1"), "label_smoothing"),
    ([], ONE_CYCLE.replace("1, 4, 5", "1, 4, 5, bias=False"), "net"),
    ([], ONE_CYCLE.replace("Linear(256, 10)", "Linear(256, 9), nn.Linear(9, 10)"), "net")])
def test_a_checkpoint_of_another_run_or_net_is_refused(finished, one_cycle, flags, source, word):
    folder, resume = finished
    before = snapshot(folder)
    one_cycle.write_text(source)
    assert refused(resume(folder, *flags), 1, "last.pt comes from ", f"another {word}")
    assert snapshot(folder) == before


def test_a_checkpoint_of_another_model_file_is_refused(finished, one_cycle, main):
    folder, _ = finished
    other = one_cycle.with_name("other.py")
    one_cycle.rename(other)
    result = main("--model", other, "--dry-run", "--epochs", 2, "--resume", folder)
    assert refused(result, 1, "last.pt comes from ", "another model ")


def compressed(path, state):
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def replace_by(make):
    def damage(path, state):
        path.unlink()
        make(path)
    return damage


def endless():
    box = []
    box.append(box)
    return box


FOREIGN = {  # what may lie there in place of a checkpoint
    "cut off": lambda path, state: path.write_bytes(path.read_bytes()[:-200]),
    "empty": lambda path, state: path.write_bytes(b""),
    "compressed": compressed,
    "text": lambda path, state: path.write_text("no zip"),
    "a list": lambda path, state: torch.save([1, 2], path),
    "a tensor": lambda path, state: torch.save(torch.zeros(3), path),
    "weights alone": lambda path, state: torch.save(state["net"], path),
    "a pickled net": lambda path, state: torch.save(torch.nn.Linear(1, 1), path),
    "a plain pickle": lambda path, state: path.write_bytes(pickle.dumps(state["rows"])),
    "a state without rows": lambda path, state: torch.save(state | dict(rows=[]), path),
    "a folder": replace_by(Path.mkdir),
    "a device": replace_by(lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_checkpoint_is_refused_in_one_line(finished, name):
    folder, resume = finished
    FOREIGN[name](folder / "last.pt", utils.load(folder / "last.pt"))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
    result = resume()
    assert refused(result, 1, "last.pt is ") and result[2].count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(folder.iterdir())) == len(FILES)


def test_a_fifo_is_refused_and_not_waited_for(finished, one_cycle):
    folder, _ = finished
    (folder / "last.pt").unlink()
    os.mkfifo(folder / "last.pt")
    process = spawn("--model", one_cycle, "--dry-run", "--epochs", 2, "--resume")
    process.join(30)
    process.kill()
    assert process.exitcode == 1 and "not a regular file" in Path("printed").read_text()


@pytest.fixture
def refuses(finished, one_cycle):
    """(state, refuses): a checkpoint, and whether --resume refuses one without a look at its
    data: a hundred times as fast as the whole command."""
    folder, _ = finished
    saved = utils.load(folder / "last.pt")
    path, net_class, recipe = train.load_model_file(one_cycle)
    recipe["epochs"] = 2
    _, template = train.rehearse(path, net_class, recipe, 2000, torch.device("cpu"))

    def call(state):
        torch.save(state, folder / "last.pt")
        fresh = train.start(net_class(), recipe, 0, 20)
        try:
            train.resume(fresh, folder / "last.pt", saved["settings"], template, 20)
        except utils.UserError as error:
            return "last.pt" in str(error)
        return False
    assert not call(saved)
    return saved, call


VALUES = [None, 1, 1.5, "text", b"bytes", [], {}, (), [None], {0: 0}, endless(), torch.tensor(1.0),
          torch.zeros(3), torch.zeros(5056, dtype=torch.uint8), torch.zeros(4, 1, 5, 5).to_sparse(),
          torch.zeros(1).expand(10 ** 13), torch.zeros(4, device="meta"), math.nan]


def everywhere(state, path=()):
    """The path of every value in nested dicts and lists."""
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from everywhere(value, (*path, key))


def put(state, path, change):
    """A copy of `state` with change(value) at a path."""
    key, *below = path
    copy = state.copy()
    copy[key] = put(state[key], below, change) if below else change(state[key])
    return copy


def otherwise(value):
    """Things like `value` that cannot be: another shape, type, or not a number."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return [value * math.nan, value.double(), value[None], value.to(torch.complex64), None]
    if isinstance(value, torch.Tensor):
        return [value[None], value.float(), None]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [str(value), [value], torch.full((2,), value), math.nan]
    return [None if value is not None else 1]


def test_a_part_that_is_missing_or_something_else_is_refused(refuses):
    state, refuses = refuses
    for part in (*state, "another"):
        for value in VALUES:
            assert refuses(state | {part: value}), (part, value)
    for part in state:
        assert refuses({key: value for key, value in state.items() if key != part}), part


@pytest.mark.parametrize("path", [("rows",), ("settings", "seed"),
                                  ("settings", "recipe", "augment")])
def test_a_tensor_that_claims_to_be_long_is_not_looked_at(refuses, monkeypatch, path):
    def look(*args):
        raise SystemExit("where memory is overcommitted, this one ends in a kill")
    state, refuses = refuses
    for name in ("__iter__", "__eq__", "__ne__"):
        monkeypatch.setattr(torch.Tensor, name, look)
    assert refuses(put(state, path, lambda old: torch.zeros(1).expand(10 ** 13)))


def test_any_value_that_cannot_be_is_refused(refuses):
    state, refuses = refuses
    places = list(everywhere(state))
    assert len(places) > 50
    for place in places:
        value = functools.reduce(lambda part, key: part[key], place, state)
        for other in otherwise(value):
            assert refuses(put(state, place, lambda old: other)), (place, other)


def test_rows_and_random_states_that_do_not_fit_the_run_are_refused(refuses):
    state, refuses = refuses
    first, second = state["rows"]
    for rows in ([second], [first, first], [second, first], [first, second, second | dict(epoch=3)],
                 [first, second | dict(lr=0.05)], [first | dict(lr=first["lr"] / 2), second],
                 [first, second | dict(more=1)], [first, {}], [first, [*second.values()]],
                 [first, {key: second[key] for key in list(second)[:-1]}],
                 [first | dict(train_loss=math.inf), second]):
        assert refuses(state | dict(rows=rows)), rows
    for part in ("rng", "generator"):
        assert refuses(state | {part: state[part] * 0}), part


def test_more_epochs_than_the_run_has_are_refused(tmp_path, main, step):
    command = "--model", step, "--dry-run", "--epochs", 2
    assert main(*command)[0] == 0
    last = tmp_path / "runs" / "step" / "dry-run-seed0" / "last.pt"
    state = utils.load(last)
    third = state["rows"][1] | dict(epoch=3, lr=0.05)  # as the schedule has it
    torch.save(state | dict(rows=[*state["rows"], third]), last)
    assert refused(main(*command, "--resume"), 1, "last.pt is damaged")


# ---- several seeds -----------------------------------------------------------------------------
def test_several_runs_are_those_of_single_ones_and_close_with_their_mean(
        tmp_path, monkeypatch, main, one_cycle):
    command = "--model", one_cycle, "--dry-run", "--device", "cpu", "--out", "Größe"
    assert main(*command, "--seed", 4)[0] == 0
    alone = tmp_path / "Größe" / "dry-run-seed4"
    alone.rename(tmp_path / "alone")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")  # what the seeds print is not read
    status, out, err = main(*command, "--runs", 2, "--seed", 3)
    assert status == 0 and err == ""
    assert equal(utils.load(alone / "last.pt"), utils.load(tmp_path / "alone" / "last.pt"))
    final = [train.read_accuracy(tmp_path / "Größe" / f"dry-run-seed{seed}")[-1] for seed in (3, 4)]
    mean, deviation = sum(final) / 2, abs(final[0] - final[1]) / 2 ** 0.5  # n - 1 is 1
    assert f"{mean:.3f} ± {deviation:.3f}%" in out and f"minimum {min(final):.2f}%" in out
    assert "At least 99.4% in each of the last 2 epochs: 0 of 2 runs" in out
    assert out.endswith("Written: Größe\n")
    for seed, accuracy in zip((3, 4), final):
        assert f"seed {seed}: {accuracy:.2f}% in the last epoch" in out


@pytest.mark.parametrize("damage", [b"epoch;test_acc\n1;99\n", b"\xff\xfe\x00",
                                    b"epoch,test_acc\n1"])
def test_a_series_gets_over_a_damaged_table(finished, main, one_cycle, damage):
    folder, _ = finished
    whole = train.read_accuracy(folder)
    (folder / "metrics.csv").write_bytes(damage)
    assert train.read_accuracy(folder) == []
    status, out, err = main("--model", one_cycle, "--dry-run", "--epochs", 2, "--runs", 2,
                            "--resume")
    assert status == 0 and err == "" and train.read_accuracy(folder) == whole


def test_a_run_without_augmentation_says_so(main, monkeypatch, one_cycle):
    def stop(*args):
        raise utils.UserError("stop")
    monkeypatch.setattr(train, "load_data", stop)
    for plain, word in ((1, ""), (2, "no epoch is augmented: plain_epochs is 2, epochs 2")):
        _, _, err = main("--model", one_cycle, "--epochs", 2, "--set", f"plain_epochs={plain}")
        assert word in err and ("augmented" in err) == bool(word)


@pytest.fixture
def seeds(tmp_path, monkeypatch):
    """A function that puts a script in the place of the train.py that --runs begins, so that a
    seed takes no time: it marks its start, then does what it is told."""
    def replace(statement):
        script = tmp_path / "elsewhere" / "train.py"
        script.parent.mkdir()
        script.write_text("import os, signal, sys, time\n"
                          f"open(f'started-{{os.getpid()}}', 'w').close()\n{statement}\n")
        monkeypatch.setattr(utils, "HERE", script.parent)
    return replace


@pytest.mark.parametrize("statement, status, words", [
    ("sys.exit('au\u00dfer Betrieb')", 1, ["er Betrieb"]),
    ("sys.exit(2)", 2, []),
    ("os.kill(os.getpid(), signal.SIGKILL)", 1, ["seed 5 ", "signal 9", "--resume"]),
    ("pass", 1, ["seed 5 ", "--resume"])])  # it left no metrics.csv
def test_a_seed_that_fails_ends_the_series(tmp_path, monkeypatch, main, one_cycle, seeds, statement,
                                           status, words):
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")  # what it says may have any encoding
    seeds(statement)
    found, out, err = main("--model", one_cycle, "--dry-run", "--runs", 9, "--seed", 5)
    assert found == status and all(word in err for word in words), err
    assert "Traceback" not in err and "accuracy in the last epoch" not in out
    assert len(list(tmp_path.glob("started-*"))) <= train.cores()
    assert not list((tmp_path / "runs" / "one_cycle").iterdir())


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_ends_a_series_ends_its_seeds(tmp_path, main, one_cycle, seeds, ending):
    seeds("time.sleep(60)")
    normal = signal.default_int_handler if ending == signal.SIGINT else signal.SIG_DFL
    process = spawn("--model", one_cycle, "--dry-run", "--device", "cpu", "--runs", 9,
                    signals={ending: normal})
    children = wait_for_seeds(tmp_path, process)
    os.kill(process.pid, ending)
    process.join(30)
    process.kill()
    printed = Path("printed").read_text()
    assert process.exitcode == 130 and "Traceback" not in printed
    assert "interrupted. 0 of 9 runs are finished; add --resume" in printed
    assert not [child for child in children if is_alive(child)]


def test_nohup_holds(tmp_path, main, one_cycle, seeds):
    seeds("time.sleep(60)")
    process = spawn("--model", one_cycle, "--dry-run", "--device", "cpu", "--runs", 9,
                    signals={signal.SIGHUP: signal.SIG_IGN})
    wait_for_seeds(tmp_path, process)
    os.kill(process.pid, signal.SIGHUP)
    process.join(1)
    alive = process.is_alive()
    process.terminate()
    process.join(30)
    assert alive


def wait_for_seeds(folder, process):
    """The process ids of the seeds, once as many have begun as may at once."""
    deadline = time.monotonic() + 30
    while len(started := list(folder.glob("started-*"))) < min(9, train.cores()):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.05)
    return [int(path.name.partition("-")[2]) for path in started]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---- on real MNIST -----------------------------------------------------------------------------
def test_without_mnist_and_network_it_says_what_to_do(main, monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    result = main("--data-dir", "empty")
    assert refused(result, 1, "download failed", "empty/MNIST/raw", "--data-dir", *utils.RAW_FILES)


def test_holdout_trains_on_real_digits_and_never_opens_the_test_set(mnist, tmp_path, main, plateau):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in utils.RAW_FILES:
        if name.startswith("train"):
            (raw / name).symlink_to(mnist.resolve() / "MNIST" / "raw" / name)
        else:
            (raw / name).write_text("nonsense, to be opened by nobody")
    flags = "--model", plateau, "--data-dir", tmp_path / "data", "--epochs", "1"
    status, out, _ = main(*flags, "--holdout", "40000")
    folder = tmp_path / "runs" / "plateau" / "held-out-seed0"
    row = utils.read_csv(folder / "metrics.csv")[-1]
    assert status == 0 and float(row["val_acc"]) > 85 and "test_acc" not in row
    assert "Val Acc: " in out and "Test" not in out
    wrong = utils.read_csv(folder / "mistakes.csv")
    labels = utils.load_mnist(tmp_path / "data", train=True)[1]
    assert wrong and all(int(row["index"]) >= 20000 for row in wrong)
    assert all(int(row["label"]) == labels[int(row["index"])] for row in wrong)
    assert refused(main(*flags), 1, "t10k-images-idx3-ubyte is damaged: 32 bytes")
