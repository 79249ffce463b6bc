"""Make runs the published ones: copy what is kept of them here, and bring all that is made from it
up to date.

    python train.py --model 3 --runs 20
    python results/publish.py runs/model3

The folder's name says of which model the runs are: those in runs/mine are of mine.py or
results/mine.py, and replace those in results/mine.

Of a net in baselines/, trained by its own recipe or by Model 3's, there is one row a run, in
results/baselines/runs.csv. New rows replace those of the same net and recipe. Of runs by the net's
own recipe, seed 0's weights are kept, too:

    python train.py --model baselines/f5.py --runs 5
    python results/publish.py runs/f5
    python train.py --model baselines/f5.py --recipe 3 --runs 3 --out runs/f5-by-model3
    python results/publish.py runs/f5-by-model3

Refused are runs of another net or recipe than the model file has now, held-out, dry and unfinished
ones, more than 15 epochs, seeds with a gap, and fewer seeds than are published."""

import argparse
import csv
import json
import shutil
import sys
from pathlib import Path

import report

import train
import utils
from utils import UserError

EVERY_SEED = ("args.json", "metrics.csv", "mistakes.csv")
SEED_0 = ("model.pt", "rf.md", "learning_rate.csv", "accuracy.png", "loss.png",
          "learning_rate.png", "mistakes.png")
FIGURES = ("test_acc", "last5_min", "best_test_acc", "train_acc", "seconds", "torch")


def files_of(seed):
    """The names of the files that are published of a seed."""
    return EVERY_SEED + SEED_0 if seed == 0 else EVERY_SEED


def read_args(folder):
    """The args.json of a run. Raises UserError if it is not there or damaged."""
    try:
        args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: unfinished or damaged: {error}") from None
    keys = dict(model=str, parameters=int, seed=int, holdout=int, data=str, recipe=dict,
                threads=int)
    for key, kind in keys.items():
        if not isinstance(args, dict) or not isinstance(args.get(key), kind):
            raise UserError(f"{folder}: args.json is damaged: no {key}")
    return args


def check(folder, seed, path, net_class, recipe, names):
    """Raise UserError unless `folder` has a whole run on MNIST of this seed, of the net in a model
    file and by this recipe, with files of these names."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: unfinished or damaged: it lacks {', '.join(missing)}")
    args = read_args(folder)
    try:
        epochs = [int(row["epoch"]) for row in utils.read_csv(folder / "metrics.csv")]
        report.read_run(folder)
        if "model.pt" in names:
            net_class().load_state_dict(utils.load(folder / "model.pt"))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError,
            csv.Error) as error:
        raise UserError(f"{folder}: unfinished or damaged: {train.describe(error)}") from None
    expected = dict(model=path.name, seed=seed, parameters=train.count(net_class()), data="MNIST",
                    holdout=0)
    wrong = [f"{key} is {args[key]}, expected {value}" for key, value in expected.items()
             if args[key] != value]
    theirs = train.DEFAULTS | args["recipe"]
    differ = [key for key in theirs | recipe if theirs.get(key) != recipe.get(key)]
    if differ:
        wrong.append(f"another {', '.join(differ)} than the recipe has now")
    if epochs != list(range(1, recipe["epochs"] + 1)) or len(epochs) > 15:
        wrong.append(f"metrics.csv has {len(epochs)} epochs, expected {recipe['epochs']} and at "
                     "most 15")
    if wrong:
        raise UserError(f"{folder}: {'; '.join(wrong)}")


def refuse_fewer(folders, published, way_out):
    """Raise UserError if there are fewer runs than are published."""
    if len(folders) < published:
        raise UserError(f"{folders[0].parent} has {len(folders)} of the {published} seeds that are "
                        f"published: train the others too, or {way_out} first")


def publish(source):
    """Copy the runs in the folder `source` to results/, or their figures into the baselines' table.
    Everything is checked before anything is changed. Returns what was done, in words. Raises
    UserError if they are not seeds 0, 1, ... of one model."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    folders = report.seed_folders(source)
    names = [folder.name for folder in folders]
    if not names or names != [f"seed{seed}" for seed in range(len(names))]:
        raise UserError(f"{source} has {', '.join(names) or 'no runs'}; expected seed0, seed1, ... "
                        "without a gap, and one run of each")
    baseline = report.ROOT / "baselines" / read_args(folders[0])["model"]
    if baseline.exists():
        return publish_baseline(baseline, folders)
    return publish_model(source.name, folders)


def publish_model(name, folders):
    """Copy what is kept of the runs of a model to results/NAME."""
    path, target = report.model_file(name), report.ROOT / "results" / name
    if not path.exists():
        raise UserError(f"runs of {name}, but there is neither {name}.py nor results/{name}.py")
    if target in (folder.parent for folder in folders):
        raise UserError(f"{target} is what is published already")
    _, net_class, recipe = train.load_model_file(path)
    for seed, folder in enumerate(folders):
        check(folder, seed, path, net_class, recipe, files_of(seed))
    old = report.seed_folders(target)
    refuse_fewer(folders, len(old), f"delete {target}")
    for folder in old:
        shutil.rmtree(folder)
    for seed, folder in enumerate(folders):
        (target / folder.name).mkdir(parents=True)
        for file in files_of(seed):
            shutil.copy(folder / file, target / folder.name / file)
    few = "; the leaderboard takes five" if len(folders) < 5 else ""
    return f"published: {len(folders)} seeds of {path.name} in place of {len(old)}{few}"


def publish_baseline(path, folders):
    """Put a row for each of the runs of a net in baselines/ into the table of their runs, and keep
    the weights of seed 0 by its own recipe."""
    _, net_class, own = train.load_model_file(path)
    _, _, model3 = train.load_model_file(report.ROOT / "model3.py")
    is_model3s = train.DEFAULTS | read_args(folders[0])["recipe"] == model3
    net, recipe = path.stem, "model3" if is_model3s else "own"
    rows = []
    for seed, folder in enumerate(folders):
        names = ["model.pt"] if seed == 0 else []
        check(folder, seed, path, net_class, model3 if is_model3s else own, names)
        run = report.read_run(folder)
        rows.append(dict(net=net, recipe=recipe, seed=seed, parameters=run["params"], holdout=0,
                         epochs=len(run["accuracy"]), **{key: run[key] for key in FIGURES}))
    table = report.ROOT / "results" / "baselines" / "runs.csv"
    before = utils.read_csv(table)
    kept = [row for row in before if (row["net"], row["recipe"]) != (net, recipe)]
    refuse_fewer(folders, len(before) - len(kept), f"delete its rows in {table}")
    rows = sorted(rows + kept, key=lambda row: (row["net"], row["recipe"], int(row["seed"])))
    utils.write_csv(table, rows)
    if not is_model3s:
        weights = table.parent / net / "seed0" / "model.pt"
        weights.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folders[0] / "model.pt", weights)
    return (f"published: {len(folders)} seeds of {path.name}, {recipe} recipe, in place of "
            f"{len(before) - len(kept)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="as runs/model3")
    source = parser.parse_args().folder.resolve()
    try:
        print("\n".join([publish(source), *report.update()]))
    except (UserError, KeyError, ValueError, OSError) as error:
        sys.exit(f"publish.py: error: {error}")


if __name__ == "__main__":
    main()
