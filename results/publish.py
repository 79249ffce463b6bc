"""Make runs the published ones: copy what is kept of them here, and bring all that is made from it
up to date. The folder's name says of which model the runs are, mine.py or results/mine.py:

    python train.py --model 3 --runs 20
    python results/publish.py runs/model3

Of any net by Model 3's recipe, and of the nets in baselines/ by their own, there is one row a run,
in results/baselines/runs.csv, and weights of the first seeds:

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
SEED_0 = ("rf.md", "learning_rate.csv", "accuracy.png", "loss.png",
          "learning_rate.png", "mistakes.png")
FIGURES = ("test_acc", "last5_min", "best_test_acc", "train_acc", "seconds", "torch")


def files_of(seed, first=0):
    """The names of the files that are published of a seed. first: of those that count; it and the
    next four keep their weights, for robustness.py."""
    weights = ("model.pt",) if seed == 0 or 0 <= seed - first < 5 else ()
    return EVERY_SEED + weights + (SEED_0 if seed == 0 else ())


def check(folder, seed, path, net_class, recipe, names):
    """The run in a folder. Raises UserError unless it is a whole one on MNIST, of this seed, of the
    net in a model file and by this recipe, with files of these names."""
    run, net = report.read_run(folder), train.make_net(net_class)
    args = run["args"] | dict(epochs=len(run["accuracy"]))
    expected = dict(model=path.name, seed=seed, parameters=train.count(net), data="MNIST",
                    holdout=0, epochs=recipe["epochs"] if recipe["epochs"] <= 15 else "at most 15")
    wrong = [f"{key} is {args[key]}, expected {value}" for key, value in expected.items()
             if args[key] != value]
    theirs = train.DEFAULTS | args["recipe"]
    wrong += [f"another {key} than the recipe has now" for key in theirs | recipe
              if theirs.get(key) != recipe.get(key)]
    wrong += [f"it lacks {name}" for name in names if not (folder / name).is_file()]
    if not wrong and "model.pt" in names:
        try:
            net.load_state_dict(utils.load(folder / "model.pt"))
        except RuntimeError:
            wrong.append("model.pt has another net's weights")
    if wrong:
        raise UserError(f"{folder}: {'; '.join(wrong)}")
    return run


def refuse_fewer(folders, published, way_out):
    """Raise UserError if there are fewer runs than are published."""
    if len(folders) < published:
        raise UserError(f"{folders[0].parent} has {len(folders)} of the {published} seeds that are "
                        f"published: train the others too, or {way_out} first")


def publish(source):
    """Copy the runs in a folder to results/, or their figures into the baselines' table, if all of
    them are sound. Returns what was done, in words. Raises UserError if they are not, or not seeds
    0, 1, ... of one model."""
    folders = report.seed_folders(source)
    names = [folder.name for folder in folders]
    if not names or names != [f"seed{seed}" for seed in range(len(names))]:
        raise UserError(f"{source} has {', '.join(names) or 'no runs'}; expected seed0, seed1, ... "
                        "without a gap, and one run of each")
    args = report.read_run(folders[0])["args"]
    path = report.model_file(Path(args["model"]).stem)
    if path.exists():
        recipe = train.load_model_file(path)[2]
        model3 = train.load_model_file(report.ROOT / "model3.py")[2]
        if train.DEFAULTS | args["recipe"] == model3 != recipe:
            return publish_rows(path, folders, "model3")
        if path.parent.name == "baselines":
            return publish_rows(path, folders, "own")
    return publish_model(source, folders)


def publish_model(source, folders):
    """Copy what is kept of the runs of a model to the folder of the same name in results/."""
    path, target = report.model_file(source.name), report.ROOT / "results" / source.name
    if not path.exists():
        raise UserError(f"{source}: there is neither {path.name} nor results/{path.name}")
    if target == source:
        raise UserError(f"{target} is what is published already")
    _, net_class, recipe = train.load_model_file(path)
    first = report.FIRST_SEED.get(source.name, 0)
    for seed, folder in enumerate(folders):
        check(folder, seed, path, net_class, recipe, files_of(seed, first))
    old = report.seed_folders(target)
    refuse_fewer(folders, len(old), f"delete {target}")
    for folder in old:
        shutil.rmtree(folder)
    for seed, folder in enumerate(folders):
        (target / folder.name).mkdir(parents=True)
        for file in files_of(seed, first):
            shutil.copy(folder / file, target / folder.name)
    few = "; the leaderboard takes five" if len(folders) < 5 else ""
    return f"published: {len(folders)} seeds of {path.name} in place of {len(old)}{few}"


def publish_rows(path, folders, kind):
    """Put a row for each of the runs of a net into the table of rows, and keep the weights of seed
    0, by Model 3's recipe of seeds 0 to 4. kind: "own" or "model3", the recipe."""
    _, net_class, recipe = train.load_model_file(path)
    if kind == "model3":
        _, _, recipe = train.load_model_file(report.ROOT / "model3.py")
    rows = []
    for seed, folder in enumerate(folders):
        run = check(folder, seed, path, net_class, recipe, ("mistakes.csv", "model.pt"))
        figures = {key: run[key] for key in FIGURES}
        rows.append(dict(net=path.stem, recipe=kind, seed=seed, parameters=run["params"], holdout=0,
                         epochs=len(run["accuracy"]), **figures,
                         wrong=" ".join(map(str, run["wrong"]))))
    table = report.ROOT / "results" / "baselines" / "runs.csv"
    before = utils.read_csv(table)
    kept = [row for row in before if (row["net"], row["recipe"]) != (path.stem, kind)]
    old = len(before) - len(kept)
    refuse_fewer(folders, old, f"delete its rows in {table}")
    rows = sorted(rows + kept, key=lambda row: (row["net"], row["recipe"], int(row["seed"])))
    utils.write(table, utils.csv_text(rows))
    target = table.parent / (path.stem if kind == "own" else f"{path.stem}-by-model3")
    for folder in folders[:1 if kind == "own" else 5]:
        (target / folder.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "model.pt", target / folder.name)
    return f"published: {len(folders)} seeds of {path.name}, {kind} recipe, in place of {old}"


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
