"""How fast is train.py, beside the classic trainer on the same nets, on the CPU?

    python results/speed.py 3 baselines/c3.py

An epoch of baselines/classic_train.py and one of train.py's loop, evaluation included, take turns,
each in a process of its own, because train.py tells the C library to keep its memory. A round uses
a part of the images and is scaled up; reported are medians. Then the first net is trained by the
whole command: from start to last plot, until the first step, and the most memory that it took. The
figures go to speed.json. On another machine, or a busy one, the seconds differ; the ratios less."""

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "baselines")]
import classic_train  # noqa: E402

import train  # noqa: E402
import utils  # noqa: E402

CPU = torch.device("cpu")


# ---- an epoch, side by side --------------------------------------------------------------------
def classic_epoch(model, root, part):
    """Seconds of an epoch of the classic trainer, on the first 1/part of the images."""
    _, net_class, recipe = train.load_model_file(model)
    train_loader = classic_train.make_loader(root, True, recipe["augment"], part)
    test_loader = classic_train.make_loader(root, False, {}, part)
    net, recipe = net_class(), classic_train.scaled(recipe)
    optimizer = train.make_optimizer(net, recipe)
    scheduler = train.make_scheduler(optimizer, recipe, len(train_loader))
    began = time.perf_counter()
    classic_train.train_epoch(net, train_loader, optimizer, scheduler, recipe, CPU)
    classic_train.test(net, test_loader, CPU)
    return time.perf_counter() - began


def our_epoch(model, root, part):
    """The same of train.py's loop."""
    utils.keep_memory()
    path, net_class, recipe = train.load_model_file(model)
    train_set, test_set = ([each[:len(each) // part] for each in utils.load_mnist(root, training)]
                           for training in (True, False))
    layout = train.rehearse(path, net_class, recipe, CPU)
    recipe = recipe | dict(epochs=1, plain_epochs=0)
    steps = math.ceil(len(train_set[0]) / recipe["batch_size"])
    state = train.start(net_class, recipe, 0, steps, layout=layout)
    began = time.perf_counter()
    list(train.train(state, recipe, train_set, test_set))
    return time.perf_counter() - began


def side_by_side(model, root, part, rounds):
    """What speed.json has of a net: seconds of an epoch of both, and their ratio, medians over the
    rounds."""
    spawn, times = multiprocessing.get_context("spawn"), []
    with ProcessPoolExecutor(1, spawn) as theirs, ProcessPoolExecutor(1, spawn) as own:
        for _ in range(rounds + 1):
            classic = part * theirs.submit(classic_epoch, model, root, part).result()
            ours = part * own.submit(our_epoch, model, root, part).result()
            times.append(dict(classic=classic, ours=ours, ratio=classic / ours))
    _, net_class, recipe = train.load_model_file(model)
    about = dict(parameters=train.count(net_class()), epochs=recipe["epochs"])
    return about | medians(times[1:])  # the first warmed up


def medians(rounds):
    """The median of each figure in a list of dicts."""
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


# ---- the whole command -------------------------------------------------------------------------
def command(model):
    """Run train.py: seconds in all, in training and to the first step; bytes at the peak."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, ROOT / "train.py", "--model", model, "--device", "cpu"]
        began, first_epoch = time.perf_counter(), None
        process = subprocess.Popen([*words, "--out", folder], stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if line.startswith("Epoch ") and not first_epoch:
                first_epoch = time.perf_counter() - began
        # Its peak counts this process's, too, which fork shares; but that is less, without images.
        _, process.returncode, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        rows = utils.read_csv(Path(folder) / "seed0" / "metrics.csv")
    seconds = [float(row["seconds"]) for row in rows]
    return dict(wall=wall, training=sum(seconds), start=first_epoch - seconds[0],
                peak_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))  # or KiB


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arg = parser.add_argument
    arg("models", nargs="+", metavar="MODEL", help="as train.py's --model")
    arg("--rounds", type=int, default=5, metavar="N", help="(default: 5)")
    arg("--part", type=int, default=2, metavar="N", help="take 1/N of the images (default: 2)")
    args = parser.parse_args()
    root, nets = utils.find_mnist(), {}
    for model in args.models:
        name = train.load_model_file(model)[0].stem
        nets[name] = side_by_side(model, root, args.part, args.rounds)
        print(f"{name}: {nets[name]}", flush=True)
    whole = medians([command(args.models[0]) for _ in range(args.rounds)])
    whole["line"] = f"python train.py --model {args.models[0]}"
    print(whole)
    utils.write(ROOT / "results" / "speed.json", json.dumps(dict(
        date=time.strftime("%Y-%m-%d"), torch=torch.__version__,
        machine=f"{platform.machine()}, {os.cpu_count()} cores", threads=torch.get_num_threads(),
        rounds=args.rounds, part=args.part, nets=nets, command=whole), indent=2) + "\n")


if __name__ == "__main__":
    main()
