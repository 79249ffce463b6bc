"""Write the tables and figures of the documents from the nets and the files in this folder.

    python results/report.py           writes what is out of date
    python results/report.py --check   writes nothing; exit status 1 if anything is out of date

In README.md, RF.md, CHANGELOG.md and the READMEs of baselines/ and results/ a table stands between
two comments, <!-- table: NAME --> and <!-- end -->. NAME is one of:

    results                           any key of TABLES below
    receptive field of model3         what each layer of a model sees
    changes: digits upright           a section of changes.csv, which names runs in earlier.csv
    Model 3: as it is | Model 3: *    experiments in experiments.csv. The first is the reference:
                                      the others, here all that match, are compared with it in pairs
                                      of runs of the same seed and fold

Written, too: the Result paragraph of each model's docstring, runs.csv of each model, and the
pictures of figures.py. All other prose is written by hand."""

import argparse
import fnmatch
import json
import re
import statistics
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "results")]
import figures  # noqa: E402

import train  # noqa: E402
import utils  # noqa: E402

MODELS = ("model1", "model2", "model3")
FIRST_SEED = {"model2": 20}  # of those that count; the ones before had a say in the net's size
PAGES = ("README.md", "RF.md", "CHANGELOG.md", "baselines/README.md", "results/README.md")
# Test images whose label fewer than three of five people agreed with, according to "Pervasive Label
# Errors in Test Sets" (https://arxiv.org/abs/2103.14749).
DOUBTFUL = {947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729}


# ---- evidence ----------------------------------------------------------------------------------
def model_file(name):
    """The file of a model whose runs are in results/NAME."""
    path = ROOT / f"{name}.py"
    return path if path.exists() else ROOT / "results" / f"{name}.py"


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
    except (OSError, ValueError, KeyError) as error:
        raise utils.UserError(f"{folder}: unfinished or damaged: {train.describe(error)}") from None
    run = dict(
        seed=args["seed"], params=args["parameters"], test_acc=accuracy[-1],
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


def baselines():
    """The rows of published.csv, each with the runs of that net by recipe: "own", "model3"."""
    nets = utils.read_csv(ROOT / "results" / "published.csv")
    rows = utils.read_csv(ROOT / "results" / "baselines" / "runs.csv")
    for row in rows:
        row |= {key: float(row[key]) for key in row.keys() - {"net", "recipe", "torch"}}
    for net in nets:
        for recipe in ("own", "model3"):
            net[recipe] = [row for row in rows if row["recipe"] == recipe
                           and row["net"] == net["net"].lower()]
    return nets


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
    """'9 of 10': in how many runs each of the last five epochs met the target; '–' of none."""
    count = sum(run["last5_min"] >= utils.TARGET for run in runs)
    return f"{count} of {len(runs)}" if runs else "–"


def duration(runs):
    """'135 s', the mean time of a run; with the device if that is not one thread of a CPU."""
    seconds = f"{mean(runs, 'seconds'):.0f} s"
    devices = {(run["device"].partition(" ")[0], run["threads"]) for run in runs if "device" in run}
    others = [f"{device}, {threads} threads" for device, threads in sorted(devices - {("cpu", 1)})]
    return f"{seconds} ({'; '.join(others)})" if others else seconds


# ---- tables ------------------------------------------------------------------------------------
def net_line(path, parameters, runs, *more):
    """The cells of a net that both tables of our models have, and more after the accuracy."""
    return [f"[{path}]({path})", f"{parameters:,}", spread(runs), *more, held(runs), duration(runs)]


def results_table():
    """The models' runs on all training images."""
    lines = []
    for model in MODELS:
        runs = published(model)
        lowest = f"{min(run['last5_min'] for run in runs):.2f} %"
        lines.append(net_line(f"{model}.py", runs[0]["params"], runs, lowest))
    return utils.table(("model", "parameters", "test accuracy, last epoch",
                        "lowest of the last five", "seeds that hold 99.4 %", "time"), lines)


def leaderboard_table():
    """The nets within the budget with five runs by their own recipes, the best first."""
    nets = []
    for name in (*MODELS, *others()):
        runs = published(name)
        nets.append((model_file(name).relative_to(ROOT).as_posix(), runs[0]["params"], runs))
    for net in baselines():
        if not net["reconstructed"]:
            path = f"baselines/{net['net'].lower()}.py"
            nets.append((path, int(net["parameters"]), net["own"]))
    nets = [net for net in nets if net[1] < utils.BUDGET and len(net[2]) >= 5]
    nets.sort(key=lambda net: mean(net[2]), reverse=True)
    return utils.table(("net", "parameters", "test accuracy, last epoch", "seeds that hold 99.4 %",
                        "time"), [net_line(*net) for net in nets])


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
    """Accuracy on changed test images, a line for each change."""
    nets = utils.read_csv(ROOT / "results" / "robustness.csv")
    return utils.table(("test images (%)", *(net["net"] for net in nets)), [
        (change, *(f"{float(net[change]):.2f}" if net[change] else "–" for net in nets))
        for change in nets[0] if change != "net"])


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


def verdict(net):
    """What the best epochs of our seeds say about the published best epoch."""
    best = [run["best_test_acc"] for run in net["own"]]
    if net["reconstructed"]:
        return "none: reconstructed"
    if len(best) < 5:
        return f"{len(best)} of 5 runs done" if best else "not run yet"
    gap = float(net["best"]) - statistics.mean(best)
    # Where one more run lies in 95 % of cases: Student's t at 97.5 % for 20, 10 and 5 runs.
    t = 2.093 if len(best) >= 20 else 2.262 if len(best) >= 10 else 2.776
    noise = max(t * (1 + 1 / len(best)) ** 0.5 * statistics.stdev(best), 0.1)
    if gap > noise:
        return f"optimistic by {gap:.2f}"
    return f"surpassed by {-gap:.2f}" if gap < -noise else "reproduced"


def baselines_table():
    """The published nets, as published and as trained here; a dash for what is not there."""
    lines = []
    for net in baselines():
        own, theirs = net["own"], net["model3"]
        source = f"[{net['source']}]({net['address']})" if net["address"] else net["source"]
        extremes = train_acc = seconds = "–"
        if own:
            last = [run["test_acc"] for run in own]
            extremes = f"{min(last):.2f} to {max(last):.2f}"
            train_acc = f"{mean(own, 'train_acc'):.2f}"
            seconds = f"{statistics.mean(run['seconds'] / run['epochs'] for run in own):.0f} s"
        lines.append((
            f"[{net['net']}]({net['net'].lower()}.py), {source}", f"{int(net['parameters']):,}",
            net["best"], net["last"] or "–", spread(own), extremes, spread(own, "best_test_acc"),
            held(own), spread(theirs), held(theirs), f"{net['train'] or '–'}, {train_acc}", seconds,
            verdict(net)))
    return utils.table((
        "net, source", "parameters", "published: best (%)", "last (%)", "here: last epoch",
        "lowest to highest", "best epoch", "hold 99.4 %", "by Model 3's recipe: last epoch",
        "hold 99.4 %", "training (%): published, here", "an epoch", "verdict"), lines)


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


def experiments_table(names):
    """Held-out experiments, each compared with the first in pairs of the same seed and fold."""
    runs = {}  # {name: {(seed, fold): (loss, accuracy)}}
    for row in utils.read_csv(ROOT / "results" / "experiments.csv"):
        judged = float(row["val_loss"]), float(row["val_acc"])
        runs.setdefault(row["name"], {})[row["seed"], row["fold"]] = judged
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
            cell = ", ".join(f"{gap:+.{digits}f}" for gap in gaps)
            if len(gaps) > 2:  # the mean and its standard error, which fewer do not give
                error = statistics.stdev(gaps) / len(gaps) ** 0.5
                cell = f"{statistics.mean(gaps):+.{digits}f} ± {error:.{digits}f}"
            line += [f"{statistics.mean(ours):.{digits}f}{unit}", cell if name != reference else ""]
        lines.append([*line, len(both)])
    return utils.table((f"{model}, held out", "cross-entropy", "difference", "accuracy",
                        "difference", "pairs"), lines)


TABLES = dict(results=results_table, leaderboard=leaderboard_table, mistakes=mistakes_table,
              robustness=robustness_table, speed=speed_table, baselines=baselines_table,
              points=points_table, doubt=doubt_table)


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
    lowest of any seed's last five epochs {min(run["last5_min"] for run in runs):.2f} %; at least \
99.4 % in each of them: {held(runs)} seeds.
    {first["params"]:,} parameters, torch {first["torch"]}, {first["device"]}, \
{first["threads"]} thread{"s" * (first["threads"] > 1)},
    {mean(runs, "seconds"):.0f} s a run.
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
        "results/receptive_field.png": figures.receptive_field(rows, five),
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
