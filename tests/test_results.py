"""The published numbers: every one comes from a file, and the files from these nets."""

import importlib
import json
import math
import re

import pytest
import report
import torch
from conftest import ROOT

import train
import utils

MODELS = ("model1", "model2", "model3")
RUNS = [(model, folder.name) for model in MODELS for folder in report.seed_folders(model)]


def test_every_document_says_what_the_files_say():
    for path, text in report.documents().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, \
            f"{path} is out of date: python results/report.py"


def test_a_figure_that_is_out_of_date_is_noticed():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    figures = re.findall(r"`model\d:[^`]*`\s+([\d.]+)", text)
    assert len(figures) > 10, "the CHANGELOG quotes no experiments"
    assert report.quoted(text.replace(f" {figures[0]} ", " 12.34 ")) == text
    with pytest.raises(KeyError):
        report.quoted("`model3: no such experiment` 99.99 % (n=1)")


def test_a_name_without_runs_ends_in_one_message(monkeypatch):
    monkeypatch.setattr("sys.argv", ["report.py", "--check"])
    monkeypatch.setattr(report, "documents", lambda: report.quoted("`model3: no such` 1 % (n=1)"))
    with pytest.raises(SystemExit, match="report.py: error: KeyError: 'model3: no such'"):
        report.main()


def test_every_picture_shows_what_the_files_say():
    for path, figure in report.figures().items():
        assert report.drawn(path) == report.digest(figure), \
            f"{path} is out of date: python results/report.py"


def test_a_picture_that_is_out_of_date_is_noticed():
    before = report.digest(report.seeds_figure("model3"))
    figure = report.seeds_figure("model3")
    line = figure.axes[0].get_lines()[0]
    line.set_ydata([99.0, *list(line.get_ydata())[1:]])
    assert report.digest(figure) != before
    assert report.drawn("results/no_such_picture.png") is None


def test_spread_is_mean_and_sample_deviation():
    assert report.spread([99.0, 99.2, 99.7]) == "99.30 ± 0.36 % (n=3)"
    assert report.spread([99.5]) == "99.50 % (n=1)"


@pytest.mark.parametrize("model, seeds", [("model1", 10), ("model2", 20), ("model3", 20)])
def test_seeds_are_published_from_0_on_without_a_gap(model, seeds):
    runs = report.published(model)
    assert [run["seed"] for run in runs] == list(range(len(runs))) and len(runs) >= seeds
    assert (ROOT / "results" / model / "seed0" / "model.pt").exists()


@pytest.mark.parametrize("model, seed", RUNS)
def test_a_published_run_is_of_this_net_and_recipe_and_complete(model, seed):
    folder = ROOT / "results" / model / seed
    args = json.loads((folder / "args.json").read_text())
    _, net_class, recipe = train.load_model_file(model[-1])
    assert train.OPTIONAL | args["recipe"] == json.loads(json.dumps(recipe))
    assert args["parameters"] == sum(p.numel() for p in net_class().parameters())
    assert args["data"] == "MNIST" and args["holdout"] == 0 and f"seed{args['seed']}" == seed
    assert args["model"] == f"{model}.py"
    rows = report.read_csv(folder / "metrics.csv")
    assert [int(row["epoch"]) for row in rows] == list(range(1, recipe["epochs"] + 1))
    wrong = report.read_csv(folder / "mistakes.csv")
    assert 100 - len(wrong) / 100 == pytest.approx(float(rows[-1]["test_acc"]))
    assert all(row["label"] != row["prediction"] for row in wrong)
    if args["seed"] == 0:
        steps = recipe["epochs"] * math.ceil(60000 / recipe["batch_size"])
        assert len(report.read_csv(folder / "learning_rate.csv")) == steps
        assert {path.name for path in folder.glob("*.png")} == {
            "accuracy.png", "loss.png", "learning_rate.png", "mistakes.png"}


def test_seeds_that_miss_the_target_are_counted():
    runs = report.published("model3")
    assert all(run["epochs"] <= 15 and run["params"] < utils.BUDGET for run in runs)
    assert [run["seed"] for run in runs if run["last5_min"] < utils.TARGET] == [5, 10, 11]
    assert report.held(runs) == "17 of 20" and "| 17 of 20 |" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("model", MODELS)
def test_published_weights_have_their_recorded_accuracy(mnist, model):
    folder = ROOT / "results" / model / "seed0"
    net = importlib.import_module(model).Net()
    net.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    _, _, recipe = train.load_model_file(model[-1])
    images, labels = utils.load_mnist(mnist, train=False)
    images = utils.deskew(images) if recipe["deskew"] else images
    _, accuracy, predictions = utils.evaluate(net, images, labels)
    recorded = float(report.read_csv(folder / "metrics.csv")[-1]["test_acc"])
    assert abs(accuracy - recorded) < 0.015  # one image, should a logit round differently
    wrong = {int(row["index"]) for row in report.read_csv(folder / "mistakes.csv")}
    assert len(wrong ^ set((predictions != labels).nonzero().flatten().tolist())) <= 1
    line = report.read_csv(ROOT / "results" / model / "runs.csv")[0]
    for key, half in (("first_5000_acc", slice(5000)), ("last_5000_acc", slice(5000, None))):
        share = (predictions[half] == labels[half]).double().mean().item()
        assert float(line[key]) == pytest.approx(100 * share, abs=0.03)


def test_an_experiment_may_take_another_files_recipe(tmp_path):
    experiments = importlib.import_module("experiments")
    (tmp_path / "net.py").write_text(experiments.variation("c3: recipe=model3; average=0.0"),
                                     encoding="utf-8")
    _, net_class, recipe = train.load_model_file(tmp_path / "net.py")
    assert sum(p.numel() for p in net_class().parameters()) == 7902
    assert recipe == train.load_model_file("3")[2] | dict(average=0.0)


def test_an_experiment_may_replace_a_piece_of_the_models_text(tmp_path):
    experiments = importlib.import_module("experiments")
    (tmp_path / "net.py").write_text(
        experiments.variation("c3: epochs = 7; nn.GELU() -> nn.ReLU()"), encoding="utf-8")
    _, net_class, recipe = train.load_model_file(tmp_path / "net.py")
    kinds = [type(module) for module in net_class().modules()]
    assert kinds.count(torch.nn.ReLU) == 6 and torch.nn.GELU not in kinds and recipe["epochs"] == 7


@pytest.mark.parametrize("arguments, said", [
    (["c3: recipe=nonsense"], "recipe=nonsense"), (["nonsense:"], "nonsense"),
    (["c3: nn.SiLU() -> nn.ReLU()"], "nn.SiLU()"), (["c3: GELU() -> ReLU)("], "invalid syntax"),
    (["c3: rate 0.05 -> rate 0.1"], "none of the code"),  # only the docstring has it
    (["c3: lr=0.05 -> lr=0.1"], "key=value"), (["c3: # 10×12×12 -> #"], "none of the code"),
    (["model3: c16k6s3 v16; nn.GELU() -> nn.ReLU()"], "all of Net"),
    (["model3: c0"], "c0"), (["--table", str(ROOT / "README.md"), "model3:"], "not a table"),
    (["--seeds", "0", "model3:"], "--seeds"), (["--table", "no/such/t.csv", "model3:"], "--table"),
    (["model3"], "a colon"), (["--table", "/dev/full/t.csv", "model3:"], "Not a directory"),
    (["--holdout", "0", "model3:"], "another --holdout")])  # held-out and test figures never mix
def test_experiments_refuses_what_it_cannot_do(monkeypatch, capsys, arguments, said):
    experiments = importlib.import_module("experiments")
    monkeypatch.setattr("sys.argv", ["experiments.py", *arguments])
    monkeypatch.setattr(experiments, "measure", lambda *_: pytest.fail("a run began"))
    with pytest.raises(SystemExit) as stop:
        experiments.main()
    assert said in f"{stop.value.code} {capsys.readouterr().err}" and stop.value.code


@pytest.mark.parametrize("before", [None, "", "seed,experiment,parameters,holdout,epochs,last5_min,"
                                    "train_acc,val_acc\n0,model3:,7930,10000,15,99.4,99.5,99.5"])
def test_experiments_keeps_each_run_though_another_fails(tmp_path, monkeypatch, capsys, before):
    experiments, table = importlib.import_module("experiments"), tmp_path / "mine.csv"
    if before is not None:
        table.write_text(before)

    def measure(experiment, seed, holdout):
        if "average" in experiment:
            raise RuntimeError(f"{experiment} failed")
        return dict(experiment=experiment, seed=seed, parameters=7930, holdout=holdout, epochs=15,
                    last5_min=99.4, train_acc=99.5, val_acc=99.45)

    monkeypatch.setattr(experiments, "measure", measure)
    monkeypatch.setattr("sys.argv", ["experiments.py", "--table", str(table), "--seeds", "2",
                                     "model3: average=0.0", "model3:"])
    with pytest.raises(SystemExit, match="2 of [34] runs failed"):
        experiments.main()
    assert "model3: average=0.0 failed" in capsys.readouterr().err
    rows = experiments.read_table(table)
    assert sorted((row["experiment"], row["seed"], row["holdout"]) for row in rows) == [
        ("model3:", "0", "10000"), ("model3:", "1", "10000")]
    assert None not in rows[-1] and rows[-1]["val_acc"] == "99.45"


def test_a_tables_row_says_by_what_it_was_judged():
    experiments = importlib.import_module("experiments")
    row = experiments.table_row("model3:", ROOT / "results" / "model3" / "seed0")
    assert row["test_acc"] == report.published("model3")[0]["test_acc"] and "val_acc" not in row
    assert row["last5_min"] == report.published("model3")[0]["last5_min"] and row["holdout"] == 0


@pytest.mark.parametrize("table, holdout", [("experiments.csv", 10000), ("baselines/runs.csv", 0)])
def test_experiments_are_defined_by_their_names_and_leave_no_seed_out(tmp_path, table, holdout):
    experiments, runs = importlib.import_module("experiments"), {}
    for row in experiments.read_table(ROOT / "results" / table):
        runs.setdefault(row["experiment"], []).append(row)
    assert len(runs) > 10
    for name, rows in runs.items():
        (tmp_path / "net.py").write_text(experiments.variation(name), encoding="utf-8")
        _, net_class, recipe = train.load_model_file(tmp_path / "net.py")
        parameters = sum(p.numel() for p in net_class().parameters())
        assert {(int(row["parameters"]), int(row["holdout"]), int(row["epochs"]))
                for row in rows} == {(parameters, holdout, recipe["epochs"])}, name
        assert sorted(int(row["seed"]) for row in rows) == list(range(len(rows))), name


@pytest.mark.parametrize("claimed, verdict", [
    (99.55, "optimistic by 0.15"), (99.45, "reproduced"), (99.20, "surpassed by 0.20"),
    (99.95, "not reproduced")])
def test_a_published_accuracy_is_held_against_the_mean_best_epoch(claimed, verdict):
    seeds = [99.37, 99.39, 99.40, 99.41, 99.43]  # mean 99.40, standard deviation 0.02
    assert report.verdict(claimed, seeds) == verdict
    assert report.verdict(claimed, seeds[:4]) == "open"


def test_an_idea_is_judged_by_runs_with_it_and_without_it(monkeypatch):
    accuracy = {name: [99.3, 99.4, 99.5] for _, _, *names in report.IDEAS for name in names}
    accuracy["model3: augment={}"] = [99.1, 99.2, 99.3, 99.2]
    monkeypatch.setattr(report, "held_out", lambda: accuracy)
    cells = report.ideas_table().splitlines()[-1].split(" | ")
    assert cells[-3:-1] == ["99.40 ± 0.10 % (n=3)", "99.20 ± 0.08 % (n=4)"]
    assert cells[-1] == "+0.20 ± 0.07 |"  # the error is the root of 0.01 / 3 + 0.00667 / 4


def test_the_published_nets_get_a_line_once_their_runs_are_in(tmp_path, monkeypatch):
    runs = {("c3", "own"): [dict(test_acc="99.3", best_test_acc="99.4", seconds="300", epochs="15"),
                            dict(test_acc="99.2", best_test_acc="99.4", seconds="330",
                                 epochs="15")]}
    monkeypatch.setattr(report, "baseline_runs", lambda: runs)
    figures, assumed = report.baselines_tables()
    line, = [line for line in figures.splitlines() if "c3.py" in line]
    assert line == ("| [C3](c3.py) | 7,902 | 99.43 | 99.42 | 99.25 ± 0.07 % (n=2) | "
                    "99.20 to 99.30 | 99.40 ± 0.00 % (n=2) | – | 21 s | open |")
    assert len(figures.splitlines()) == 4 and len(assumed.splitlines()) == 16
    assert "SGD with Nesterov momentum 0.9, rate 0.05" in assumed
    runs["c3", "model3"] = [dict(test_acc="99.5", best_test_acc="99.6")]
    reading = " ".join(report.baselines_reading().split())
    for part in ("0.15 points above the last on average, at most 0.20 (nets: 1, runs: 2",
                 "standard deviation of 0.07 points (pooled; nets with several seeds: 1",
                 "differ from the mean best epochs here by +0.03 (C3) to +0.03 points (C3)",
                 "mean last epoch by +0.25 (C3) to +0.25 points (C3), +0.25 on average"):
        assert part in reading
    runs["d1", "own"], runs["d1", "model3"] = runs["c3", "own"], [dict(test_acc="9.8")]
    runs["d1", "model3"][0]["best_test_acc"] = "20.0"
    assert "+0.25 on average (nets: 1). D1 learns nothing by it." in " ".join(
        report.baselines_reading().split())
    del runs["d1", "own"], runs["d1", "model3"]
    assert "Both together" not in reading  # that takes five seeds
    runs["c3", "own"] = [run | dict(parameters="7902") for run in runs["c3", "own"] * 3]
    assert "five seeds is C3, 99.25 ± 0.05 % (n=6) by its own" in " ".join(
        report.baselines_reading().split())
    assert "best seed, are 0.15 points above the mean last" in " ".join(
        report.baselines_reading().split())
    bars = [c for c in report.accuracy_figure().axes[0].containers
            if "same nets here" in c.get_label()]
    assert bars[0].lines[0].get_xydata().round(2).tolist() == [[round(0.99 * 7902, 2), 99.25]]
