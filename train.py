"""Train one of the models on MNIST: python train.py --model 3

Reads a model file, trains its Net by its RECIPE with the whole data set in the device's memory, and
leaves a folder with metrics, plots and weights. The loop is train(); main() is the way in."""

import argparse
import ast
import contextlib
import copy
import csv
import importlib.util
import io
import json
import math
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace

try:
    import numpy
    import torch
    import torch.nn.functional as F
    import torchsummary
    from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
    from torch.optim.swa_utils import get_ema_multi_avg_fn
    from tqdm import tqdm

    import utils
    from utils import UserError, say, warn
except KeyboardInterrupt:  # these imports take seconds
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)


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
            state.steps += 1
            state.update_average(state.steps)  # the average follows faster in the first steps

            losses.append(loss.detach() * len(labels))  # a sum: the last batch may be smaller
            correct.append((logits.argmax(dim=1) == labels).sum())
            state.rates.append(float(optimizer.param_groups[0]["lr"]))  # to be reported
            step_after_batch(scheduler)  # only OneCycleLR steps here

        train_loss, train_acc = total(losses) / n, 100 * total(correct) / n

        # What is judged is the moving average of the weights; with a decay of 0, the weights.
        test_loss, test_acc, _ = utils.evaluate(state.average, *test_set)
        row = {
            "epoch": epoch, "train_loss": round(train_loss, 6), "train_acc": round(train_acc, 4),
            f"{part}_loss": round(test_loss, 6), f"{part}_acc": round(test_acc, 4),
            "lr": state.rates[-1], "seconds": round(time.perf_counter() - began, 2)}
        step_after_epoch(scheduler, row["train_loss"])  # rounded: --resume replays it from the row
        state.rows.append(row)
        yield row


def total(scalars):
    """The sum of a list of one-number tensors; on the CPU, because MPS has no doubles."""
    return torch.stack(scalars).cpu().double().sum().item()


def step_after_batch(scheduler):
    """Step OneCycleLR, whose length is counted in batches. The others step after an epoch."""
    if isinstance(scheduler, OneCycleLR):
        scheduler.step()


def step_after_epoch(scheduler, train_loss):
    """Step a scheduler that goes by epochs. ReduceLROnPlateau watches the training loss, never the
    test loss."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(train_loss)
    elif not isinstance(scheduler, OneCycleLR):
        scheduler.step()


# ---- the model file ----------------------------------------------------------------------------
def is_count(value):
    return type(value) is int and value >= 1


def is_number(value):
    return type(value) in (int, float) and abs(value) < math.inf


def is_rate(value):
    return is_number(value) and value > 0


def is_rates(value, epochs):
    return isinstance(value, list) and len(value) >= epochs and all(map(is_rate, value))


def is_share(value):
    return is_number(value) and 0 <= value < 1


def is_flag(value):
    return type(value) is bool


def is_named(value):
    return isinstance(value, dict) and isinstance(value.get("name"), str)


def is_step(value):
    return isinstance(value, dict) and all(
        is_flag(strength) if name == "nearest" else is_number(strength)
        for name, strength in value.items())


def is_augment(value):
    return all(map(is_step, value if isinstance(value, list) else [value]))


RECIPE_KEYS = dict(  # what a value has to be
    epochs=(is_count, "an integer of at least 1"),
    batch_size=(is_count, "an integer of at least 1"),
    optimizer=(is_named, "dict(name=..., ...)"),
    scheduler=(is_named, "dict(name=..., ...)"),
    augment=(is_augment, "a dict of numbers (and nearest=True), or a list of such dicts"),
    plain_epochs=(lambda value: type(value) is int and value >= 0, "an integer of at least 0"),
    deskew=(is_flag, "True or False"),
    upright=(is_flag, "True or False"),
    label_smoothing=(is_share, "a number from 0 to below 1"),
    average=(is_share, "a number from 0 to below 1"),
)
DEFAULTS = dict(augment={}, plain_epochs=0, deskew=False, upright=False, label_smoothing=0.0,
                average=0.0)  # when left out
SCHEDULERS = {each.__name__: each
              for each in (OneCycleLR, ReduceLROnPlateau, StepLR, utils.ByEpoch)}


def load_model_file(name, flag="--model"):
    """(path, Net, RECIPE) of `name`: "1", "2" or "3" for modelN.py beside this file, or any path.
    RECIPE has its optional keys filled in. Raises UserError (status 2) naming file and fault."""
    path = utils.HERE / f"model{name}.py" if name in ("1", "2", "3") else Path(name)
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"{flag} {name}: no such model; expected 1, 2, 3 or the path of a .py", 2)
    spec = importlib.util.spec_from_file_location("a model file", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as dataclasses want
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: reading it raised {describe(error)}", 2) from error
    net_class, recipe = getattr(module, "Net", None), getattr(module, "RECIPE", None)
    has_net = isinstance(net_class, type) and issubclass(net_class, torch.nn.Module)
    if not isinstance(recipe, dict) or not has_net:
        missing = "Net(nn.Module)" if isinstance(recipe, dict) else "RECIPE"
        raise UserError(f"{path} has no {missing}; a model file defines a dict RECIPE and a class "
                        "Net(nn.Module), like model3.py", 2)
    return path, net_class, check_recipe(recipe, path)


def check_recipe(recipe, path):
    """A copy of `recipe` with its optional keys filled in. Raises UserError (status 2) naming the
    keys that are unknown, missing or wrong."""
    try:
        recipe = copy.deepcopy(DEFAULTS) | json.loads(json.dumps(recipe))  # plain values alone
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: RECIPE: {error}", 2) from None
    problems = [f"unknown key {key!r}; known: {', '.join(RECIPE_KEYS)}"
                for key in recipe if key not in RECIPE_KEYS]
    for key, (fits, expected) in RECIPE_KEYS.items():
        if not fits(recipe.get(key)):
            found = repr(recipe[key]) if key in recipe else "missing"
            problems.append(f"{key!r} is {found}, expected {expected}")
    if recipe["deskew"] is True and recipe["upright"] is True:
        problems.append("upright deskews, too: leave out deskew")
    if not problems:
        problems = [*check_schedule(recipe), *utils.check_augment(recipe["augment"])]
    if problems:
        raise UserError(f"{path}: RECIPE: {'; '.join(problems)}", 2)
    return recipe


def check_schedule(recipe):
    """Yield faults of optimizer and scheduler that torch misses, or reports without naming the
    key."""
    optimizer, scheduler = recipe["optimizer"], recipe["scheduler"]
    kind = scheduler["name"]
    if not isinstance(find_optimizer(optimizer["name"]), type):
        yield f"optimizer {optimizer['name']!r} is not in torch.optim"
    if kind not in SCHEDULERS:
        yield f"scheduler {kind!r}, expected one of {', '.join(SCHEDULERS)}"
    part, key = rate_of(recipe)
    if part == "scheduler" and "lr" in optimizer:
        yield f"{kind} sets the rate from {key}: leave out the optimizer's lr"
    rate = recipe[part].get(key)  # left out, it is torch's default, or torch complains
    if kind == "ByEpoch" and not is_rates(rate, recipe["epochs"]):
        yield (f"scheduler.rates is {rate!r}, expected a list with a number above 0 for each of "
               f"{recipe['epochs']} epochs")
    elif kind != "ByEpoch" and key in recipe[part] and not is_rate(rate):
        yield f"{part}.{key} is {rate!r}, expected a number above 0"
    if kind == "OneCycleLR":
        for key in ("div_factor", "final_div_factor"):
            if not is_rate(scheduler.get(key, 1)):
                yield f"scheduler.{key} is {scheduler[key]!r}, expected a number above 0"
        rise = scheduler.get("pct_start", 0.3)
        if not is_rate(rise) or rise >= 1:  # torch would divide by zero in the last step
            yield f"scheduler.pct_start is {rise!r}, expected a number above 0 and below 1"
        for key in scheduler.keys() & {"total_steps", "epochs", "steps_per_epoch"}:
            yield f"scheduler.{key} follows from epochs and batch_size: leave it out"
    if kind == "ReduceLROnPlateau" and scheduler.get("mode", "min") != "min":
        yield (f"scheduler.mode is {scheduler['mode']!r}, expected 'min': the training loss is "
               "watched, and less of it is better")
    if kind == "StepLR":
        gamma, size = scheduler.get("gamma", 0.1), scheduler.get("step_size", 1)
        if not is_rate(gamma):
            yield f"scheduler.gamma is {gamma!r}, expected a number above 0"
        if not is_count(size):
            yield f"scheduler.step_size is {size!r}, expected an integer of at least 1"


def rate_of(recipe):
    """Where a recipe has its learning rate: OneCycleLR's peak, ByEpoch's list, else the start."""
    places = dict(OneCycleLR=("scheduler", "max_lr"), ByEpoch=("scheduler", "rates"))
    return places.get(recipe["scheduler"]["name"], ("optimizer", "lr"))


def override(recipe, settings):
    """Put --set key=value into `recipe`; a dotted key reaches into a dict, a value is a Python
    literal or else text. Raises UserError (status 2)."""
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected key=value, such as epochs=3 or "
                            "scheduler.max_lr=0.2", 2)
        *outer, last = key.split(".")
        entry = recipe
        for name in outer:
            if name not in entry:
                raise UserError(f"--set {setting}: unknown key {name!r}; known: "
                                f"{', '.join(entry)}", 2)
            entry = entry[name]
            if not isinstance(entry, dict):
                raise UserError(f"--set {setting}: {name} is {entry!r} and has no keys", 2)
        try:
            entry[last] = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            entry[last] = text


def describe(error):
    """An exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def rehearse(source, net_class, recipe, n, device, part="test"):
    """Try a training step on noise with a full batch and with the last, smaller one of n images.
    Returns the memory layout in which the net works and what its checkpoints look like. Raises
    UserError (status 2) that names `source`; its cause is an exception of the net's own."""
    try:  # torch alone knows what its optimizers and schedulers take
        try_recipe(recipe, device)
    except Exception as error:
        raise UserError(f"{source}: RECIPE: {describe(error)}", 2) from None
    one_epoch = recipe | dict(epochs=1, plain_epochs=0)
    sizes = {recipe["batch_size"], n % recipe["batch_size"] or recipe["batch_size"]}
    # channels_last is faster on a CPU, but nets that ask for views of their maps need the other. On
    # MPS it is slow or wrong: pytorch issues 193349 and 140902.
    layouts = [torch.channels_last] if device.type == "cpu" else []
    layouts.append(torch.contiguous_format)
    for layout in layouts:
        try:
            for size in sizes:
                noise = torch.randint(256, (size, 28, 28), dtype=torch.uint8, device=device)
                digits = torch.arange(size, device=device) % 10
                net = net_class().to(device, memory_format=layout)
                softmax = check_output(source, net, noise)
                state = start(net, recipe, 0, 1)
                list(train(state, one_epoch, (noise, digits), (noise, digits), part))
            if softmax:
                warn(f"{source}: Net seems to end in a softmax; leave it out, for cross-entropy "
                     "wants logits")
            return layout, checkpoint(state)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            failure = error
    raise UserError(f"{source}: a training step on {size} images of noise raised "
                    f"{describe(failure)}", 2) from failure


def try_recipe(recipe, device):
    """Step optimizer and scheduler of a recipe; raises whatever torch raises. The loss stays the
    same, so that ReduceLROnPlateau lowers the rate: some wrong values fail only then."""
    probe = torch.nn.Linear(1, 1).to(device)
    optimizer, scheduler = make_optimizer(probe, recipe, steps_per_epoch=10)
    probe(torch.ones(1, 1, device=device)).sum().backward()
    optimizer.step()
    step_after_batch(scheduler)
    for _ in range(min(recipe["epochs"], 100)):
        step_after_epoch(scheduler, train_loss=1.0)


def check_output(source, net, noise):
    """Whether the output of `net` looks like a softmax's. Raises UserError (status 2) unless it is
    ten numbers an image."""
    logits = net(utils.normalise(noise.unsqueeze(1).float()))
    is_tensor = isinstance(logits, torch.Tensor)
    found, expected = tuple(logits.shape) if is_tensor else type(logits), (len(noise), 10)
    if found != expected:
        raise UserError(f"{source}: Net maps images to {found}, expected {expected}", 2)
    rows = logits.detach().float()
    return bool((rows >= 0).all() and (rows.sum(dim=1) - 1).abs().max() < 1e-4)


# ---- what the loop needs -----------------------------------------------------------------------
def find_optimizer(name):
    """The class of an optimizer; Muon is utils.py's, because torch's takes matrices alone."""
    return utils.Muon if name == "Muon" else getattr(torch.optim, name, None)


def make_optimizer(net, recipe, steps_per_epoch):
    """(optimizer, scheduler) of a recipe. OneCycleLR steps once a batch, the others an epoch."""
    kwargs, schedule = dict(recipe["optimizer"]), dict(recipe["scheduler"])
    make_scheduler = SCHEDULERS[schedule.pop("name")]
    if make_scheduler is OneCycleLR:
        schedule["total_steps"] = recipe["epochs"] * steps_per_epoch
        rise = schedule["total_steps"] * schedule.get("pct_start", 0.3)
        # torch divides by rise - 1. With its default, 0.3, rise is never 1.
        if rise == 1:
            schedule["pct_start"] += 1e-9
    optimizer = find_optimizer(kwargs.pop("name"))(net.parameters(), **kwargs)
    return optimizer, make_scheduler(optimizer, **schedule)


def moving_average(net, decay):
    """(average, update): a copy of `net`, and a function of the number of steps taken, to be called
    after each, that moves its weights and BatchNorm statistics towards the net's.

    The decay is steps / (9 + steps) while that is the smaller (TensorFlow's rule), so that the
    random start is soon forgotten. Raises TypeError for complex weights."""
    average = copy.deepcopy(net)
    pairs = [*zip(average.parameters(), net.parameters()), *zip(average.buffers(), net.buffers())]
    if any(value.is_complex() for _, value in pairs):
        raise TypeError("complex weights cannot be averaged")
    averages = [ours for ours, _ in pairs if ours.is_floating_point()]
    values = [value for _, value in pairs if value.is_floating_point()]
    others = [pair for pair in pairs if not pair[1].is_floating_point()]

    @torch.no_grad()
    def update(steps):
        get_ema_multi_avg_fn(min(decay, steps / (9 + steps)))(averages, values, None)
        for ours, value in others:  # counters
            ours.copy_(value)
    return average, update


def start(net, recipe, seed, steps_per_epoch):
    """What training changes, as named parts: net, average (what is judged), update_average,
    optimizer, scheduler, generator (of random numbers, for batches() alone), steps (how many were
    taken), rates (of every step) and rows (of metrics.csv)."""
    average, update_average = moving_average(net, recipe["average"])
    optimizer, scheduler = make_optimizer(net, recipe, steps_per_epoch)
    return SimpleNamespace(net=net, average=average, update_average=update_average,
                           optimizer=optimizer, scheduler=scheduler, steps=0, rates=[], rows=[],
                           generator=torch.Generator().manual_seed(seed))


# ---- checkpoints -------------------------------------------------------------------------------
def checkpoint(state):
    """What training goes on from, to the same bits if all randomness is torch's on the CPU. Steps,
    rates and scheduler are not in it: they follow from rows."""
    return dict(net=state.net.state_dict(), average=state.average.state_dict(),
                optimizer=state.optimizer.state_dict()["state"], rows=state.rows,
                generator=state.generator.get_state(), rng=torch.get_rng_state())


def resume(state, path, settings, template, steps_per_epoch):
    """Bring `state`, fresh from start(), to where the checkpoint in a file was made. Raises
    UserError, naming what differs, unless that is of a run with these settings (a dict: recipe,
    seed ...) and has the parts of `template`, a checkpoint of this net by this recipe."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of odd files and of a schedule replayed
            saved = utils.load(path)
            refuse_another_run(path, saved, settings, template)
            if not isinstance(saved["rows"], list):  # a tensor may claim to have any length
                raise ValueError("no list of rows")
            done = [row["epoch"] for row in saved["rows"]]
            if not done or done != list(range(1, settings["recipe"]["epochs"] + 1))[:len(done)]:
                raise ValueError("not the first epochs of such a run")
            rows = template["rows"] * len(done)
            if outline(saved) != outline(template | dict(rows=rows, settings=settings)):
                raise ValueError("not the parts of such a checkpoint")
            restore(state, saved, steps_per_epoch)
    except UserError:
        raise
    except Exception:  # what somebody put into the file may fail in any comparison
        raise UserError(f"{path} is damaged or not a checkpoint of this net") from None


def refuse_another_run(path, saved, settings, template):
    """Raise UserError if a checkpoint's settings or net are not ours."""
    ours, theirs = ({**each, **each["recipe"], "recipe": None}  # the message names the entry
                    for each in (settings, saved["settings"]))
    differ = [key for key in ours | theirs if not same(ours.get(key), theirs.get(key))]
    if differ:
        raise UserError(f"{path} comes from a run with another {', '.join(differ)} than the model "
                        "file and the command line give now")
    if outline(saved["net"]) != outline(template["net"]):
        raise UserError(f"{path} comes from another net: names or shapes of its weights differ")


def same(ours, theirs):
    """Whether two settings are equal. Tensors, which may claim any size, are not compared."""
    return outline(ours) == outline(theirs) and ours == theirs


def outline(value):
    """What two checkpoints of one net have in common: names, types, shapes; and whether every
    number is finite."""
    if isinstance(value, torch.Tensor):
        whole = value.nbytes <= value.untyped_storage().nbytes()  # else one number repeated
        finite = whole and (not value.is_floating_point() or bool(value.isfinite().all()))
        return value.dtype, tuple(value.shape), finite
    if isinstance(value, dict):
        return {key: outline(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [outline(each) for each in value]
    return type(value), not isinstance(value, float) or math.isfinite(value)


def restore(state, saved, steps_per_epoch):
    """Put the parts of a checkpoint into `state`. Raises ValueError or whatever torch raises if
    they do not fit each other."""
    for row in saved["rows"]:  # replayed: the rates follow from the recipe and the losses
        for _ in range(steps_per_epoch):
            state.rates.append(state.optimizer.param_groups[0]["lr"])
            step_after_batch(state.scheduler)
        step_after_epoch(state.scheduler, row["train_loss"])
    if [row["lr"] for row in saved["rows"]] != state.rates[steps_per_epoch - 1::steps_per_epoch]:
        raise ValueError("the rates are not the schedule's")
    groups = state.optimizer.state_dict()["param_groups"]
    state.rows[:] = saved["rows"]
    state.steps = len(state.rates)
    state.net.load_state_dict(saved["net"])
    state.average.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(dict(state=saved["optimizer"], param_groups=groups))
    state.generator.set_state(saved["generator"])
    torch.set_rng_state(saved["rng"])


# ---- a run and what it leaves ------------------------------------------------------------------
def base_folder(args, path):
    """The folder that the runs of a model file go to."""
    return Path(args.out or f"runs/{path.stem}")


def open_folder(args, path):
    """Make the folder of a run: FOLDER/seedS, or the first of seedS-2, seedS-3, ... that is not
    there; held-out and dry runs say so in its name. With --resume (args.resume is "") the last of
    them; with --resume FOLDER (args.resume is FOLDER) that one."""
    if args.resume:
        named = Path(args.resume)
        folder = named.parent if named.name == "last.pt" else named
        if not folder.is_dir():
            raise UserError(f"--resume {args.resume}: no such folder")
        return folder
    base = base_folder(args, path)
    base.mkdir(parents=True, exist_ok=True)
    kind = "dry-run-" if args.dry_run else "held-out-" if args.holdout else ""
    name = f"{kind}seed{args.seed}"
    folders = [base / name, *(base / f"{name}-{number}" for number in range(2, 1000))]
    there = [folder for folder in folders if folder.is_dir()]
    if there and args.resume is not None:
        return there[-1]
    for folder in folders:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()  # this is the test, too: another run may be choosing at this moment
            return folder
    raise UserError(f"{base} is full: {folders[-1].name} is there already")


def run(args, path, net_class, recipe, layout, template, data):
    """Train args.seed and leave everything in a folder of its own."""
    train_set, test_set = data
    settings = dict(model=path.name, recipe=recipe, seed=args.seed, holdout=args.holdout,
                    fold=args.fold, dry_run=args.dry_run)
    steps_per_epoch = math.ceil(len(train_set[0]) / recipe["batch_size"])
    seed_everything(args.seed)
    net = net_class().to(train_set[0].device, memory_format=layout)
    state = start(net, recipe, args.seed, steps_per_epoch)
    folder = open_folder(args, path)
    if args.resume is not None and (folder / "last.pt").exists():
        resume(state, folder / "last.pt", settings, template, steps_per_epoch)
        say(f"Resuming {folder} after epoch {len(state.rows)}")
    elif any(file.suffix != ".part" for file in folder.iterdir()):
        raise UserError(f"{folder} has files, but no last.pt to go on from")

    with care_for(folder, path):
        if not state.rows:
            print_summary(net)
        bar = tqdm(total=recipe["epochs"] * steps_per_epoch, initial=state.steps, unit="step",
                   leave=False, disable=args.no_progress or None)  # None: unless in a terminal
        state.optimizer.register_step_post_hook(lambda *_: bar.update())
        with bar:
            for _ in train(state, recipe, train_set, test_set, judged(args)):
                with bar.external_write_mode():  # the bar steps aside
                    keep_epoch(folder, state, settings)
        leave_files(args, path, folder, recipe, state, test_set)
        say(closing_words(args, state.rows, count(net), folder))


def keep_epoch(folder, state, settings):
    """Save and report the epoch that has just ended. Raises UserError if training diverged."""
    row = state.rows[-1]
    for key, value in row.items():
        if not math.isfinite(value):
            raise UserError(f"{key} is {value} in epoch {row['epoch']}: training diverged. Try a "
                            "lower learning rate.")
    utils.save(folder / "last.pt", checkpoint(state) | dict(settings=settings))
    optional(utils.write_csv, folder / "metrics.csv", state.rows)
    say(log_line(row, settings["recipe"]["epochs"]))


def judged(args):
    """The beginning of the columns that a run is judged by: "val" for held-out images."""
    return "val" if args.holdout else "test"


def seed_everything(seed):
    """For the first weights and for nets that draw random numbers; batches() has its own."""
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


@contextlib.contextmanager
def care_for(folder, path):
    """When a run ends early, say how to go on, and leave no folder without anything in it."""
    def advice():
        if not (folder / "last.pt").exists():
            return "No epoch was finished, so there is nothing to resume."
        return (f"{folder / 'last.pt'} has the last finished epoch; add --resume to the same "
                "command to go on from there.")
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}\n{advice()}", error.status) from error.__cause__
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice()) from None
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: training raised {describe(error)}\n{advice()}", 2) from error
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def optional(write, *args):
    """write(*args); a failure is a warning, because a run is worth more than a file of it."""
    try:
        write(*args)
    except (UserError, OSError) as error:
        warn(error)


def count(net):
    """The number of parameters, shared ones once."""
    return sum(p.numel() for p in net.parameters())


def print_summary(net):
    """torchsummary's table of layers. It runs the net on noise and knows no MPS, so it gets a copy
    on the CPU."""
    captured = io.StringIO()
    try:
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(captured):
            torchsummary.summary(copy.deepcopy(net).cpu().eval(), (1, 28, 28), device="cpu")
    except Exception as error:
        warn(f"no layer table: {describe(error)}")
        return
    say(captured.getvalue())
    if f"Total params: {count(net):,}\n" not in captured.getvalue():
        say(f"The table counts shared layers twice or leaves parameters out: "
            f"there are {count(net):,}.")


def describe_device(device):
    """Its kind, its name and the number of CPU cores, for people."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} ({name}, {cores()} cores)"


def cores():
    """The number of CPU cores that this process may use: on a cluster, not all that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def describe_run(args, path, net, recipe, device):
    """What goes into args.json."""
    return dict(model=path.name, parameters=count(net), seed=args.seed, holdout=args.holdout,
                fold=args.fold, data="rendered digits, NOT MNIST" if args.dry_run else "MNIST",
                recipe=recipe, device=describe_device(device), threads=torch.get_num_threads(),
                python=platform.python_version(), torch=torch.__version__,
                finished=time.strftime("%Y-%m-%d %H:%M"))


def log_line(row, epochs):
    """An epoch for the terminal."""
    epoch, train_loss, train_acc, loss, acc, rate, seconds = row.values()
    part = "Val" if "val_acc" in row else "Test"
    return (f"Epoch {epoch:2d}/{epochs} | Train Loss: {train_loss:.4f} | Train Acc: "
            f"{train_acc:.2f}% | {part} Loss: {loss:.4f} | {part} Acc: {acc:.2f}% | LR: {rate:.6f}"
            f" | {seconds:.1f}s")


def leave_files(args, path, folder, recipe, state, test_set):
    """Weights, tables and plots of a finished run."""
    net = state.average
    weights = {key: value.cpu() for key, value in net.state_dict().items()}
    utils.save(folder / "model.pt", weights)
    about = describe_run(args, path, net, recipe, test_set[0].device)
    optional(utils.write, folder / "args.json", json.dumps(about, indent=2) + "\n")
    optional(utils.write_csv, folder / "metrics.csv", state.rows)
    rates = [dict(step=step, lr=f"{rate:.6g}") for step, rate in enumerate(state.rates, 1)]
    optional(utils.write_csv, folder / "learning_rate.csv", rates)
    _, _, predictions = utils.evaluate(net, *test_set)
    images, labels, predictions = (part.cpu() for part in (*test_set, predictions))
    first = first_held_out(args) if args.holdout else 0
    optional(utils.write, folder / "mistakes.csv", utils.mistakes_csv(labels, predictions, first))
    try:
        utils.write(folder / "rf.md", utils.receptive_field_table(net))
    except Exception as error:  # a net that cannot be copied, or computes in halves, no space ...
        warn(f"no rf.md: {describe(error)}")
    title = f"{path.stem}, {count(net):,} parameters, seed {args.seed}"
    if args.dry_run:
        title = f"NOT MNIST: {title}"
    if args.holdout:
        title += f", held-out images {first} to {first + args.holdout - 1}"
    try:
        figures = utils.curves(state.rows, state.rates, title, recipe)
        figures["mistakes.png"] = utils.mistakes(images, labels, predictions, title, first)
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=110)
    except Exception as error:  # no space, no font ...
        warn(f"not all of the plots: {describe(error)}")


def closing_words(args, rows, size, folder):
    """The figures of a finished run, and whether it met the target."""
    train_acc = [row["train_acc"] for row in rows]
    test_acc = [row[f"{judged(args)}_acc"] for row in rows]
    last = test_acc[-5:]
    met = min(last) >= utils.TARGET and 5 <= len(rows) <= 15 and size < utils.BUDGET
    verdict = (f"Target (at least {utils.TARGET}% in each of the last five of at most 15 epochs, "
               f"within budget): {'met' if met else 'not met'}")
    if args.holdout:
        verdict = "Judged by held-out training images; the target is one for the test set"
    if args.dry_run:
        verdict = "DRY RUN, NOT MNIST: the installation works; the accuracies mean nothing"
    return "\n".join([
        "",
        f"Parameters: {size:,} (budget: fewer than {utils.BUDGET:,})",
        f"Time: {sum(row['seconds'] for row in rows):.1f} s for {len(rows)} epochs",
        f"Train accuracy: final {train_acc[-1]:.2f}%, best {max(train_acc):.2f}%",
        f"{judged(args).title()} accuracy: final {test_acc[-1]:.2f}%, best {max(test_acc):.2f}%, "
        f"lowest of the last {len(last)} epochs {min(last):.2f}%",
        verdict,
        f"Written: {folder}"])


# ---- several seeds -----------------------------------------------------------------------------
def run_seeds(args, argv, path, epochs, device):
    """--runs: each seed is a process of its own; on the CPU as many at once as there are cores,
    with one thread each. What it reached is read from its folder. Raises SystemExit with the status
    of a seed that failed."""
    at_once, env = 1, os.environ
    if device.type == "cpu":
        at_once, env = cores(), os.environ | dict(OMP_NUM_THREADS="1")
    waiting = list(range(args.seed, args.seed + args.runs))
    running, accuracies, began = {}, {}, time.monotonic()
    say(f"{args.runs} runs, at most {at_once} at a time")
    bar = tqdm(total=args.runs * epochs, unit="epoch", disable=args.no_progress or None)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                args.seed = waiting.pop(0)
                running[args.seed] = begin_seed(args, argv, path, env)
            time.sleep(0.2)
            for seed in [seed for seed in running if running[seed].child.poll() is not None]:
                accuracy = accuracies[seed] = end_seed(seed, running[seed])
                del running[seed]
                minutes = (time.monotonic() - began) / 60
                left = minutes * (args.runs - len(accuracies)) / len(accuracies)
                with bar.external_write_mode():
                    say(f"seed {seed}: {accuracy[-1]:.2f}% in the last epoch, lowest of the last "
                        f"{len(accuracy[-5:])} {min(accuracy[-5:]):.2f}%  ({len(accuracies)} of "
                        f"{args.runs} runs done, about {left:.0f} min left)")
            unfinished = sum(len(read_accuracy(each.folder)) for each in running.values())
            bar.update(len(accuracies) * epochs + unfinished - bar.n)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{len(accuracies)} of {args.runs} runs are finished; add "
                                "--resume to the same command to go on.") from None
    finally:
        bar.close()
        for seed in running.values():
            seed.child.terminate()
        for seed in running.values():
            seed.child.wait()
            with contextlib.suppress(OSError):
                seed.folder.rmdir()  # if nothing was written
    say(f"{describe_seeds(accuracies)}\nWritten: {base_folder(args, path)}")


def begin_seed(args, argv, path, env):
    """Start args.seed in a process of its own: child, its folder, errors (its standard error)."""
    folder = open_folder(args, path)
    errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
    command = [sys.executable, str(utils.HERE / "train.py"), *argv, "--runs=1",
               f"--seed={args.seed}", f"--resume={folder}", "--no-progress"]
    child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=errors)
    return SimpleNamespace(child=child, folder=folder, errors=errors)


def end_seed(number, seed):
    """The accuracies of a seed that has ended. Raises SystemExit or UserError if it failed."""
    seed.errors.seek(0)
    utils.say_error(seed.errors.read(), end="")
    status, accuracy = seed.child.returncode, read_accuracy(seed.folder)
    if status > 0:
        raise SystemExit(status)  # it has said why
    if status < 0:  # no memory, say
        raise UserError(f"seed {number} ended early (signal {-status}); add --resume to the same "
                        "command to go on")
    if not accuracy:
        raise UserError(f"seed {number} left no metrics.csv in {seed.folder}; add --resume to the "
                        "same command to go on")
    return accuracy


def read_accuracy(folder):
    """Test or held-out accuracy of each finished epoch of a run; [] if metrics.csv is missing or
    damaged."""
    try:
        rows = utils.read_csv(folder / "metrics.csv")
        return [float(row["val_acc" if "val_acc" in row else "test_acc"]) for row in rows]
    except (FileNotFoundError, KeyError, ValueError, TypeError, csv.Error):
        return []


def describe_seeds(accuracies):
    """The figures over several seeds. accuracies: {seed: accuracy of each epoch}."""
    last = [accuracy[-1] for accuracy in accuracies.values()]
    lowest = [min(accuracy[-5:]) for accuracy in accuracies.values()]
    hold = sum(accuracy >= utils.TARGET for accuracy in lowest)
    n = min(5, *map(len, accuracies.values()))
    return (f"{len(last)} runs, accuracy in the last epoch: {statistics.mean(last):.3f} ± "
            f"{statistics.stdev(last):.3f}% (mean ± standard deviation), minimum {min(last):.2f}%\n"
            f"At least {utils.TARGET}% in each of the last {n} epochs: "
            f"{hold} of {len(last)} runs")


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


def parse_arguments(argv=None):
    """The command line as a namespace. Ends in argparse's SystemExit (status 2) for a wrong one."""
    parser = argparse.ArgumentParser(prog="train.py",
                                     description="Train one of the models on MNIST.")
    arg = parser.add_argument
    arg("--model", default="3", metavar="{1,2,3,PATH}",
        help="model1.py, model2.py, model3.py, or the path of any model file (default: 3)")
    arg("--recipe", metavar="{1,2,3,PATH}",
        help="the model file that has the RECIPE to train by (default: the one of --model)")
    arg("--epochs", type=number(int, 1, 10000), metavar="N", help="(default: the recipe's)")
    arg("--batch-size", type=number(int, 1, 60000), metavar="N", help="(default: the recipe's)")
    arg("--lr", type=number(float, 1e-6, 100), metavar="RATE",
        help="learning rate: OneCycleLR's peak, the others' start (default: the recipe's)")
    arg("--set", action="append", default=[], metavar="KEY=VALUE",
        help="change any entry of RECIPE, as --set augment={} --set scheduler.max_lr=0.2; may be "
             "repeated (default: none)")
    arg("--seed", type=number(int, 0, 2**32 - 1), default=0, metavar="S",
        help="decides the first weights, dropout, the images' order and augmentation (default: 0)")
    arg("--runs", type=number(int, 1, 1000), default=1, metavar="N",
        help="train N seeds from S on and close with mean and standard deviation (default: 1)")
    arg("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto",
        help="where to train; auto is the first there is of cuda, mps, cpu (default: auto)")
    arg("--data-dir", metavar="FOLDER",
        help="holds MNIST/raw/ (default: data/, downloaded if it is not there)")
    arg("--out", metavar="FOLDER",
        help="gets a folder seedS, or held-out-seedS, or seedS-2 ... (default: runs/MODEL)")
    arg("--holdout", type=number(int, 0, 59999), default=0, metavar="N",
        help="judge by N training images, train on the others: for choices (default: 0)")
    arg("--fold", type=number(int, 0, 59999), metavar="K",
        help="with --holdout: hold out images K*N to K*N+N-1 (default: the last N)")
    arg("--resume", nargs="?", const="", metavar="FOLDER",
        help="added to the command that began a run, go on after its last finished epoch; FOLDER: "
             "the run's own folder (default: off; without FOLDER the last of the seed)")
    arg("--dry-run", action="store_true",
        help="2 epochs on rendered digits, NOT MNIST: needs no data and no network (default: off)")
    arg("--no-progress", action="store_true", help="no progress bar (default: in a terminal, one)")
    args = parser.parse_args(argv)
    if args.fold is not None and not args.holdout:
        parser.error("--fold goes with --holdout")
    if args.fold is not None and (args.fold + 1) * args.holdout > 60000:
        parser.error(f"--fold {args.fold}: the last fold of {args.holdout} images is "
                     f"{60000 // args.holdout - 1}")
    if args.dry_run and args.holdout:
        parser.error("--holdout does not go with --dry-run, which has no MNIST")
    if args.seed + args.runs > 2**32:
        parser.error(f"--seed {args.seed} --runs {args.runs}: the last seed is above {2**32 - 1}")
    if args.resume and args.runs > 1:
        parser.error("--resume FOLDER continues one run; with --runs, --resume has no FOLDER")
    return args


def read_recipe(args):
    """(path, Net, recipe): the model file's, with what the command line changes in the recipe."""
    path, net_class, recipe = load_model_file(args.model)
    if args.recipe:
        _, _, recipe = load_model_file(args.recipe, "--recipe")
    if args.dry_run:
        recipe["epochs"] = 2
    override(recipe, args.set)
    recipe["epochs"] = args.epochs or recipe["epochs"]
    recipe["batch_size"] = args.batch_size or recipe["batch_size"]
    recipe = check_recipe(recipe, source_of(path, args))
    if args.lr:
        part, key = rate_of(recipe)
        if key == "rates":
            raise UserError(f"--lr {args.lr}: {source_of(path, args)} has a rate for each epoch; "
                            "change them with --set scheduler.rates=[...]", 2)
        recipe[part][key] = args.lr
    n = number_of_images(args)
    if recipe["batch_size"] > n:
        raise UserError(f"batches of {recipe['batch_size']} images: expected at most {n}, the "
                        "number of training images", 2)
    all_plain = recipe["plain_epochs"] >= recipe["epochs"]
    if recipe["augment"] and all_plain and not args.dry_run:
        warn(f"no epoch is augmented: plain_epochs is {recipe['plain_epochs']}, epochs "
             f"{recipe['epochs']}")
    return path, net_class, recipe


def source_of(path, args):
    """Where net and recipe come from, for messages."""
    recipe = f" with --recipe {args.recipe}" if args.recipe else ""
    changes = f" with --set {' '.join(args.set)}" if args.set else ""
    return f"{path}{recipe}{changes}"


def number_of_images(args):
    """How many images there are to train on."""
    return 2000 if args.dry_run else 60000 - args.holdout


def first_held_out(args):
    """The index of the first training image that --holdout and --fold hold out."""
    return 60000 - args.holdout if args.fold is None else args.fold * args.holdout


def load_data(args, recipe, device):
    """((images, labels) to train on, (images, labels) to judge by) on the device, prepared as the
    recipe asks for it. --holdout never opens the test set."""
    if args.dry_run:
        say("*** DRY RUN on digits rendered on the fly, NOT MNIST ***")
        train_set = utils.rendered_digits(2000, seed=0)
        test_set = utils.rendered_digits(500, seed=1)
    elif args.holdout:
        images, labels = utils.load_mnist(utils.find_mnist(args.data_dir), train=True)
        first = first_held_out(args)
        held_out = torch.zeros(60000, dtype=torch.bool)
        held_out[first:first + args.holdout] = True
        train_set = images[~held_out], labels[~held_out]
        test_set = images[held_out], labels[held_out]
    else:
        root = utils.find_mnist(args.data_dir)
        train_set = utils.load_mnist(root, train=True)
        test_set = utils.load_mnist(root, train=False)
    return [(utils.prepare(images.to(device), recipe), labels.to(device))
            for images, labels in (train_set, test_set)]


@contextlib.contextmanager
def endings_as_ctrl_c():
    """Make SIGTERM and SIGHUP (a closed terminal) end a run or a series as Ctrl-C does."""
    endings = [getattr(signal, kind) for kind in ("SIGTERM", "SIGHUP") if hasattr(signal, kind)]
    handlers = {}
    with contextlib.suppress(ValueError):  # in a thread, which gets no signals
        for ending in endings:
            if signal.getsignal(ending) != signal.SIG_IGN:  # ignored is how nohup has it
                handlers[ending] = signal.signal(ending, signal.default_int_handler)
    try:
        yield
    finally:
        for ending, handler in handlers.items():
            signal.signal(ending, handler)


def main(argv=None):
    """Returns the exit status: 0, 1 (data, files, run), 2 (arguments, model file), 130 (Ctrl-C)."""
    argv = sys.argv[1:] if argv is None else argv
    sys.stderr = sys.stderr or open(os.devnull, "w")  # None if closed, and tqdm writes to it
    utils.print_anything()
    args = parse_arguments(argv)
    try:
        path, net_class, recipe = read_recipe(args)
        device = utils.pick_device(args.device)
        utils.keep_memory()
        say(f"Device: {describe_device(device)}, torch {torch.__version__}, threads: "
            f"{torch.get_num_threads()}")
        layout, template = rehearse(source_of(path, args), net_class, recipe,
                                    number_of_images(args), device, judged(args))
        data = load_data(args, recipe, device)
        with endings_as_ctrl_c():
            if args.runs > 1:  # each seed loads the data itself; above, its faults are said once
                run_seeds(args, argv, path, recipe["epochs"], device)
            else:
                run(args, path, net_class, recipe, layout, template, data)
        return 0
    except UserError as error:
        complain(f"error: {error}")
        if error.__cause__:
            traceback.print_exception(error.__cause__)
        return error.status
    except OSError as error:  # no right to write, disk full, ...
        complain(f"error: {error.filename}: {error.strerror}" if error.filename else
                 f"error: {error}")
        return 1
    except KeyboardInterrupt as stop:
        complain(f"interrupted. {stop}")
        return 130


def complain(text):
    """A message on standard error."""
    utils.say_error(f"train.py: {text}")


if __name__ == "__main__":
    sys.exit(main())
