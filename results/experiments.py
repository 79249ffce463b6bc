"""Train variations of a model on some of the training images, judge them by the others, and keep
one row a run in experiments.csv. From the repository's root:

    python results/experiments.py "no augmentation" --seeds 0 1 --folds 0 3 -- \\
        --model 3 --set augment={}

First comes a name for people, behind -- the flags of train.py, the same for every run of that name.
Fold 0 is the first 10,000 of the 60,000 training images, fold 5 the last. Printed are accuracy and
cross-entropy on them after the last epoch; the test set is never opened.

One training runs on each core, with one thread. Rows that the table has already are not repeated,
with a warning if the model file was edited since. To compare in pairs: report.py "A | B"."""

import argparse
import json
import shlex
import signal
import sys
import tempfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import train  # noqa: E402
import utils  # noqa: E402

TABLE = ROOT / "results" / "experiments.csv"
OURS = ("seed", "runs", "holdout", "fold", "out", "resume", "dry_run")  # flags that are set here


def command(flags, seed, fold):
    """The command that repeats a run."""
    return shlex.join(["python", "train.py", *flags, "--holdout", "10000", "--fold", str(fold),
                       "--seed", str(seed)])


def checksum(flags):
    """A short number that changes with the text of the files of --model and --recipe."""
    args = train.parse_arguments(flags)
    paths = [train.load_model_file(name)[0] for name in (args.model, args.recipe) if name]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    return f"{zlib.crc32(text.encode()):08x}"


def add_row(name, command, seed, fold, folder, files):
    """Append the row of a run that has left its files in a folder, in one piece, so that a kill
    leaves all of it or nothing. files: see checksum()."""
    args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    rows = utils.read_csv(folder / "metrics.csv")
    last, seconds = rows[-1], sum(float(row["seconds"]) for row in rows)
    row = dict(
        name=name, command=command, seed=seed, fold=fold, parameters=args["parameters"],
        epochs=len(rows), val_acc=last["val_acc"], val_loss=last["val_loss"],
        train_acc=last["train_acc"], seconds=round(seconds, 1), torch=args["torch"], files=files)
    with open(TABLE, "a", newline="", encoding="utf-8") as file:
        file.write(utils.csv_text([row]).partition("\n")[2])  # without the header
    print(f"seed {seed}, fold {fold}, held out: accuracy {last['val_acc']} %, cross-entropy "
          f"{last['val_loss']}", flush=True)


def parse_arguments():
    argv = [*sys.argv[1:], "--"]
    end = argv.index("--")
    parser = argparse.ArgumentParser(
        usage="%(prog)s NAME [--seeds S ...] [--folds K ...] -- FLAGS OF TRAIN.PY",
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arg = parser.add_argument
    arg("name", metavar="NAME", help="says what is varied; new for new flags")
    arg("--seeds", nargs="+", type=int, default=[0], metavar="S", help="(default: 0)")
    arg("--folds", nargs="+", type=int, choices=range(6), default=[5], metavar="K",
        help="0 to 5 (default: 5, the last 10,000 images)")
    args = parser.parse_args(argv[:end])
    args.flags = argv[end + 1:-1]
    given, default = train.parse_arguments(args.flags), train.parse_arguments([])
    wrong = [key for key in OURS if getattr(given, key) != getattr(default, key)]
    if wrong:
        parser.error(f"behind --: --{wrong[0].replace('_', '-')} is set here; see --help")
    return args


def main():
    args = parse_arguments()
    files = checksum(args.flags)
    rows = [row for row in utils.read_csv(TABLE) if row["name"] == args.name]
    for row in rows:
        if row["command"] != command(args.flags, row["seed"], row["fold"]):
            sys.exit(f"experiments.py: {args.name!r} stands for other flags in {TABLE.name}: "
                     f"{row['command']}")
    if any(row["files"] not in ("", files) for row in rows):  # older rows have no checksum
        utils.warn(f"the model file was edited since {TABLE.name} got its rows of {args.name!r}; "
                   "they are kept. Unless only comments changed, take a new name.")
    done = {(int(row["seed"]), int(row["fold"])) for row in rows}
    wanted = [(seed, fold) for fold in args.folds for seed in args.seeds]
    lines = {run: command(args.flags, *run) for run in wanted if run not in done}
    print(f"{args.name}: {len(lines)} of {len(wanted)} runs to do", flush=True)

    failures = []
    with tempfile.TemporaryDirectory() as room:
        commands = {run: [sys.executable, str(ROOT / "train.py"), *shlex.split(line)[2:],
                          f"--out={room}/{run[1]}"] for run, line in lines.items()}
        for run, status, said in utils.run_side_by_side(commands, utils.cores()):
            if status:
                failures.append(f"seed {run[0]}, fold {run[1]}, status {status}: {said}")
            else:
                folder = Path(room, str(run[1]), f"held-out-seed{run[0]}")
                add_row(args.name, lines[run], *run, folder, files)
    if failures:
        sys.exit("\n".join([f"experiments.py: {len(failures)} runs failed:", *failures]))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be ended is to be interrupted
    try:
        main()
    except utils.UserError as error:
        sys.exit(f"experiments.py: error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
