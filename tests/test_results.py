"""The published numbers come from files, the files from these nets; the scripts around them."""

import ast
import functools
import gzip
import json
import math
import re
import shlex
import shutil
import statistics
from pathlib import Path
from types import SimpleNamespace

import experiments
import figures
import publish
import pytest
import report
import robustness
import torch
from conftest import ROOT
from torchvision import datasets

import train
import utils

CLOSE, APART = [99.37, 99.39, 99.40, 99.41, 99.43], [99.2, 99.3, 99.4, 99.5, 99.6]  # mean 99.4
PUBLISHED = report.models()
TABLE = re.compile(r"<!-- table: .*?<!-- end -->", re.DOTALL)


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


# ---- what is published -------------------------------------------------------------------------
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_runs_are_of_this_net_and_recipe_and_complete(name):
    _, net_class, recipe = train.load_model_file(report.model_file(name))
    folders = report.seed_folders(ROOT / "results" / name)
    assert len(folders) >= (10 if name in report.MODELS else 3)
    for seed, folder in enumerate(folders):  # from 0 on, without a gap
        assert folder.name == f"seed{seed}"
        model = json.loads(read(folder / "args.json"))["model"]
        assert model == f"{name}.py" or name not in report.MODELS  # earlier ones have been renamed
        run = publish.check(folder, seed, Path(model), net_class, recipe, publish.EVERY_SEED[:2])
        assert 100 - len(run["wrong"]) / 100 == pytest.approx(run["test_acc"])
        rows = utils.read_csv(folder / "mistakes.csv")
        assert all(row["label"] != row["prediction"] for row in rows)
    steps = recipe["epochs"] * math.ceil(60000 / recipe["batch_size"])
    assert len(utils.read_csv(folders[0] / "learning_rate.csv")) == steps
    assert {path.name for path in folders[0].glob("*.png")} == {
        "accuracy.png", "loss.png", "learning_rate.png", "mistakes.png"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_have_their_recorded_accuracy(mnist, name):
    folder = ROOT / "results" / name / "seed0"
    _, net_class, recipe = train.load_model_file(report.model_file(name))
    net, run = net_class(), report.read_run(folder)
    net.load_state_dict(utils.load(folder / "model.pt"))
    images, labels = utils.load_mnist(mnist, train=False)
    loss, accuracy, predictions = utils.evaluate(net, utils.prepare(images, recipe), labels)
    assert accuracy == pytest.approx(run["test_acc"], abs=0.015)  # a logit rounds
    assert loss == pytest.approx(float(run["test_loss"]), abs=1e-4)
    wrong = (predictions != labels).nonzero().flatten().tolist()
    assert len({*wrong} ^ {*run["wrong"]}) <= 1
    halves = [100 - sum(index // 5000 == half for index in wrong) / 50 for half in (0, 1)]
    assert [run["first_5000_acc"], run["last_5000_acc"]] == pytest.approx(halves, abs=0.03)


def test_the_runs_of_the_published_nets_are_of_these_nets():
    runs = {}
    for row in utils.read_csv(ROOT / "results" / "baselines" / "runs.csv"):
        runs.setdefault((row["net"], row["recipe"]), []).append(row)
    for (net, kind), rows in runs.items():
        _, net_class, recipe = train.load_model_file(report.model_file(net))
        epochs = dict(own=recipe["epochs"], model3=15)[kind]
        assert [row["seed"] for row in rows] == [str(seed) for seed in range(len(rows))]
        wrong = [row["wrong"] for row in rows if row["wrong"]]
        assert all(100 - len(row["wrong"].split()) / 100 == pytest.approx(float(row["test_acc"]))
                   for row in rows if row["wrong"]) and len(wrong) in (0, len(rows))
        assert {(int(row["parameters"]), int(row["epochs"]), row["holdout"]) for row in rows} == {
            (train.count(net_class()), epochs, "0")}, (net, kind)


# ---- what the documents say --------------------------------------------------------------------
def test_documents_and_pictures_are_current_and_tell_every_change():
    stale = report.update(check=True)
    assert not stale, f"{', '.join(stale)} out of date: python results/report.py"
    sections = {row["section"] for row in utils.read_csv(ROOT / "results" / "changes.csv")}
    assert set(re.findall(r"<!-- table: changes: (.+?) -->", read("CHANGELOG.md"))) == sections


def test_what_is_out_of_date_is_noticed():
    text, runs = read("results/README.md"), report.published("model3")
    stale = text.replace(f"| {report.spread(runs)} |", "| 99.99 % (n=1) |")
    assert stale != text == report.with_tables(stale)
    figure = figures.seeds("model3", runs)
    before, line = figures.digest(figure), figure.axes[0].get_lines()[0]
    line.set_ydata([99.0, *list(line.get_ydata())[1:]])
    assert figures.digest(figure) != before == figures.drawn(ROOT / "results/model3/seeds.png")
    with pytest.raises(KeyError, match="no such run"):
        report.with_tables("<!-- table: no such run -->\n<!-- end -->")


def test_reports_command_says_what_is_stale_and_compares_two_experiments(monkeypatch, capsys):
    monkeypatch.setattr(report, "texts", lambda: {"README.md": ""})
    monkeypatch.setattr(report, "pictures", lambda: {})
    for args, status, said in (
            (["--check"], 1, "out of date: README.md"),
            (["Model 1: as it is | Model 1: no deskewing"], 0, "| no deskewing | 0.0179 |")):
        monkeypatch.setattr("sys.argv", ["report.py", *args])
        assert report.main() == status and said in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["report.py", "Model 1: as it is | nothing"])
    with pytest.raises(SystemExit, match="2"):
        report.main()
    assert "'nothing' has no run of a seed and fold of 'Model 1" in capsys.readouterr().err


@pytest.mark.parametrize("model", report.MODELS)
def test_the_result_in_a_model_file_is_that_of_its_runs(model):
    runs, (parameters, macs) = report.published(model), report.cost(ROOT / f"{model}.py")
    result = re.search(r"\nTarget\n.*\nResult\n(.*)\nAnalysis\n", read(f"{model}.py"), re.DOTALL)[1]
    seconds, last = statistics.median(run["seconds"] for run in runs), runs[-1]["seed"]
    for words in (
            report.spread(runs), f"{min(run['last5_min'] for run in runs):.2f} %.\n",
            f": {report.held(runs)}.", f"{parameters:,} parameters, {macs:,} multiply-adds",
            f"torch {runs[0]['torch']}, {runs[0]['device']}, 1 thread, {seconds:.0f} s a run",
            f"seeds {runs[0]['seed']} to {last}: python train.py --model {model[-1]} "):
        assert words in result, words


def test_the_picture_has_room_for_any_number_of_nets_of_any_size():
    others = {f"mine{n}": [dict(params=2000 * n, test_acc=98.0 + n / 10)] for n in range(1, 12)}
    model3 = {"model3": 2 * [dict(params=7866, test_acc=99.6)]}
    axes = figures.accuracy(model3 | others, []).axes[0]
    assert {f"{name}.py" for name in others} <= {text.get_text() for text in axes.texts}
    (left, right), (low, _) = axes.get_xlim(), axes.get_ylim()
    assert left < 2000 and right > 22000 and low < 98.1


def test_changed_digits_were_read_by_the_published_weights():
    recorded = {("B3 by Model 3's recipe", int(run["seed"])): run["test_acc"]
                for net in report.all_nets() if net["path"].stem == "b3" for run in net["model3"]}
    for name in ("model1", "model2", "model3", "fast", "deep"):
        recorded |= {(name.replace("model", "Model "), run["seed"]): run["test_acc"]
                     for run in report.published(name)}
    rows = utils.read_csv(ROOT / "results" / "robustness.csv")
    assert len(rows) == 6 * 5
    for row in rows:
        accuracy = recorded[row["net"], int(row["seed"])]
        assert float(row["unchanged"]) == pytest.approx(accuracy, abs=0.011), row  # a logit rounds


def test_other_peoples_digits_are_scaled_as_mnists_are(tmp_path):
    with gzip.open(tmp_path / "digits.gz", "wt") as file:
        file.write(" ".join(["7"] + ["-1"] * 255 + ["1"]) + "\n")  # white in the last corner
    (images,), labels = robustness.usps(tmp_path / "digits.gz")
    assert labels.tolist() == [7] and images.shape == (1, 28, 28) and images.dtype == torch.uint8
    assert images[0, 23, 23] == 255 and images[0, 4:23, 4:22].sum() == 0
    assert images[0, 24:].sum() == images[0, :, 24:].sum() == 0


def test_qmnist_is_read_where_it_can_be_had(mnist, monkeypatch, tmp_path):
    images, labels = utils.load_mnist(mnist, train=False)
    digits = SimpleNamespace(data=images[:50], targets=labels[:50])
    monkeypatch.setattr(datasets, "QMNIST", lambda root, what, download: digits)
    monkeypatch.setattr(robustness, "NETS", {"Model 3": "model3"})
    monkeypatch.setattr(utils, "load_mnist", lambda root, train: (images[:600], labels[:600]))
    monkeypatch.setattr(utils, "write", lambda path, text: (tmp_path / "out").write_text(text))
    monkeypatch.setattr(figures, "draw", lambda *args: None)
    for flags, known in ([], False), (["--qmnist"], True):
        monkeypatch.setattr("sys.argv", ["robustness.py", *flags])
        robustness.main()
        rows = utils.read_csv(tmp_path / "out")
        assert [row["seed"] for row in rows] == list("01234")
        assert all(float(row["unchanged"]) > 99 for row in rows)
        assert all((row[robustness.QMNIST] == "100.0") == known for row in rows)


def test_multiply_adds_are_those_of_a_count_by_hand():
    layers = [  # of Model 3: outputs high and wide, inputs of each, outputs of each
        (26, 9, 16), (11, 9, 16), (11, 16, 32), (9, 9, 32), (9, 32, 32), (7, 9, 32), (7, 32, 32),
        (5, 9, 32), (5, 32, 32), (3, 9, 32), (3, 32, 48), (1, 9, 48), (1, 48, 10)]
    by_hand = sum(side * side * inputs * outputs for side, inputs, outputs in layers)
    assert report.cost(ROOT / "model3.py") == (7866, by_hand) == (7866, 397_408)


def test_nets_are_compared_image_by_image():
    ours = [dict(wrong=[0, 1]), dict(wrong=[0])]  # seeds; without `wrong` they say nothing
    theirs = [dict(wrong=[0, 2, 3]), dict(wrong=[2, 3]), dict(test_acc=99)]
    gaps = [-0.5, -0.5, 1, 1] + 9996 * [0]  # of each image, the share of seeds that misread it
    error = statistics.stdev(gaps)  # 100 % divided by sqrt(10,000)
    assert report.beside(ours, theirs) == f"+0.010 ± {error:.3f}" == "+0.010 ± 0.016"
    assert report.beside(theirs[2:], ours) == report.beside(ours, ours) == "–"


def test_figures_of_runs_in_words():
    runs = [dict(test_acc=accuracy, best=99.5) for accuracy in (99.0, 99.2, 99.7)]
    assert report.spread(runs) == "99.30 ± 0.36 % (n=3)"
    assert report.spread(runs[:1], "best") == "99.50 % (n=1)"
    good, bad = [99.0] * 10 + [99.5] * 5, [99.0] * 10 + [99.5, 99.39, 99.5, 99.5, 99.5]
    runs = [dict(params=7000, accuracy=accuracy, last5_min=min(accuracy[-5:]))
            for accuracy in (good, bad, good)]
    assert report.held(runs) == "2 of 3" and report.held([]) == "–"
    assert report.held(20 * runs[:1]) == "20 of 20 (≥ 83 %)"  # 0.83 to the 20th is 2.5 %
    axes = figures.seeds("model3", runs).axes[0]
    assert axes.get_title(loc="left") == "model3.py, 7,000 parameters: 2 of 3 seeds hold 99.4 %"
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [good, bad, good]


@pytest.mark.parametrize("best, seeds, verdict", [
    ("99.47", CLOSE, "optimistic by 0.07"), ("99.46", CLOSE, "reproduced"),
    ("99.20", CLOSE, "pessimistic by 0.20"),  # noise: 0.48 for five seeds of APART, 0.35 for 10
    ("98.93", APART, "reproduced"), ("99.87", APART, "reproduced"),
    ("99.89", APART, "optimistic by 0.49"), ("99.75", 2 * APART, "reproduced"),
    ("99.76", 2 * APART, "optimistic by 0.36"), ("99.76", [*2 * APART, 99.4], "optimistic by 0.36"),
    ("99.71", 4 * APART, "reproduced"), ("99.72", 4 * APART, "optimistic by 0.32")])
def test_the_verdict_on_a_published_figure_allows_for_the_seeds(best, seeds, verdict):
    own = [dict(best_test_acc=accuracy) for accuracy in seeds]
    assert report.verdict(dict(best=best, own=own, reconstructed="")) == verdict
    assert report.verdict(dict(best=best, own=own, reconstructed="yes")) == "none: reconstructed"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The folder results/ of a repository that has nothing else."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def runs_of(*accuracies):
    """Runs with these test accuracies in the last epoch."""
    return [dict(test_acc=each, best_test_acc=99.6, last5_min=each - 0.1, train_acc=98.8,
                 seconds=45, epochs=15) for each in accuracies]


def test_the_tables_of_published_nets(monkeypatch):
    x1 = dict(net="X1", parameters="1234", best="99.30", last="", train="98.76", source="somebody",
              address="https://a.b", reconstructed="", path=ROOT / "baselines" / "x1.py",
              own=runs_of(99.2, 99.3, 99.3, 99.3, 99.5), model3=runs_of(99.6, 99.7))
    x2 = x1 | dict(net="X2", parameters="8000", best="99.20", last="99.10", address="", train="",
                   path=ROOT / "baselines" / "x2.py", own=runs_of(*5 * [99.0]),
                   model3=runs_of(99.11))
    monkeypatch.setattr(report, "cost", lambda path: (1234, 567890))
    monkeypatch.setattr(report, "read", lambda name: [dict(net="x1", image="0.44", batch="2.06")])
    monkeypatch.setattr(report, "all_nets", lambda: [
        dict(path=ROOT / "mine.py", own=[], model3=[]), x1, x2, x1 | dict(own=runs_of(99)),
        x1 | dict(net="X3", own=runs_of(*5 * [90]), reconstructed="yes")])
    *_, first, second, third = report.baselines_table().splitlines()
    assert [first, second] == [
        "| [X1](x1.py), [somebody](https://a.b) | 1,234 | 568 | 0.4 | 2.1 | 99.30 | – "
        "| 99.32 ± 0.11 % (n=5) | 99.20 to 99.50 | 99.60 ± 0.00 % (n=5) | 1 of 5 | 98.76, 98.80 "
        "| 3 s | pessimistic by 0.30 |",
        "| [X2](x2.py), somebody | 1,234 | 568 | – | – | 99.20 | 99.10 | 99.00 ± 0.00 % (n=5) "
        "| 99.00 to 99.00 | 99.60 ± 0.00 % (n=5) | 0 of 5 | –, 98.80 | 3 s | pessimistic by 0.40 |"]
    assert third.startswith("| [X3]") and third.endswith("| none: reconstructed |")
    assert report.counts_table().splitlines()[2:] == [
        "| their own recipes | all, 2 | 10 | 1 | 1 |",
        "| their own recipes | those below 8,000 parameters, 1 | 5 | 1 | 1 |",
        "| Model 3's recipe | all, 2 | 3 | 2 | 2 |",
        "| Model 3's recipe | those below 8,000 parameters, 1 | 2 | 2 | 2 |"]
    assert report.points_table().splitlines()[2:] == [
        "| the best epoch less the last | 2 | +0.44 | +0.28 (X1) | +0.60 (X2) |",
        "| the published best epoch less ours | 2 | -0.35 | -0.40 (X2) | -0.30 (X1) |",
        "| standard deviation over seeds, last epoch | 2 | 0.05 | 0.00 (X2) | 0.11 (X1) |",
        "| Model 3's recipe less its own, last epoch | 2 | +0.22 | +0.11 (X2) | +0.33 (X1) |"]


def test_the_leaderboard_has_small_nets_with_enough_runs_the_best_first(monkeypatch):
    nets = dict(  # by Model 3's recipe, by their own
        a=(runs_of(99.5, 99.5, 99.5), []), b=(runs_of(99.45, 99.55, 99.51), runs_of(*5 * [90.0])),
        c=([], runs_of(*5 * [99.52])), d=(runs_of(99.9, 99.9), runs_of(*4 * [99.9])),  # too few
        big=(runs_of(*5 * [99.9]), []), guess=([], runs_of(*5 * [99.9])))
    monkeypatch.setattr(report, "all_nets", lambda: [
        dict(path=ROOT / name, model3=model3, own=own, reconstructed=name == "guess")
        for name, (model3, own) in nets.items()])
    monkeypatch.setattr(report, "cost", lambda path: (8000 if path.name == "big" else 7999, 1))
    assert re.findall(r"^\| \[(\w+)\]", report.leaderboard_table(), re.MULTILINE) == ["c", "b", "a"]


def test_a_change_is_told_by_its_runs(results):
    (results / "earlier.csv").write_text(
        "experiment,seed,val_acc,val_loss\nbase:,0,99.4,\nbase:,1,99.5,\nbase: a=1; b=2,0,99.3,\n"
        "other; fold=0,0,99.48,0.0312\nother; fold=3,1,99.4,0.03449\n")
    (results / "changes.csv").write_text(
        "section,change,before,after,verdict\nT,none,base:,gone,\n"
        'S,some,base:,base: a=1; b=2 | other,"dropped, worse"\n')
    lines = report.with_tables("<!-- table: changes: S -->\n<!-- end -->").splitlines()[3:-1]
    assert lines == ["| some | 99.45 ± 0.07 % (n=2) | 99.30 % (n=1), 0.0312 / 0.0345, "
                     "99.48 / 99.40 % | dropped, worse |"]
    with pytest.raises(KeyError, match="gone"):
        report.changes_table("T")


def test_experiments_are_compared_in_pairs(results):
    (results / "experiments.csv").write_text(
        "name,seed,fold,val_loss,val_acc\n"
        "base,0,0,0.02,99.5\nbase,1,0,0.03,99.3\nbase,2,0,0.09,90\n"
        "no a,1,0,0.034,99.2\nno a,0,0,0.022,99.5\nno a,2,0,0.093,89.9\nno a,0,5,0.5,50\n"
        "no b,0,0,0.01,99.6\nno b,1,0,0.025,99.2\nalone,0,1,0.01,99\n")
    lines = report.with_tables("<!-- table: base | no * -->\n<!-- end -->").splitlines()[3:-1]
    # no a: differences in loss 0.004, 0.002 and 0.003, in accuracy -0.1, 0 and -0.1; the interval
    # is Student's 4.303 times their standard deviation, 0.001 and 0.058, by the square root of 3
    assert lines == ["| base | 0.0467 |  | 96.27 % |  | 3 |",
                     "| no a | 0.0497 | +0.0030 ± 0.0025 | 96.20 % | -0.07 ± 0.14, not told from 0 "
                     "| 3 |",
                     "| no b | 0.0175 | -0.0100, -0.0050 | 99.40 % | +0.10, -0.10 | 2 |"]


def test_the_ladder_has_first_what_can_be_told_and_is_large(results):
    (results / "experiments.csv").write_text(
        "name,seed,fold,val_loss,val_acc\nM: as it is,0,0,0.02,99.5\nM: as it is,1,3,0.04,99.3\n"
        "M: as it is,2,0,0.02,99\nM: no a,0,0,0.022,9\nM: no a,1,3,0.044,9\nM: no a,2,0,0.0222,9\n"
        "M: no b,1,3,0.05,99.1\nM: no b,0,0,0.02,99\nM: no d,0,0,0.021,99\n"
        "M: no c,0,0,0.01,99.4\nM: no c,1,3,0.02,99.4\n")
    (results / "ladder.csv").write_text(
        "change,why,models,with,without,by\na,it helps,1,M: as it is,M: no a,loss\n"
        "b,\"so, too\",2,M: as it is,M: no b,loss\nc,-,3,M: as it is,M: no c,accuracy\n"
        "d,-,3,M: as it is,M: no d,loss\n")
    assert report.ladder_table().splitlines()[2:] == [
        "| a | it helps | +10 ± 1 % | M, 3 | 1 |", "| b | so, too | +25, +0 % | M, 2 | 2 |",
        "| d | - | +5 % | M, 1 | 3 |", "| c | - | accuracy -0.10, +0.10 points | M, 2 | 3 |"]
    assert len(report.ladder_table(1).splitlines()) == 3


def test_pictures_show_the_share_of_seeds_that_hold_and_both_curves():
    runs = [dict(test_acc=99.5, last5_min=low) for low in (99.4, 99.39, 99.5, 99.3)]
    point = figures.point(7000, runs, "X", 4, "black")
    assert (point.x, point.y, point.bar, point.fill) == (7000, 99.5, 0, (0.5, 0.5, 0.5))
    rows = [dict(epoch=epoch, train_acc=98 + epoch, test_acc=99, train_loss=0.2, test_loss=0.1)
            for epoch in (1, 2)]
    top, _, low = figures.training(rows, [dict(lr=lr) for lr in (0, 1, 2, 3)], "title").axes
    train_line, test_line, _ = top.get_lines()
    assert (list(train_line.get_ydata()), list(test_line.get_ydata())) == ([99, 100], [99, 99])
    assert low.get_lines()[0].get_xydata().tolist() == [[0.5, 0], [1, 1], [1.5, 2], [2, 3]]


@functools.cache
def known():
    """What the tables under results/ and in the pages have: the numbers; (mean, deviation, n) of
    each column of an experiment's, a net's or a model's runs."""
    paths = [path for path in (ROOT / "results").glob("**/*.csv")
             if "seed" not in path.parent.name and path.name != "changes.csv"]  # which has words
    paths.append(ROOT / "results" / "model3" / "seed0" / "metrics.csv")  # README's log
    tables = [table for path in report.PAGES for table in TABLE.findall(read(path))]
    numbers = {float(number) for text in [*map(read, paths), *tables]
               for number in re.findall(r"\d+\.\d+", text)} | {utils.TARGET}
    groups, means = {}, set()
    for path, row in [(path, row) for path in paths for row in utils.read_csv(path)]:
        name = row.get("experiment") or row.get("name") or row.get("net")
        for column, cell in row.items():
            if re.fullmatch(r"\d+(\.\d+)?", cell):
                key = path, name, row.get("recipe"), column
                groups.setdefault(key, []).append(float(cell))
    for values in groups.values():
        deviation = statistics.stdev(values) if len(values) > 1 else 0
        means.add((f"{statistics.mean(values):.2f}", f"{deviation:.2f}", str(len(values))))
    return numbers, means


def strays(text):
    """The percentages in a text that no file has."""
    numbers, means = known()
    wrong = []
    for quote in re.finditer(r"(\d+\.(\d+))(?: ± (\d+\.\d+))? ?%(?: \(n=(\d+)\))?",
                             " ".join(text.split())):
        mean, digits, deviation, n = quote.groups()
        rounded = {f"{number:.{len(digits)}f}" for number in numbers}
        if not ((mean, deviation or "0.00", n) in means if n else mean in rounded):
            wrong.append(quote[0])
    return wrong


def test_every_percentage_in_prose_stands_in_a_file():
    texts = {path: TABLE.sub("", read(path)) for path in report.PAGES}
    changes = utils.read_csv(ROOT / "results" / "changes.csv")
    texts["changes.csv"] = "\n".join(f"{row['change']}\n{row['verdict']}" for row in changes)
    for path in [*ROOT.glob("*.py"), *ROOT.glob("results/*.py"), *ROOT.glob("baselines/*.py")]:
        texts[path] = ast.get_docstring(ast.parse(read(path))) or ""
    for path, text in texts.items():
        assert not strays(text), f"{path} has percentages that no file under results/ has"


@pytest.mark.parametrize("text", [
    "It reaches 12.34 %.", "It reaches 12.3%.", "99.51 ± 0.04 % (n=9)", "99.51 ± 0.09 % (n=5)"])
def test_a_percentage_that_no_file_has_is_noticed(text):
    assert len(strays(text)) == 1
    assert not strays("99.51 ± 0.04 % (n=5), and 99.4 % in 50 %")


# ---- making and publishing runs ----------------------------------------------------------------
def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def run_experiments(tmp_path, monkeypatch):
    """experiments.main() with an empty table, and with a train.py that copies a published run as if
    it were held out, but fails for seed 1."""
    table = tmp_path / "experiments.csv"
    table.write_text(read(experiments.TABLE).partition("\n")[0] + "\n")
    monkeypatch.setattr(experiments, "TABLE", table)
    monkeypatch.setattr(experiments, "ROOT", tmp_path)
    shutil.copytree(ROOT / "results" / "model3" / "seed0", tmp_path / "run")
    edit(tmp_path / "run" / "metrics.csv", "test_", "val_")
    (tmp_path / "train.py").write_text(
        "import shutil, sys\n*_, seed, out = sys.argv\nif seed == '1': sys.exit('it diverged')\n"
        f"shutil.copytree({str(tmp_path / 'run')!r}, out[6:] + '/held-out-seed' + seed)\n")

    def call(*argv):
        monkeypatch.setattr("sys.argv", ["experiments.py", *map(str, argv)])
        experiments.main()
    return call


def test_an_experiment_is_a_command_that_repeats_it(run_experiments, tmp_path, capsys):
    model = shutil.copy(ROOT / "model3.py", tmp_path / "mine.py")
    command = ("weak, rotated", "--seeds", 7, "--folds", 3, "--", "--model", model,
               "--set", "augment={'rotate': 5, 'shift': 1}", "--batch-size", 1000)
    run_experiments(*command)
    row, = utils.read_csv(experiments.TABLE)
    assert (row["name"], row["seed"], row["fold"]) == ("weak, rotated", "7", "3")
    run = report.published("model3")[0]
    assert (float(row["val_acc"]), row["val_loss"]) == (run["test_acc"], run["test_loss"])
    args = train.parse_arguments(shlex.split(row["command"])[2:])
    assert (args.holdout, args.fold, args.seed) == (10000, 3, 7)
    recipe = train.read_recipe(args)[2]
    assert (recipe["augment"], recipe["batch_size"]) == ({"rotate": 5, "shift": 1}, 1000)
    run_experiments(*command)
    out, err = capsys.readouterr()
    assert "0 of 1 runs to do" in out and not err
    edit(model, "epochs=15", "epochs=14")
    run_experiments(*command)
    assert "the model file was edited" in capsys.readouterr().err
    assert utils.read_csv(experiments.TABLE) == [row]
    with pytest.raises(SystemExit, match="stands for other flags"):
        run_experiments(*command[:-1], 500)


def test_a_run_that_fails_stops_no_other(run_experiments):
    with pytest.raises(SystemExit, match="1 runs failed:\nseed 1, fold 0, status 1: it diverged"):
        run_experiments("some", "--seeds", 0, 1, 2, 3, "--folds", 0, "--", "--model", 3)
    assert {row["seed"] for row in utils.read_csv(experiments.TABLE)} == {"0", "2", "3"}


@pytest.mark.parametrize("argv", ["some -- --holdout 5", "some -- --seed 4", "some -- --nonsense",
                                  "some --folds 6 --", "-- --model 3"])
def test_experiments_refuses_wrong_flags(run_experiments, argv):
    with pytest.raises(SystemExit) as stop:
        run_experiments(*argv.split())
    assert stop.value.code == 2


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of two seeds of Model 3 as train.py leaves them, to be published elsewhere."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    shutil.copy(ROOT / "model3.py", tmp_path)
    for seed in (0, 1):
        folder = tmp_path / "runs" / "model3" / f"seed{seed}"
        shutil.copytree(ROOT / "results" / "model3" / f"seed{seed}", folder)
        (folder / "last.pt").write_text("")
    return tmp_path / "runs" / "model3"


def test_runs_are_published_in_place_of_the_old_ones(runs, tmp_path):
    target = tmp_path / "results" / "model3"
    (target / "seed2").mkdir(parents=True)
    assert publish.publish(runs).endswith("in place of 1; the leaderboard takes five")
    for seed in (0, 1):
        names = {path.name for path in (target / f"seed{seed}").iterdir()}
        assert names == {*publish.files_of(seed)}  # and no last.pt
    with pytest.raises(utils.UserError, match="published already"):
        publish.publish(target)
    shutil.copytree(target / "seed0", target / "seed2")
    with pytest.raises(utils.UserError, match="has 2 of the 3 seeds .* or delete .*model3 first"):
        publish.publish(runs)
    assert {path.name for path in target.iterdir()} == {"seed0", "seed1", "seed2"}


def edited(old, new, name="args.json"):
    return lambda runs: edit(runs / "seed1" / name, old, new)


@pytest.mark.parametrize("spoil, said", [
    (edited('"holdout": 0', '"holdout": 10000'), "holdout is 10000"),
    (edited('"label_smoothing": ', '"label_smoothing": 1'), "another label_smoothing"),
    (edited('"model3.py"', '"model2.py"'), "model is model2.py"),
    (edited('"MNIST"', '"rendered digits, NOT MNIST"'), "data is rendered"),
    (edited('"parameters": ', '"parameters": 1'), "parameters is 1"),
    (edited('"seed": 1', '"seed": 3'), "seed is 3"),
    (edited("test_acc", "val_acc", "metrics.csv"), "seed1: unfinished or damaged"),
    (edited("\n15,", "\n14,0,0,0,99,0,0\n15,", "metrics.csv"), "epochs is 16, expected 15"),
    (lambda runs: edit(report.ROOT / "model3.py", "epochs=15", "epochs=16"), "another epochs"),
    (lambda runs: (runs / "seed1" / "args.json").unlink(), "seed1: unfinished"),
    (edited('"parameters"', '"other"'), "seed1: unfinished"),  # as while a run lasts
    (lambda runs: (runs / "seed1" / "mistakes.csv").unlink(), "mistakes.csv"),
    (lambda runs: (runs / "seed0" / "rf.md").unlink(), "lacks rf.md"),
    (lambda runs: (runs / "seed1").rename(runs / "seed2"), "without a gap"),
    (lambda runs: shutil.copytree(runs / "seed1", runs / "seed1-2"), "one run of each"),
    (lambda runs: shutil.copy(ROOT / "results/model2/seed0/model.pt", runs / "seed0"), "state_d"),
    (lambda runs: (report.ROOT / "model3.py").unlink(), "neither model3.py nor results/model3.py"),
    (lambda runs: shutil.rmtree(runs), "model3 has no runs")])
def test_what_is_no_whole_run_of_the_model_is_not_published(runs, tmp_path, spoil, said):
    spoil(runs)
    with pytest.raises((utils.UserError, RuntimeError), match=said):  # RuntimeError: of torch
        publish.publish(runs)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("recipe, there, place", [
    ("model3", [0, 2], "baselines"), ("own", [0, 1], "baselines"), ("model3", [0, 2], ".")])
def test_runs_by_model_3s_recipe_and_of_published_nets_become_rows(runs, tmp_path, recipe, there,
                                                                   place):
    (tmp_path / place).mkdir(exist_ok=True)
    shutil.copy(ROOT / "model3.py", tmp_path / place / "x1.py")  # the net of the runs
    edit(tmp_path / place / "x1.py", "\n\ndef ", "\nRECIPE['batch_size'] = 8\n\n\ndef ")
    for seed in (0, 1):
        edit(runs / f"seed{seed}" / "args.json", '"model3.py"', '"x1.py"')
        if recipe == "own":
            edit(runs / f"seed{seed}" / "args.json", '"batch_size": 256', '"batch_size": 8')
    table = tmp_path / "results" / "baselines" / "runs.csv"
    table.parent.mkdir(parents=True)
    table.write_text(read("results/baselines/runs.csv").partition("\n")[0] + "\n"
                     "a1,own,0,,,,,,,,,,\nx1,model3,0,,,,,,,,,,\nx1,own,0,,,,,,,,,,\n")
    before = utils.read_csv(table)
    publish.publish(runs)
    rows = utils.read_csv(table)
    new = [row for row in rows if row["recipe"] == recipe and row["net"] == "x1"]
    assert [row["seed"] for row in new] == ["0", "1"]
    assert [row for row in rows if row not in new] == [before[i] for i in there]
    for row in new:
        run = report.read_run(runs / f"seed{row['seed']}")
        assert float(row["test_acc"]) == run["test_acc"] and int(row["parameters"]) == run["params"]
        assert row["wrong"].split() == [str(index) for index in run["wrong"]]
    weights = {str(path.relative_to(table.parent)) for path in table.parent.glob("**/model.pt")}
    assert weights == ({"x1/seed0/model.pt"} if recipe == "own" else {
        "x1-by-model3/seed0/model.pt", "x1-by-model3/seed1/model.pt"})
    edit(runs / "seed1" / "args.json", '"batch_size": ', '"batch_size": 1')
    with pytest.raises(utils.UserError, match="another batch_size"):
        publish.publish(runs)
    shutil.rmtree(runs / "seed1")
    with pytest.raises(utils.UserError, match="has 1 of the 2 seeds .* or delete its rows in "):
        publish.publish(runs)
    assert utils.read_csv(table) == rows
