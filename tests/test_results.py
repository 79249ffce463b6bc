"""The published numbers: every one comes from a file, and the files from these nets. The scripts
that make, publish and report them."""

import ast
import functools
import json
import math
import re
import shlex
import shutil
import statistics
import subprocess
from pathlib import Path

import experiments
import figures
import publish
import pytest
import report
import torch
from conftest import ROOT

import train
import utils

PUBLISHED = (*report.MODELS, *report.others())
TABLE = re.compile(r"<!-- table: .*?<!-- end -->", re.DOTALL)


# ---- what is published -------------------------------------------------------------------------
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_runs_are_of_this_net_and_recipe_and_complete(name):
    _, net_class, recipe = train.load_model_file(report.model_file(name))
    folders = report.seed_folders(ROOT / "results" / name)
    assert len(folders) >= (10 if name in report.MODELS else 3)
    for seed, folder in enumerate(folders):  # from 0 on, without a gap
        assert folder.name == f"seed{seed}"
        model = json.loads((folder / "args.json").read_text())["model"]
        assert model == f"{name}.py" or name not in report.MODELS  # earlier ones have been renamed
        publish.check(folder, seed, Path(model), net_class, recipe, publish.EVERY_SEED[:2])
        if (folder / "mistakes.csv").exists():
            wrong = utils.read_csv(folder / "mistakes.csv")
            accuracy = utils.read_csv(folder / "metrics.csv")[-1]["test_acc"]
            assert 100 - len(wrong) / 100 == pytest.approx(float(accuracy))
            assert all(row["label"] != row["prediction"] for row in wrong)
    steps = recipe["epochs"] * math.ceil(60000 / recipe["batch_size"])
    assert len(utils.read_csv(folders[0] / "learning_rate.csv")) == steps
    assert {path.name for path in folders[0].glob("*.png")} == {
        "accuracy.png", "loss.png", "learning_rate.png", "mistakes.png"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_have_their_recorded_accuracy(mnist, name):
    folder = ROOT / "results" / name / "seed0"
    _, net_class, recipe = train.load_model_file(report.model_file(name))
    net = net_class()
    net.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    images, labels = utils.load_mnist(mnist, train=False)
    loss, accuracy, predictions = utils.evaluate(net, utils.prepare(images, recipe), labels)
    recorded = utils.read_csv(folder / "metrics.csv")[-1]
    assert accuracy == pytest.approx(float(recorded["test_acc"]), abs=0.015)  # a logit rounds
    assert loss == pytest.approx(float(recorded["test_loss"]), abs=1e-4)
    line = utils.read_csv(ROOT / "results" / name / "runs.csv")[0]
    if line["first_5000_acc"]:
        wrong = {int(row["index"]) for row in utils.read_csv(folder / "mistakes.csv")}
        assert len(wrong ^ set((predictions != labels).nonzero().flatten().tolist())) <= 1
        for key, half in (("first_5000_acc", slice(5000)), ("last_5000_acc", slice(5000, None))):
            share = (predictions[half] == labels[half]).double().mean().item()
            assert float(line[key]) == pytest.approx(100 * share, abs=0.03)


def test_the_runs_of_the_published_nets_are_of_these_nets():
    runs = {}
    for row in utils.read_csv(ROOT / "results" / "baselines" / "runs.csv"):
        runs.setdefault((row["net"], row["recipe"]), []).append(row)
    for (net, kind), rows in runs.items():
        path, net_class, recipe = train.load_model_file(ROOT / "baselines" / f"{net}.py")
        assert kind in ("own", "model3")
        assert [row["seed"] for row in rows] == [str(seed) for seed in range(len(rows))]
        epochs = recipe["epochs"] if kind == "own" else 15
        assert {(int(row["parameters"]), int(row["epochs"]), row["holdout"]) for row in rows} == {
            (train.count(net_class()), epochs, "0")}, (net, kind)


# ---- what the documents say --------------------------------------------------------------------
def test_documents_and_pictures_are_current():
    stale = report.update(check=True)
    assert not stale, f"{', '.join(stale)} out of date: python results/report.py"


def test_what_is_out_of_date_is_noticed(monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    accuracy = report.spread([run["test_acc"] for run in report.published("model3")])
    stale = text.replace(f"| {accuracy} |", "| 99.99 % (n=1) |")
    assert stale != text == report.with_tables(stale)
    figure = figures.seeds("model3", report.published("model3"))
    before, line = figures.digest(figure), figure.axes[0].get_lines()[0]
    line.set_ydata([99.0, *list(line.get_ydata())[1:]])
    assert figures.digest(figure) != before == figures.drawn(ROOT / "results/model3/seeds.png")
    monkeypatch.setattr("sys.argv", ["report.py", "--check"])
    monkeypatch.setattr(report, "update", lambda check: report.with_tables(
        "<!-- table: no such run -->\n<!-- end -->"))
    with pytest.raises(SystemExit, match="no run named 'no such run'"):
        report.main()


def test_the_picture_has_room_for_any_number_of_nets_of_any_size():
    def run(params, accuracy):
        return [dict(params=params, test_acc=accuracy)] * 5
    others = {f"mine{n}": run(2000 * n, 98.0 + n / 10) for n in range(1, 12)}
    figure = figures.accuracy({"model3": run(7866, 99.6)}, others, [])
    axes = figure.axes[0]
    words = {text.get_text() for text in axes.texts}
    assert {f"{name}.py" for name in others} <= words
    (left, right), (low, _) = axes.get_xlim(), axes.get_ylim()
    assert left < 2000 and right > 22000 and low < 98.1


def test_changed_digits_were_read_by_the_published_weights():
    b3 = [run for run in utils.read_csv(ROOT / "results" / "baselines" / "runs.csv")
          if (run["net"], run["recipe"]) == ("b3", "own")]
    for row in utils.read_csv(ROOT / "results" / "robustness.csv"):
        name = row["net"].lower().replace(" ", "")
        runs = b3 if name == "b3" else utils.read_csv(ROOT / "results" / name / "runs.csv")
        assert float(row["unchanged"]) == float(runs[0]["test_acc"]), (
            f"{name} has other weights now: python results/robustness.py")


def test_seeds_that_miss_the_target_are_counted_and_named():
    good, bad = [99.0] * 10 + [99.5] * 5, [99.0] * 10 + [99.5, 99.39, 99.5, 99.5, 99.5]
    runs = [dict(seed=seed, params=7000, accuracy=accuracy, last5_min=min(accuracy[-5:]))
            for seed, accuracy in enumerate([good, bad, good])]
    assert report.held(runs) == "2 of 3"
    axes = figures.seeds("model3", runs).axes[0]
    assert [text.get_text() for text in axes.texts] == ["the target", "seed 1"]
    colours = [line.get_color() for line in axes.get_lines()]
    assert colours[:3] == ["0.75"] * 3 and colours[3:] == [axes.texts[1].get_color()]


def test_a_time_that_is_not_one_cpu_threads_says_so():
    run = dict(seconds=30, device="cpu (x86_64, 2 cores)", threads=1)
    assert report.duration([run, run | dict(seconds=40), dict(seconds=50)]) == "40 s"
    assert report.duration([run, run | dict(device="cuda (H100, 8 cores)", threads=8)]) == (
        "30 s (cuda, 8 threads)")


def test_spread_and_verdict():
    assert report.spread([99.0, 99.2, 99.7]) == "99.30 ± 0.36 % (n=3)"
    assert report.spread([99.5]) == "99.50 % (n=1)"
    seeds = [99.37, 99.39, 99.40, 99.41, 99.43]  # mean 99.40, standard deviation 0.02

    def verdict(best, seeds, reconstructed=""):
        own = [dict(best_test_acc=accuracy) for accuracy in seeds]
        return report.verdict(dict(best=best, own=own, reconstructed=reconstructed))
    assert verdict("99.55", seeds) == "optimistic by 0.15"
    assert verdict("99.45", seeds) == "reproduced"
    assert verdict("99.45", seeds[:1]) == "1 of 5 runs done"
    assert verdict("99.20", seeds) == "surpassed by 0.20"
    assert verdict("99.20", []) == "not run yet"
    assert verdict("99.20", seeds, "yes") == "none: reconstructed"
    apart = [99.2, 99.3, 99.4, 99.5, 99.6]  # standard deviation 0.158: 0.48 is within the noise
    assert verdict("99.87", apart) == verdict("98.93", apart) == "reproduced"
    assert verdict("99.89", apart) == "optimistic by 0.49"
    twice = 2 * apart  # ten seeds, 0.149: 0.35 is within the noise
    assert verdict("99.75", twice) == verdict("99.05", twice) == "reproduced"
    assert verdict("99.76", twice) == verdict("99.76", [*twice, 99.4]) == "optimistic by 0.36"


def test_the_table_of_published_nets_has_dashes_for_what_is_not_there(tmp_path, monkeypatch):
    (tmp_path / "results" / "baselines").mkdir(parents=True)
    (tmp_path / "results" / "published.csv").write_text(
        "net,parameters,best,last,train,source,address,reconstructed\n"
        "X1,1234,99.30,,98.76,somebody,https://a.b,\nX2,5678,99.50,99.40,,nobody,,\n")
    (tmp_path / "results" / "baselines" / "runs.csv").write_text(
        "net,recipe,test_acc,last5_min,best_test_acc,train_acc,seconds,epochs\n"
        "x1,own,99.2,99.1,99.3,98.7,30,15\nx1,own,99.4,99.4,99.5,98.9,60,15\n"
        "x1,model3,99.6,99.5,99.6,98,9,9\n")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    assert report.baselines_table().splitlines()[2:] == [
        "| [X1](x1.py), [somebody](https://a.b) | 1,234 | 99.30 | – | 99.30 ± 0.14 % (n=2) "
        "| 99.20 to 99.40 | 99.40 ± 0.14 % (n=2) | 1 of 2 | 99.60 % (n=1) | 1 of 1 | 98.76, 98.80 "
        "| 3 s | 2 of 5 runs done |",
        "| [X2](x2.py), nobody | 5,678 | 99.50 | 99.40 | – | – | – | – | – | – | –, – | – "
        "| not run yet |"]
    figures.published(report.baselines())
    figures.published(report.baselines()[1:])


def test_the_leaderboard_goes_by_the_mean_and_not_by_its_text(monkeypatch):
    def runs(accuracies):
        return [dict(params=7000, test_acc=accuracy, last5_min=99.0, seconds=60, threads=1,
                     device="cpu") for accuracy in accuracies]
    entries = dict(a=runs([99.5] * 5), b=runs([99.45, 99.55, 99.5, 99.5, 99.51]),
                   c=runs([100.0] * 5), d=runs([99.9] * 4))  # four are too few
    monkeypatch.setattr(report, "MODELS", [])
    monkeypatch.setattr(report, "others", lambda: list(entries))
    monkeypatch.setattr(report, "published", entries.get)
    monkeypatch.setattr(report, "model_file", lambda name: ROOT / f"{name}.py")
    monkeypatch.setattr(report, "baselines", list)
    nets = re.findall(r"^\| \[(.)\.py\]", report.leaderboard_table(), re.MULTILINE)
    assert nets == ["c", "b", "a"]


def test_points_are_differences_of_means_over_nets_with_five_seeds(tmp_path, monkeypatch):
    (tmp_path / "results" / "baselines").mkdir(parents=True)
    (tmp_path / "results" / "published.csv").write_text(
        "net,best,reconstructed\nX1,99.30,\nX2,99.50,\nX3,99.5,\nX4,99,yes\n")
    (tmp_path / "results" / "baselines" / "runs.csv").write_text(
        "net,recipe,test_acc,best_test_acc\n" + "x3,own,98,98\n" + 5 * "x4,own,90,95\n"
        + "x1,own,99.1,99.2\n" + 3 * "x1,own,99.2,99.2\n" + "x1,own,99.3,99.2\n"
        + 5 * "x2,own,99.0,99.6\n" + "x1,model3,99.5,99.6\n" + "x1,model3,99.6,99.6\n")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    assert report.points_table().splitlines()[2:] == [
        "| the best epoch less the last | 2 | +0.30 | +0.00 (X1) | +0.60 (X2) |",
        "| the published best epoch less ours | 2 | +0.00 | -0.10 (X2) | +0.10 (X1) |",
        "| standard deviation over seeds, last epoch | 2 | 0.04 | 0.00 (X2) | 0.07 (X1) |",
        "| Model 3's recipe less its own, last epoch | 1 | +0.35 | +0.35 (X1) | +0.35 (X1) |"]


def test_a_change_is_told_by_its_runs(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "earlier.csv").write_text(
        "experiment,seed,val_acc,val_loss\nbase:,0,99.4,\nbase:,1,99.5,\nbase: a=1; b=2,0,99.3,\n"
        "other; fold=0,0,99.48,0.0312\nother; fold=3,1,99.4,0.03449\n")
    table = tmp_path / "results" / "changes.csv"
    table.write_text("section,change,before,after,verdict\n"
                     'S,some,base:,base: a=1; b=2 | other,"dropped, worse"\nT,none,base:,gone,\n')
    monkeypatch.setattr(report, "ROOT", tmp_path)
    lines = report.with_tables("<!-- table: changes: S -->\n<!-- end -->").splitlines()[3:-1]
    assert lines == ["| some | 99.45 ± 0.07 % (n=2) | 99.30 % (n=1), 0.0312 / 0.0345, "
                     "99.48 / 99.40 % | dropped, worse |"]
    with pytest.raises(KeyError, match="gone"):
        report.changes_table("T")
    with pytest.raises(ValueError, match="no section 'U'"):
        report.changes_table("U")


def test_every_change_is_told():
    pages = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = {row["section"] for row in utils.read_csv(ROOT / "results" / "changes.csv")}
    assert set(re.findall(r"<!-- table: changes: (.+?) -->", pages)) == sections


def test_experiments_are_compared_in_pairs(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "experiments.csv").write_text(
        "name,seed,fold,val_loss,val_acc\n"
        "base,0,0,0.02,99.5\nbase,1,0,0.03,99.3\nbase,2,0,0.09,90\n"
        "no a,1,0,0.034,99.2\nno a,0,0,0.022,99.5\nno a,2,0,0.093,89.9\nno a,0,5,0.5,50\n"
        "no b,0,0,0.01,99.6\nno b,1,0,0.025,99.2\n")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    lines = report.with_tables("<!-- table: base | no * -->\n<!-- end -->").splitlines()[3:-1]
    # no a: differences in loss 0.004, 0.002 and 0.003, in accuracy -0.1, 0 and -0.1; the error is
    # their standard deviation, 0.001 and 0.058, divided by the square root of 3
    assert lines == ["| base | 0.0467 |  | 96.27 % |  | 3 |",
                     "| no a | 0.0497 | +0.0030 ± 0.0006 | 96.20 % | -0.07 ± 0.03 | 3 |",
                     "| no b | 0.0175 | -0.0100, -0.0050 | 99.40 % | +0.10, -0.10 | 2 |"]


@functools.cache
def known():
    """What the tables under results/ and in the pages have: the numbers; (mean, deviation, n) of
    each column of an experiment's, a net's or a model's runs."""
    numbers, means = [utils.TARGET], set()
    for path in (ROOT / "results").glob("**/*.csv"):
        if "seed" in path.parent.name or path.name == "changes.csv":  # words, not results
            continue
        groups = {}
        for row in utils.read_csv(path):
            name = row.get("experiment") or row.get("name") or row.get("net")
            for column, cell in row.items():
                numbers += map(float, re.findall(r"\d+\.\d+", cell))
                if re.fullmatch(r"\d+(\.\d+)?", cell):
                    key = name or f"results/{path.parent.name}", row.get("recipe"), column
                    groups.setdefault(key, []).append(float(cell))
        for values in groups.values():
            deviation = statistics.stdev(values) if len(values) > 1 else 0
            means.add((f"{statistics.mean(values):.2f}", f"{deviation:.2f}", str(len(values))))
    for path in report.PAGES:
        for table in TABLE.findall((ROOT / path).read_text(encoding="utf-8")):
            numbers += map(float, re.findall(r"\d+\.\d+", table))
    return numbers, means


def prose():
    """{path: text} of what is written by hand: pages without their tables, what changes.csv says,
    files' docstrings."""
    texts = {path: TABLE.sub("", (ROOT / path).read_text(encoding="utf-8"))
             for path in report.PAGES}
    texts["results/changes.csv"] = "\n".join(
        f"{row['change']}\n{row['verdict']}"
        for row in utils.read_csv(ROOT / "results" / "changes.csv"))
    for path in [*ROOT.glob("*.py"), *ROOT.glob("results/*.py"), *ROOT.glob("baselines/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts[str(path.relative_to(ROOT))] = ast.get_docstring(tree) or ""
    return texts


def strays(text):
    """The percentages in a text that no file has."""
    numbers, means = known()
    wrong = []
    for quote in re.finditer(r"(\d+\.(\d+))(?: ± (\d+\.\d+))? ?%(?: \(n=(\d+)\))?",
                             " ".join(text.split())):
        mean, digits, deviation, n = quote.groups()
        if n:
            fits = (mean, deviation or "0.00", n) in means
        else:
            fits = mean in {f"{number:.{len(digits)}f}" for number in numbers}
        if not fits:
            wrong.append(quote[0])
    return wrong


def test_every_percentage_in_prose_stands_in_a_file():
    for path, text in prose().items():
        assert not strays(text), f"{path} has percentages that no file under results/ has"


@pytest.mark.parametrize("text", [
    "It reaches 12.34 %.", "It reaches 12.3%.", "99.51 ± 0.04 % (n=7)", "99.51 ± 0.09 % (n=5)"])
def test_a_percentage_that_no_file_has_is_noticed(text):
    assert len(strays(text)) == 1
    assert not strays("99.51 ± 0.04 % (n=5), and 99.4 % in 50 %")


# ---- making and publishing runs ----------------------------------------------------------------
def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def table(tmp_path, monkeypatch):
    """An empty table of experiments instead of the published one."""
    path = tmp_path / "experiments.csv"
    path.write_text(",".join(experiments.COLUMNS) + "\n")
    monkeypatch.setattr(experiments, "TABLE", path)
    return path


def run_experiments(monkeypatch, *argv):
    monkeypatch.setattr("sys.argv", ["experiments.py", *map(str, argv)])
    return experiments.main()


def test_an_experiment_is_a_command_that_repeats_it(table, monkeypatch, capsys):
    def train_py(command, **options):  # stands in for the process: a published run, as held out
        folder = Path(train.parse_arguments(command[2:]).out) / "held-out-seed7"
        shutil.copytree(ROOT / "results" / "model3" / "seed0", folder)
        edit(folder / "metrics.csv", "test_", "val_")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(experiments.subprocess, "run", train_py)
    command = ("weak, rotated", "--seeds", 7, "--folds", 3, "--", "--model", 3,
               "--set", "augment={'rotate': 5, 'shift': 1}", "--batch-size", 1000)
    run_experiments(monkeypatch, *command)
    row, = utils.read_csv(table)
    assert (row["name"], row["seed"], row["fold"]) == ("weak, rotated", "7", "3")
    run = report.published("model3")[0]
    assert (float(row["val_acc"]), row["val_loss"]) == (run["test_acc"], run["test_loss"])
    args = train.parse_arguments(shlex.split(row["command"])[2:])
    assert (args.holdout, args.fold, args.seed, args.batch_size) == (10000, 3, 7, 1000)
    assert train.read_recipe(args)[2]["augment"] == {"rotate": 5, "shift": 1}
    run_experiments(monkeypatch, *command)
    assert "0 of 1 runs to do" in capsys.readouterr().out and len(utils.read_csv(table)) == 1
    with pytest.raises(SystemExit, match="stands for other flags"):
        run_experiments(monkeypatch, *command[:-1], 500)


def test_a_run_that_fails_stops_no_other(table, monkeypatch):
    def measure(name, flags, seed, fold):
        if seed == 1:
            raise RuntimeError(f"seed {seed} diverged")
        return dict(zip(experiments.COLUMNS, (name, "", seed, fold, 1, 15, 99.5, 0.02, 99, 9, "")))

    monkeypatch.setattr(experiments, "measure", measure)
    with pytest.raises(SystemExit, match="1 runs failed:\nseed 1 diverged"):
        run_experiments(monkeypatch, "some", "--seeds", 0, 1, 2, "--folds", 0, "--", "--model", 3)
    assert sorted(row["seed"] for row in utils.read_csv(table)) == ["0", "2"]


@pytest.mark.parametrize("argv", [
    ["some", "--", "--holdout", "5"], ["some", "--", "--seed", "4"], ["some", "--", "--nonsense"],
    ["some", "--folds", "6", "--"], ["--", "--model", "3"]])
def test_experiments_refuses_wrong_flags(table, monkeypatch, argv):
    with pytest.raises(SystemExit) as stop:
        run_experiments(monkeypatch, *argv)
    assert stop.value.code == 2


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of two seeds of Model 3 as train.py leaves them, to be published elsewhere."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    shutil.copy(ROOT / "model3.py", tmp_path)
    for seed in (0, 1):
        folder = tmp_path / "runs" / "model3" / f"seed{seed}"
        shutil.copytree(ROOT / "results" / "model3" / f"seed{seed}", folder)
        for name in ("rf.md", "last.pt"):
            (folder / name).write_text("")
    return tmp_path / "runs" / "model3"


def test_runs_are_published_in_place_of_the_old_ones(runs, tmp_path):
    target = tmp_path / "results" / "model3"
    (target / "seed2").mkdir(parents=True)
    assert publish.publish(runs) == ("published: 2 seeds of model3.py in place of 1; the "
                                     "leaderboard takes five")
    assert {path.name for path in target.iterdir()} == {"seed0", "seed1"}
    for seed in (0, 1):
        names = {path.name for path in (target / f"seed{seed}").iterdir()}
        assert names == set(publish.files_of(seed)) and "last.pt" not in names


@pytest.mark.parametrize("file, old, new, said", [
    ("args.json", '"holdout": 0', '"holdout": 10000', "holdout is 10000"),
    ("args.json", '"label_smoothing": ', '"label_smoothing": 1', "another label_smoothing"),
    ("args.json", '"model3.py"', '"model2.py"', "model is model2.py"),
    ("args.json", '"recipe"', '"recipes"', "damaged: no recipe"),
    ("args.json", '"torch"', '"touch"', "damaged"),
    ("metrics.csv", "test_acc", "val_acc", "damaged"),
    ("args.json", '"MNIST"', '"rendered digits, NOT MNIST"', "data is rendered"),
    ("args.json", '"parameters": ', '"parameters": 1', "parameters is 1"),
    ("args.json", '"seed": 1', '"seed": 3', "seed is 3"), ("args.json", "{", "", "damaged"),
    ("args.json", '"holdout"', '"another"', "damaged: no holdout"),
    ("args.json", '"threads": 1', '"threads": "x"', "damaged: no threads"),
    ("metrics.csv", "\n15,", f"\n{'1' * 200000},", "damaged: Error: field larger"),
    ("metrics.csv", "\n15,", "\n16,", "metrics.csv")])
def test_what_is_no_whole_run_of_the_model_is_not_published(runs, tmp_path, file, old, new, said):
    edit(runs / "seed1" / file, old, new)
    with pytest.raises(utils.UserError, match=said):
        publish.publish(runs)
    assert not (tmp_path / "results").exists()


def test_weights_of_another_net_are_not_published(runs, tmp_path):
    shutil.copy(ROOT / "results" / "model2" / "seed0" / "model.pt", runs / "seed0")
    with pytest.raises(utils.UserError, match="damaged: RuntimeError"):
        publish.publish(runs)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("spoil, said", [
    (lambda runs: (runs / "seed1" / "args.json").unlink(), "unfinished"),
    (lambda runs: (runs / "seed1" / "mistakes.csv").unlink(), "lacks mistakes.csv"),
    (lambda runs: (runs / "seed1").rename(runs / "seed2"), "without a gap"),
    (lambda runs: shutil.copytree(runs / "seed1", runs / "seed1-2"), "one run of each"),
    (lambda runs: (report.ROOT / "model3.py").unlink(), "neither model3.py nor results/model3.py"),
    (lambda runs: edit(report.ROOT / "model3.py", "epochs=15", "epochs=16"), "at most 15"),
    (lambda runs: [shutil.rmtree(runs / f"seed{seed}") for seed in (0, 1)], "no runs")])
def test_what_lacks_something_is_not_published(runs, tmp_path, spoil, said):
    spoil(runs)
    with pytest.raises(utils.UserError, match=said):
        publish.publish(runs)
    assert not (tmp_path / "results").exists()


def test_fewer_seeds_than_are_published_replace_none(runs, tmp_path):
    target = tmp_path / "results" / "model3"
    for seed in range(3):
        (target / f"seed{seed}").mkdir(parents=True)
    with pytest.raises(utils.UserError, match="has 2 of the 3 seeds .* or delete .*model3 first"):
        publish.publish(runs)
    assert len(list(target.iterdir())) == 3
    with pytest.raises(utils.UserError, match="nosuch: no such folder"):
        publish.publish(tmp_path / "nosuch")


def test_what_is_published_is_not_published_over_itself(runs):
    published = report.ROOT / "results" / "model3"
    shutil.copytree(runs, published)
    with pytest.raises(utils.UserError, match="published already"):
        publish.publish(published)
    assert {path.name for path in published.iterdir()} == {"seed0", "seed1"}


@pytest.fixture
def baseline(runs, tmp_path):
    """A folder of two seeds of a net in baselines/, and a table that has others."""
    (tmp_path / "baselines").mkdir()
    shutil.copy(ROOT / "model3.py", tmp_path / "baselines" / "x1.py")  # the net of the runs
    edit(tmp_path / "baselines" / "x1.py", "\n\ndef ", "\nRECIPE['batch_size'] = 8\n\n\ndef ")
    for seed in (0, 1):
        edit(runs / f"seed{seed}" / "args.json", '"model3.py"', '"x1.py"')
    (tmp_path / "results" / "baselines").mkdir(parents=True)
    (tmp_path / "results" / "baselines" / "runs.csv").write_text(
        "net,recipe,seed,parameters,holdout,epochs,test_acc,last5_min,best_test_acc,train_acc,"
        "seconds,torch\n"
        "a1,own,0,1,0,15,99,99,99,99,1,2\nx1,model3,0,1,0,15,9,9,9,9,1,2\n"
        "x1,own,0,1,0,15,98,98,98,98,1,2\n")
    return runs


@pytest.mark.parametrize("recipe, there", [("model3", [0, 2]), ("own", [0, 1])])
def test_the_runs_of_a_published_net_become_rows(baseline, tmp_path, recipe, there):
    _, _, settings = train.load_model_file(ROOT / "model3.py")
    size = f'"batch_size": {settings["batch_size"]}'
    if recipe == "own":
        for seed in (0, 1):
            edit(baseline / f"seed{seed}" / "args.json", size, '"batch_size": 8')
        size = '"batch_size": 8'
    path = tmp_path / "results" / "baselines" / "runs.csv"
    before = utils.read_csv(path)
    publish.publish(baseline)
    rows = utils.read_csv(path)
    new = [row for row in rows if row["recipe"] == recipe and row["net"] == "x1"]
    assert [row["seed"] for row in new] == ["0", "1"]
    assert [row for row in rows if row not in new] == [before[i] for i in there]
    for row in new:
        run = report.read_run(ROOT / "results" / "model3" / f"seed{row['seed']}")
        assert float(row["test_acc"]) == run["test_acc"] and int(row["parameters"]) == run["params"]
    weights = path.parent / "x1" / "seed0" / "model.pt"
    assert weights.exists() == (recipe == "own")
    edit(baseline / "seed1" / "args.json", size, '"batch_size": 64')
    with pytest.raises(utils.UserError, match="another batch_size"):
        publish.publish(baseline)
    shutil.rmtree(baseline / "seed1")
    with pytest.raises(utils.UserError, match="has 1 of the 2 seeds .* or delete its rows in "):
        publish.publish(baseline)
    assert utils.read_csv(path) == rows
