"""Train one of the models on MNIST: python train.py --model 3

Reads a model file, trains its Net by its RECIPE with the whole data set in the device's memory, and
leaves a folder with metrics, plots and weights. The loop is train(); main() is the way in."""

import argparse
import contextlib
import copy
import importlib.util
import json
import math
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
import torchsummary
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

import utils
from utils import UserError

COUNT = ("an integer >= 1", lambda value: type(value) is int and value >= 1)
NAMED = ("dict(name=..., ...)", lambda value: isinstance(value, dict) and "name" in value)
CHECKED = dict(epochs=COUNT, batch_size=COUNT, optimizer=NAMED, scheduler=NAMED,
               augment=("a dict of numbers", lambda value: isinstance(value, dict) and all(
                   type(strength) in (int, float) for strength in value.values())),
               deskew=("True or False", lambda value: type(value) is bool),
               label_smoothing=("a number from 0 to below 1", lambda value:
                                type(value) in (int, float) and 0 <= value < 1))
SCHEDULERS = {each.__name__: each for each in (OneCycleLR, ReduceLROnPlateau, StepLR)}
OPTIONAL = dict(augment={}, deskew=False, label_smoothing=0.0, average=0.0)  # when left out


# ---- the model file ----------------------------------------------------------------------------
def load_model_file(name):
    """(path, Net, RECIPE) of `name`: "1", "2" or "3" for modelN.py beside this file, or any path.
    Fills in RECIPE's optional keys. Raises UserError (status 2) naming the file and the fault."""
    path = utils.HERE / f"model{name}.py" if name in ("1", "2", "3") else Path(name)
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"--model {name}: no such model; expected 1, 2, 3 or the path of a .py", 2)
    spec = importlib.util.spec_from_file_location("a model file", path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)  # as dataclasses want
    try:
        spec.loader.exec_module(module)
        recipe = json.loads(json.dumps(getattr(module, "RECIPE", None)))  # plain values alone
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: reading it raised {describe(error, path)}", 2) from None
    if not isinstance(recipe, dict) or not isinstance(getattr(module, "Net", None), type):
        raise UserError(f"{path} has no {'Net' if isinstance(recipe, dict) else 'RECIPE'}; a model "
                        "file defines a dict RECIPE and a class Net(nn.Module), like model3.py", 2)
    recipe = OPTIONAL | recipe
    problems = [f"unknown key {key!r}; known: {', '.join(CHECKED | OPTIONAL)}"
                for key in recipe if key not in CHECKED | OPTIONAL]
    problems += [f"{key!r} is {recipe.get(key, 'missing')!r}, expected {expected}"
                 for key, (expected, fits) in CHECKED.items() if not fits(recipe.get(key))]
    if problems:
        raise UserError(f"{path}: RECIPE: {'; '.join(problems)}", 2)
    return path, module.Net, recipe


def rehearse(path, net_class, recipe, batch_size):
    """Raise UserError (status 2) if one training step on noise fails. Keeps the random state."""
    noise, judged = ((torch.randint(256, (n, 28, 28), dtype=torch.uint8), torch.arange(n) % 10)
                     for n in (batch_size, 500))
    with torch.random.fork_rng(devices=[]):
        try:
            net = net_class()
            sum(p.numel() for p in net.parameters())  # a lazy layer has no number yet
            shape, expected = net(torch.zeros(batch_size, 1, 28, 28)).shape, (batch_size, 10)
            if shape != expected:
                raise ValueError(f"Net maps images to {tuple(shape)}, expected {expected}")
            train(net, recipe | dict(epochs=1), 0, noise, judged)
        except (Exception, SystemExit) as error:
            raise UserError(f"{path}: a training step on {batch_size} images of noise raised "
                            f"{describe(error, path)}", 2) from None


def describe(error, path):
    """An exception on one line: its kind, its message, and the line of `path` it came from."""
    lines = [f" (line {frame.lineno})" for frame in traceback.extract_tb(error.__traceback__)
             if frame.filename == str(path.resolve())]
    return f"{type(error).__name__}: {' '.join(str(error).split())}{(lines or [''])[-1]}"


# ---- training ----------------------------------------------------------------------------------
def make_optimizer(net, recipe, steps_per_epoch):
    """(optimizer, scheduler) of a recipe. OneCycleLR steps once a batch, the others an epoch."""
    kwargs, schedule = dict(recipe["optimizer"]), dict(recipe["scheduler"])
    make, kind = getattr(torch.optim, kwargs.pop("name")), schedule.pop("name")
    if kind == "OneCycleLR" and "lr" in kwargs:
        raise ValueError("OneCycleLR sets the rate from max_lr: leave out the optimizer's lr")
    if not 0 < (kwargs | schedule).get("max_lr", kwargs.get("lr", 1)) < math.inf:
        raise ValueError("the learning rate is not above 0")
    optimizer = make(net.parameters(), **kwargs)
    if kind not in SCHEDULERS:
        raise ValueError(f"scheduler {kind!r}, expected one of {', '.join(SCHEDULERS)}")
    if kind == "OneCycleLR":
        total = schedule["total_steps"] = recipe["epochs"] * steps_per_epoch
        if total * schedule.get("pct_start", 0) == 1:  # a rise of no steps: torch divides by zero
            schedule["pct_start"] += 1e-9
    return optimizer, SCHEDULERS[kind](optimizer, **schedule)


def moving_average(net, decay):
    """(average, update): a copy of `net`, and a function of the number of steps before, to be
    called after each, that moves its weights and BatchNorm statistics towards the net's.

    0 <= decay < 1, but at first the smaller (1 + step) / (10 + step), TensorFlow's rule, so that
    the random start is soon forgotten. Faster than torch's AveragedModel."""
    if not 0 <= decay < 1:
        raise ValueError(f"average is {decay}, expected a decay from 0 to below 1")
    average = copy.deepcopy(net)
    averages, values = ([tensor for tensor in each.state_dict().values()
                         if tensor.is_floating_point()] for each in (average, net))

    def update(step):
        get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))(averages, values, None)
    return average, update


def train(net, recipe, seed, train_set, test_set, judged="test", state=None, after_epoch=None,
          progress=False):
    """Train `net` in place: the loop of this repository.

    train_set, test_set: (images (N, 28, 28) uint8, labels (N,) int64) on the net's device. judged:
    "test" or "val", what the log calls test_set. after_epoch: called with the state after every
    epoch. state: such a state, to go on from there. Returns the net to use (the weights' average),
    the rows of metrics.csv and the rate of each step. Raises UserError if the loss diverges."""
    n, batch_size, device = len(train_set[0]), recipe["batch_size"], train_set[0].device
    steps = math.ceil(n / batch_size)
    check_every = 1 if device.type == "cpu" else 100  # steps: reading a loss stalls a GPU

    # 1. Whatever a step changes is one of these or a random state, and goes into the checkpoint.
    optimizer, scheduler = make_optimizer(net, recipe, steps)
    average, update_average = moving_average(net, recipe["average"])
    parts = dict(net=net, average=average, optimizer=optimizer, scheduler=scheduler)
    generator = torch.Generator().manual_seed(seed)  # for batches() alone
    rows, rates = (list(state["rows"]), state["rates"].tolist()) if state else ([], [])
    if state:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["rng"])

    for epoch in range(len(rows) + 1, recipe["epochs"] + 1):
        began = time.perf_counter()
        net.train()
        losses = torch.zeros(steps, device=device)  # stay on the device until the epoch is over
        correct = torch.zeros((), dtype=torch.long, device=device)
        bar = tqdm(utils.batches(*train_set, batch_size, generator, recipe["augment"]),
                   desc=f"Epoch {epoch:2d}/{recipe['epochs']}", total=steps, leave=False,
                   disable=None if progress else True)  # None: only where there is a terminal
        for step, (images, labels) in enumerate(bar):
            # 2. Forward.
            logits = net(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe["label_smoothing"])
            losses[step] = loss.detach() * len(labels)  # the last batch may be smaller
            correct += (logits.argmax(dim=1) == labels).sum()
            if step % check_every == 0 or step == steps - 1:
                stop_unless_finite(losses[:step + 1], epoch)
            # 3. Backward and update.
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            update_average(step=len(rates))
            rates.append(optimizer.param_groups[0]["lr"])
            if isinstance(scheduler, OneCycleLR):
                scheduler.step()
        # 4. The epoch's figures.
        train_loss = losses.cpu().double().sum().item() / n
        test_loss, test_acc, _ = utils.evaluate(average, *test_set)
        stop_unless_finite(torch.tensor([test_loss]), epoch, last_step=steps)
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(train_loss)  # never the test set, nor held-out images
        elif isinstance(scheduler, StepLR):
            scheduler.step()
        rows.append({"epoch": epoch, "train_loss": round(train_loss, 6),
                     "train_acc": round(100 * correct.item() / n, 4),
                     f"{judged}_loss": round(test_loss, 6), f"{judged}_acc": round(test_acc, 4),
                     "lr": rates[-1], "seconds": round(time.perf_counter() - began, 2)})
        if after_epoch:
            after_epoch({name: part.state_dict() for name, part in parts.items()} | dict(
                generator=generator.get_state(), rng=torch.get_rng_state(), rows=rows,
                rates=torch.tensor(rates, dtype=torch.double)))
    return average, rows, rates


def stop_unless_finite(losses, epoch, last_step=None):
    """Raise UserError naming the first step whose loss is NaN or infinite."""
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise UserError(f"the loss is {losses[bad[0]].item()} in epoch {epoch}, step "
                        f"{last_step or bad[0] + 1}; earlier epochs are kept. Try a lower --lr.")


# ---- a run and what it leaves ------------------------------------------------------------------
def run(args, path, net_class, recipe, identity, train_set, test_set, folder, state):
    """Train args.seed and leave everything in `folder`."""
    device, judged = train_set[0].device, "val" if args.holdout else "test"
    torch.manual_seed(args.seed)
    net = net_class().to(device, memory_format=torch.channels_last)  # pools and BatchNorms faster
    size = sum(p.numel() for p in net.parameters())
    title = f"{'NOT MNIST: ' * args.dry_run}{path.stem}, {size:,} parameters, seed {args.seed}"
    if not state:
        try:  # a copy, in eval mode, on the CPU: the summary runs it on noise and knows no MPS
            with torch.random.fork_rng(devices=[]):
                torchsummary.summary(copy.deepcopy(net).cpu().eval(), (1, 28, 28), device="cpu")
        except Exception as error:
            print(f"warning: no layer table: {type(error).__name__}: {error}", file=sys.stderr)
        utils.write(folder / "args.json", json.dumps(dict(
            model=path.name, parameters=size, seed=args.seed, holdout=args.holdout,
            data="rendered digits, NOT MNIST" if args.dry_run else "MNIST", recipe=recipe,
            device=describe_device(device), threads=torch.get_num_threads(),
            python=platform.python_version(), torch=torch.__version__,
            started=time.strftime("%Y-%m-%d %H:%M")), indent=2) + "\n")

    def after_epoch(state):
        model = args.model if args.model in ("1", "2", "3") else str(path.resolve())
        utils.save(folder / "last.pt", state | dict(identity=identity, args=vars(args) | dict(
            model=model, device=device.type, out=None, runs=1, no_progress=False)))
        utils.write_csv(folder / "metrics.csv", state["rows"])
        epoch, train_loss, train_acc, loss, acc, lr, seconds = state["rows"][-1].values()
        print(f"Epoch {epoch:2d}/{recipe['epochs']} | Train Loss: {train_loss:.4f} | Train Acc: "
              f"{train_acc:.2f}% | {judged.title()} Loss: {loss:.4f} | {judged.title()} Acc: "
              f"{acc:.2f}% | LR: {lr:.6f} | {seconds:.1f}s", flush=True)

    net, rows, rates = train(net, recipe, args.seed, train_set, test_set, judged, state,
                             after_epoch, progress=not args.no_progress)
    predictions = utils.evaluate(net, *test_set)[2].cpu()
    images, labels = (part.cpu() for part in test_set)
    utils.save(folder / "model.pt", {key: value.cpu() for key, value in net.state_dict().items()})
    utils.write_csv(folder / "metrics.csv", rows)  # a kill may have come before after_epoch's
    utils.write_csv(folder / "learning_rate.csv",
                    [dict(step=i, lr=f"{rate:.6g}") for i, rate in enumerate(rates, 1)])
    wrong = (predictions != labels).nonzero().flatten().tolist()
    utils.write(folder / "mistakes.csv", "index,label,prediction\n" + "".join(
        f"{i},{labels[i]},{predictions[i]}\n" for i in wrong))
    try:
        figures = utils.curves(rows, rates, title) | {
            "mistakes.png": utils.mistakes(images, labels, predictions, title)}
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=110)
    except Exception as error:  # a run is worth more than its plots
        print(f"warning: no plots: {type(error).__name__}: {error}", file=sys.stderr)

    train_acc, test_acc = ([row[f"{part}_acc"] for row in rows] for part in ("train", judged))
    met = min(test_acc[-5:]) >= utils.TARGET and 5 <= len(rows) <= 15 and size < utils.BUDGET
    print(f"\nParameters: {size:,} (budget: fewer than {utils.BUDGET:,})\n"
          f"Time: {sum(row['seconds'] for row in rows):.1f} s for {len(rows)} epochs\n"
          f"Train accuracy: final {train_acc[-1]:.2f}%, best {max(train_acc):.2f}%\n"
          f"{judged.title()} accuracy: final {test_acc[-1]:.2f}%, best {max(test_acc):.2f}%, "
          f"lowest of the last {len(test_acc[-5:])} epochs {min(test_acc[-5:]):.2f}%")
    print("DRY RUN, NOT MNIST: the installation works; the accuracies mean nothing" if args.dry_run
          else f"Target (at least {utils.TARGET}% in each of the last five of at most 15 epochs, "
          f"within budget): {'not ' * (not met)}met", f"Written: {folder}", sep="\n", flush=True)


def run_seeds(args, argv, device):
    """--runs: each seed in its own process, on the CPU one a core. Returns the exit status."""
    cores, env = (os.cpu_count(), dict(OMP_NUM_THREADS="1")) if device.type == "cpu" else (1, {})
    print(f"{args.runs} runs, at most {cores} at a time; each logs when it is done", flush=True)

    def train_seed(seed):
        return subprocess.run(
            [sys.executable, __file__, *argv, f"--seed={seed}", "--runs=1", "--no-progress"],
            stdout=subprocess.PIPE, text=True, env=os.environ | env)

    results = []
    with ThreadPoolExecutor(cores) as pool:
        # After an error or Ctrl-C, map() cancels the seeds that have not begun.
        for done in pool.map(train_seed, range(args.seed, args.seed + args.runs)):
            print(done.stdout, flush=True)
            if done.returncode:
                return done.returncode
            final = re.search(r"final (\S+)%, best \S+%, lowest .* (\S+)%", done.stdout)
            results.append([float(value) for value in final.groups()])
    last, lowest = zip(*results)
    print(f"{args.runs} runs, accuracy in the last epoch: {statistics.mean(last):.3f} ± "
          f"{statistics.stdev(last):.3f}% (mean ± standard deviation), minimum {min(last):.2f}%\n"
          f"At least {utils.TARGET}% in each of the last five epochs: "
          f"{sum(low >= utils.TARGET for low in lowest)} of {args.runs} runs")
    return 0


def describe_device(device):
    """Its kind, its name and the number of CPU cores, for people."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} ({name}, {os.cpu_count()} cores)"


def new_folder(args, model):
    """Make runs/MODEL/seedS, or the first of seedS-2, seedS-3, ... that does not exist."""
    name, count = f"{'dry-run-' * args.dry_run}seed{args.seed}", 1
    folder = Path(args.out or f"runs/{model}") / name
    while folder.exists():
        folder = folder.with_name(f"{name}-{(count := count + 1)}")
    folder.mkdir(parents=True)
    return folder


# ---- command line ------------------------------------------------------------------------------
def number(kind, low, high):
    """An argparse type: an int or a float from low to high."""
    def parse(text):
        with contextlib.suppress(ValueError):
            if low <= kind(text) <= high:
                return kind(text)
        name = "an integer" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {name} from {low} to {high}")
    return parse


def parse_arguments(argv=None, saved=None):
    """The command line; what it leaves open comes from `saved` (--resume) or from the defaults."""
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__.partition(":")[0])
    arg = parser.add_argument
    arg("--model", default="3", metavar="{1,2,3,PATH}",
        help="model1.py, model2.py, model3.py, or the path of any model file (default: 3)")
    arg("--epochs", type=number(int, 1, 10000), metavar="N", help="(default: the recipe's)")
    arg("--batch-size", type=number(int, 1, 60000), metavar="N", help="(default: the recipe's)")
    arg("--lr", type=number(float, 1e-6, 100), metavar="RATE",
        help="learning rate: OneCycleLR's peak, the others' start (default: the recipe's)")
    arg("--seed", type=number(int, 0, 2**32 - 1), default=0, metavar="S",
        help="decides the first weights, dropout, the images' order and augmentation (default: 0)")
    arg("--runs", type=number(int, 1, 1000), default=1, metavar="N",
        help="train N seeds from S on and close with mean and standard deviation (default: 1)")
    arg("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto",
        help="where to train; auto is the first there is of cuda, mps, cpu (default: auto)")
    arg("--data-dir", metavar="FOLDER", type=os.path.abspath,
        help="holds MNIST/raw/ (default: data/, else ../shared/mnist/, else downloaded to data/)")
    arg("--out", metavar="FOLDER", help="gets a folder seedS, or seedS-2 ... (default: runs/MODEL)")
    arg("--holdout", type=number(int, 0, 59999), default=0, metavar="N",
        help="judge by the last N training images, train on the others: for choices (default: 0)")
    arg("--resume", metavar="FOLDER", help="continue the run that is in FOLDER (default: off)")
    arg("--dry-run", action="store_true",
        help="2 epochs on rendered digits, NOT MNIST: needs no data and no network (default: off)")
    arg("--no-progress", action="store_true", help="no progress bar (default: in a terminal, one)")
    args = parser.parse_args(argv, argparse.Namespace(**(saved or {})))
    if args.resume and (args.out or args.runs > 1):
        parser.error("--out and --runs do not go with --resume, which continues one run in place")
    return args


def load_data(args):
    """[images, labels] to train on and [images, labels] to judge by, uint8 and int64."""
    if args.dry_run:
        print("*** DRY RUN on digits rendered on the fly, NOT MNIST ***")
        return utils.rendered_digits(2000, seed=0), utils.rendered_digits(500, seed=1)
    root = utils.find_mnist(args.data_dir)
    train_set = utils.load_mnist(root, train=True)
    if args.holdout:
        return zip(*(part.split([60000 - args.holdout, args.holdout]) for part in train_set))
    return train_set, utils.load_mnist(root, train=False)


def main(argv=None):
    """Returns the exit status: 0, 1 (data, files, run), 2 (arguments, model file), 130 (Ctrl-C)."""
    args, state, folder = parse_arguments(argv), None, None
    try:
        # 1. Whatever is wrong with the arguments, the checkpoint or the model file shows here.
        if args.resume is not None:
            folder = Path(args.resume)
            state = utils.load(folder / "last.pt")
            if not isinstance(state, dict) or not {"identity", "args"} <= state.keys():
                raise UserError(f"{folder / 'last.pt'} is not a checkpoint of train.py")
            args = parse_arguments(argv, state["args"])
        path, net_class, recipe = load_model_file(args.model)
        recipe["epochs"] = args.epochs or (2 if args.dry_run else recipe["epochs"])
        recipe["batch_size"] = args.batch_size or recipe["batch_size"]
        part, rate = (("scheduler", "max_lr") if recipe["scheduler"]["name"] == "OneCycleLR" else
                      ("optimizer", "lr"))
        recipe[part] |= {rate: args.lr} if args.lr else {}
        n = 2000 if args.dry_run else 60000 - args.holdout
        if recipe["batch_size"] > n:
            raise UserError(f"--batch-size {recipe['batch_size']}: expected at most {n}", 2)
        rehearse(path, net_class, recipe, n % recipe["batch_size"] or recipe["batch_size"])
        identity = recipe | {key: getattr(args, key) for key in ("seed", "holdout", "dry_run")}
        identity["model file"] = path.read_text("utf-8", "replace")  # what a resumed run must share
        differ = [key for key in identity if state and identity[key] != state["identity"].get(key)]
        if differ:
            raise UserError(f"{folder / 'last.pt'} comes from a run with another "
                            f"{', '.join(differ)} than {path} and the command line give now")
        device = utils.pick_device(args.device)
        utils.keep_memory()
        print(f"Device: {describe_device(device)}, torch {torch.__version__}, threads: "
              f"{torch.get_num_threads()}", flush=True)
        # 2. The whole data set goes into the device's memory. Then the run, in a folder of its own.
        train_set, test_set = ([part.to(device) for part in each] for each in load_data(args))
        for each in (train_set, test_set):
            each[0] = utils.deskew(each[0]) if recipe["deskew"] else each[0]
        if args.runs > 1:  # each loads the data again, but what is wrong with it is said once
            return run_seeds(args, sys.argv[1:] if argv is None else argv, device)
        folder = folder or new_folder(args, path.stem)
        run(args, path, net_class, recipe, identity, train_set, test_set, folder, state)
        return 0
    except (UserError, OSError) as error:  # OSError: no right to write, disk full, ...
        reason = f"{error.filename}: {error.strerror}" if getattr(error, "filename", 0) else error
        print(f"train.py: error: {reason}", file=sys.stderr)
        return getattr(error, "status", 1)
    except KeyboardInterrupt:
        if args.runs == 1:  # else each run says this for itself
            saved = folder and (folder / "last.pt").exists()
            print("\nInterrupted. " + ("The last finished epoch is saved; continue with:\n  python "
                  f"train.py --resume {shlex.quote(str(folder))}" if saved else
                  "No epoch was finished, so there is nothing to resume."), file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal that knows no ± stops no run
    sys.exit(main())
