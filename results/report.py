"""Write the tables and figures of the documents from the nets and the files in this folder.

    python results/report.py           writes what is out of date
    python results/report.py --check   writes nothing; exit status 1 if anything is out of date

In README.md, RF.md, CHANGELOG.md and the READMEs of baselines/ and results/ a table stands between
two comments, <!-- table: NAME --> and <!-- end -->. NAME is one of:

    results                           any key of TABLES below
    receptive field of model3         what each layer of a model sees
    changes: digits deskewed          a section of changes.csv, which names runs in earlier.csv
    Model 3: as it is | Model 3: *    experiments in experiments.csv. The first is the reference:
                                      the others, here all that match, are compared with it in pairs
                                      of runs of the same seed and fold

Written, too: the Result paragraph of each model's docstring, runs.csv of each model, and the
pictures of figures.py. All other prose is written by hand."""

import argparse
import fnmatch
import functools
import json
import re
import statistics
import sys
from collections import Counter
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "results")]
import figures  # noqa: E402

import train  # noqa: E402
import utils  # noqa: E402

MODELS = ("model1", "model2", "model3")
FIRST_SEED = {"model2": 20}  # of those that count; the ones before had a say in the net's size
USPS, QMNIST = "USPS, 2,007 digits", "QMNIST, 50,000 digits"  # columns of robustness.csv
PAGES = ("README.md", "RF.md", "CHANGELOG.md", "baselines/README.md", "results/README.md")
# Student's t by the number of values: 95 % of means lie within t of their standard errors.
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 10: 2.262, 20: 2.093}
# Test images whose label fewer than three of five people agreed with, according to "Pervasive Label
# Errors in Test Sets" (https://arxiv.org/abs/2103.14749).
DOUBTFUL = {947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729}


# ---- evidence ----------------------------------------------------------------------------------
def model_file(name):
    """The file of a net: NAME.py, in baselines/ or in results/."""
    paths = [folder / f"{name}.py" for folder in (ROOT, ROOT / "baselines", ROOT / "results")]
    return next((path for path in paths if path.exists()), paths[-1])


def seed_folders(folder):
    """The folders of runs in `folder`, in the order of their seeds."""
    return sorted(folder.glob("seed[0-9]*"), key=lambda each: (len(each.name), each.name))


def published(name):
    """A dict for each run in results/NAME that counts, in the order of their seeds."""
    runs = [read_run(folder) for folder in seed_folders(ROOT / "results" / name)]
    return [run for run in runs if run["seed"] >= FIRST_SEED.get(name, 0)]


def read_run(folder):
    """The figures of the run in a folder. Raises UserError if it has not ended or is damaged."""
    try:
        args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
        rows = utils.read_csv(folder / "metrics.csv")
        accuracy = [float(row["test_acc"]) for row in rows]
        size = args["parameters"]  # not there before the end
    except (OSError, ValueError, KeyError) as error:
        raise utils.UserError(f"{folder}: unfinished or damaged: {train.describe(error)}") from None
    run = dict(
        seed=args["seed"], params=size, test_acc=accuracy[-1],
        test_loss=rows[-1]["test_loss"], last5_min=min(accuracy[-5:]),
        best_test_acc=max(accuracy), first_5000_acc="", last_5000_acc="",
        train_acc=float(rows[-1]["train_acc"]),
        seconds=round(sum(float(row["seconds"]) for row in rows), 1),
        device=args["device"], threads=args["threads"], torch=args["torch"].split("+")[0],
        accuracy=accuracy, args=args)
    if (folder / "mistakes.csv").exists():
        wrong = [int(row["index"]) for row in utils.read_csv(folder / "mistakes.csv")]
        first = sum(index < 5000 for index in wrong)
        run["wrong"] = wrong
        run["first_5000_acc"] = round(100 - first / 50, 2)
        run["last_5000_acc"] = round(100 - (len(wrong) - first) / 50, 2)
    return run


def others():
    """The names of further models with runs in results/."""
    return sorted({path.parent.name for path in (ROOT / "results").glob("*/seed0")} - {*MODELS})


def row_runs():
    """{(net, recipe): runs} of results/baselines/runs.csv: published nets by their own recipes, and
    any net by Model 3's."""
    runs = {}
    for row in utils.read_csv(ROOT / "results" / "baselines" / "runs.csv"):
        wrong = row.pop("wrong", "")
        row |= {key: float(row[key]) for key in row.keys() - {"net", "recipe", "torch"}}
        if wrong:  # older runs have not kept it
            row["wrong"] = [int(index) for index in wrong.split()]
        runs.setdefault((row["net"], row["recipe"]), []).append(row)
    return runs


def baselines():
    """The rows of published.csv, each with the runs of that net by recipe: "own", "model3"."""
    nets, runs = utils.read_csv(ROOT / "results" / "published.csv"), row_runs()
    for net in nets:
        for recipe in ("own", "model3"):
            net[recipe] = runs.get((net["net"].lower(), recipe), [])
    return nets


def all_nets():
    """A dict for each net, ours and others': name, path of its file, runs by "own" and "model3"."""
    runs, theirs, nets = row_runs(), {net["net"].lower(): net for net in baselines()}, []
    recipe = train.load_model_file(model_file("model3"))[2]
    for name in dict.fromkeys((*MODELS, *others(), *(name for name, _ in runs))):
        path, own, model3 = model_file(name), published(name), runs.get((name, "model3"), [])
        if name in theirs:
            own = runs.get((name, "own"), [])
        elif train.load_model_file(path)[2] == recipe:
            model3 = own
        if name not in theirs or not theirs[name]["reconstructed"]:
            nets.append(dict(name=theirs.get(name, {"net": name})["net"], path=path, own=own,
                             model3=model3))
    return nets


def multiply_adds(net):
    """How often a net multiplies a weight by a value to read an image, in its convolutions and
    linear layers."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.eval()(torch.zeros(1, 1, 28, 28))
    return counter.get_total_flops() // 2  # the counter takes the addition for another operation


@functools.cache
def cost(path):
    """(parameters, multiply-adds an image) of the net in a model file."""
    net = train.load_model_file(path)[1]()
    return train.count(net), multiply_adds(net)


def paired(runs, others):
    """(points of accuracy that runs have more than others, its standard error over the 10,000 test
    images), image by image, each read by all seeds of both; None if misread images are not kept."""
    shares = []
    for group in (runs, others):
        group = [run["wrong"] for run in group if "wrong" in run]
        if not group:
            return None
        counts = Counter(index for wrong in group for index in wrong)
        shares.append([counts[index] / len(group) for index in range(10000)])
    gaps = [100 * (theirs - ours) for ours, theirs in zip(*shares)]
    return statistics.mean(gaps), statistics.stdev(gaps) / 100


def mean(runs, key="test_acc"):
    """The mean of one figure of some runs."""
    return statistics.mean(run[key] for run in runs)


def spread(runs, key="test_acc"):
    """'99.53 ± 0.02 % (n=3)', mean and sample standard deviation; '99.53 % (n=1)'; '–' of none."""
    if not runs:
        return "–"
    deviation = f" ± {statistics.stdev(run[key] for run in runs):.2f}" if len(runs) > 1 else ""
    return f"{mean(runs, key):.2f}{deviation} % (n={len(runs)})"


def held(runs):
    """'9 of 10': in how many runs each of the last five epochs met the target; '–' of none. If all
    did, with the share of all seeds that do at least, at 95 % confidence (Clopper and Pearson)."""
    count = sum(run["last5_min"] >= utils.TARGET for run in runs)
    bound = f" (≥ {100 * 0.025 ** (1 / count):.0f} %)" if runs and count == len(runs) else ""
    return f"{count} of {len(runs)}{bound}" if runs else "–"


def duration(runs):
    """'125 s', the median time of a run; with the device if that is not one thread of a CPU."""
    seconds = f"{statistics.median(run['seconds'] for run in runs):.0f} s"
    devices = {(run["device"].partition(" ")[0], run["threads"]) for run in runs if "device" in run}
    others = [f"{device}, {threads} threads" for device, threads in sorted(devices - {("cpu", 1)})]
    return f"{seconds} ({'; '.join(others)})" if others else seconds


# ---- tables ------------------------------------------------------------------------------------
COST = ("parameters", "kMAC", "time of 1 image, of 1,000 (Model 3: 1)")


def cost_cells(path):
    """What a net costs, as table cells under COST."""
    parameters, macs = cost(path)
    times = {row["net"]: row for row in utils.read_csv(ROOT / "results" / "inference.csv")}
    ratios = times.get(path.stem)
    return [f"{parameters:,}", f"{macs / 1000:,.0f}",
            f"{float(ratios['image']):.1f}, {float(ratios['batch']):.1f}" if ratios else "–"]


def link(path, up=""):
    """A model file as a link, from the README or, with `up`, from a folder below."""
    name = path.relative_to(ROOT).as_posix()
    return f"[{name}]({up}{name})"


def beside_model3(runs):
    """'-0.070 ± 0.016': the points that runs have more than Model 3's, image by image."""
    gap = paired(runs, published("model3"))
    return "{:+.3f} ± {:.3f}".format(*gap) if gap and any(gap) else "–"


def results_table():
    """The models' runs on all training images."""
    lines = []
    for model in MODELS:
        path, runs = model_file(model), published(model)
        lowest = f"{min(run['last5_min'] for run in runs):.2f} %"
        lines.append((link(path), *cost_cells(path), f"{mean(runs, 'train_acc'):.2f} %",
                      spread(runs), beside_model3(runs), lowest, held(runs), duration(runs)))
    return utils.table((
        "model", *COST, "training accuracy", "test accuracy, last epoch", "beside Model 3",
        "lowest of the last five", "seeds that hold 99.4 %", "time of a run"), lines)


def leaderboard_table(up="../", most=None):
    """The nets within the budget with three runs by Model 3's recipe or five by their own, the best
    by Model 3's first. up: before the links; most: of the lines."""
    nets = [net for net in all_nets() if cost(net["path"])[0] < utils.BUDGET
            and (len(net["model3"]) >= 3 or len(net["own"]) >= 5)]
    nets.sort(key=lambda net: mean(net["model3"] or net["own"]), reverse=True)
    lines = [(link(net["path"], up), *cost_cells(net["path"]), spread(net["model3"]),
              beside_model3(net["model3"]), held(net["model3"]), spread(net["own"]),
              held(net["own"])) for net in nets[:most]]
    return utils.table(("net", *COST, "by Model 3's recipe", "beside Model 3", "hold 99.4 %",
                        "by its own recipe", "hold 99.4 %"), lines)


def counts_table():
    """How many runs of the published nets meet the target, at the end and throughout."""
    lines, nets = [], [net for net in baselines() if not net["reconstructed"]]
    small = [net for net in nets if int(net["parameters"]) < utils.BUDGET]
    for kind, recipe in ("own", "their own recipes"), ("model3", "Model 3's recipe"):
        for group, words in (nets, "all"), (small, "those below 8,000 parameters"):
            runs = [run for net in group for run in net[kind]]
            last, hold = (sum(run[key] >= utils.TARGET for run in runs)
                          for key in ("test_acc", "last5_min"))
            lines.append((recipe, f"{words}, {len(group)}", len(runs), last, hold))
    return utils.table(("by", "published nets", "runs", "last epoch at 99.4 % or more",
                        "hold 99.4 %"), lines)


def elsewhere_table():
    """Small nets of others that are not of this task."""
    return utils.table(("elsewhere", "parameters", "accuracy", "epochs, at most", "how"), [
        (f"[{row['net']}]({row['address']})", f"{int(row['parameters']):,}",
         f"{row['accuracy']} %", f"{int(row['epochs']):,}", row["how"])
        for row in utils.read_csv(ROOT / "results" / "elsewhere.csv")])


def compute_table():
    """What was trained, in hours of a core and of a GPU, whose torch was 2.11."""
    folders = [folder for name in (*MODELS, *others())
               for folder in seed_folders(ROOT / "results" / name)]
    rows = [utils.read_csv(ROOT / "results" / name)
            for name in ("baselines/runs.csv", "experiments.csv", "earlier.csv")]
    lines = []
    for words, runs in (("our nets, on all training images", map(read_run, folders)),
                        ("published nets and Model 3's recipe", rows[0]),
                        ("held out, and others, to choose", rows[1] + rows[2])):
        hours = {"cpu": [], "gpu": []}
        for run in runs:
            place = "gpu" if run["torch"].startswith("2.11") else "cpu"
            hours[place].append(float(run["seconds"] or 0) * int(run.get("threads") or 1) / 3600)
        lines.append((words, len(hours["cpu"]), f"{sum(hours['cpu']):.1f}", len(hours["gpu"]),
                      f"{sum(hours['gpu']):.1f}"))
    return utils.table(("runs", "on a CPU", "core-hours", "on a GPU", "hours"), lines)


def mistakes_table():
    """Which test images the seeds of Model 3 misread."""
    runs = published("model3")
    count = Counter(index for run in runs for index in run["wrong"])
    mostly = {index for index, times in count.items() if times >= len(runs) / 2}
    doubtful = sorted(mostly & DOUBTFUL)
    return utils.table((f"Model 3, {len(runs)} seeds", ""), [
        ("accuracy on the first 5,000 test images", spread(runs, "first_5000_acc")),
        ("accuracy on the last 5,000", spread(runs, "last_5000_acc")),
        ("images that some seed misreads", len(count)),
        ("images that at least half of the seeds misread", len(mostly)),
        ("images that all seeds misread", sum(times == len(runs) for times in count.values())),
        (f"of {len(DOUBTFUL)} images with a doubtful label, those that at least half misread",
         f"{len(doubtful)}: {', '.join(map(str, doubtful))}")])


def robustness_table():
    """Accuracy on changed test images and other digits, a line for each."""
    nets = {}
    for row in utils.read_csv(ROOT / "results" / "robustness.csv"):
        nets.setdefault(row["net"], []).append(row)
    lines = []
    changes = [key for key in row if key not in ("net", "seed")]
    for change in changes:
        cells = []
        for rows in nets.values():
            values = [float(row[change]) for row in rows if row[change]]
            absent = "not measured yet" if change == QMNIST else "–"
            cells.append(f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
                         if values else absent)
        lines.append((change, *cells))
    seeds = {len(rows) for rows in nets.values()}
    return utils.table((f"%, {min(seeds)} seeds", *nets), lines)


def doubt_table():
    """What the page's rule doubts, a line for each limit."""
    rows = utils.read_csv(ROOT / "results" / "doubt.csv")
    return utils.table(tuple(rows[0]), [tuple(row.values()) for row in rows])


def speed_table():
    """An epoch of train.py beside the classic trainer's, and a whole command."""
    speed = json.loads((ROOT / "results" / "speed.json").read_text(encoding="utf-8"))
    epochs = utils.table(
        ("net", "parameters", "an epoch, classic", "an epoch, train.py", "ratio",
         "all epochs, classic"),
        [(name, f"{net['parameters']:,}", f"{net['classic']:.1f} s", f"{net['ours']:.1f} s",
          f"{net['ratio']:.1f}", f"{net['epochs'] * net['classic']:.0f} s for {net['epochs']}")
         for name, net in speed["nets"].items()])
    whole = speed["command"]
    commands = utils.table(
        ("command", "from start to last plot", "of it training", "until the first step",
         "memory at its peak"),
        [(f"`{whole['line']}`", f"{whole['wall']:.0f} s", f"{whole['training']:.0f} s",
          f"{whole['start']:.1f} s", f"{whole['peak_bytes'] / 1e9:.2f} GB")])
    return (f"{epochs}\n{commands}\nMedians, rounds: {speed['rounds']}; epochs on "
            f"1/{speed['part']} of the images and scaled up; {speed['machine']}, "
            f"{speed['threads']} threads, torch {speed['torch'].split('+')[0]}, {speed['date']}.\n")


def student_t(n):
    """How many standard errors a 95 % interval for the mean of n values reaches to each side."""
    return T[max(size for size in T if size <= n)]


def verdict(net):
    """What the best epochs of our seeds say about the published best epoch."""
    best = [run["best_test_acc"] for run in net["own"]]
    if net["reconstructed"]:
        return "none: reconstructed"
    if len(best) < 5:
        return f"{len(best)} of 5 runs done" if best else "not run yet"
    gap = float(net["best"]) - statistics.mean(best)
    # One more run of ours lies nearer than this to their mean in 95 % of cases.
    noise = student_t(len(best)) * (1 + 1 / len(best)) ** 0.5 * statistics.stdev(best)
    if gap > noise:
        return f"optimistic by {gap:.2f}"
    return f"pessimistic by {-gap:.2f}" if gap < -noise else "reproduced"


def baselines_table():
    """The published nets, as published and as trained here; a dash for what is not there."""
    lines = []
    for net in baselines():
        own, path = net["own"], ROOT / "baselines" / f"{net['net'].lower()}.py"
        source = f"[{net['source']}]({net['address']})" if net["address"] else net["source"]
        extremes = train_acc = seconds = "–"
        if own:
            last = [run["test_acc"] for run in own]
            extremes = f"{min(last):.2f} to {max(last):.2f}"
            train_acc = f"{mean(own, 'train_acc'):.2f}"
            seconds = f"{statistics.mean(run['seconds'] / run['epochs'] for run in own):.0f} s"
        lines.append((
            f"[{net['net']}]({path.name}), {source}", *cost_cells(path), net["best"],
            net["last"] or "–", spread(own), extremes, spread(own, "best_test_acc"), held(own),
            f"{net['train'] or '–'}, {train_acc}", seconds, verdict(net)))
    return utils.table((
        "net, source", *COST, "published: best (%)", "last (%)", "here: last epoch",
        "lowest to highest", "best epoch", "hold 99.4 %", "training (%): published, here",
        "an epoch", "verdict"), lines)


def points_table():
    """How many points the epoch, the seed and the recipe are worth in the published nets."""
    nets = {net["net"]: net for net in baselines()
            if len(net["own"]) >= 5 and not net["reconstructed"]}
    last = {name: mean(net["own"]) for name, net in nets.items()}
    best = {name: mean(net["own"], "best_test_acc") for name, net in nets.items()}
    published_best = {name: float(net["best"]) for name, net in nets.items()}
    by_model3 = {name: mean(net["model3"]) for name, net in nets.items() if net["model3"]}
    deviation = {name: statistics.stdev(run["test_acc"] for run in net["own"])
                 for name, net in nets.items()}
    lines = []
    for what, ours, less, form in (
            ("the best epoch less the last", best, last, "+.2f"),
            ("the published best epoch less ours", published_best, best, "+.2f"),
            ("standard deviation over seeds, last epoch", deviation, {}, ".2f"),
            ("Model 3's recipe less its own, last epoch", by_model3, last, "+.2f")):
        points = {name: ours[name] - less.get(name, 0) for name in ours}
        extremes = min(points, key=points.get), max(points, key=points.get)
        lines.append((what, len(points), f"{statistics.mean(points.values()):{form}}",
                      *(f"{points[name]:{form}} ({name})" for name in extremes)))
    return utils.table(("points of accuracy", "nets", "mean", "lowest", "highest"), lines)


def changes_table(section):
    """What was tried: the held-out runs without a change, those with it, the verdict."""
    runs = {}
    for row in utils.read_csv(ROOT / "results" / "earlier.csv"):
        row["val_acc"] = float(row["val_acc"])
        runs.setdefault(row["experiment"], []).append(row)

    def outcome(name):
        if name in runs:
            return spread(runs[name], "val_acc")
        folds = [runs[f"{name}; fold={fold}"][0] for fold in (0, 3)]  # one run each
        losses = " / ".join(f"{float(row['val_loss']):.4f}" for row in folds)
        accuracies = " / ".join(f"{row['val_acc']:.2f}" for row in folds)
        return f"{losses}, {accuracies} %"

    lines = []
    for row in utils.read_csv(ROOT / "results" / "changes.csv"):
        if row["section"] == section:
            before, after = (", ".join(map(outcome, row[side].split(" | ")))
                             for side in ("before", "after"))
            lines.append((row["change"], before, after, row["verdict"]))
    return utils.table(("change", "before", "after", "verdict"), lines)


def experiments():
    """{name: {(seed, fold): (loss, accuracy)}} of experiments.csv."""
    runs = {}
    for row in utils.read_csv(ROOT / "results" / "experiments.csv"):
        judged = float(row["val_loss"]), float(row["val_acc"])
        runs.setdefault(row["name"], {})[row["seed"], row["fold"]] = judged
    return runs


def difference(gaps, form, unit=""):
    """The differences of paired runs, or, of more than two, their mean and half a 95 % interval."""
    if len(gaps) < 3:
        return ", ".join(f"{gap:{form}}" for gap in gaps) + unit
    gap = statistics.mean(gaps)
    reach = student_t(len(gaps)) * statistics.stdev(gaps) / len(gaps) ** 0.5
    words = f"{gap:{form}} ± {reach:{form[1:]}}{unit}"
    return words if abs(gap) > reach else f"{words}, not told from 0"


def ladder_table(most=None):
    """What each change is worth: how much worse the held-out loss is without it, in percent, or how
    much the accuracy changes, in points. The largest come first."""
    runs, lines = experiments(), []
    for row in utils.read_csv(ROOT / "results" / "ladder.csv"):
        ours, theirs = runs[row["with"]], runs[row["without"]]
        pairs = [(theirs[key], ours[key]) for key in theirs if key in ours]
        if row["by"] == "loss":
            gaps = [100 * (without[0] / with_it[0] - 1) for without, with_it in pairs]
            cell, rank = difference(gaps, "+.0f", " %"), statistics.mean(gaps)
        else:
            gaps = [without[1] - with_it[1] for without, with_it in pairs]
            cell, rank = f"accuracy {difference(gaps, '+.2f', ' points')}", 0
        model = row["with"].partition(" on fresh")[0].partition(":")[0]
        lines.append((rank, (row["change"], row["why"], cell, f"{model}, {len(pairs)}",
                             row["models"])))
    lines.sort(key=lambda line: line[0], reverse=True)
    return utils.table(("change", "why it helps", "without it, the held-out loss",
                        "measured in, pairs of runs", "models that have it"),
                       [line for _, line in lines[:most]])


def experiments_table(names):
    """Held-out experiments, each compared with the first in pairs of the same seed and fold."""
    runs = experiments()
    chosen = {}  # a dict keeps the order
    for pattern in names.split("|"):
        matching = fnmatch.filter(runs, " ".join(pattern.split()))
        if not matching:
            raise ValueError(f"experiments.csv has no run named {pattern.strip()!r}")
        chosen |= dict.fromkeys(matching)

    lines, reference = [], next(iter(chosen))
    model = reference.partition(":")[0]  # "Model 3" of "Model 3: as it is"
    for name in chosen:
        both = [key for key in runs[name] if key in runs[reference]]
        if not both:
            raise ValueError(f"{name!r} and {reference!r} have no seed and fold in common")
        line = [name.removeprefix(f"{model}: ")]
        for place, digits, unit in (0, 4, ""), (1, 2, " %"):
            ours, theirs = ([runs[each][key][place] for key in both] for each in (name, reference))
            gaps = [a - b for a, b in zip(ours, theirs)]
            cell = difference(gaps, f"+.{digits}f") if name != reference else ""
            line += [f"{statistics.mean(ours):.{digits}f}{unit}", cell]
        lines.append([*line, len(both)])
    return utils.table((f"{model}, held out", "cross-entropy", "difference", "accuracy",
                        "difference", "pairs"), lines)


def microcontrollers_table(rows="all"):
    """What nets need on a microcontroller; in README.md the best alone."""
    lines = []
    for net in utils.read_csv(ROOT / "results" / "microcontrollers.csv"):
        if rows == "best" and not net["best"]:
            continue
        up = "" if rows == "best" or "://" in net["source"] else "../"  # README.md is a level above
        cells = [f"[{net['net']}]({up}{net['source']})"]
        for key in ("constants", "flash", "ram", "accuracy", "takes", "input", "measured"):
            grouped = re.sub(r"\d{4,}", lambda number: f"{int(number[0]):,}", net[key])
            cells.append(grouped or "–")
        cells[4] += f" ({net['of']})" if net["of"] else ""
        lines.append(cells)
    return utils.table(("net", "constants (bytes)", "flash (bytes)", "RAM (bytes)",
                        "test accuracy (%)", "a digit takes", "wants", "measured on"), lines)


TABLES = {
    "results": results_table, "leaderboard": leaderboard_table,
    "best nets": lambda: leaderboard_table("", 6), "ladder": ladder_table,
    "five steps": lambda: ladder_table(5), "mistakes": mistakes_table,
    "robustness": robustness_table, "speed": speed_table, "baselines": baselines_table,
    "points": points_table, "counts": counts_table, "elsewhere": elsewhere_table,
    "compute": compute_table, "doubt": doubt_table,
    "microcontrollers": microcontrollers_table,
    "microcontrollers, the best": functools.partial(microcontrollers_table, "best")}


# ---- documents ---------------------------------------------------------------------------------
def with_tables(text):
    """A page with each of its tables as the files have it. Raises ValueError for a wrong name."""
    def fill(match):
        name = match[2]
        if name in TABLES:
            new = TABLES[name]()
        elif name.startswith("changes: "):
            new = changes_table(name.removeprefix("changes: "))
        elif name.startswith("receptive field of "):
            path = model_file(name.removeprefix("receptive field of "))
            new = utils.receptive_field_table(train.load_model_file(path)[1]())
        else:
            new = experiments_table(name)
        return f"{match[1]}{new}<!-- end -->"

    return re.sub(r"(<!-- table: (.+?) -->\n).*?<!-- end -->", fill, text, flags=re.DOTALL)


def texts():
    """{path: text as it should be} of the documents and tables that are written here."""
    pages = {path: with_tables((ROOT / path).read_text(encoding="utf-8")) for path in PAGES}
    for model in MODELS:
        runs = published(model)
        first, last = runs[0], runs[-1]["seed"]
        begin = f" --seed {first['seed']}" if first["seed"] else ""
        result = f"""
Result
    {spread(runs)} on the 10,000 test images in the last of {len(first["accuracy"])} epochs;
    lowest of any seed's last five epochs {min(run["last5_min"] for run in runs):.2f} %.
    Seeds with at least 99.4 % in each of these five: {held(runs)}.
    {first["params"]:,} parameters, {cost(ROOT / f"{model}.py")[1]:,} multiply-adds an image.
    torch {first["torch"]}, {first["device"]}, {first["threads"]} \
thread{"s" * (first["threads"] > 1)}, {duration(runs)} a run.
    Reproduce seeds {first["seed"]} to {last}: python train.py --model {model[-1]}{begin} \
--runs {len(runs)}

Analysis
"""
        text = (ROOT / f"{model}.py").read_text(encoding="utf-8")
        pages[f"{model}.py"] = re.sub(r"\nResult\n.*?\nAnalysis\n", lambda _: result, text,
                                      flags=re.DOTALL)
    for name in (*MODELS, *others()):
        pages[f"results/{name}/runs.csv"] = utils.csv_text([
            {key: run[key] for key in run if key not in ("accuracy", "args", "wrong")}
            for run in published(name)])
    return pages


def pictures():
    """{path: Figure} of the pictures that are drawn here."""
    ours = {name: published(name) for name in MODELS}
    further = {name: published(name) for name in others()}
    images, labels = utils.rendered_digits(n=50, seed=0)  # made here: there may be no MNIST
    five = utils.upright(images[labels == 5])[0].numpy()
    rows = utils.receptive_field(train.load_model_file("3")[1]())
    return {f"results/{name}/seeds.png": figures.seeds(name, ours[name]) for name in ours} | {
        "results/accuracy.png": figures.accuracy(ours, further, baselines()),
        "results/arithmetic.png": figures.arithmetic({
            net["name"]: (cost(net["path"]), net["model3"]) for net in all_nets()}),
        "results/receptive_field.png": figures.receptive_field(rows, five),
        "results/architecture.png": figures.architecture(rows),
        "results/training.png": figures.training(*(
            utils.read_csv(ROOT / "results" / "model3" / "seed0" / f"{name}.csv")
            for name in ("metrics", "learning_rate")), "Model 3, seed 0"),
        "baselines/published.png": figures.published(baselines())}


def update(check=False):
    """Write what is out of date, or with `check` nothing; returns its paths."""
    stale = {path: text for path, text in texts().items()
             if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text}
    drawings = {path: figure for path, figure in pictures().items()
                if figures.drawn(ROOT / path) != figures.digest(figure)}
    if not check:
        for path, text in stale.items():
            utils.write(ROOT / path, text)
        for path, figure in drawings.items():
            figures.draw(figure, ROOT / path)
    return [*stale, *drawings]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    try:
        paths = update(check)
    except (KeyError, ValueError, OSError, utils.UserError) as error:
        sys.exit(f"report.py: error: {type(error).__name__}: {error}")
    for path in paths:
        print(f"{'out of date' if check else 'written'}: {path}")
    return int(check and bool(paths))


if __name__ == "__main__":
    sys.exit(main())
