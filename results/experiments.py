"""Measure variations of a model on held-out training images and keep every figure.

    python results/experiments.py --table mine.csv "model3: augment={}" "deep: c8M c10 v14"

trains each variation with seeds 0, 1, 2 by `train.py --holdout 10000`, one run a core, and adds a
line for each run to mine.csv; without --table, to experiments.csv. A variation's name is its
definition: the model file (deep is deep.py beside this script, a1, b2 and the like are in
baselines/), then, after a colon and separated by semicolons, what is different in it. That is an
entry of RECIPE (`average=0.0`, `scheduler.max_lr=0.2`), another file's RECIPE (`recipe=model3`), a
piece of the net's text and what takes its place everywhere (`nn.GELU() -> nn.ReLU()`), or another
chain of layers before GAP and linear: c8 is a 3×3 convolution to 8 channels with padding 1, then
BatchNorm and ReLU, v8 the same without padding, p8 a 1×1 convolution, M a 2×2 max pool (right
behind the convolution in c8M), c8k6s3 has a 6×6 kernel and stride 3, w16k3 pools 3×3 maps by
learnt weights, one for each pixel of a channel, which leaves nothing to GAP. `model3:` alone is
the model as it is. Runs that the table holds already are not repeated."""

import argparse
import ast
import csv
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLE = HERE / "experiments.csv"
BASES = {path.stem: path for path in [
    *sorted(HERE.parent.glob("model?.py")), *sorted(HERE.parent.glob("baselines/[a-f]?.py")),
    HERE / "deep.py"]}

COLUMNS = {"experiment", "seed", "parameters", "holdout", "epochs", "last5_min", "train_acc"}

NET = '''

def _block(in_channels, out_channels, kernel, stride, padding, pool):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        *[nn.MaxPool2d(2)] * pool, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 1
        for kind, width, *geometry in {chain}:
            layers.append(nn.Conv2d(width, width, geometry[0], groups=width, bias=False)
                          if kind == "w" else _block(channels, width, *geometry) if width else
                          nn.MaxPool2d(2))
            channels = width or channels
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                    nn.Linear(channels, 10))

    def forward(self, images):
        return self.layers(images)
'''


def code(source):
    """RECIPE's definition and the rest of a model file, both without docstrings and comments."""
    tree, recipe, rest = ast.parse(source), [], []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = node.body[bool(ast.get_docstring(node)):]
    for node in tree.body:
        (recipe if "id='RECIPE', ctx=Store" in ast.dump(node) else rest).append(ast.dump(node))
    return recipe, rest


def variation(experiment):
    """The source of a model file for an experiment's name."""
    model, _, changes = experiment.partition(":")
    if model not in BASES or ":" not in experiment:
        sys.exit(f"experiments.py: {experiment!r} does not begin with one of {', '.join(BASES)} "
                 "and a colon")
    source = BASES[model].read_text(encoding="utf-8")
    changes = [change.strip() for change in changes.split(";") if change.strip()]
    for change in changes:
        key, equals, value = map(str.strip, change.partition("="))
        if "->" in change:
            old, new = map(str.strip, change.split("->", 1))
            if not old or old not in source:
                sys.exit(f"experiments.py: {change!r}: {BASES[model].name} does not hold {old!r}")
            before, source = source, source.replace(old, new)
            if code(before)[0] != code(source)[0]:
                sys.exit(f"experiments.py: {change!r}: RECIPE is changed by key=value")
            if code(before) == code(source):
                sys.exit(f"experiments.py: {change!r} changes none of the code")
        elif key == "recipe":
            if value not in BASES:
                sys.exit(f"experiments.py: {change!r}: expected one of {', '.join(BASES)}")
            source += f"\nRECIPE = {runpy.run_path(str(BASES[value]))['RECIPE']}\n"
        elif equals:
            source += "RECIPE" + "".join(f"[{k!r}]" for k in key.split(".")) + f" = {value}\n"
        else:
            pattern = r"(?:([cvpw])([1-9]\d*)(?:k([1-9]))?(?:s([1-9]))?|(?=M))(M?)"
            chain = [re.fullmatch(pattern, layer) for layer in change.split()]
            if None in chain:
                sys.exit(f"experiments.py: {change!r} is neither key=value nor a chain of layers")
            if "->" in experiment:
                sys.exit(f"experiments.py: {experiment!r}: a chain takes the place of all of Net")
            source += NET.format(chain=[
                (kind, int(width or 0), int(kernel or (1 if kind == "p" else 3)), int(stride or 1),
                 int(kind == "c"), bool(pool))
                for kind, width, kernel, stride, pool in (layer.groups() for layer in chain)])
    return source


def measure(experiment, seed, holdout):
    """Train one seed of a variation in a process of its own; returns its line for the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "variation.py"
        path.write_text(variation(experiment), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, HERE.parent / "train.py", "--model", path, "--seed", str(seed),
             "--holdout", str(holdout), "--out", folder, "--no-progress"], text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=os.environ | dict(OMP_NUM_THREADS="1"))
        if done.returncode:
            raise RuntimeError(f"{experiment!r} failed: {done.stderr.strip()}")
        return table_row(experiment, Path(folder) / f"seed{seed}")


def table_row(experiment, folder):
    """One line of the table from a run's folder."""
    args = json.loads((folder / "args.json").read_text())
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    judged = "val" if args["holdout"] else "test"
    accuracy = [float(row[f"{judged}_acc"]) for row in rows]
    return {"experiment": experiment, "seed": args["seed"], "parameters": args["parameters"],
            "holdout": args["holdout"], "epochs": len(rows), f"{judged}_acc": accuracy[-1],
            "last5_min": min(accuracy[-5:]), f"best_{judged}_acc": max(accuracy),
            "train_acc": rows[-1]["train_acc"],
            "seconds": round(sum(float(row["seconds"]) for row in rows), 1), "torch": args["torch"]}


def read_table(table=TABLE):
    if not table.exists():
        return []
    with open(table, newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        header, rows = reader.fieldnames, list(reader)
    if header and not (COLUMNS <= set(header) and all(str(row["seed"]).isdigit() for row in rows)):
        sys.exit(f"experiments.py: {table} is not a table of experiments")
    return rows


def add_row(row, table=TABLE):
    with open(table, "a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        text = file.read()
        header = next(csv.reader(text.splitlines()), None)
        if text and not text.endswith("\n"):
            file.write("\n")
        writer = csv.DictWriter(file, header or row, lineterminator="\n")
        if not header:
            writer.writeheader()
        writer.writerow(row)
    accuracy = row["val_acc" if row["holdout"] else "test_acc"]
    print(f"{accuracy:7.2f} %  seed {row['seed']}  {row['experiment']}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1")
    parser.add_argument("--holdout", type=int, default=10000, metavar="N",
                        help="train.py's; 0: judge by the test set, where nothing is chosen by it")
    parser.add_argument("--table", type=Path, default=TABLE, help="where to add the runs")
    args = parser.parse_args()
    if args.seeds < 1 or not 0 <= args.holdout < 60000:
        parser.error("--seeds must be at least 1, --holdout from 0 to 59999")
    try:
        open(args.table, "a").close()  # now rather than after the first run
    except OSError as error:
        parser.error(f"--table {args.table}: {error.strerror}")
    rows, args.experiments = read_table(args.table), list(dict.fromkeys(args.experiments))
    if any(row["holdout"] != str(args.holdout) for row in rows):
        parser.error(f"{args.table} has runs with another --holdout; name another --table")
    done = {(row["experiment"], int(row["seed"])) for row in rows}
    todo = [(experiment, seed) for seed in range(args.seeds) for experiment in args.experiments
            if (experiment, seed) not in done]
    for experiment in args.experiments:
        try:
            compile(variation(experiment), experiment, "exec")
        except SyntaxError as error:
            sys.exit(f"experiments.py: {experiment!r}: {error}")
        if all((experiment, seed) in done for seed in range(args.seeds)):
            print(f"{experiment!r} is in {args.table} already")
    pool, failed = ThreadPoolExecutor(os.cpu_count()), 0
    try:
        for run in as_completed([pool.submit(measure, *item, args.holdout) for item in todo]):
            try:
                add_row(run.result(), args.table)
            except RuntimeError as error:  # the others go on
                print(f"experiments.py: {error}", file=sys.stderr, flush=True)
                failed += 1
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        sys.exit(f"experiments.py: {failed} of {len(todo)} runs failed")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
