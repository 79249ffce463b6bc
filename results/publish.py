"""Make runs the published ones, and bring up to date all that is made from them.

    python train.py --model 3 --runs 20
    python results/publish.py runs/model3

What is kept of a run goes to a folder in results/ that is called as the model file. Of any net by
Model 3's recipe, and of the nets in baselines/ by their own, there is one row a run, in
results/baselines/runs.csv, and weights of the first seeds:

    python train.py --model mine.py --recipe 3 --runs 10 --out runs/mine-by-model3
    python results/publish.py runs/mine-by-model3

New runs replace those of the same net and recipe. Refused are runs of another net or recipe than
the model file has now, held-out, dry and unfinished ones, more than 15 epochs, seeds with a gap,
and fewer seeds than are published."""

import argparse
import shutil
import sys
from pathlib import Path

import report

import train
import utils
from utils import UserError

EVERY_SEED = ("args.json", "metrics.csv", "mistakes.csv")
SEED_0 = ("rf.md", "learning_rate.csv", "accuracy.png", "loss.png", "learning_rate.png",
          "mistakes.png")
FIGURES = ("test_acc", "last5_min", "best_test_acc", "train_acc", "seconds", "torch")


def files_of(seed, first=0):
    """The names of the files that are published of a seed. first: of those that count; it and the
    next four keep their weights, for robustness.py."""
    weights = ("model.pt",) if seed == 0 or 0 <= seed - first < 5 else ()
    return EVERY_SEED + weights + (SEED_0 if seed == 0 else ())


def check(folder, seed, path, net_class, recipe, names):
    """The run in a folder. Raises UserError unless it is a whole one on MNIST, of this seed, of the
    net in a model file and by this recipe, with files of these names; RuntimeError if its weights
    do not fit the net."""
    run, net = report.read_run(folder), train.make_net(net_class)
    args = run["args"] | dict(epochs=len(run["accuracy"]))
    expected = dict(model=path.name, seed=seed, parameters=train.count(net), data="MNIST",
                    holdout=0, epochs=min(recipe["epochs"], 15))
    wrong = [f"{key} is {args[key]}, expected {value}" for key, value in expected.items()
             if args[key] != value]
    theirs = train.DEFAULTS | args["recipe"]
    wrong += [f"another {key} than the recipe has now" for key in theirs | recipe
              if theirs.get(key) != recipe.get(key)]
    wrong += [f"it lacks {name}" for name in names if not (folder / name).is_file()]
    if wrong:
        raise UserError(f"{folder}: {'; '.join(wrong)}")
    if "model.pt" in names:
        net.load_state_dict(utils.load(folder / "model.pt"))
    return run


def publish(source):
    """Copy the runs in a folder to results/, or their figures into the baselines' table, if all of
    them are sound. Returns what was done, in words. Raises UserError if they are not, or not seeds
    0, 1, ... of one model, or fewer than are published."""
    folders = report.seed_folders(source)
    names = [folder.name for folder in folders]
    if not names or names != [f"seed{seed}" for seed in range(len(names))]:
        raise UserError(f"{source} has {', '.join(names) or 'no runs'}; expected seed0, seed1, ... "
                        "without a gap, and one run of each")
    args = report.read_run(folders[0])["args"]
    path = report.model_file(Path(args["model"]).stem)
    if not path.exists():
        raise UserError(f"{source}: there is neither {path.name} nor results/{path.name}")
    _, net_class, recipe = train.load_model_file(path)
    model3 = train.load_model_file(report.ROOT / "model3.py")[2]
    kind = "own"
    if train.DEFAULTS | args["recipe"] == model3 != recipe:
        kind, recipe = "model3", model3
    become_rows = kind == "model3" or path.parent.name == "baselines"

    first = 0 if become_rows else report.FIRST_SEED.get(path.stem, 0)
    runs = [check(folder, seed, path, net_class, recipe, files_of(seed, first))
            for seed, folder in enumerate(folders)]
    rows = report.read("baselines/runs") if become_rows else []
    kept = [row for row in rows if (row["net"], row["recipe"]) != (path.stem, kind)]
    target = report.ROOT / "results" / path.stem
    old = len(rows) - len(kept) if become_rows else len(report.seed_folders(target))
    place = "its rows in results/baselines/runs.csv" if become_rows else target
    if source == target:
        raise UserError(f"{target} is what is published already")
    if len(folders) < old:
        raise UserError(f"{source} has {len(folders)} of the {old} seeds that are published: train "
                        f"the others too, or delete {place} first")
    if become_rows:
        add_rows(path.stem, kind, kept, folders, runs)
    else:
        replace_folders(target, folders, first)
    few = "; the leaderboard takes five" if len(folders) < 5 else ""
    return f"published: {len(folders)} seeds of {path.name} in place of {old}{few}"


def replace_folders(target, folders, first):
    """Put what is kept of the runs of a model in place of those in a folder. first: the first seed
    that counts."""
    for folder in report.seed_folders(target):
        shutil.rmtree(folder)
    for seed, folder in enumerate(folders):
        (target / folder.name).mkdir(parents=True)
        for name in files_of(seed, first):
            shutil.copy(folder / name, target / folder.name)


def add_rows(net, kind, rows, folders, runs):
    """Add a row for each run of a net to those in the table that are kept; and keep the weights of
    seed 0, by Model 3's recipe of seeds 0 to 4. kind: "own" or "model3", the recipe."""
    for run in runs:
        figures = {key: run[key] for key in FIGURES}
        rows.append(dict(net=net, recipe=kind, seed=run["seed"], parameters=run["params"],
                         holdout=0, epochs=len(run["accuracy"]), **figures,
                         wrong=" ".join(map(str, run["wrong"]))))
    rows.sort(key=lambda row: (row["net"], row["recipe"], int(row["seed"])))
    room = report.ROOT / "results" / "baselines"
    utils.write(room / "runs.csv", utils.csv_text(rows))
    target = room / (net if kind == "own" else f"{net}-by-model3")
    for folder in folders[:1 if kind == "own" else 5]:
        (target / folder.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "model.pt", target / folder.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="as runs/model3")
    source = parser.parse_args().folder.resolve()
    try:
        print("\n".join([publish(source), *report.update()]))
    except UserError as error:
        sys.exit(f"publish.py: error: {error}")


if __name__ == "__main__":
    main()
