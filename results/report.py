"""Write the tables and figures of the documents, from the nets and the files in this folder:

    python results/report.py           writes RF.md, the README's tables and figures, the
                                       docstrings' Result paragraphs, each model's runs.csv and
                                       seeds.png, accuracy.png, and every accuracy that is quoted
                                       behind its experiment's name
    python results/report.py --check   writes nothing; exit status 1 if any of it is out of date"""

import argparse
import ast
import copy
import csv
import hashlib
import importlib
import json
import re
import statistics
import sys
import textwrap
from collections import Counter
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import utils  # noqa: E402

MODELS = ("model1", "model2", "model3")
RUNS = ("seed", "params", "test_acc", "last5_min", "best_test_acc", "first_5000_acc",
        "last_5000_acc", "train_acc", "seconds", "device", "precision", "threads", "torch")
# Test images whose label fewer than three of five people agreed with, according to "Pervasive Label
# Errors in Test Sets" (https://arxiv.org/abs/2103.14749).
DOUBTFUL = {947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729}
# What others' ideas are worth: idea, net, the experiment with it and the one without it.
C3 = "c3: recipe=model3"
IDEAS = (
    ("GELU instead of ReLU", "C3", C3, f"{C3}; nn.GELU() -> nn.ReLU()"),
    ("", "Model 3", "model3:", "model3: c16k6s3 v16 v16 v16 w16k3"),
    ("two skips", "C3", C3, C3 + "".join(f"; {text} ->" for text in (
        "self.skip1 = nn.Conv2d(10, 14, 1, bias=False)",
        "self.skip2 = nn.Conv2d(14, 12, 1, bias=False)",
        "+ F.interpolate(self.skip1(pooled), size=10)",
        "+ F.interpolate(self.skip2(first), size=6)"))),
    ("attention over channels", "C3", C3,
     f"{C3}; last * last.mean(dim=(2, 3), keepdim=True).sigmoid() -> last"),
    ("dropout 0.03", "C3", C3, f"{C3}; nn.Dropout(0.03) -> nn.Identity()"),
    ("label smoothing 0.02", "C3", C3, f"{C3}; label_smoothing=0.0"),
    ("", "Model 3", "model3:", "model3: label_smoothing=0.0"),
    ("augmentation", "C3", C3, f"{C3}; augment={{}}"),
    ("", "Model 3", "model3:", "model3: augment={}"),
)
QUOTING = ("README.md", "CHANGELOG.md", "model1.py", "model2.py", "model3.py")


# ---- receptive field ---------------------------------------------------------------------------
def receptive_field(net):
    """One dict for each layer with a kernel or weights, in the order in which they run: layer,
    kernel, stride, padding, channels, size_in, size_out, rf_in, rf_out, jump (the distance between
    neighbouring outputs; sizes and distances in input pixels) and parameters (those of a BatchNorm
    count with the convolution before it).

    The recurrence of https://distill.pub/2019/computing-receptive-fields, for a net that is a
    chain of layers."""
    rows, net = [], copy.deepcopy(net).cpu().eval()

    def record(module, inputs, output):
        parameters = sum(p.numel() for p in module.parameters())
        if isinstance(module, nn.BatchNorm2d):
            [row for row in rows if row["layer"] == "Conv2d"][-1]["parameters"] += parameters
            return
        rf, jump = (rows[-1]["rf_out"], rows[-1]["jump"]) if rows else (1, 1)
        size_in, size_out = (x.shape[-1] if x.dim() == 4 else 1 for x in (inputs[0], output))
        if isinstance(module, nn.AdaptiveAvgPool2d):  # one output, so its kernel is the whole map
            kernel, stride, padding = size_in, size_in, 0
        else:  # a Linear layer has no kernel: it sees the one pixel there is
            kernel, stride, padding = (
                value[0] if isinstance(value, tuple) else value for value in (
                    getattr(module, name, default) for name, default in
                    (("kernel_size", 1), ("stride", 1), ("padding", 0))))
        rows.append(dict(layer=type(module).__name__, kernel=kernel, stride=stride,
                         padding=padding, channels=output.shape[1], size_in=size_in,
                         size_out=size_out, rf_in=rf, rf_out=rf + (kernel - 1) * jump,
                         jump=jump * stride, parameters=parameters))

    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d,
                               nn.AdaptiveAvgPool2d, nn.Linear)):
            module.register_forward_hook(record)
    net(torch.zeros(1, 1, 28, 28))
    return rows


def rf_page():
    """The text of RF.md."""
    parts = [RF_INTRODUCTION]
    for model in MODELS:
        rows = receptive_field(load_net(model))
        parts.append(f"## {model}.py\n\n" + table(
            ("layer", "kernel", "stride", "padding", "input", "output", "RF in", "RF out", "jump",
             "parameters"),
            [(f"{i} {row['layer']}", row["kernel"], row["stride"], row["padding"],
              f"{row['size_in']}×{row['size_in']}",
              f"{row['channels']}×{row['size_out']}×{row['size_out']}",
              row["rf_in"], row["rf_out"], row["jump"], f"{row['parameters']:,}")
             for i, row in enumerate(rows, 1)])
            + f"\nReceptive field at the logits: {rows[-1]['rf_out']} pixels. "
              f"Parameters: {sum(row['parameters'] for row in rows):,}.\n")
    return "\n".join(parts)


RF_INTRODUCTION = """# Receptive fields

Computed from the nets by `python results/report.py`; do not edit. A test compares each window
with the input pixels that a unit's gradient really reaches.

The receptive field (RF) is the side of the square of input pixels that one output value can see; a
layer widens it by (kernel − 1) × jump. The jump is how many input pixels lie between
neighbouring outputs: a 2×2 pool doubles it, a stride of 3 triples it, and with it what every later
layer adds. A digit fills about 20 of the 28 pixels, so units with an RF of 20 or more can see one
whole; an RF beyond 28 means that the window of the outermost units hangs over the edge and sees
zeros there. Padding changes a map's size, not its RF. Activations and Dropout change neither and
are left out; a BatchNorm's parameters are counted with the convolution before it.
"""


# ---- evidence ----------------------------------------------------------------------------------
def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def seed_folders(model):
    """The folders of a model's runs under results/, in the order of their seeds."""
    folders = [folder for folder in (ROOT / "results" / model).glob("seed*")
               if folder.name[4:].isdigit() and (folder / "metrics.csv").exists()]
    return sorted(folders, key=lambda folder: int(folder.name[4:]))


def published(model):
    """One dict for each run of a model under results/, in the order of their seeds."""
    runs = []
    for folder in seed_folders(model):
        args = json.loads((folder / "args.json").read_text())
        rows = read_csv(folder / "metrics.csv")
        accuracy, times = ([float(row[key]) for row in rows] for key in ("test_acc", "seconds"))
        runs.append(dict(
            seed=args["seed"], params=args["parameters"], test_acc=accuracy[-1],
            last5_min=min(accuracy[-5:]), best_test_acc=max(accuracy),
            train_acc=float(rows[-1]["train_acc"]),
            seconds=round(sum(times), 1), device=args["device"], precision="float32",
            threads=args["threads"], torch=args["torch"].split("+")[0], epochs=len(rows),
            accuracy=accuracy, times=times))
        if (folder / "mistakes.csv").exists():
            wrong = [int(row["index"]) for row in read_csv(folder / "mistakes.csv")]
            first = sum(index < 5000 for index in wrong)
            runs[-1] |= dict(wrong=wrong, first_5000_acc=round(100 - first / 50, 2),
                             last_5000_acc=round(100 - (len(wrong) - first) / 50, 2))
    return runs


def runs_table(model):
    """The text of a model's runs.csv: a line for each seed."""
    lines = [",".join(RUNS)]
    for run in published(model):
        lines.append(",".join(f'"{run[key]}"' if key == "device" else str(run[key])
                              for key in RUNS))
    return "\n".join(lines) + "\n"


def spread(values):
    """'99.53 ± 0.02 % (n=3)', the mean and the sample standard deviation; '99.53 % (n=1)'."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation} % (n={len(values)})"


def results_table():
    lines = []
    for model in MODELS:
        runs = published(model)
        lines.append((
            f"[{model}.py]({model}.py)", f"{runs[0]['params']:,}",
            spread([run["test_acc"] for run in runs]),
            f"{min(run['test_acc'] for run in runs):.2f} %",
            f"{min(run['last5_min'] for run in runs):.2f} %", held(runs),
            f"{statistics.mean(run['seconds'] for run in runs):.0f} s"))
    return table(("model", "parameters", "test accuracy, last epoch", "lowest seed",
                  "lowest of the last five epochs, all seeds",
                  "seeds at 99.4 % in each of them", "training time"), lines)


def held(runs):
    """'9 of 10': in how many runs every one of the last five epochs met the target."""
    return f"{sum(run['last5_min'] >= utils.TARGET for run in runs)} of {len(runs)}"


def result_paragraph(model):
    """The Result paragraph of a model file's docstring."""
    runs = published(model)
    first, n = runs[0], len(runs)
    seeds = "seed 0" if n == 1 else f"seeds 0 to {n - 1}"
    return f"""\
    {spread([run["test_acc"] for run in runs])} on the 10,000 test images in the last of \
{first["epochs"]} epochs;
    lowest of any seed's last five epochs {min(run["last5_min"] for run in runs):.2f} %; at least \
99.4 % in each of them: {held(runs)} seeds.
    {first["params"]:,} parameters, torch {first["torch"]}, {first["device"]}, \
{first["threads"]} thread{"s" * (first["threads"] > 1)},
    {statistics.mean(run["seconds"] for run in runs):.0f} s a run.
    Reproduce {seeds}: python train.py --model {model[-1]}{f" --runs {n}" * (n > 1)}
"""


def held_out():
    """{experiment: val_acc of its seeds} of every run on held-out training images."""
    accuracy = {}
    for row in [*read_csv(ROOT / "results" / "experiments.csv"),
                *read_csv(ROOT / "results" / "ideas.csv")]:
        accuracy.setdefault(row["experiment"], []).append(float(row["val_acc"]))
    return accuracy


def mistakes_section():
    """The figures of the README's section on Model 3's mistakes."""
    runs = published("model3")
    n, count = len(runs), Counter(index for run in runs for index in run["wrong"])
    always, mostly = ({index for index, times in count.items() if times >= least}
                      for least in (n, n / 2))
    halves = [spread([run[key] for run in runs]) for key in ("first_5000_acc", "last_5000_acc")]
    doubtful = sorted(mostly & DOUBTFUL)
    return f"""\
On the first 5,000 test images Model 3 reaches {halves[0]}, on the last 5,000, which other
people wrote, {halves[1]}. Over {n} seeds {len(count)} images are misread at least once,
{len(mostly)} of them by at least half of the seeds and {len(always)} by all. Among those \
{len(mostly)} are {len(doubtful)} of the {len(DOUBTFUL)}
test images whose label most people, asked anew, do not confirm
([Northcutt et al.](https://arxiv.org/abs/2103.14749)): {", ".join(map(str, doubtful))}.
"""


# ---- the published nets, trained here ----------------------------------------------------------
def baseline_runs():
    """{(net, recipe): its runs' lines of results/baselines/runs.csv}; recipe "own" or "model3"."""
    runs, path = {}, ROOT / "results" / "baselines" / "runs.csv"
    for row in read_csv(path) if path.exists() else []:
        net, _, change = row["experiment"].partition(":")
        key = net, change.strip().removeprefix("recipe=") or "own"
        runs.setdefault(key, []).append(row)
    return runs


def verdict(claimed, best):
    """What our seeds' best epochs say about the accuracy that is published as a best epoch's."""
    if len(best) < 5:
        return "open"
    gap, noise = claimed - statistics.mean(best), max(2 * statistics.stdev(best), 0.1)
    if gap > 0.5:
        return "not reproduced"
    return (f"optimistic by {gap:.2f}" if gap > noise else
            f"surpassed by {-gap:.2f}" if gap < -noise else "reproduced")


def baselines_tables():
    """For baselines/README.md: the nets that were trained here, and what each file assumes."""
    runs, figures, assumed = baseline_runs(), [], []
    for net in read_csv(ROOT / "results" / "published.csv"):
        path = ROOT / "baselines" / f"{net['net'].lower()}.py"
        if not path.exists():
            continue
        epoch = " (epoch not stated)" * ("which epoch is not stated" in net["note"])
        cells = f"[{net['net']}]({path.name})", f"{int(net['parameters']):,}", \
            net["best"] + epoch, net["last"] or "not stated"
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assumed.append((*cells, " ".join(docstring.split()).partition("Assumed: ")[2]))
        if (path.stem, "own") in runs:
            own, ours = runs[path.stem, "own"], runs.get((path.stem, "model3"), [])
            last, best = ([float(run[key]) for run in own] for key in ("test_acc", "best_test_acc"))
            seconds = statistics.mean(float(run["seconds"]) / int(run["epochs"]) for run in own)
            figures.append((
                *cells, spread(last), f"{min(last):.2f} to {max(last):.2f}", spread(best),
                spread([float(run["test_acc"]) for run in ours]) if ours else "–",
                f"{seconds:.0f} s", verdict(float(net["best"]), best)))
    header = "net", "parameters", "published: best epoch (%)", "published: last epoch (%)"
    return table((*header, "own recipe, last epoch", "lowest to highest seed",
                  "own recipe, best epoch", "Model 3's recipe, last epoch",
                  "an epoch, on one core of two busy ones", "verdict on net and assumptions"),
                 figures) + "\n" if figures else "", table((*header, "assumed"), assumed)


def baselines_reading():
    """For baselines/README.md: what picking an epoch, the seed and the recipe are worth."""
    claimed = {net["net"].lower(): float(net["best"]) for net in
               read_csv(ROOT / "results" / "published.csv")}
    last, best = ({key: [float(run[column]) for run in runs] for key, runs in
                   baseline_runs().items()} for column in ("test_acc", "best_test_acc"))
    own = sorted(net for net, recipe in last if recipe == "own")
    picked = [b - a for net in own for a, b in zip(last[net, "own"], best[net, "own"])]
    several = [last[net, "own"] for net in own if len(last[net, "own"]) > 1]
    lucky = [max(best[net, "own"]) - statistics.mean(last[net, "own"]) for net in own
             if len(last[net, "own"]) > 4]
    excess = {net: claimed[net] - statistics.mean(best[net, "own"]) for net in own}
    ours = {net: statistics.mean(last[net, "model3"]) - statistics.mean(last[net, "own"])
            for net in own if (net, "model3") in last}
    lines = []
    if picked:
        lines.append(f"**The best epoch** on the test set is {statistics.mean(picked):.2f} points "
                     f"above the last on average, at most {max(picked):.2f} (nets: {len(own)}, "
                     f"runs: {len(picked)}; each by its own recipe).")
    if several:
        pooled = (sum(statistics.variance(each) * (len(each) - 1) for each in several)
                  / sum(len(each) - 1 for each in several)) ** 0.5
        lines.append(f"**The seed** alone moves the last epoch by a standard deviation of "
                     f"{pooled:.2f} points (pooled; nets with several seeds: {len(several)}).")
    if lucky:
        lines.append(f"**Both together**, the best epoch of the best seed, are "
                     f"{statistics.mean(lucky):.2f} points above the mean last epoch (nets "
                     f"with five seeds: {len(lucky)}).")
    if excess:
        low, high = (pick(excess, key=excess.get) for pick in (min, max))
        lines.append(f"**The published best epochs** differ from the mean best epochs here by "
                     f"{excess[low]:+.2f} ({low.upper()}) to {excess[high]:+.2f} points "
                     f"({high.upper()}).")
    failed = [net for net in ours if statistics.mean(last[net, "model3"]) < 50]
    ours = {net: gain for net, gain in ours.items() if net not in failed}
    if ours:
        low, high = (pick(ours, key=ours.get) for pick in (min, max))
        lines.append(f"**The recipe:** Model 3's instead of a net's own moves the mean last epoch "
                     f"by {ours[low]:+.2f} ({low.upper()}) to {ours[high]:+.2f} points "
                     f"({high.upper()}), {statistics.mean(ours.values()):+.2f} on average (nets: "
                     f"{len(ours)})." + "".join(
                         f" {net.upper()} learns nothing by it." for net in failed))
    small = [net for net in own if len(last[net, "own"]) > 4
             and int(baseline_runs()[net, "own"][0]["parameters"]) < utils.BUDGET]
    if small:
        model3 = published("model3")
        top = max(small, key=lambda net: statistics.mean(last[net, "own"]))
        seconds = [statistics.mean(float(run["seconds"]) for run in runs)
                   for runs in (baseline_runs()[top, "own"], model3)]
        lines.append(f"**Beside Model 3**, {spread([run['test_acc'] for run in model3])}, the most "
                     f"accurate net within the budget that has five seeds is {top.upper()}, "
                     f"{spread(last[top, 'own'])} by its own recipe, in "
                     f"{seconds[0] / seconds[1]:.0f} times the training time.")
    return "\n\n".join(textwrap.fill(line, 100) for line in lines) + "\n" * bool(lines)


def ideas_table():
    """For baselines/README.md: what the published nets' ideas are worth under one recipe."""
    accuracy, lines = held_out(), []
    for idea, net, present, absent in IDEAS:
        with_it, without = accuracy[present], accuracy[absent]
        error = sum(statistics.variance(each) / len(each) for each in (with_it, without)) ** 0.5
        gain = round(statistics.mean(with_it) - statistics.mean(without), 2) + 0.0  # never -0.00
        lines.append((idea, net, spread(with_it), spread(without), f"{gain:+.2f} ± {error:.2f}"))
    return table(("idea", "net", "with it", "without it", "difference, ± standard error"), lines)


# ---- figures -----------------------------------------------------------------------------------
def seeds_figure(model):
    """Test accuracy over the epochs, a line for each seed."""
    runs = published(model)
    lines = {run["seed"]: (range(1, run["epochs"] + 1), run["accuracy"]) for run in runs}
    figure = utils.plot(f"{model}, {runs[0]['params']:,} parameters, {len(runs)} seeds", "epoch",
                        "test accuracy (%)", lines)
    axes = figure.axes[0]
    axes.get_legend().remove()
    axes.axhline(utils.TARGET, color="black", linestyle="--", linewidth=1)
    axes.set_ylim(98.4, 99.8)
    for line in axes.get_lines():
        line.set(linewidth=1, alpha=0.7)
    return figure


def accuracy_figure():
    """Accuracy against parameters: our models' seeds, what others publish, and their nets here."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.add_subplot(xlabel="parameters (log scale)", ylabel="test accuracy (%)",
                              xscale="log", title="MNIST with few parameters")
    nets = read_csv(ROOT / "results" / "published.csv")
    for key, marker, label in (("best", "^", "published: one run, its best epoch"),
                               ("last", "v", "published: one run, its last epoch")):
        points = [(int(net["parameters"]), float(net[key])) for net in nets if net[key]]
        axes.plot(*zip(*points), marker, color="tab:gray", alpha=0.7, label=label,
                  fillstyle="full" if key == "last" else "none")

    def name(parameters, accuracy, text, color, offset, side):
        if accuracy < 98.88:  # off the scale
            accuracy, text, side = 98.88, f"{text}: {accuracy:.2f} % ↓", "left"
            offset = 4, 14 if color == "black" else 4
        axes.annotate(text, (parameters, accuracy), fontsize=7, xytext=offset, ha=side,
                      textcoords="offset points", color=color)

    for net in nets:
        name(int(net["parameters"]), float(net["best"]), net["net"], "tab:gray",
             (4, 4), "left")
    here = {net: [float(run["test_acc"]) for run in runs]
            for (net, recipe), runs in baseline_runs().items() if recipe == "own"}
    sizes = {net["net"].lower(): int(net["parameters"]) for net in nets}
    x, bars = float("inf"), []
    for net in sorted(here, key=sizes.get, reverse=True):
        x = min(0.99 * sizes[net], 0.985 * x)
        mean, most = statistics.mean(here[net]), max(here[net])
        bars.append((x, mean, mean - min(here[net]), most - mean))
        name(x, most if mean > 98.88 else mean, net.upper(), "black", (0, 3), "center")
    if bars:
        x, mean, *bars = zip(*bars)
        axes.errorbar(x, mean, bars, marker="s", markersize=4, capsize=2, color="black",
                      linestyle="none", label="the same nets here, drawn 1 to 3 % to the left:\n"
                      "last epoch, mean and range of the seeds")
    for model, color in zip((*MODELS, "deep"), ("tab:blue", "tab:orange", "tab:red", "tab:purple")):
        runs = published(model)
        values = [run["test_acc"] for run in runs]
        mean = statistics.mean(values)
        axes.errorbar(runs[0]["params"], mean, [[mean - min(values)], [max(values) - mean]],
                      marker="o", capsize=4, color=color, linestyle="none",
                      label=f"{model}.py: last epoch, mean and range of {len(runs)} seeds")
    axes.axhline(utils.TARGET, color="black", linestyle="--", linewidth=1, zorder=0,
                 label="target and budget of the task")
    axes.axvline(utils.BUDGET, color="black", linestyle="--", linewidth=1, zorder=0)
    ticks = (2000, 4000, 8000, 16000)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlim=(3000, 17000), ylim=(98.86, 99.7))
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return figure


def figures():
    """{path: Figure} of the pictures that show more than one run."""
    return {f"results/{model}/seeds.png": seeds_figure(model) for model in MODELS} | {
        "results/accuracy.png": accuracy_figure()}


def digest(figure):
    """What a figure shows, as a short hash: pixels differ between versions of matplotlib."""
    axes = figure.axes[0]
    shown = [axes.get_title(), *(text.get_text() for text in axes.texts)]
    shown += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    shown += [line.get_xydata().round(3).tolist() for line in axes.get_lines()]
    shown += [[path.vertices.round(3).tolist() for path in collection.get_paths()]
              for collection in axes.collections]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def drawn(path):
    """The digest of the figure in a file, None where there is no such file."""
    try:
        with Image.open(ROOT / path) as image:
            return image.text.get("Description")
    except FileNotFoundError:
        return None


# ---- documents ---------------------------------------------------------------------------------
def speed_section():
    """The figures of the README's section on speed, from speed.json."""
    speed = json.loads((ROOT / "results" / "speed.json").read_text())
    epoch, command, growth, runs = (speed[key] for key in ("epoch", "command", "growth", "runs"))
    lines = [(name, *(f"{value:.2f} s" for value in values), f"{values[0] / values[1]:.1f}")
             for name, values in [(phase, [epoch["phases"][side][phase] for side in
                                           ("classic", "ours")]) for phase in
                                  epoch["phases"]["ours"]]]
    lines.append(("**whole epoch**", f"{epoch['classic']:.2f} s", f"{epoch['ours']:.2f} s",
                  f"**{epoch['ratio']:.1f}**"))
    steps = {name: ", ".join(f"{value:.1f} s for {int(key):,}" for key, value in series.items())
             for name, series in growth.items()}
    seeds = [run["times"] for run in published("model3")]
    times = [statistics.median(epoch) for epoch in zip(*seeds)]
    return table(("Model 3", "classic trainer", "train.py", "ratio"), lines) + f"""
Seconds an epoch: medians of {speed["rounds"]} rounds, each on 1/{speed["part"]} of the images and \
scaled up (C3's and Model 1's
below on 1/{5 * speed["part"]}); the last ratio is the median of the rounds' ratios. \
Below, the command is the
median of {speed["rounds"]} runs, the times over epochs and images of three; `--runs` was run once.
{speed["machine"]}, {speed["threads"]} threads, torch {speed["torch"].split("+")[0]}, \
{speed["date"]}.

- `python train.py --model 3`: {command["wall"]:.0f} s from start to last plot, \
{command["training"]:.0f} s of it training, {command["start"]:.1f} s until the first
  step; {command["peak_bytes"] / 1e9:.2f} GB of memory at its peak. The classic trainer takes \
{speed["c3"]["classic_15_epochs"]:.0f} s for 15 epochs of
  [C3](baselines/c3.py), a published net of 7,902 parameters (15 times the median epoch): \
{command["ratio"]:.0f} times as long.
  Most of that is the net and its batches of 64: on C3 itself an epoch of train.py takes \
{speed["c3"]["ours"]:.0f} s, of the
  classic trainer {speed["c3"]["classic"]:.0f} s.
- Training time grows with the epochs ({steps["epochs"]}) and with the
  images ({steps["images"]}; six epochs, each of which evaluates the
  images left out). Late epochs of a run take as long as early ones, so that growth out of \
proportion is
  the machine's: each of the {len(times)} takes {min(times):.1f} to {max(times):.1f} s, in the \
median of the {len(seeds)} published
  seeds, on one core of two busy ones.
- `--runs {runs["n"]}` takes {runs["wall"]:.0f} s, {runs["ratio"]:.2f} times as fast as \
{runs["n"]} runs one after the other, which use both cores already.
- Without `keep_memory()` in [utils.py](utils.py), which has the C library keep what a step
  frees, an epoch takes {epoch["without_keep_memory"]:.2f} times as long; one of Model 1, whose \
maps are larger, {speed["model1"]["without_keep_memory"]:.2f}
  times.
- Forward and backward could take {speed["attainable"]["arithmetic"]:.0%} of their time if the \
arithmetic went at the rate of a
  large matrix product, {speed["attainable"]["memory"]:.0%} if memory were all that counts. \
In bfloat16 they take {speed["bfloat16"]:.0%}: not worth
  an option.
"""


def quoted(text):
    """`text` with every figure behind an experiment's name in backticks brought up to date.

    "`model3: average=0.0` 99.31 ± 0.02 % (n=3)" quotes val_acc of that experiment's runs in
    experiments.csv or ideas.csv, "`results/deep` 99.53 ± 0.01 % (n=3)" the last epochs' test_acc
    of the runs in that folder. Raises KeyError for an experiment or a folder that is not there."""
    accuracy = held_out() | {
        f"results/{folder.name}": [run["test_acc"] for run in published(folder.name)]
        for folder in (ROOT / "results").iterdir() if folder.is_dir()}
    return re.sub(r"`((?:model\d|deep|idea|[a-f]\d):[^`]*|results/\w+)`(\s+)"
                  r"[\d.]+(?: ± [\d.]+)?\s%\s\(n=\d+\)",
                  lambda match: f"`{match[1]}`{match[2]}{spread(accuracy[match[1]])}", text)


def between(text, begin, end, new):
    """`text` with what stands between the markers `begin` and `end` replaced by `new`."""
    head, _, rest = text.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"no {begin!r} ... {end!r}")
    return head + begin + new + end + tail


def documents():
    """{path: text as it should be} of every document that quotes a number."""
    pages = {path: quoted((ROOT / path).read_text(encoding="utf-8")) for path in QUOTING}
    page = (ROOT / "baselines" / "README.md").read_text(encoding="utf-8")
    for name, text in zip(("figures", "assumed", "reading", "ideas"),
                          (*baselines_tables(), baselines_reading(), ideas_table())):
        page = between(page, f"<!-- {name} -->\n", f"<!-- end {name} -->", text)
    pages["baselines/README.md"] = page
    pages["README.md"] = between(pages["README.md"], "<!-- results -->\n", "<!-- end -->",
                                 results_table())
    pages["README.md"] = between(pages["README.md"], "<!-- speed -->\n", "<!-- end speed -->",
                                 speed_section())
    pages["README.md"] = between(pages["README.md"], "<!-- mistakes -->\n", "<!-- end mistakes -->",
                                 mistakes_section())
    for model in MODELS:
        pages[f"{model}.py"] = between(pages[f"{model}.py"], "\nResult\n", "\nAnalysis\n",
                                       result_paragraph(model))
        pages[f"results/{model}/runs.csv"] = runs_table(model)
    return pages | {"RF.md": rf_page()}


def load_net(model):
    return importlib.import_module(model).Net()


def table(header, lines):
    """A Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    try:
        stale = {path: text for path, text in documents().items()
                 if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text}
        pictures = {path: figure for path, figure in figures().items()
                    if drawn(path) != digest(figure)}
    except (KeyError, ValueError, OSError) as error:  # a name that no file has, a damaged file ...
        sys.exit(f"report.py: error: {type(error).__name__}: {error}")
    for path in [*stale, *pictures]:
        print(f"{'out of date' if check else 'written'}: {path}")
        if not check and path in stale:
            (ROOT / path).write_text(stale[path], encoding="utf-8")
        elif not check:
            pictures[path].savefig(ROOT / path, dpi=110, metadata=dict(
                Description=digest(pictures[path])))
    return int(check and bool(stale or pictures))


if __name__ == "__main__":
    sys.exit(main())
