"""Train variations of a model on some of the training images, judge them by the others, and keep
one row a run in experiments.csv. From the repository's root:

    python results/experiments.py "no augmentation" --seeds 0 1 --folds 0 3 -- \\
        --model 3 --set augment={}

First comes a name for people, behind -- the flags of train.py, the same for every run of that name.
A net that differs in its layers is a model file of its own, --model PATH. Fold 0 is the first
10,000 of the 60,000 training images, fold 5 the last: they are what the run is judged by, and the
test set is never opened.

One training runs on each core, with one thread. Rows that the table has already are not repeated,
a row is added as soon as its run ends, and a run that fails stops no other. Give two variations the
same seeds and folds, and report.py compares them in pairs."""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import train  # noqa: E402
import utils  # noqa: E402

TABLE = ROOT / "results" / "experiments.csv"
COLUMNS = ("name", "command", "seed", "fold", "parameters", "epochs", "val_acc", "val_loss",
           "train_acc", "seconds", "torch")
OURS = ("seed", "runs", "holdout", "fold", "out", "resume", "dry_run")  # flags that are set here


def command(flags, seed, fold):
    """A run's flags for train.py."""
    return [*flags, "--holdout", "10000", "--fold", str(fold), "--seed", str(seed)]


def measure(name, flags, seed, fold):
    """Train once, in a process of its own. Returns the row, or raises RuntimeError."""
    settings = command(flags, seed, fold)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, ROOT / "train.py", *settings, f"--out={folder}", "--no-progress"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            text=True, errors="replace", env=os.environ | dict(OMP_NUM_THREADS="1"))
        if done.returncode:
            raise RuntimeError(f"seed {seed}, fold {fold}: {done.stderr.strip()}")
        run = Path(folder, f"held-out-seed{seed}")
        args = json.loads((run / "args.json").read_text())
        epochs = utils.read_csv(run / "metrics.csv")
    last = epochs[-1]
    return dict(
        name=name, command=f"python train.py {shlex.join(settings)}", seed=seed, fold=fold,
        parameters=args["parameters"], epochs=len(epochs), val_acc=last["val_acc"],
        val_loss=last["val_loss"], train_acc=last["train_acc"],
        seconds=round(sum(float(row["seconds"]) for row in epochs), 1), torch=args["torch"])


def add_row(row):
    """Append a row; the file gets it in one piece, so that a kill leaves all of it or nothing."""
    with open(TABLE, "a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
    print(f"{float(row['val_acc']):.2f} %  {float(row['val_loss']):.4f}  "
          f"seed {row['seed']}  fold {row['fold']}  {row['name']}", flush=True)


def parse_arguments():
    argv = [*sys.argv[1:], "--"]
    end = argv.index("--")
    parser = argparse.ArgumentParser(
        usage='%(prog)s NAME [--seeds S ...] [--folds K ...] -- FLAGS OF TRAIN.PY',
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="says what is varied; new for new flags")
    parser.add_argument("--seeds", nargs="+", type=train.number(int, 0, 2**32 - 1), default=[0],
                        metavar="S", help="(default: 0)")
    parser.add_argument("--folds", nargs="+", type=train.number(int, 0, 5), default=[5],
                        metavar="K", help="0 to 5 (default: 5, the last 10,000 images)")
    args = parser.parse_args(argv[:end])
    args.flags = argv[end + 1:-1]
    given, default = train.parse_arguments(args.flags), train.parse_arguments([])
    wrong = [key for key in OURS if getattr(given, key) != getattr(default, key)]
    if wrong:
        parser.error(f"behind --: --{wrong[0].replace('_', '-')} is set here; see --help")
    return args


def main():
    args = parse_arguments()
    rows = [row for row in utils.read_csv(TABLE) if row["name"] == args.name]
    for row in rows:
        settings = shlex.join(command(args.flags, row["seed"], row["fold"]))
        if row["command"] != f"python train.py {settings}":
            sys.exit(f"experiments.py: {args.name!r} stands for other flags in {TABLE.name}: "
                     f"{row['command']}")
    done = {(int(row["seed"]), int(row["fold"])) for row in rows}
    wanted = [(seed, fold) for fold in args.folds for seed in args.seeds]
    waiting = [run for run in dict.fromkeys(wanted) if run not in done]
    print(f"{len(waiting)} of {len(wanted)} runs to do", flush=True)

    failures = []
    with ThreadPoolExecutor(train.cores()) as pool:
        runs = [pool.submit(measure, args.name, args.flags, *run) for run in waiting]
        try:
            for run in as_completed(runs):
                if run.exception():
                    failures.append(str(run.exception()))
                else:
                    add_row(run.result())
        except KeyboardInterrupt:  # the running trainings got Ctrl-C, too
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        sys.exit("\n".join([f"experiments.py: {len(failures)} runs failed:", *failures]))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
