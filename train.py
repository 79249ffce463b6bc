"""Train one of the models on MNIST: python train.py --model 3

Reads a model file, trains its Net by its RECIPE with the whole data set in the device's memory, and
leaves a folder with metrics, plots and weights. The loop is train(); main() is the way in."""

import argparse
import ast
import json
import math
import platform
import runpy
import signal
import statistics
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import torchsummary
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
from tqdm import tqdm

import utils
from utils import UserError, describe, warn


# ---- the loop ----------------------------------------------------------------------------------
def train(state, recipe, train_set, test_set, part="test"):
    """Train state.net, epoch by epoch; after each, yield its row of metrics.csv.

    state: what start() makes. train_set, test_set: (images (N, 28, 28) uint8, labels (N,) int64),
    prepared, on the net's device. part: "test", or "val" where test_set is held-out training
    images; the columns are named after it."""
    net, optimizer, scheduler = state.net, state.optimizer, state.scheduler
    epochs, batch_size, n = recipe["epochs"], recipe["batch_size"], len(train_set[0])

    for epoch in range(len(state.rows) + 1, epochs + 1):  # a resumed run has rows already
        began = time.perf_counter()
        losses, correct = [], []  # tensors: .item() would make every step wait for the GPU
        augment = recipe["augment"] if epoch <= epochs - recipe["plain_epochs"] else {}
        net.train()

        for images, labels in utils.batches(*train_set, batch_size, state.generator, augment):
            logits = net(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe["label_smoothing"])

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            losses.append(loss.detach() * len(labels))  # a sum: the last batch may be smaller
            correct.append((logits.argmax(dim=1) == labels).sum())
            state.rates.append(float(optimizer.param_groups[0]["lr"]))  # to be reported
            update_average(state, recipe["average"])
            if isinstance(scheduler, OneCycleLR):  # its length is counted in batches
                scheduler.step()

        # What is judged is the moving average of the weights; with a decay of 0, the weights.
        test_loss, test_acc, _ = utils.evaluate(state.average, *test_set)
        train_loss = torch.stack(losses).cpu().double().sum().item() / n  # MPS has no doubles
        row = {
            "epoch": epoch, "train_loss": round(train_loss, 6),
            "train_acc": round(100 * torch.stack(correct).sum().item() / n, 4),
            f"{part}_loss": round(test_loss, 6), f"{part}_acc": round(test_acc, 4),
            "lr": state.rates[-1], "seconds": round(time.perf_counter() - began, 2)}
        state.rows.append(row)

        if isinstance(scheduler, ReduceLROnPlateau):  # watches the training loss, never the test's
            scheduler.step(row["train_loss"])
        elif not isinstance(scheduler, OneCycleLR):
            scheduler.step()
        yield row


@torch.no_grad()
def update_average(state, decay):
    """Move the average's weights and BatchNorm statistics towards the net's, once a step. The decay
    is at most steps / (9 + steps), TensorFlow's rule, so that the random start is soon gone."""
    steps = len(state.rates)
    share = 1 - min(decay, steps / (9 + steps))
    for average, value in state.pairs:
        if value.is_floating_point():
            average.lerp_(value, share)
        else:
            average.copy_(value)  # BatchNorm's counters


# ---- the model file ----------------------------------------------------------------------------
DEFAULTS = dict(augment={}, plain_epochs=0, deskew=False, upright=False, label_smoothing=0.0,
                average=0.0)  # of what a RECIPE may leave out
KEYS = ("epochs", "batch_size", "optimizer", "scheduler", *DEFAULTS)
LIMITS = {  # least and most; a value has their type or is an int
    "epochs": (1, 10_000), "batch_size": (1, 60_000), "plain_epochs": (0, 10_000),
    "deskew": (False, True), "upright": (False, True),
    "label_smoothing": (0.0, 1.0), "average": (0.0, 1.0),
    "optimizer.lr": (1e-9, 1e3), "scheduler.max_lr": (1e-9, 1e3),
    "scheduler.pct_start": (0.0, 0.99),  # torch divides by zero in the last step of 1.0
    "scheduler.gamma": (1e-9, 1e3), "scheduler.step_size": (1, 10_000),
    "scheduler.patience": (0, 10_000),
}
LIMITS |= {f"augment.{name}": (0.0, most) for name, most in utils.AUGMENTATIONS.items()}
SCHEDULERS = dict(OneCycleLR=OneCycleLR, ReduceLROnPlateau=ReduceLROnPlateau, StepLR=StepLR,
                  ByEpoch=utils.ByEpoch)
RATES = dict(OneCycleLR="scheduler.max_lr", ByEpoch="scheduler.rates")  # others: optimizer.lr


def load_model_file(name, flag="--model"):
    """(path, Net, RECIPE) of `name`: "1", "2" or "3" for modelN.py beside this file, or any path.
    RECIPE has its optional keys filled in. Raises UserError (status 2) naming file and fault."""
    path = utils.HERE / f"model{name}.py" if name in ("1", "2", "3") else Path(name)
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"{flag} {name}: no such model; expected 1, 2, 3 or the path of a .py", 2)
    try:
        module = runpy.run_path(str(path), run_name="a model file")
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: reading it raised {describe(error)}", 2) from error
    for part, kind in (("Net", type), ("RECIPE", dict)):
        if not isinstance(module.get(part), kind):
            raise UserError(f"{path} has no {part}; a model file defines a dict RECIPE and a class "
                            "Net(nn.Module), like model3.py", 2)
    return path, module["Net"], check_recipe(module["RECIPE"], path)


def check_recipe(recipe, source):
    """A copy of `recipe` with its optional keys filled in. Raises UserError (status 2) with where
    it comes from and the first of its faults."""
    recipe = json.loads(json.dumps(DEFAULTS | recipe, default=float))  # NumPy's numbers, too
    fault = next(faults(recipe), None)
    if fault:
        raise UserError(f"{source}: RECIPE: {fault}", 2)
    return recipe


def faults(recipe):
    """Yield what is wrong with a recipe. Each check relies on those before it."""
    for key in (*recipe, *KEYS):
        if key not in KEYS:
            yield f"{key!r} is no key of a RECIPE; its keys are {', '.join(KEYS)}"
        if key not in recipe:
            yield f"{key!r} is missing"
    values = list(recipe.items())
    optimizer, scheduler = recipe["optimizer"], recipe["scheduler"]
    steps = [("augment", step) for step in utils.steps_of(recipe["augment"])]
    for part, settings in (("optimizer", optimizer), ("scheduler", scheduler), *steps):
        if not isinstance(settings, dict):
            yield f"{part} is {settings!r}, expected a dict, as in model3.py"
        values += [(f"{part}.{key}", value) for key, value in settings.items()]
    for key, value in values:
        if key.startswith("augment.") and key not in LIMITS:
            yield f"{key} is unknown; augment may have {', '.join(utils.AUGMENTATIONS)}"
        if key in LIMITS:
            least, most = LIMITS[key]
            kind = type(least)
            if not isinstance(value, (int, kind)) or not least <= value <= most:
                yield f"{key} is {value!r}, expected {kind.__name__} from {least} to {most}"

    name = scheduler.get("name")
    if name not in SCHEDULERS:
        yield f"scheduler.name is {name!r}, expected any of {', '.join(SCHEDULERS)}"
    if name in RATES and "lr" in optimizer:
        yield f"{name} sets the rate: leave out the optimizer's lr"
    if scheduler.get("mode", "min") != "min":
        yield f"scheduler.mode is {scheduler['mode']!r}, expected 'min': it watches the loss"
    rates = scheduler.get("rates")
    enough = isinstance(rates, list) and len(rates) >= recipe["epochs"]
    if name == "ByEpoch" and not enough:
        yield f"scheduler.rates: expected a list with a rate for each of {recipe['epochs']} epochs"
    if recipe["deskew"] and recipe["upright"]:
        yield "upright deskews, too: leave out deskew"

    part = "optimizer"
    try:  # torch alone knows what else these take
        probe = make_optimizer(torch.nn.Linear(1, 1), recipe)
        part = "scheduler"
        make_scheduler(probe, recipe, steps_per_epoch=10)
    except Exception as error:
        yield f"{part}: {describe(error)}"


def read_recipe(args):
    """(path, Net, recipe): the model file's, with what the command line changes in the recipe.
    Raises UserError (status 2)."""
    path, net_class, recipe = load_model_file(args.model)
    source = path
    if args.recipe:
        source, _, recipe = load_model_file(args.recipe, "--recipe")
    if args.dry_run:  # two epochs with augmentation, if the recipe has any, and those without
        recipe["epochs"] = min(recipe["epochs"], recipe["plain_epochs"] + 2)

    for setting in args.set:
        change(recipe, setting)
    source = " with ".join([str(source), *args.set])
    recipe = check_recipe(recipe, source)
    if args.lr is not None:  # the last, because its place depends on the scheduler
        place = RATES.get(recipe["scheduler"]["name"], "optimizer.lr")
        change(recipe, f"{place}={args.lr}")
        recipe = check_recipe(recipe, f"{source} with lr={args.lr}")
    return path, net_class, recipe


def change(recipe, setting):
    """Change an entry of a recipe, as --set KEY=VALUE does. What is no Python literal is text.
    Raises UserError (status 2)."""
    key, _, text = setting.partition("=")
    *outer, last = key.split(".")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    try:
        for name in outer:
            recipe = recipe[name]
        recipe[last] = value
    except (KeyError, TypeError):
        raise UserError(f"--set {setting}: {'.'.join(outer)} is no dict here", 2) from None


# ---- what the loop needs -----------------------------------------------------------------------
def make_net(net_class, device="cpu", layout=torch.contiguous_format):
    """A net on the device. Lazy layers get their shapes from an image; no other net sees it, so
    that none draws a random number here."""
    net = net_class()
    tensors = [*net.parameters(), *net.buffers()]
    if any(torch.nn.parameter.is_lazy(each) for each in tensors):
        net.eval()(torch.zeros(1, 1, 28, 28))
    return net.to(device, memory_format=layout)


def make_optimizer(net, recipe):
    """The optimizer of a recipe. Muon is utils.py's, because torch's takes matrices alone."""
    settings = dict(recipe["optimizer"])
    name = settings.pop("name")
    kind = utils.Muon if name == "Muon" else getattr(torch.optim, name)
    return kind(net.parameters(), **settings)


def make_scheduler(optimizer, recipe, steps_per_epoch):
    """The scheduler of a recipe. OneCycleLR is stepped once a batch, the others once an epoch."""
    settings = dict(recipe["scheduler"])
    kind = SCHEDULERS[settings.pop("name")]
    if kind is not OneCycleLR:
        return kind(optimizer, **settings)
    steps = recipe["epochs"] * steps_per_epoch
    if steps * settings.get("pct_start", 0.3) == 1:
        settings["pct_start"] += 1e-9  # of a single rising step torch makes a division by 0
    return OneCycleLR(optimizer, total_steps=steps, **settings)


def start(net_class, recipe, seed, steps_per_epoch, device="cpu", layout=torch.contiguous_format):
    """What training changes, as named parts: net, average (of its weights; what is judged), pairs
    (their tensors, side by side), optimizer, scheduler, generator (of random numbers, for batches()
    alone), rates (of every step so far) and rows (of metrics.csv)."""
    average = make_net(net_class, device, layout)
    torch.manual_seed(seed)
    net = make_net(net_class, device, layout)
    average.load_state_dict(net.state_dict())
    pairs = [*zip(average.parameters(), net.parameters()), *zip(average.buffers(), net.buffers())]
    optimizer = make_optimizer(net, recipe)
    return SimpleNamespace(
        net=net, average=average, pairs=pairs, optimizer=optimizer, rates=[], rows=[],
        scheduler=make_scheduler(optimizer, recipe, steps_per_epoch),
        generator=torch.Generator().manual_seed(seed))


def rehearse(path, net_class, recipe, device):
    """Train on noise, so that a fault of the net shows before anything else happens. Returns the
    memory layout in which the net works. Raises UserError (status 2) that names its file."""
    noise = torch.randint(256, (12, 28, 28), dtype=torch.uint8, device=device)
    digits = torch.arange(12, device=device) % 10
    recipe = recipe | dict(epochs=1, plain_epochs=0, batch_size=12)

    # channels_last is faster on a CPU, but nets that ask for views of their maps need the other. On
    # MPS it is slow or wrong: pytorch issues 193349 and 140902.
    layouts = [torch.channels_last] if device.type == "cpu" else []
    for layout in (*layouts, torch.contiguous_format):
        try:
            state = start(net_class, recipe, 0, 10, device, layout)
            logits = state.net(utils.normalise(noise.unsqueeze(1).float()))
            shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits)
            if shape != (12, 10):
                raise UserError(f"{path}: Net maps 12 images to {shape}, expected (12, 10)", 2)
            next(train(state, recipe, (noise, digits), (noise, digits)))
        except UserError:
            raise
        except Exception as error:
            failure = error  # of the last layout, if all fail
            continue
        if (logits >= 0).all() and (logits.sum(dim=1) - 1).abs().max() < 1e-4:
            warn(f"{path}: Net seems to end in a softmax; leave it out, cross-entropy wants logits")
        return layout
    raise UserError(f"{path}: training on noise raised {describe(failure)}", 2) from failure


# ---- checkpoints -------------------------------------------------------------------------------
PARTS = "net", "average", "optimizer", "scheduler"


def random_sources(device):
    """The modules whose random numbers a net may draw: torch's own, and those of a GPU."""
    return [torch] if device.type == "cpu" else [torch, getattr(torch, device.type)]


def checkpoint(state, settings, device):
    """What training goes on from, on the same CPU to the same bits. settings: those of the run."""
    states = {part: getattr(state, part).state_dict() for part in PARTS}
    random = [source.get_rng_state() for source in random_sources(device)]
    return states | dict(rows=state.rows, rates=state.rates, settings=settings, random=random,
                         generator=state.generator.get_state(), layers=str(state.net))


def resume(state, path, settings, device):
    """Bring `state`, fresh from start(), to where the checkpoint in a file was made. Raises
    UserError, naming what differs, unless that is of the same run and net."""
    saved, now = utils.load(path), checkpoint(state, settings, device)
    if not isinstance(saved, dict) or saved.keys() != now.keys():
        raise UserError(f"{path} is no checkpoint of this train.py; choose another --out")
    theirs, ours = (each["settings"]["recipe"] | each["settings"] | dict(net=each["layers"])
                    for each in (saved, now))
    differ = [key for key in ours.keys() - {"recipe", "device"} if ours[key] != theirs.get(key)]
    if differ:
        raise UserError(f"{path} comes from a run with another {', '.join(sorted(differ))} than "
                        "there is now; for a new run leave out --resume")
    for part in PARTS:
        getattr(state, part).load_state_dict(saved[part])
    state.rows, state.rates = saved["rows"], saved["rates"]
    state.generator.set_state(saved["generator"])
    for source, random in zip(random_sources(device), saved["random"]):
        source.set_rng_state(random)


# ---- what a run leaves -------------------------------------------------------------------------
def run_folder(args, path, resume):
    """The folder for args.seed: seedS, or seedS-2, seedS-3, ... if that is there; held-out and dry
    runs say so in its name. To resume, the last one that there is, if it can be gone on with."""
    kind = "dry-run-" if args.dry_run else "held-out-" if args.holdout else ""
    first = Path(args.out or f"runs/{path.stem}", f"{kind}seed{args.seed}")
    folder, last, number = first, None, 1
    while folder.is_dir() and any(folder.iterdir()):
        if (folder / "last.pt").exists() or not (folder / "metrics.csv").exists():
            last = folder
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return last if resume and last else folder


def count(net):
    """The number of parameters, shared ones once."""
    return sum(p.numel() for p in net.parameters())


def print_summary(net):
    """torchsummary's table of layers, if it can show this net."""
    try:
        torchsummary.summary(net, (1, 28, 28), device="cpu")
    except Exception as error:
        warn(f"no layer table: {describe(error)}")
    print(f"Parameters, shared ones counted once: {count(net):,}\n")


def keep_epoch(folder, state, settings, device):
    """Save and report the epoch that has just ended. Raises UserError if training diverged."""
    row, judged = state.rows[-1], settings["judged"]
    words = [f"Epoch {row['epoch']:2d}/{settings['recipe']['epochs']}"]
    for part in ("train", judged):
        loss, accuracy = row[f"{part}_loss"], row[f"{part}_acc"]
        if not math.isfinite(loss):
            raise UserError(f"{part}_loss is {loss} in epoch {row['epoch']}: training diverged. "
                            "Try a lower learning rate.")
        words += [f"{part.title()} Loss: {loss:.4f}", f"{part.title()} Acc: {accuracy:.2f}%"]
    words += [f"LR: {row['lr']:.5f}", f"{row['seconds']:.1f}s"]
    utils.save(folder / "last.pt", checkpoint(state, settings, device))
    utils.write(folder / "metrics.csv", utils.csv_text(state.rows), needed=False)
    print(" | ".join(words))


def leave_files(folder, state, settings, net, test_set, first):
    """Weights, tables and plots of a finished run. net: another of its class, on the CPU. first:
    the first judged image's number in MNIST."""
    net.load_state_dict(state.average.state_dict())
    utils.save(folder / "model.pt", net.state_dict())

    about = settings | dict(
        parameters=count(net), threads=torch.get_num_threads(), torch=torch.__version__,
        python=platform.python_version(), finished=time.strftime("%Y-%m-%d %H:%M"))
    _, _, predictions = utils.evaluate(state.average, *test_set)
    images, labels, predictions = (each.cpu() for each in (*test_set, predictions))
    wrong = [dict(index=first + i, label=labels[i].item(), prediction=predictions[i].item())
             for i in (predictions != labels).nonzero().flatten().tolist()]
    rates = [dict(step=step, lr=f"{rate:.6g}") for step, rate in enumerate(state.rates, 1)]
    files = {
        "args.json": json.dumps(about, indent=2) + "\n",
        "metrics.csv": utils.csv_text(state.rows),
        "learning_rate.csv": utils.csv_text(rates),
        "mistakes.csv": utils.csv_text(wrong, ["index", "label", "prediction"])}
    try:
        files["rf.md"] = utils.receptive_field_table(net)
    except Exception as error:  # a net that computes in halves, say
        warn(f"no rf.md: {describe(error)}")

    title = f"{settings['model']}, {count(net):,} parameters, seed {settings['seed']}"
    title += f"\n{settings['data']}"
    figures = utils.curves(state.rows, state.rates, title, settings["recipe"])
    figures["mistakes.png"] = utils.mistakes(images, labels, predictions, title, first)
    files |= {name: utils.png(figure) for name, figure in figures.items()}
    for name, data in files.items():
        utils.write(folder / name, data, needed=False)


def in_words(last):
    """The accuracies (%) of the last epochs in words."""
    return f"{last[-1]:.2f}% in the last epoch, at least {min(last):.2f}% in the last {len(last)}"


def closing_words(rows, settings, size, folder):
    """The figures of a finished run, and whether it met the target."""
    judged = settings["judged"]
    last = [row[f"{judged}_acc"] for row in rows[-5:]]
    in_bounds = 5 <= len(rows) <= 15 and size < utils.BUDGET
    verdict = "met" if in_bounds and min(last) >= utils.TARGET else "not met"
    if settings["data"] != "MNIST":
        verdict = f"not tried on {settings['data']}"
    if size >= utils.BUDGET:
        verdict += "; too many parameters"
    return f"""
Parameters: {size:,} (budget: fewer than {utils.BUDGET:,})
Time: {sum(row['seconds'] for row in rows):.1f} s for {len(rows)} epochs
Train accuracy: {rows[-1]['train_acc']:.2f}% in the last epoch
{judged.title()} accuracy: {in_words(last)}
Target (at least {utils.TARGET}% in each of the last five of at most 15 epochs, within budget): \
{verdict}
Written: {folder}"""


# ---- several seeds -----------------------------------------------------------------------------
def run_seeds(args, argv, path, device):
    """--runs: each seed is a process of its own; on the CPU as many at once as there are cores.
    Raises UserError if one fails, which ends the others."""
    command = [sys.executable, str(utils.HERE / "train.py"), *argv, "--runs=1"]
    commands = {seed: [*command, f"--seed={seed}"]
                for seed in range(args.seed, args.seed + args.runs)}
    at_once = utils.cores() if device.type == "cpu" else 1
    print(f"{args.runs} runs, at most {at_once} at a time")
    final, lowest = [], []
    for seed, status, said in utils.run_side_by_side(commands, at_once):
        if status:
            raise UserError(f"seed {seed} ended with status {status}: {said}\nWhat is finished is "
                            "kept; --resume goes on with it.", max(status, 1))  # -9: by signal 9
        if said:
            print(said, file=sys.stderr)
        args.seed = seed
        folder = run_folder(args, path, resume=True)
        rows = utils.load(folder / "last.pt")["rows"]
        last = [row["val_acc" if args.holdout else "test_acc"] for row in rows[-5:]]
        final.append(last[-1])
        lowest.append(min(last))
        print(f"seed {seed}: {in_words(last)}  ({len(final)} of {args.runs} runs done)")
    hold = sum(each >= utils.TARGET for each in lowest)
    print(f"""{len(final)} runs, accuracy in the last epoch: {statistics.mean(final):.3f} ± \
{statistics.stdev(final):.3f}% (mean ± standard deviation), minimum {min(final):.2f}%
At least {utils.TARGET}% in each of the last {len(last)} epochs: {hold} of {len(final)} runs
Written: {folder.parent}""")


# ---- command line ------------------------------------------------------------------------------
def parse_arguments(argv=None):
    """The command line as a namespace. Ends in argparse's SystemExit (status 2) for a wrong one."""
    parser = argparse.ArgumentParser("train.py", allow_abbrev=False)
    arg = parser.add_argument
    arg("--model", default="3", metavar="FILE", help="1, 2, 3 or a path (default: 3)")
    arg("--recipe", metavar="FILE", help="train by this file's RECIPE, not the model's own")
    arg("--set", action="append", default=[], metavar="KEY=VALUE",
        help="change any entry of RECIPE, as --set augment={}; the next two are short for it")
    arg("--epochs", action="append", dest="set", type="epochs={}".format, metavar="N")
    arg("--batch-size", action="append", dest="set", type="batch_size={}".format, metavar="N")
    arg("--lr", metavar="RATE", help="OneCycleLR's peak, else the first rate")
    arg("--seed", type=int, default=0, metavar="S", help="of random numbers (default: 0)")
    arg("--runs", type=int, default=1, metavar="N", help="train N seeds, from S on")
    arg("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"],
        help="auto (the default): the first of the others that there is")
    arg("--data-dir", metavar="FOLDER", help="holds MNIST/raw/ (default: data/, or a download)")
    arg("--out", metavar="FOLDER", help="gets a folder a seed (default: runs/MODEL)")
    arg("--holdout", type=int, default=0, metavar="N", help="judge by N training images instead")
    arg("--fold", type=int, metavar="K", help="hold out the K-th N from 0 on (default: the last)")
    arg("--resume", action="store_true", help="go on where this command was stopped")
    arg("--dry-run", action="store_true", help="a few epochs on rendered digits, NOT MNIST")
    args = parser.parse_args(argv)
    if args.holdout not in range(60000) or args.runs < 1 or (args.dry_run and args.holdout):
        parser.error("expected --runs N from 1 on, --holdout N up to 59999 and not with --dry-run")
    folds = 60000 // args.holdout if args.holdout else 0
    if args.fold is not None and args.fold not in range(folds):
        parser.error(f"--fold {args.fold}: with --holdout {args.holdout} there are {folds} folds")
    return args


def load_data(args, recipe, device):
    """(training set, judged set, what that is, its first image's number in MNIST). A set is images
    and labels on the device, prepared as the recipe asks. --holdout never opens the test set."""
    data, first = "MNIST", 0
    if args.dry_run:
        data = "rendered digits, NOT MNIST"
        sets = utils.rendered_digits(4000, seed=0), utils.rendered_digits(500, seed=1)
    elif args.holdout:
        images, labels = utils.load_mnist(utils.find_mnist(args.data_dir), train=True)
        first = 60000 - args.holdout if args.fold is None else args.fold * args.holdout
        data = f"training images {first} to {first + args.holdout - 1}, held out"
        held_out = torch.zeros(60000, dtype=torch.bool)
        held_out[first:first + args.holdout] = True
        sets = [(images[part], labels[part]) for part in (~held_out, held_out)]
    else:
        root = utils.find_mnist(args.data_dir)
        sets = [utils.load_mnist(root, train) for train in (True, False)]
    train_set, judged_set = ((utils.prepare(images.to(device), recipe), labels.to(device))
                             for images, labels in sets)
    return train_set, judged_set, data, first


def main(argv=None):
    """Returns the exit status: 0, 1 (data, files, run), 2 (arguments, model file), 130 (Ctrl-C)."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_arguments(argv)
    utils.print_anything()
    try:
        path, net_class, recipe = read_recipe(args)
        device = utils.pick_device(args.device)
        utils.keep_memory()
        machine = f"{device.type} ({platform.machine()}, {utils.cores()} cores)"
        print(f"Device: {machine}, torch {torch.__version__}, threads: {torch.get_num_threads()}")
        layout = rehearse(path, net_class, recipe, device)
        train_set, test_set, data, first = load_data(args, recipe, device)
        augmented = max(0, recipe["epochs"] - recipe["plain_epochs"]) if recipe["augment"] else 0
        print(f"Data: {data}; augmented in {augmented} of {recipe['epochs']} epochs")
        if args.runs > 1:  # each seed loads the data itself; above, its faults are said once
            run_seeds(args, argv, path, device)
            return 0

        judged = "val" if args.holdout else "test"
        settings = dict(model=path.name, seed=args.seed, holdout=args.holdout, fold=args.fold,
                        data=data, judged=judged, device=machine, recipe=recipe)
        folder = run_folder(args, path, args.resume)
        folder.mkdir(parents=True, exist_ok=True)
        last = folder / "last.pt"
        if not last.exists():  # from now on the folder is taken
            utils.write(folder / "args.json", json.dumps(settings, indent=2))
        print_summary(make_net(net_class))
        steps_per_epoch = math.ceil(len(train_set[0]) / recipe["batch_size"])
        state = start(net_class, recipe, args.seed, steps_per_epoch, device, layout)
        if last.exists():
            resume(state, last, settings, device)
        print(f"{folder}: {len(state.rows)} of {recipe['epochs']} epochs are there")

        bar = tqdm(total=recipe["epochs"] * steps_per_epoch, initial=len(state.rates), unit="step",
                   leave=False, disable=None)  # None: unless in a terminal
        state.optimizer.register_step_post_hook(lambda *_: bar.update())
        with bar:
            for _ in train(state, recipe, train_set, test_set, judged):
                with bar.external_write_mode():  # the bar steps aside
                    keep_epoch(folder, state, settings, device)
        leave_files(folder, state, settings, make_net(net_class), test_set, first)
        print(closing_words(state.rows, settings, count(state.net), folder))
        return 0
    except (UserError, OSError) as error:  # OSError: no right to write, say
        if error.__cause__:
            traceback.print_exception(error.__cause__)
        print(f"train.py: error: {error}", file=sys.stderr)
        return getattr(error, "status", 1)
    except KeyboardInterrupt:
        print("train.py: interrupted; add --resume to the same command to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be ended is to be interrupted
    sys.exit(main())
