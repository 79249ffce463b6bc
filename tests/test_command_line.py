"""train.py as a user meets it: command lines, output, exit statuses, files, what goes wrong."""

import io
import json
import os
import resource
import shutil
import signal
import sys

import numpy
import pytest
import torch
from conftest import FILES, ONE_CYCLE, PLATEAU, PLOTS, ROOT, environment, equal, spawn, wait_until
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
    return ONE_CYCLE.replace("        return self.layers(images)", f"""
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
    assert out.count("NOT MNIST") == 2 and "augmented in 2 of 2 epochs" in out
    assert "best" not in out
    assert "Device: " in out and "Total params: 2,682" in out and "budget: fewer than 8,000" in out

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
    assert [int(row["step"]) for row in rates] == list(range(1, 81))  # 2 × 4,000 images by 100

    net = net_class()
    net.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    assert (folder / "rf.md").read_text() == utils.receptive_field_table(net)
    images, labels = utils.rendered_digits(500, seed=1)
    _, accuracy, guesses = utils.evaluate(net, utils.prepare(images, recipe), labels)
    assert accuracy == float(rows[-1]["test_acc"])
    wrong = [dict(index=str(i), label=str(label), prediction=str(guess)) for i, (label, guess) in
             enumerate(zip(labels.tolist(), guesses.tolist())) if label != guess]
    assert wrong and utils.read_csv(folder / "mistakes.csv") == wrong


@pytest.mark.parametrize("model", ["2", "3"])
def test_a_dry_run_of_the_models_augments_and_learns(tmp_path, monkeypatch, main, model):
    augmented, draw_step = [], utils.draw_step
    monkeypatch.setattr(utils, "draw_step",
                        lambda *args: augmented.append(bool(args[1])) or draw_step(*args))
    assert main("--model", model, "--dry-run")[0] == 0
    rows = utils.read_csv(tmp_path / "runs" / f"model{model}" / "dry-run-seed0" / "metrics.csv")
    assert float(rows[-1]["test_acc"]) >= 90
    assert augmented == [True, True, True, False, False]  # the first is the rehearsal
    assert len(rows) == 4 and sum(float(row["seconds"]) for row in rows) < 30  # 4 s on an idle core


def test_a_batch_larger_than_the_data_is_a_step_an_epoch(tmp_path, main, one_cycle):
    one_cycle.write_text(ONE_CYCLE + "RECIPE['scheduler']['pct_start'] = 0.5\n")  # rises one step
    assert main("--model", one_cycle, *DRY[:2], 2, "--batch-size", 5000)[0] == 0
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    assert len(utils.read_csv(folder / "learning_rate.csv")) == 2 and (folder / "rf.md").exists()


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


def test_mistakes_shows_the_wrong_ones_with_index_true_label_and_prediction():
    images, labels = utils.rendered_digits(30, seed=0)
    predictions = labels.clone()
    predictions[7], predictions[20] = (labels[7] + 1) % 10, (labels[20] + 5) % 10
    figure = utils.mistakes(images, labels, predictions, "a title", ringed=[20, 21])
    (axes,) = figure.axes
    (ring,) = axes.get_lines()
    left, right, _, _ = axes.images[1].get_extent()
    assert left < ring.get_xdata()[0] < right  # around image 20
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
    pixels = numpy.asarray(Image.open(io.BytesIO(utils.png(many))).convert("L"))
    assert (pixels[0] == 255).all() and (pixels[:, 0] == 255).all()  # nothing is cut off
    none = utils.mistakes(images, labels, labels, "a title")
    assert "0 of 30 wrong" in none.get_suptitle() and not none.axes[0].images


@pytest.mark.parametrize("accuracies, size, data, verdict", [
    ([50, 99.4, 99.4, 99.4, 99.4, 99.4], 7999, "MNIST", "met"),
    ([50, 99.39, 99.9, 99.9, 99.9, 99.9], 7999, "MNIST", "not met"),  # one of the last five
    ([99.9] * 4, 7999, "MNIST", "not met"),  # no five epochs
    ([99.9] * 16, 7999, "MNIST", "not met"),  # too many
    ([99.9] * 5, 8000, "MNIST", "not met; too many parameters"),
    ([99.9] * 5, 7999, "training images", "not tried on training images"),
])
def test_the_verdict_at_the_end(accuracies, size, data, verdict):
    rows = [dict(train_acc=10.0, val_acc=accuracy, seconds=1) for accuracy in accuracies]
    words = train.closing_words(rows, dict(data=data, judged="val"), size, "here")
    assert f"within budget): {verdict}\n" in words and f"Parameters: {size:,}" in words
    assert f"at least {min(accuracies[-5:]):.2f}% in the last {min(5, len(rows))}" in words


def test_a_second_run_never_overwrites_the_first(tmp_path, monkeypatch, main, one_cycle):
    """Nor does one that begins before the first has finished an epoch."""
    def begins(net):
        with monkeypatch.context() as patch:
            patch.setattr(train, "print_summary", lambda net: None)
            assert main("--model", one_cycle, *DRY, "--out", "both")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(train, "print_summary", begins)
        assert main("--model", one_cycle, *DRY, "--out", "both")[0] == 0
    assert [len(list(each.iterdir())) for each in (tmp_path / "both").iterdir()] == 2 * [len(FILES)]

    folders = [tmp_path / "here" / name for name in ("dry-run-seed0", "dry-run-seed0-2")]
    for folder in folders:
        before = {each: snapshot(each) for each in folders if each.exists()}
        assert main("--model", one_cycle, *DRY, "--out", "here")[0] == 0
        assert {path.name for path in folder.iterdir()} == FILES
        assert all(snapshot(each) == files for each, files in before.items())


def test_what_cannot_be_shown_costs_nothing_else(tmp_path, monkeypatch, main, one_cycle):
    def fail(*args, **kwargs):
        raise RuntimeError("out of order")
    monkeypatch.setattr(train.torchsummary, "summary", fail)
    monkeypatch.setattr(utils, "receptive_field_table", fail)
    status, out, err = main("--model", one_cycle, *DRY)
    assert status == 0 and "Written: " in out
    assert "warning: no layer table: RuntimeError: out of order\n" in err
    assert "warning: no rf.md: RuntimeError: out of order\n" in err
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    assert {path.name for path in folder.iterdir()} == FILES - {"rf.md"}


def test_beside_torchsummarys_total_stands_the_true_one(main, one_cycle):
    shared = "nn.Linear(256, 16), *[nn.Linear(16, 16)] * 3, nn.Linear(16, 10)"
    one_cycle.write_text(ONE_CYCLE.replace("nn.Linear(256, 10)", shared))
    _, out, _ = main("--model", one_cycle, *DRY)
    assert "Total params: 5,210\n" in out and "Parameters: 4,666 (budget" in out
    assert "shared ones counted once: 4,666\n" in out


def test_a_terminal_that_lacks_a_letter_gets_a_question_mark(monkeypatch, main, one_cycle):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    assert main("--model", one_cycle, *DRY, "--out", "Größe")[0] == 0
    assert b"Written: Gr??e" in stream.buffer.getvalue()


def test_it_runs_in_a_notebook(monkeypatch, main, one_cycle):
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("sys.stdout", io.StringIO())  # has no reconfigure()
    monkeypatch.setattr("sys.argv", ["train.py", "--model", str(one_cycle), *DRY])
    code = compile((ROOT / "train.py").read_text("utf-8"), "train.py", "exec")
    with pytest.raises(SystemExit) as stop:
        exec(code, dict(__name__="__main__", __doc__=None))
    signal.signal(signal.SIGTERM, handler)
    assert stop.value.code == 0 and "Written: " in sys.stdout.getvalue()


# ---- recipe and flags --------------------------------------------------------------------------
def test_flags_and_set_change_the_recipe(tmp_path, main, plateau):
    settings = ("augment={}", "scheduler.patience=7", "optimizer.name=Adagrad", "average=0",
                "optimizer={'name': 'SGD', 'lr': 0.5}", "epochs=3", "scheduler.threshold=1e-3")
    command = [part for setting in settings for part in ("--set", setting)]
    assert main("--model", plateau, "--dry-run", *command, "--batch-size", 1000, "--lr", 0.3,
                "--seed", 9, "--device", "cpu", "--out", "a")[0] == 0
    args = json.loads((tmp_path / "a" / "dry-run-seed9" / "args.json").read_text())
    _, _, recipe = train.load_model_file(plateau)
    assert args["seed"] == 9 and args["recipe"] == recipe | dict(
        augment={}, scheduler=recipe["scheduler"] | dict(patience=7, threshold=1e-3), average=0,
        optimizer=dict(name="SGD", lr=0.3), epochs=3, batch_size=1000)
    rates = utils.read_csv(tmp_path / "a" / "dry-run-seed9" / "learning_rate.csv")
    assert [row["lr"] for row in rates] == ["0.3"] * 3 * 4  # 4,000 images


def test_numbers_of_numpy_are_numbers(main, by_epoch):
    by_epoch.write_text("import numpy\n" + by_epoch.read_text().replace(
        "rates=[1, 0.02, 0.05, 0.01]", "rates=list(numpy.linspace(0.1, 0, 4))"))
    assert main("--model", by_epoch, *DRY)[0] == main("--model", by_epoch, *DRY, "--resume")[0] == 0


def read_recipe(*argv):
    return train.read_recipe(train.parse_arguments([str(arg) for arg in argv]))[2]


def test_set_changes_this_recipe_alone(step):
    augment = "augment=dict(rotate=10, shift=1, scale=0.1, shear=5),"
    step.write_text(step.read_text().replace(augment, ""))
    assert read_recipe("--model", step, "--set", "augment.rotate=9")["augment"] == {"rotate": 9}
    assert read_recipe("--model", step)["augment"] == train.DEFAULTS["augment"] == {}
    assert read_recipe("--model", 1, "--lr", 0.3)["scheduler"]["max_lr"] == 0.3  # OneCycleLR's
    to_step = "--set", "scheduler={'name': 'StepLR', 'step_size': 5}"
    assert read_recipe("--model", 1, "--lr", 0.3, *to_step)["optimizer"]["lr"] == 0.3


@pytest.mark.parametrize("flags, part", [
    ("--holdout 10000", slice(50000, 60000)), ("--holdout 10000 --fold 0", slice(0, 10000)),
    ("--holdout 7000 --fold 3", slice(21000, 28000)),
    ("--holdout 1 --fold 59999", slice(59999, 60000))])
def test_a_fold_is_the_k_th_part_and_the_rest_is_trained_on(monkeypatch, flags, part):
    images = torch.zeros(1, 28, 28, dtype=torch.uint8).expand(60000, 28, 28)
    monkeypatch.setattr(utils, "find_mnist", lambda folder: folder)
    monkeypatch.setattr(utils, "load_mnist", lambda root, train: (images, torch.arange(60000)))
    args = train.parse_arguments(flags.split())
    (_, trained), (_, held_out), data, first = train.load_data(args, {}, torch.device("cpu"))
    assert held_out.tolist() == list(range(60000))[part] and first == part.start
    assert sorted(trained.tolist() + held_out.tolist()) == list(range(60000))
    assert f"{part.start} to {part.stop - 1}, held out" in data


def test_a_net_is_trained_by_another_files_recipe(tmp_path, main, one_cycle, plateau):
    command = "--model", one_cycle, "--recipe", plateau, *DRY
    assert main(*command)[0] == 0
    args = json.loads((tmp_path / "runs" / "one_cycle" / "dry-run-seed0" / "args.json").read_text())
    _, _, recipe = train.load_model_file(plateau)
    assert args["model"] == "one_cycle.py" and args["recipe"] == recipe | dict(epochs=1)
    result = main(*command, "--set", "optimizer.foo=2")
    assert refused(result, 2, f"{plateau} with epochs=1 with optimizer.foo=2: RECIPE: optimizer: ")


@pytest.mark.parametrize("cuda, mps, expected", [(True, True, "cuda"), (False, True, "mps"),
                                                 (False, False, "cpu")])
def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch, main, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert utils.pick_device("auto").type == expected
    assert utils.pick_device("cpu").type == "cpu"
    assert cuda or refused(main(*DRY, "--device", "cuda"), 2, "--device cuda", "available: ")


# ---- what goes wrong ---------------------------------------------------------------------------
BROKEN = {  # a model file, and what the message must say about it
    "import torch\n\nx = 1 / 0\n": ["ZeroDivisionError"],
    "def f(:\n": ["SyntaxError", "line 1"],
    "raise SystemExit(0)\n": ["SystemExit"],
    "RECIPE = {}\n": ["has no Net", "class Net(nn.Module)"],
    "class Net: pass\n": ["has no RECIPE"],
    ONE_CYCLE + "RECIPE['dropout'] = 0.1\n": ["'dropout' is no key", "label_smoothing"],
    ONE_CYCLE + "del RECIPE['epochs']\n": ["'epochs' is missing"],
    ONE_CYCLE + "RECIPE['augment'] = dict(flip=1)\n": ["augment.flip is unknown", "thickness"],
    ONE_CYCLE + "RECIPE['augment'] = [{}, dict(shift=float('nan'))]\n": ["augment.shift is nan"],
    ONE_CYCLE + "RECIPE |= dict(deskew=True, upright=True)\n": ["leave out deskew"],
    ONE_CYCLE + "RECIPE['optimizer'] = 'SGD'\n": ["optimizer is 'SGD'", "a dict"],
    ONE_CYCLE + "RECIPE['optimizer'] = dict(name='SDG')\n": ["optimizer: ", "'SDG'"],
    ONE_CYCLE + "RECIPE['optimizer']['lr'] = 1\n": ["leave out the optimizer's lr"],
    PLATEAU + "RECIPE['scheduler']['mode'] = 'max'\n": ["scheduler.mode is 'max'", "'min'"],
    PLATEAU + "RECIPE['scheduler']['factor'] = 2\n": ["scheduler: ValueError", "Factor"],
    ONE_CYCLE.replace("Linear(256, 10)", "Linear(256, 11)"): ["(12, 11)", "expected (12, 10)"],
    ONE_CYCLE.replace("return self.layers(images)", "return self.layers(images), 1"):
        ["<class 'tuple'>", "expected (12, 10)"],
    ONE_CYCLE.replace("Linear(256", "Linear(255"): ["training on noise", "shapes cannot"],
    ONE_CYCLE.replace("super().__init__()", "self.x = undefined"): ["NameError", "'undefined'"],
    PLATEAU + "RECIPE['optimizer'] = dict(name='LBFGS')\n": ["closure"],
}


@pytest.mark.parametrize("source", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_model_file_is_one_message_with_the_file_and_the_reason(tmp_path, main, source):
    (tmp_path / "net.py").write_text(source)
    status, _, err = main("--model", "net.py")
    *traceback, last = err.splitlines()
    assert status == 2 and last.startswith("train.py: error: net.py")
    assert all(part in last for part in BROKEN[source]), err
    assert not traceback or traceback[0].startswith("Traceback")
    assert not (tmp_path / "runs").exists()


ARGUMENTS = {  # a wrong command line, and what the message must name
    "--epoch 1": ["unrecognized arguments: --epoch"],
    "--epochs 0": ["epochs is 0", "from 1 to"], "--epochs 1.5": ["epochs is 1.5", "int from 1"],
    "--batch-size 0": ["batch_size is 0", "from 1 to 60000"], "--seed x": ["--seed", "'x'"],
    "--lr -0.1": ["max_lr is -0.1", "float from"], "--lr nan": ["max_lr is 'nan'"],
    "--holdout 60000": ["--holdout", "up to 59999"], "--device tpu": ["--device", "cuda"],
    "--dry-run --holdout 100": ["--holdout", "--dry-run"], "--fold 1": ["--fold 1", "0 folds"],
    "--holdout 10000 --fold 6": ["--fold 6", "6 folds"], "--holdout 9 --fold -1": ["--fold -1"],
    "--runs 0": ["--runs N from 1"], "--set scheduler=StepLR --lr 1": ["scheduler is 'StepLR'"],
    "--sede 1": ["--sede"], "--model 4": ["--model 4", "expected 1, 2, 3 or the path"],
    "--recipe no.py": ["--recipe no.py"], "--model README.md": ["--model README.md"],
    "--set epochs": ["with epochs", "epochs is ''"], "--set =1": ["'' is no key"],
    "--set epoch=1": ["model3.py with epoch=1", "'epoch' is no key", "keys are epochs"],
    "--set augmnt.rotate=3": ["augmnt.rotate=3", "augmnt is no dict"],
    "--set upright=no": ["'no', expected bool"], "--set epochs.a=1": ["epochs is no dict"],
    "--set augment.rotate=-1": ["rotate is -1", "0.0 to 180"], "--set augment.scale=1": ["to 0.99"],
    "--set augment.shear=x": ["shear is 'x'"], "--set augment=7": ["augment is 7"],
    "--set augment=[7]": ["augment is 7", "a dict"],
    "--set scheduler.maxlr=3": ["model3.py with scheduler.maxlr=3", "argument 'maxlr'"],
    "--set scheduler.pct_start=1.0": ["scheduler.pct_start is 1.0", "0.99"],
    "--set scheduler.total_steps=5": ["scheduler: TypeError", "total_steps"],
    "--model 2 --set scheduler.patience=x": ["scheduler.patience is 'x'"],
    "--model baselines/f1.py --lr 1": ["scheduler.rates", "a list"],
}


@pytest.mark.parametrize("line", ARGUMENTS)
def test_a_wrong_argument_is_named(tmp_path, monkeypatch, main, line):
    monkeypatch.chdir(ROOT)
    status, _, err = main(*line.split(), "--out", tmp_path / "runs")
    assert status == 2 and all(part in err for part in ARGUMENTS[line]), err
    assert "Traceback" not in err and err.count("error: ") == 1
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path, main, one_cycle):
    (tmp_path / "file").write_text("")
    assert refused(main("--model", one_cycle, *DRY, "--out", "file"), 1, "file")


@pytest.mark.parametrize("seen, epochs", [(0, 0), (50, 1)])
def test_a_run_that_diverges_says_so_and_keeps_what_was_finished(tmp_path, main, seen, epochs):
    (tmp_path / "net.py").write_text(after_steps(seen, "logits = logits * float('nan')"))
    result = main("--model", "net.py", "--dry-run", "--epochs", 4)
    assert refused(result, 1, "train_loss is nan", f"in epoch {epochs + 1}", "lower learning rate")
    last = tmp_path / "runs" / "net" / "dry-run-seed0" / "last.pt"
    assert last.exists() == bool(epochs) and (not epochs or len(utils.load(last)["rows"]) == 1)


def test_an_exception_in_a_net_keeps_its_traceback(tmp_path, main):
    (tmp_path / "net.py").write_text(after_steps(0, "undefined"))  # seen in the rehearsal
    status, _, err = main("--model", "net.py", *DRY)
    assert status == 2 and err.startswith("Traceback") and "undefined" in err.splitlines()[-1]
    (tmp_path / "net.py").write_text(after_steps(50, "undefined"))
    with pytest.raises(NameError):
        main("--model", "net.py", "--dry-run", "--epochs", 4)


@pytest.mark.parametrize("ending, warnings", [("nn.Softmax(dim=1)", 1), ("nn.LogSoftmax(dim=1)", 0),
                                              ("nn.ReLU()", 0)])
def test_a_net_that_ends_in_softmax_is_warned_about_once(main, one_cycle, ending, warnings):
    one_cycle.write_text(ONE_CYCLE.replace("Linear(256, 10)", f"Linear(256, 10), {ending}"))
    status, _, err = main("--model", one_cycle, *DRY)
    assert status == 0 and err.count("logits") == err.count("\n") == warnings


def test_a_table_that_a_spreadsheet_has_open_ends_no_run(tmp_path, monkeypatch, main, one_cycle):
    replace = os.replace

    def locked(source, target):
        if str(target).endswith(("metrics.csv", "loss.png")):
            raise PermissionError(13, "Permission denied", str(target))
        replace(source, target)
    monkeypatch.setattr(os, "replace", locked)
    status, _, err = main("--model", one_cycle, *DRY)
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    assert status == 0 and "warning: cannot write runs/one_cycle/dry-run-seed0/metrics.csv" in err
    assert {path.name for path in folder.iterdir()} == FILES - {"metrics.csv", "loss.png"}


def test_no_room_for_a_checkpoint_ends_the_run_and_leaves_the_last(tmp_path, main, one_cycle):
    command = "--model", one_cycle, "--dry-run", "--epochs", 4
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    shutil.copy(one_cycle, tmp_path / "small.py")
    one_cycle.write_text(after_steps(50, f"__import__('resource').setrlimit(1, (9000, {most}))"))
    try:
        result = main(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert refused(result, 1, "cannot write runs/one_cycle/dry-run-seed0/last.pt", "too large")
    assert {path.name for path in folder.iterdir()} == {"args.json", "last.pt", "metrics.csv"}
    shutil.copy(tmp_path / "small.py", one_cycle)
    status, out, _ = main(*command, "--resume")
    assert status == 0 and "1 of 4 epochs are there" in out


# ---- checkpoints -------------------------------------------------------------------------------
@pytest.fixture
def finished(tmp_path, tmp_path_factory, main, one_cycle):
    """(folder, resume): a finished run, trained once and copied; its command with --resume."""
    command = "--model", one_cycle, "--dry-run", "--epochs", 2
    folder = tmp_path / "runs" / "one_cycle" / "dry-run-seed0"
    kept = tmp_path_factory.getbasetemp() / "finished"
    if not kept.exists():
        assert main(*command)[0] == 0
        shutil.move(folder, kept)
    shutil.copytree(kept, folder)
    return folder, lambda *more: main(*command, "--resume", *more)


def test_a_finished_run_may_be_resumed_whatever_comments_say(finished, one_cycle):
    folder, resume = finished
    one_cycle.write_text("# a comment\n" + ONE_CYCLE.replace("Dropout(0.1)", "Dropout(p=0.1)"))
    (folder / "loss.png").unlink()
    before = utils.load(folder / "last.pt")
    status, out, err = resume()
    assert status == 0 and err == "" and f"{folder.name}: 2 of 2 epochs" in out
    assert {path.name for path in folder.iterdir()} == FILES
    assert equal(before, utils.load(folder / "last.pt"))


@pytest.mark.parametrize("flags, source, word", [
    (["--epochs", 3], ONE_CYCLE, "epochs"), (["--lr", 1], ONE_CYCLE, "scheduler"),
    (["--set", "augment.rotate=9"], ONE_CYCLE, "augment"),
    ([], ONE_CYCLE.replace("smoothing=0.02", "smoothing=0.1"), "label_smoothing"),
    ([], ONE_CYCLE.replace("Dropout(0.1)", "Dropout(0.2)"), "net"),
    ([], ONE_CYCLE.replace("Linear(256, 10)", "Linear(256, 9), nn.Linear(9, 10)"), "net")])
def test_a_checkpoint_of_another_run_or_net_is_refused(finished, one_cycle, flags, source, word):
    folder, resume = finished
    before = snapshot(folder)
    one_cycle.write_text(source)
    assert refused(resume(*flags), 1, "last.pt comes from a run with ", f"another {word} than")
    assert snapshot(folder) == before


@pytest.mark.parametrize("damage", [
    lambda path, state: path.write_bytes(path.read_bytes()[:-200]),  # cut off
    lambda path, state: path.write_text("no zip"),
    lambda path, state: torch.save([1, 2], path),
    lambda path, state: torch.save(torch.nn.Linear(1, 1), path),  # code, which is not run
    lambda path, state: torch.save(dict(rng=0, **state), path)])  # as earlier versions had it
def test_what_is_no_checkpoint_is_refused_in_one_line(finished, damage):
    folder, resume = finished
    damage(folder / "last.pt", utils.load(folder / "last.pt"))
    before = snapshot(folder)
    result = resume()
    assert refused(result, 1, "last.pt is ") and result[2].count("\n") == 1
    assert snapshot(folder) == before


def test_a_gpus_random_numbers_go_on_after_resuming(one_cycle, monkeypatch, tmp_path):
    """On a stand-in for torch.cuda, since there may be no GPU."""
    states = [torch.arange(16, dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: states[-1])
    monkeypatch.setattr(torch.cuda, "set_rng_state", states.append)
    cuda, settings = torch.device("cuda"), dict(recipe={})
    _, net_class, recipe = train.load_model_file(one_cycle)
    state = train.start(net_class, recipe, 0, 5)
    utils.save(tmp_path / "last.pt", train.checkpoint(state, settings, cuda))
    states.append(torch.zeros(16, dtype=torch.uint8))
    train.resume(state, tmp_path / "last.pt", settings, cuda)
    assert len(states) == 3 and states[2].tolist() == list(range(16))


# ---- several seeds -----------------------------------------------------------------------------
def test_several_runs_are_those_of_single_ones_and_close_with_their_mean(
        tmp_path, monkeypatch, main, one_cycle):
    """With a backend for plots that is not installed; here the pictures are real."""
    command = "--model", one_cycle, "--dry-run", "--epochs", 2, "--device", "cpu", "--out", "Größe"
    assert main(*command, "--seed", 4)[0] == 0
    third, fourth = (tmp_path / "Größe" / f"dry-run-seed{seed}" for seed in (3, 4))
    fourth.rename(tmp_path / "alone")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    monkeypatch.setenv("MPLBACKEND", "nowhere")
    status, out, err = main(*command, "--runs", 2, "--seed", 3)
    assert status == 0 and err == ""
    states = [utils.load(folder / "last.pt") for folder in (third, fourth)]
    assert equal(states[1], utils.load(tmp_path / "alone" / "last.pt"))
    final = [state["rows"][-1]["test_acc"] for state in states]
    mean, deviation = sum(final) / 2, abs(final[0] - final[1]) / 2 ** 0.5  # n - 1 is 1
    assert f"{mean:.3f} ± {deviation:.3f}%" in out and f"minimum {min(final):.2f}%" in out
    assert "At least 99.4% in each of the last 2 epochs: 0 of 2 runs" in out
    assert out.endswith("Written: Größe\n")
    assert all(f"seed {seed}: {accuracy:.2f}% in the last epoch" in out
               for seed, accuracy in zip((3, 4), final))
    for name in PLOTS:
        with Image.open(third / name) as image:
            assert image.format == "PNG" and min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 24)) > 50, "an empty picture"


@pytest.mark.parametrize("statement, status, words", [
    ("sys.exit('au\u00dfer Betrieb')", 1, ["seed 5 ended with status 1", "au\u00dfer Betrieb"]),
    ("os.kill(os.getpid(), 9)", 1, ["seed 5 ended with status -9", "--resume"])])
def test_a_seed_that_fails_ends_the_series(tmp_path, monkeypatch, main, one_cycle, statement,
                                           status, words):
    """A script stands in for train.py: it marks its start, then fails as seed 5, or sleeps."""
    (tmp_path / "train.py").write_text(
        f"import os, sys, time\nopen(f'started-{{os.getpid()}}', 'w').close()\n"
        f"time.sleep(60) if '--seed=5' not in sys.argv else {statement}\n")
    monkeypatch.setattr(utils, "HERE", tmp_path)
    result = main("--model", one_cycle, "--dry-run", "--device", "cpu", "--runs", 9, "--seed", 5)
    assert refused(result, status, *words)
    started = [int(path.name.partition("-")[2]) for path in tmp_path.glob("started-*")]
    assert len(started) <= utils.cores()
    for number in started:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_what_ends_a_series_ends_its_seeds(tmp_path, main, one_cycle, ending):
    (tmp_path / "train.py").write_text(
        "import os, time\nopen(f'started-{os.getpid()}', 'w').close()\ntime.sleep(60)\n")
    process = spawn("--model", one_cycle, "--dry-run", "--device", "cpu", "--runs", 9,
                    here=tmp_path)
    wait_until(process.is_alive,
               lambda: len([*tmp_path.glob("started-*")]) == min(9, utils.cores()))
    os.kill(process.pid, ending)
    process.join(30)
    assert process.exitcode == 130
    printed = (tmp_path / "printed").read_text()
    assert "interrupted; add --resume" in printed and "Traceback" not in printed
    for path in tmp_path.glob("started-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name.partition("-")[2]), 0)


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
    assert refused(main(*flags), 1, "t10k-images-idx3-ubyte is damaged or of another data")
