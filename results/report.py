"""Write the tables and figures of the documents from the nets and the files in this folder.

    python results/report.py           writes what is out of date
    python results/report.py --check   writes nothing; exit status 1 if anything is out of date
    python results/report.py "A | B"   prints how experiment B differs from A, in pairs of runs

In README.md, RF.md, CHANGELOG.md and the READMEs of baselines/ and results/ a table stands between
two comments, <!-- table: NAME --> and <!-- end -->. NAME is one of:

    results                           any key of TABLES below
    receptive field of model3         what each layer of a model sees
    changes: digits deskewed          a section of changes.csv, which names runs in earlier.csv
    Model 3: as it is | Model 3: *    experiments in experiments.csv. The first is the reference:
                                      the others, here all that match, are compared with it in pairs
                                      of runs of the same seed and fold

Written, too: runs.csv of each model and the pictures of figures.py. Prose is written by hand."""

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
PAGES = ("README.md", "RF.md", "CHANGELOG.md", "baselines/README.md", "results/README.md")
# Student's t by the number of values: 95 % of means lie within t of their standard errors.
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 10: 2.262, 20: 2.093}
# Test images whose label fewer than three of five people agreed with, according to "Pervasive Label
# Errors in Test Sets" (https://arxiv.org/abs/2103.14749).
DOUBTFUL = {947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729}


# ---- runs --------------------------------------------------------------------------------------
def read(name):
    """The rows of results/NAME.csv, as dicts of text."""
    return utils.read_csv(ROOT / "results" / f"{name}.csv")


def model_file(name):
    """The file of a net: NAME.py, in baselines/ or in results/."""
    paths = [folder / f"{name}.py" for folder in (ROOT, ROOT / "baselines", ROOT / "results")]
    return next((path for path in paths if path.exists()), paths[-1])


def seed_folders(folder):
    """The folders of runs in `folder`, in the order of their seeds."""
    return sorted(folder.glob("seed[0-9]*"), key=lambda each: (len(each.name), each.name))


def read_run(folder):
    """The figures of the run in a folder: accuracies in percent, parameters, seconds. Raises
    UserError if it has not ended or is damaged."""
    try:
        args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
        rows = utils.read_csv(folder / "metrics.csv")
        wrong = [int(row["index"]) for row in utils.read_csv(folder / "mistakes.csv")]
        accuracy = [float(row["test_acc"]) for row in rows]
        size = args["parameters"]  # not there before the end
    except (OSError, ValueError, KeyError) as error:
        raise utils.UserError(f"{folder}: unfinished or damaged: {train.describe(error)}") from None
    first = sum(index < 5000 for index in wrong)
    return dict(
        seed=args["seed"], params=size, test_acc=accuracy[-1],
        test_loss=rows[-1]["test_loss"], last5_min=min(accuracy[-5:]),
        best_test_acc=max(accuracy), first_5000_acc=round(100 - first / 50, 2),
        last_5000_acc=round(100 - (len(wrong) - first) / 50, 2),
        train_acc=float(rows[-1]["train_acc"]),
        seconds=round(sum(float(row["seconds"]) for row in rows), 1),
        device=args["device"], threads=args["threads"], torch=args["torch"].split("+")[0],
        accuracy=accuracy, args=args, wrong=wrong)


def published(name):
    """A dict for each run in results/NAME that counts, in the order of their seeds."""
    runs = [read_run(folder) for folder in seed_folders(ROOT / "results" / name)]
    return [run for run in runs if run["seed"] >= FIRST_SEED.get(name, 0)]


def models():
    """The names of our nets with runs in results/, Models 1 to 3 first."""
    names = {path.parent.name for path in (ROOT / "results").glob("*/seed0")}
    return [*MODELS, *sorted(names - {*MODELS})]


def all_nets():
    """A dict for each net, ours before others': path of its file, its runs by its "own" recipe and
    by that of "model3", and its row of published.csv, if it is there."""
    runs = {}  # {(net, recipe): runs} of the table
    for row in read("baselines/runs"):
        wrong = [int(index) for index in row.pop("wrong").split()]
        row |= {key: float(row[key]) for key in row.keys() - {"net", "recipe", "torch"}}
        if wrong:  # older runs have not kept it
            row["wrong"] = wrong
        runs.setdefault((row["net"], row["recipe"]), []).append(row)

    rows = {row["net"].lower(): row for row in read("published")}
    recipe = train.load_model_file(model_file("model3"))[2]
    nets = []
    for name in dict.fromkeys([*models(), *(name for name, _ in runs)]):
        path = model_file(name)
        own = published(name) or runs.get((name, "own"), [])
        is_by_model3 = train.load_model_file(path)[2] == recipe
        model3 = own if is_by_model3 else runs.get((name, "model3"), [])
        nets.append(rows.get(name, {}) | dict(path=path, own=own, model3=model3))
    return nets


def baselines():
    """Those of all_nets() that others published, trained here by their recipes with five seeds."""
    return [net for net in all_nets() if "best" in net and len(net["own"]) >= 5]


@functools.cache
def cost(path):
    """(parameters, multiply-adds an image) of the net in a model file. A multiply-add is that of a
    weight and a value, in a convolution or a linear layer."""
    net = train.load_model_file(path)[1]().eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.zeros(1, 1, 28, 28))
    return train.count(net), counter.get_total_flops() // 2  # which counts two for one


# ---- statistics --------------------------------------------------------------------------------
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


def misread(runs):
    """The share of runs that misread each of the 10,000 test images; none where no run kept it."""
    wrong = [run["wrong"] for run in runs if "wrong" in run]
    counts = Counter(index for each in wrong for index in each)
    return [counts[index] / len(wrong) for index in range(10000)] if wrong else []


def beside(runs, model3):
    """'-0.070 ± 0.016': the points of accuracy that runs have more than Model 3's, image by image,
    and their standard error over the test images. '–' of Model 3 itself and where it is unknown
    which images were misread."""
    ours, theirs = misread(runs), misread(model3)
    if not ours or ours == theirs:
        return "–"
    gaps = [100 * (b - a) for a, b in zip(ours, theirs)]
    return f"{statistics.mean(gaps):+.3f} ± {statistics.stdev(gaps) / len(gaps) ** 0.5:.3f}"


def student_t(n):
    """How many standard errors a 95 % interval for the mean of n values reaches to each side."""
    return T[max(size for size in T if size <= n)]


def difference(gaps, form, unit=""):
    """The differences of paired runs, or, of more than two, their mean and half a 95 % interval."""
    if len(gaps) < 3:
        return ", ".join(f"{gap:{form}}" for gap in gaps) + unit
    gap = statistics.mean(gaps)
    reach = student_t(len(gaps)) * statistics.stdev(gaps) / len(gaps) ** 0.5
    words = f"{gap:{form}} ± {reach:{form[1:]}}{unit}"
    return words if abs(gap) > reach else f"{words}, not told from 0"


def verdict(net):
    """What the best epochs of our seeds say about the published best epoch."""
    best = [run["best_test_acc"] for run in net["own"]]
    if net["reconstructed"]:
        return "none: reconstructed"
    gap = float(net["best"]) - statistics.mean(best)
    # One more run of ours lies nearer than this to their mean in 95 % of cases.
    noise = student_t(len(best)) * (1 + 1 / len(best)) ** 0.5 * statistics.stdev(best)
    if abs(gap) <= noise:
        return "reproduced"
    return f"optimistic by {gap:.2f}" if gap > 0 else f"pessimistic by {-gap:.2f}"


# ---- tables: nets ------------------------------------------------------------------------------
COST = ("parameters", "kMAC", "time of 1 image (Model 3: 1)", "of 1,000")


def first_cells(path):
    """A link to a model file, as from a folder, and what the net costs, as table cells."""
    name, (parameters, macs) = path.relative_to(ROOT).as_posix(), cost(path)
    times = [(f"{float(row['image']):.1f}", f"{float(row['batch']):.1f}")
             for row in read("inference") if row["net"] == path.stem]
    image, batch = times[0] if times else ("–", "–")
    return [f"[{name}](../{name})", f"{parameters:,}", f"{macs / 1000:,.0f}", image, batch]


def results_table():
    """The models' runs on all training images."""
    lines, model3 = [], published("model3")
    for model in MODELS:
        path, runs = model_file(model), published(model)
        lowest = min(run["last5_min"] for run in runs)
        seconds = statistics.median(run["seconds"] for run in runs)
        lines.append((*first_cells(path), f"{mean(runs, 'train_acc'):.2f} %", spread(runs),
                      beside(runs, model3), f"{lowest:.2f} %", held(runs), f"{seconds:.0f} s"))
    return utils.table((
        "model", *COST, "training accuracy", "test accuracy, last epoch", "beside Model 3",
        "lowest of the last five", "seeds that hold 99.4 %", "time of a run"), lines)


def leaderboard_table(most=None):
    """The nets within the budget with three runs by Model 3's recipe or five by their own, the best
    by Model 3's first. most: of the lines."""
    nets = [net for net in all_nets() if cost(net["path"])[0] < utils.BUDGET
            and (len(net["model3"]) >= 3 or len(net["own"]) >= 5) and not net.get("reconstructed")]
    nets.sort(key=lambda net: mean(net["model3"] or net["own"]), reverse=True)
    lines, reference = [], published("model3")
    for net in nets[:most]:
        own, model3 = net["own"], net["model3"]
        lines.append((*first_cells(net["path"]), spread(model3), beside(model3, reference),
                      held(model3), spread(own), held(own)))
    return utils.table(("net", *COST, "by Model 3's recipe", "beside Model 3", "hold 99.4 %",
                        "by its own recipe", "hold 99.4 %"), lines)


def baselines_table():
    """The published nets, as published and as trained here; a dash for what is not there."""
    lines = []
    for net in baselines():
        own, (_, *costs) = net["own"], first_cells(net["path"])
        source = f"[{net['source']}]({net['address']})" if net["address"] else net["source"]
        last = [run["test_acc"] for run in own]
        seconds = statistics.mean(run["seconds"] / run["epochs"] for run in own)
        lines.append((
            f"[{net['net']}]({net['path'].name}), {source}", *costs, net["best"],
            net["last"] or "–", spread(own), f"{min(last):.2f} to {max(last):.2f}",
            spread(own, "best_test_acc"), held(own),
            f"{net['train'] or '–'}, {mean(own, 'train_acc'):.2f}", f"{seconds:.0f} s",
            verdict(net)))
    return utils.table((
        "net, source", *COST, "published: best (%)", "last (%)", "here: last epoch",
        "lowest to highest", "best epoch", "hold 99.4 %", "training (%): published, here",
        "an epoch", "verdict"), lines)


def counts_table():
    """How many runs of the published nets meet the target, at the end and throughout."""
    lines, nets = [], [net for net in baselines() if not net["reconstructed"]]
    small = [net for net in nets if int(net["parameters"]) < utils.BUDGET]
    for kind, recipe in ("own", "their own recipes"), ("model3", "Model 3's recipe"):
        for group, words in (nets, "all"), (small, "those below 8,000 parameters"):
            runs = [run for net in group for run in net[kind]]
            last = sum(run["test_acc"] >= utils.TARGET for run in runs)
            hold = sum(run["last5_min"] >= utils.TARGET for run in runs)
            lines.append((recipe, f"{words}, {len(group)}", len(runs), last, hold))
    return utils.table(("by", "published nets", "runs", "last epoch at 99.4 % or more",
                        "hold 99.4 %"), lines)


def points_table():
    """How many points the epoch, the seed and the recipe are worth in the published nets."""
    table, lines = {}, []  # table: {what: {net: points}}
    for net in baselines():
        own, model3, best = net["own"], net["model3"], mean(net["own"], "best_test_acc")
        if net["reconstructed"] or not model3:
            continue
        deviation = statistics.stdev(run["test_acc"] for run in own)
        for what, points in (
                ("the best epoch less the last", best - mean(own)),
                ("the published best epoch less ours", float(net["best"]) - best),
                ("standard deviation over seeds, last epoch", deviation),
                ("Model 3's recipe less its own, last epoch", mean(model3) - mean(own))):
            table.setdefault(what, {})[net["net"]] = points
    for what, points in table.items():
        form = "+.2f" if "less" in what else ".2f"
        extremes = min(points, key=points.get), max(points, key=points.get)
        lines.append((what, len(points), f"{statistics.mean(points.values()):{form}}",
                      *(f"{points[name]:{form}} ({name})" for name in extremes)))
    return utils.table(("points of accuracy", "nets", "mean", "lowest", "highest"), lines)


# ---- tables: held-out runs ---------------------------------------------------------------------
def experiments():
    """{name: {(seed, fold): (loss, accuracy in percent)}} of experiments.csv."""
    runs = {}
    for row in read("experiments"):
        judged = float(row["val_loss"]), float(row["val_acc"])
        runs.setdefault(row["name"], {})[row["seed"], row["fold"]] = judged
    return runs


def experiments_table(names):
    """Held-out experiments, each compared with the first in pairs of the same seed and fold. Raises
    KeyError for one without any."""
    runs = experiments()
    chosen = {}  # a dict keeps the order
    for pattern in names.split("|"):
        chosen |= dict.fromkeys(fnmatch.filter(runs, pattern.strip()) or [pattern.strip()])
    lines, reference = [], next(iter(chosen))
    model = reference.partition(":")[0]  # "Model 3" of "Model 3: as it is"
    for name in chosen:
        both = [key for key in runs.get(name, {}) if key in runs.get(reference, {})]
        if not both:
            raise KeyError(f"{name!r} has no run of a seed and fold of {reference!r}")
        line = [name.removeprefix(f"{model}: ")]
        for place, digits, unit in (0, 4, ""), (1, 2, " %"):
            values = [runs[name][key][place] for key in both]
            gaps = [value - runs[reference][key][place] for key, value in zip(both, values)]
            cell = difference(gaps, f"+.{digits}f") if name != reference else ""
            line += [f"{statistics.mean(values):.{digits}f}{unit}", cell]
        lines.append([*line, len(both)])
    return utils.table((f"{model}, held out", "cross-entropy", "difference", "accuracy",
                        "difference", "pairs"), lines)


def ladder_table(most=None):
    """What each change is worth: how much worse the held-out loss is without it, in percent, or how
    much the accuracy changes, in points. What is told from 0 comes first, the largest on top.
    most: of the lines."""
    runs, lines = experiments(), []
    for row in read("ladder"):
        ours, theirs = runs[row["with"]], runs[row["without"]]
        both = [key for key in theirs if key in ours]
        if row["by"] == "loss":
            gaps = [100 * (theirs[key][0] / ours[key][0] - 1) for key in both]
            cell, rank = difference(gaps, "+.0f", " %"), statistics.mean(gaps)
        else:
            gaps = [theirs[key][1] - ours[key][1] for key in both]
            cell, rank = f"accuracy {difference(gaps, '+.2f', ' points')}", 0
        model = re.split(":| on fresh", row["with"])[0]
        pairs = f"{model}, {len(both)}"
        told = "±" in cell and "not told" not in cell
        lines.append(((told, rank), row["change"], row["why"], cell, pairs, row["models"]))
    lines.sort(key=lambda line: line[0], reverse=True)
    return utils.table(("change", "why it helps", "without it, the held-out loss",
                        "measured in, pairs of runs", "models that have it"),
                       [line[1:] for line in lines[:most]])


def changes_table(section):
    """What was tried: the held-out runs without a change, those with it, the verdict."""
    runs = {}
    for row in read("earlier"):
        runs.setdefault(row["experiment"], []).append(row | dict(val_acc=float(row["val_acc"])))

    def outcome(name):
        if name in runs:
            return spread(runs[name], "val_acc")
        folds = [runs[f"{name}; fold={fold}"][0] for fold in (0, 3)]  # one run each
        losses = " / ".join(f"{float(row['val_loss']):.4f}" for row in folds)
        accuracies = " / ".join(f"{row['val_acc']:.2f}" for row in folds)
        return f"{losses}, {accuracies} %"

    lines = []
    for row in read("changes"):
        if row["section"] == section:
            before, after = (", ".join(map(outcome, row[side].split(" | ")))
                             for side in ("before", "after"))
            lines.append((row["change"], before, after, row["verdict"]))
    return utils.table(("change", "before", "after", "verdict"), lines)


# ---- tables: other measurements ----------------------------------------------------------------
def compute_table():
    """What was trained, in hours of a core and of a GPU, whose torch was 2.11."""
    ours = [read_run(path.parent) for path in (ROOT / "results").glob("*/seed*/args.json")]
    lines = []
    for words, runs in (("our nets, on all training images", ours),
                        ("published nets and Model 3's recipe", read("baselines/runs")),
                        ("held out, and others, to choose", read("experiments") + read("earlier"))):
        line = [words]
        for on_gpu in (False, True):
            seconds = [float(run["seconds"] or 0) * run.get("threads", 1) for run in runs
                       if run["torch"].startswith("2.11") == on_gpu]
            line += [len(seconds), f"{sum(seconds) / 3600:.1f}"]
        lines.append(line)
    return utils.table(("runs", "on a CPU", "core-hours", "on a GPU", "hours"), lines)


def mistakes_table():
    """Which test images the seeds of Model 3 misread."""
    runs = published("model3")
    shares = misread(runs)
    mostly = {index for index, share in enumerate(shares) if share >= 0.5}
    doubtful = sorted(mostly & DOUBTFUL)
    return utils.table((f"Model 3, {len(runs)} seeds", ""), [
        ("accuracy on the first 5,000 test images", spread(runs, "first_5000_acc")),
        ("accuracy on the last 5,000", spread(runs, "last_5000_acc")),
        ("images that some seed misreads", sum(share > 0 for share in shares)),
        ("images that at least half of the seeds misread", len(mostly)),
        ("images that all seeds misread", shares.count(1)),
        (f"of {len(DOUBTFUL)} images with a doubtful label, those that at least half misread",
         f"{len(doubtful)}: {', '.join(map(str, doubtful))}")])


def robustness_table():
    """Accuracy on changed test images and other digits, a line for each."""
    nets, lines = {}, []
    for row in read("robustness"):
        nets.setdefault(row["net"], []).append(row)
    _, _, *changes = row  # behind net and seed
    for change in changes:
        values = [[float(row[change]) for row in rows if row[change]] for rows in nets.values()]
        absent = "–" if any(values) else "not measured yet"
        cells = [f"{statistics.mean(each):.2f} ± {statistics.stdev(each):.2f}" if each else absent
                 for each in values]
        lines.append((change, *cells))
    return utils.table((f"%, {len(nets['Model 3'])} seeds", *nets), lines)


def csv_table(name):
    """results/NAME.csv as it is."""
    rows = read(name)
    return utils.table(rows[0].keys(), [row.values() for row in rows])


def speed_table():
    """An epoch of train.py beside the classic trainer's, and a whole command."""
    speed = json.loads((ROOT / "results" / "speed.json").read_text(encoding="utf-8"))
    lines = []
    for name, net in speed["nets"].items():
        whole = f"{net['epochs'] * net['classic']:.0f} s for {net['epochs']}"
        lines.append((name, f"{net['parameters']:,}", f"{net['classic']:.1f} s",
                      f"{net['ours']:.1f} s", f"{net['ratio']:.1f}", whole))
    epochs = utils.table(("net", "parameters", "an epoch, classic", "an epoch, train.py", "ratio",
                          "all epochs, classic"), lines)
    run = speed["command"]
    line = (f"`{run['line']}`", f"{run['wall']:.0f} s", f"{run['training']:.0f} s",
            f"{run['start']:.1f} s", f"{run['peak_bytes'] / 1e9:.2f} GB")
    command = utils.table(("command", "from start to last plot", "of it training",
                           "until the first step", "memory at its peak"), [line])
    return (f"{epochs}\n{command}\nMedians, rounds: {speed['rounds']}; epochs on "
            f"1/{speed['part']} of the images and scaled up; {speed['machine']}, "
            f"{speed['threads']} threads, torch {speed['torch'].split('+')[0]}, {speed['date']}.\n")


def microcontrollers_table(best=False):
    """What nets need on a microcontroller. best: only those marked so."""
    lines, nets = [], [net for net in read("microcontrollers") if net["best"] or not best]
    for net in nets:
        source = net["source"] if "://" in net["source"] else f"../{net['source']}"
        accuracy = f"{net['accuracy']} ({net['of']})" if net["of"] else net["accuracy"]
        line = [f"[{net['net']}]({source})"]
        for cell in (net["constants"], net["flash"], net["ram"], accuracy, net["takes"],
                     net["input"], net["measured"]):
            line.append(re.sub(r"\d{4,}", lambda number: f"{int(number[0]):,}", cell) or "–")
        lines.append(line)
    return utils.table(("net", "constants (bytes)", "flash (bytes)", "RAM (bytes)",
                        "test accuracy (%)", "a digit takes", "wants", "measured on"), lines)


TABLES = {
    "results": results_table, "leaderboard": leaderboard_table,
    "best nets": lambda: leaderboard_table(6), "baselines": baselines_table,
    "counts": counts_table, "points": points_table, "elsewhere": lambda: csv_table("elsewhere"),
    "ladder": ladder_table, "five steps": lambda: ladder_table(5), "compute": compute_table,
    "mistakes": mistakes_table, "robustness": robustness_table,
    "doubt": lambda: csv_table("doubt"), "speed": speed_table,
    "microcontrollers": microcontrollers_table,
    "microcontrollers, the best": lambda: microcontrollers_table(best=True)}


# ---- documents ---------------------------------------------------------------------------------
def with_tables(text):
    """A page with each of its tables as the files have it. Raises KeyError for a wrong name."""
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
    pages = {}
    for path in PAGES:
        pages[path] = with_tables((ROOT / path).read_text(encoding="utf-8"))
        if "/" not in path:  # no folder is above it
            pages[path] = pages[path].replace("](../", "](")
    for name in models():
        pages[f"results/{name}/runs.csv"] = utils.csv_text([
            {key: run[key] for key in run if key not in ("accuracy", "args", "wrong")}
            for run in published(name)])
    return pages


def pictures():
    """{path: Figure} of the pictures that are drawn here."""
    ours = {name: published(name) for name in models()}
    images, labels = utils.rendered_digits(n=50, seed=0)  # made here: there may be no MNIST
    five = utils.upright(images[labels == 5])[0].numpy()
    rows = utils.receptive_field(train.load_model_file("3")[1]())
    return {f"results/{name}/seeds.png": figures.seeds(name, ours[name]) for name in MODELS} | {
        "results/accuracy.png": figures.accuracy(ours, baselines()),
        "results/arithmetic.png": figures.arithmetic({
            net["path"].stem: (cost(net["path"]), net["model3"]) for net in all_nets()}),
        "results/receptive_field.png": figures.receptive_field(rows, five),
        "results/architecture.png": figures.architecture(rows),
        "results/training.png": figures.training(
            read("model3/seed0/metrics"), read("model3/seed0/learning_rate"), "Model 3, seed 0"),
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("names", nargs="?", metavar='"A | B"', help="print how B differs from A")
    args = parser.parse_args()
    if args.names:
        try:
            print(experiments_table(args.names), end="")
        except KeyError as error:
            parser.error(error.args[0])
        return 0
    paths = update(args.check)
    for path in paths:
        print(f"{'out of date' if args.check else 'written'}: {path}")
    return int(args.check and bool(paths))


if __name__ == "__main__":
    sys.exit(main())
