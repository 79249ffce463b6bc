"""How fast is train.py? Measured beside the classic trainer on the same net.

    python baselines/speed.py                      prints the tables
    python baselines/speed.py --write              and writes results/speed.json, for the README

An epoch each of classic_train.py and of train.py's loop, both with evaluation, taking turns in a
process each, because utils.keep_memory() changes a whole process; train.py's loop without that is
the third. Medians over the rounds, each on a part of the images and scaled to a whole epoch. None
deskews, which train.py does once, before its first epoch. Then the phases of a step, what this
machine could do at most, and whole runs of train.py as commands. On another machine, or a busy one,
the seconds differ; the ratios less so."""

import argparse
import csv
import functools
import json
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

import classic_train
import torch
import torch.nn.functional as F
from torch import nn

import train
import utils

ROOT = Path(__file__).resolve().parent.parent


# ---- an epoch, side by side --------------------------------------------------------------------
class Classic:
    """Each call is one epoch of the classic trainer on the first 1/part of the images."""

    def __init__(self, model, root, part):
        _, self.net_class, self.recipe = train.load_model_file(model)
        self.loaders = [classic_train.make_loader(root, training, self.recipe["augment"], part)
                        for training in (True, False)]

    def batches(self):
        return self.loaders[0]

    def net(self):
        """A net, its optimizer, its scheduler, the net to evaluate, what follows every step."""
        net = self.net_class()
        made = train.make_optimizer(net, classic_train.scaled(self.recipe), len(self.loaders[0]))
        return net, *made, net, lambda step: None

    def evaluate(self, net):
        classic_train.test(net, self.loaders[1], torch.device("cpu"))

    def epoch(self):
        net, optimizer, scheduler, _, _ = self.net()
        classic_train.train_epoch(net, self.loaders[0], optimizer, scheduler, self.recipe,
                                  torch.device("cpu"))
        self.evaluate(net)

    def phases(self):
        """{phase: seconds} of one pass, evaluation included."""
        net, optimizer, scheduler, average, after_step = self.net()
        spent = dict.fromkeys(("data", "forward", "backward", "optimizer", "evaluation"), 0.0)
        clock = time.perf_counter()

        def lap(phase):
            nonlocal clock
            now = time.perf_counter()
            spent[phase] += now - clock
            clock = now

        for step, (images, labels) in enumerate(self.batches()):
            lap("data")
            loss = F.cross_entropy(net(images), labels)
            lap("forward")
            optimizer.zero_grad()
            loss.backward()
            lap("backward")
            optimizer.step()
            if self.recipe["scheduler"]["name"] == "OneCycleLR":
                scheduler.step()
            after_step(step)
            lap("optimizer")
        clock = time.perf_counter()
        self.evaluate(average)
        lap("evaluation")
        return spent


class Ours(Classic):
    """The same of train.py's loop."""

    def __init__(self, model, root, part):
        _, self.net_class, self.recipe = train.load_model_file(model)
        self.sets = [[each[:len(each) // part] for each in utils.load_mnist(root, training)]
                     for training in (True, False)]

    def batches(self):
        return utils.batches(*self.sets[0], self.recipe["batch_size"],
                             torch.Generator().manual_seed(0), self.recipe["augment"])

    def net(self):
        net = self.net_class().to(memory_format=torch.channels_last)
        average, update_average = train.moving_average(net, self.recipe["average"])
        return net, *train.make_optimizer(net, self.recipe, 1000), average, update_average

    def evaluate(self, net):
        utils.evaluate(net, *self.sets[1])

    def epoch(self):
        net = self.net_class().to(memory_format=torch.channels_last)
        train.train(net, self.recipe | dict(epochs=1), 0, *self.sets)


prepared = functools.cache(lambda kind, *arguments: kind(*arguments))  # once in a process


def measure(*arguments):
    """(seconds of an epoch, {phase: seconds} of another), in the process that runs this."""
    phases = prepared(*arguments).phases()  # first, because a process is slow at first
    began = time.perf_counter()
    prepared(*arguments).epoch()
    return time.perf_counter() - began, phases


def side_by_side(model, root, part, rounds):
    """Seconds an epoch of both sides, their ratio and the phases, medians over the rounds."""
    sides = dict(classic=(Classic, None), ours=(Ours, utils.keep_memory), unkept=(Ours, None))
    spawn, seconds, phases = multiprocessing.get_context("spawn"), {}, {}
    pools = {name: ProcessPoolExecutor(1, spawn, initializer)
             for name, (_, initializer) in sides.items()}
    for _ in range(rounds + 1):  # the first round warms up
        for name, pool in pools.items():
            epoch, laps = pool.submit(measure, sides[name][0], model, root, part).result()
            seconds.setdefault(name, []).append(epoch * part)
            phases.setdefault(name, []).append(laps)
    for pool in pools.values():
        pool.shutdown()

    def ratio(name):
        return statistics.median(other / ours for other, ours in
                                 list(zip(seconds[name], seconds["ours"]))[1:])
    return {name: statistics.median(seconds[name][1:]) for name in ("classic", "ours")} | dict(
        ratio=ratio("classic"), without_keep_memory=ratio("unkept"),
        phases={name: {phase: part * statistics.median(each[phase] for each in phases[name][1:])
                       for phase in phases[name][0]} for name in ("classic", "ours")})


# ---- what the hardware could do ----------------------------------------------------------------
def work(net):
    """(multiply-adds, bytes of all layers' outputs) of one image's forward pass in float32."""
    macs = size = 0

    def count(module, inputs, output):
        nonlocal macs, size
        size += output.numel() * 4
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            positions = output.numel() // output.shape[1]
            macs += module.weight.numel() * positions

    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    net.eval()(torch.zeros(1, 1, 28, 28))
    return macs, size


def best_of(action, repeats=7):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def machine_rates():
    """(multiply-adds a second of a large float32 product, bytes a second of a large copy)."""
    a, b, long = torch.rand(2048, 2048), torch.rand(2048, 2048), torch.rand(2 ** 25)
    other = torch.empty_like(long)
    return 2048 ** 3 / best_of(lambda: a @ b), 2 * 4 * 2 ** 25 / best_of(lambda: other.copy_(long))


def attainable(net_class, seconds):
    """How far an epoch's arithmetic and memory traffic are from what the machine can do."""
    macs, size = work(net_class())
    product_rate, copy_rate = machine_rates()
    # Forward once, backward twice the work; each output is written and read again, three times.
    needed = 60000 * 3 * macs, 60000 * 3 * 2 * size
    return dict(
        macs_an_image=macs, bytes_an_image=size, product_rate=product_rate, copy_rate=copy_rate,
        arithmetic=needed[0] / product_rate / seconds, memory=needed[1] / copy_rate / seconds)


def bfloat16(net_class, batch_size, rounds):
    """Seconds of forward and backward in bfloat16 (autocast) over those in float32, the median."""
    net = net_class().to(memory_format=torch.channels_last)
    images, labels = torch.randn(batch_size, 1, 28, 28), torch.arange(batch_size) % 10

    def step(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = F.cross_entropy(net(images), labels)
        loss.backward()

    step(True)  # warms up
    return statistics.median(best_of(lambda: step(True), 20) / best_of(lambda: step(False), 20)
                             for _ in range(rounds))


# ---- whole commands ----------------------------------------------------------------------------
def peak_memory(pid):
    """Bytes of a running process, by Linux's account; 0 where there is none. (The ru_maxrss of a
    child begins at its parent's.)"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):  # no Linux, or the process has just ended
        return 0


def command(*flags):
    """Run train.py; wall seconds, seconds to the first step, seconds of training, peak bytes."""
    with tempfile.TemporaryDirectory() as folder:
        began, first, peak = time.perf_counter(), None, 0
        process = subprocess.Popen(
            [sys.executable, ROOT / "train.py", "--no-progress", "--out", folder, *flags],
            stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            peak = max(peak, peak_memory(process.pid))
            if line.startswith("Epoch "):
                first = first or time.perf_counter() - began
        if process.wait():
            sys.exit(f"speed.py: train.py {' '.join(flags)} failed")
        wall = time.perf_counter() - began
        with open(next(Path(folder).glob("*/metrics.csv")), newline="") as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    return dict(wall=wall, start=first - seconds[0], training=sum(seconds), peak_bytes=peak)


def growth(flags):
    """Seconds of training over epochs and over images, medians of three runs, taken in turns."""
    def grow(flag, values):
        runs = [{n: command(*flags, *flag, str(n))["training"] for n in values} for _ in range(3)]
        return {n: statistics.median(run[n] for run in runs) for n in values}
    images = grow(("--epochs", "6", "--holdout"), (45000, 30000, 1))
    return dict(epochs=grow(("--epochs",), (3, 6, 12)),
                images={60000 - n: seconds for n, seconds in images.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="3", help="as in train.py (default: 3)")
    parser.add_argument("--rounds", type=train.number(int, 1, 100), default=5,
                        help="how often (default: 5)")
    parser.add_argument("--part", type=train.number(int, 1, 60), default=2,
                        help="a round takes 1/PART of the images (default: 2)")
    parser.add_argument("--data-dir", help="as in train.py")
    parser.add_argument("--write", action="store_true", help="write results/speed.json")
    args = parser.parse_args()
    path, net_class, recipe = train.load_model_file(args.model)
    train.rehearse(path, net_class, recipe, classic_train.BATCH_SIZE)
    if args.write and args.model != "3":
        parser.error("--write goes with --model 3, whose times the README quotes")
    utils.keep_memory()
    root = utils.find_mnist(args.data_dir)
    flags = ["--model", args.model, "--device", "cpu", "--data-dir", str(root)]

    result = dict(
        model=args.model, rounds=args.rounds, part=args.part, date=time.strftime("%Y-%m-%d"),
        machine=f"{platform.machine()}, {os.cpu_count()} cores", threads=torch.get_num_threads(),
        torch=torch.__version__, python=platform.python_version(),
        epoch=side_by_side(args.model, root, args.part, args.rounds))
    epoch = result["epoch"]
    print(f"model {args.model}, {result['machine']}, {result['threads']} threads, torch "
          f"{torch.__version__}\n")
    print(f"{'seconds an epoch':18s}{'classic':>9s}{'ours':>9s}{'ratio':>8s}")
    for phase in epoch["phases"]["ours"]:
        classic, ours = (epoch["phases"][side][phase] for side in ("classic", "ours"))
        print(f"{phase:18s}{classic:9.2f}{ours:9.2f}{classic / ours:8.1f}")
    print(f"{'whole epoch':18s}{epoch['classic']:9.2f}{epoch['ours']:9.2f}{epoch['ratio']:8.1f}")
    print(f"{'images a second':18s}" + "".join(f"{60000 / epoch[side]:9,.0f}"
                                               for side in ("classic", "ours")), flush=True)

    phases = epoch["phases"]["ours"]
    result["attainable"] = attainable(net_class, phases["forward"] + phases["backward"])
    print("\nOf forward and backward, the machine at its best needs {arithmetic:.0%} for the "
          "arithmetic ({macs_an_image:,} multiply-adds an image) and {memory:.0%} for the memory "
          "({bytes_an_image:,} bytes).".format(**result["attainable"]))
    result["bfloat16"] = bfloat16(net_class, recipe["batch_size"], args.rounds)
    print(f"In bfloat16 they take {result['bfloat16']:.0%} of their time.", flush=True)
    result["model1"] = side_by_side("1", root, args.part * 5, args.rounds)
    print("Without keep_memory() an epoch takes {:.2f} times as long, one of Model 1 {:.2f} times."
          .format(*(each["without_keep_memory"] for each in (epoch, result["model1"]))), flush=True)

    c3 = side_by_side(str(ROOT / "baselines" / "c3.py"), root, args.part * 5, args.rounds)
    runs = [command(*flags) for _ in range(args.rounds)]
    result["command"] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    result["c3"] = dict(classic_15_epochs=15 * c3["classic"], **c3)
    result["command"]["ratio"] = result["c3"]["classic_15_epochs"] / result["command"]["wall"]
    print("\ntrain.py --model {}: {wall:.1f} s in all, {start:.1f} s to the first step, "
          "{training:.1f} s of training, {peak:.2f} GB at its peak".format(
              args.model, **result["command"], peak=result["command"]["peak_bytes"] / 1e9))
    print("classic trainer, 15 epochs of net C3: {classic_15_epochs:.0f} s, {ratio:.1f} times as "
          "long".format(**result["c3"] | dict(ratio=result["command"]["ratio"])), flush=True)

    result["growth"] = growth(flags)
    for name, seconds in result["growth"].items():
        print(f"training time over {name}: " + ", ".join(
            f"{n}: {value:.1f} s" for n, value in seconds.items()))
    began = time.perf_counter()
    command(*flags, "--runs", "4")
    result["runs"] = dict(n=4, wall=time.perf_counter() - began)
    result["runs"]["ratio"] = 4 * result["command"]["wall"] / result["runs"]["wall"]
    print("--runs 4: {wall:.1f} s, {ratio:.2f} times as fast as four single runs".format(
        **result["runs"]))
    if args.write:
        utils.write(ROOT / "results" / "speed.json", json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except utils.UserError as error:
        print(f"speed.py: error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(130)
