"""The pictures that show more than one run, for report.py. Each function returns a Figure."""

import hashlib
import itertools
import json
import statistics
from types import SimpleNamespace

from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon, Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

import utils

COLORS = ("C0", "C1", "C3", "C4", "C5", "tab:olive")
BARS = "bars: ± the standard deviation over seeds"


def seeds(model, runs):
    """Test accuracy over the epochs, a line a seed."""
    last = len(runs[0]["accuracy"])
    epochs = range(1, last + 1)
    hold = sum(run["last5_min"] >= utils.TARGET for run in runs)
    figure = utils.new_figure(figsize=(7, 4.5))
    axes = figure.add_subplot(xlabel="epoch", ylabel="test accuracy (%)")
    axes.set_title(f"{model}.py, {runs[0]['params']:,} parameters: {hold} of {len(runs)} seeds "
                   f"hold {utils.TARGET} %", loc="left", fontsize=11)
    axes.fill_between([last - 4.4, last + 0.2], utils.TARGET, 100, color="tab:green", alpha=0.1,
                      linewidth=0)
    axes.text(last - 4.3, 99.745, "the target", color="tab:green", fontsize=9, va="top")
    for run in runs:
        axes.plot(epochs, run["accuracy"], color="0.75", linewidth=1, zorder=1)
    axes.set(xlim=(0.8, last + 1.7), ylim=(98.6, 99.75), xticks=epochs)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def accuracy(ours, baselines):
    """Accuracy against parameters: Models 1 to 3 large, our other nets small, the published ones as
    trained here pale; right, those just below 8,000 once more. ours: {name: runs}. baselines: those
    of report.py."""
    points = []
    for color, (name, runs) in zip(itertools.cycle(COLORS), ours.items()):
        net = point(runs[0]["params"], runs, f"{name}.py", 5, color)
        if name in ("model1", "model2", "model3"):
            net.words = f"{name.replace('model', 'Model ')}\n{net.y:.2f} ± {net.bar:.2f} %"
            net.size, net.font = 10, 11
        points.append(net)
    for net in baselines:
        words = f"{net['net']} (reconstructed)" if net["reconstructed"] else net["net"]
        points.append(point(int(net["parameters"]), net["own"], words, 4, "0.6"))
    low = [each for each in points if each.y < 98.9 and each.color == "0.6"]
    below = "".join(f"; {each.words} is at {each.y:.2f} %" for each in low)
    points = [each for each in points if each not in low]

    figure = utils.new_figure(figsize=(11, 5.5))
    axes, close = figure.subplots(1, 2, sharey=True, width_ratios=(2.2, 1))
    lowest, sizes = min(each.y - each.bar for each in points), [each.x for each in points]
    axes.set(xlabel="parameters (log scale)", ylabel="test accuracy in the last epoch (%)",
             xscale="log", ylim=(min(98.86, lowest - 0.05), 99.75),
             xlim=(min(3200, 0.9 * min(sizes)), max(17000, 1.1 * max(sizes))))
    close.set(xlabel="parameters, from 7,700 on", xlim=(7700, 8000))
    for each, ticks in ((axes, (4000, 6000, 8000, 10000, 12000, 16000)),
                        (close, (7700, 7800, 7900, 8000))):
        each.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        each.minorticks_off()
        each.spines[["top", "right"]].set_visible(False)
        each.axhline(utils.TARGET, color="tab:green", linewidth=0.7, zorder=0)
        each.axvline(utils.BUDGET, color="tab:green", linewidth=0.7, zorder=0)
    axes.text(3300, 99.735, "filled: all seeds stay at 99.4 % or above through\nthe last five "
              "epochs; the paler, the fewer", color="tab:green", fontsize=9, va="top")
    axes.text(16800, 98.87, f"grey: others' nets, trained here by their own recipes{below}\n{BARS}",
              color="0.5", fontsize=8, ha="right", va="bottom")
    in_crowd = [each for each in points if 7700 < each.x < 8000]
    draw_points(axes, points, [each for each in points if each not in in_crowd or each.size == 10])
    for each in in_crowd:
        each.words = each.words.partition("\n")[0]
    draw_points(close, in_crowd, in_crowd)
    return figure


def arithmetic(nets):
    """Accuracy against multiply-adds, all by Model 3's recipe: nets within the budget dark, larger
    ones pale. nets: {name: ((parameters, multiply-adds), runs)}."""
    figure = utils.new_figure(figsize=(9, 5.5))
    axes = figure.add_subplot(
        xlabel="thousands of multiply-adds an image (log scale)", xscale="log",
        ylabel="test accuracy in the last epoch (%)", xlim=(190, 5500), ylim=(99.2, 99.75))
    ticks = (200, 400, 800, 1600, 3200)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(utils.TARGET, color="tab:green", linewidth=1)
    axes.text(5400, utils.TARGET, "99.4 %", color="tab:green", ha="right", va="bottom", fontsize=9)
    axes.text(5400, 99.21, "all by Model 3's recipe; coloured: ours\ngrey: others' nets, pale if "
              f"of 8,000 parameters or more\n{BARS}", ha="right", va="bottom", fontsize=8,
              color="0.4")
    colors, points = itertools.cycle(COLORS), []  # the same as in accuracy()
    for name, ((parameters, macs), runs) in nets.items():
        color, words = next(colors), name.replace("model", "Model ")
        if len(name) == 2:  # another's
            color, words = "0.4" if parameters < utils.BUDGET else "0.75", name.upper()
        if runs:
            net = point(macs / 1000, runs, words, 5, color)
            net.fill = color
            if name == "model3":
                net.size, net.font = 10, 11
            points.append(net)
    draw_points(axes, points, points)
    return figure


def point(x, runs, words, size, color):
    """A net's point for draw_points(): at the mean of its seeds, with a bar of their standard
    deviation to each side, as full as the share of them that hold the target."""
    values = [run["test_acc"] for run in runs]
    share = statistics.mean(run.get("last5_min", 0) >= utils.TARGET for run in runs)
    return SimpleNamespace(
        x=x, y=statistics.mean(values), bar=statistics.stdev(values) if len(runs) > 1 else 0,
        words=words, size=size, color=color, font=8,
        fill=tuple(1 - share * (1 - part) for part in to_rgb(color)))


def draw_points(axes, points, named):
    """Draw points, and beside those that are named their words, where they cover no others and no
    point."""
    for each in points:
        axes.errorbar(each.x, each.y, each.bar, marker="o", markersize=each.size, mfc=each.fill,
                      color=each.color, elinewidth=each.size / 5, zorder=each.size)
    axes.figure.draw_without_rendering()  # fixes the scale
    inside = axes.get_window_extent()
    taken = []
    for each in points:
        bar = [(each.x, each.y - each.bar), (each.x, each.y + each.bar)]
        taken.append(Bbox(axes.transData.transform(bar)).padded(each.size))
    places = [(side, up) for up in (0, 10, -10, 20, -20, 30, -30, 40, -40) for side in (1, -1)]
    for each in named:
        line = dict(arrowstyle="-", color=each.color, lw=0.6, shrinkA=0, shrinkB=each.size / 2)
        note = axes.annotate(each.words, (each.x, each.y), (0, 0), color=each.color,
                             fontsize=each.font, va="center", textcoords="offset points",
                             zorder=20, in_layout=False, arrowprops=line)
        for side, up in places:
            note.set(position=(side * (each.size / 2 + 5), up), ha="left" if side > 0 else "right")
            note.get_window_extent()  # puts it where it belongs
            box = Text.get_window_extent(note)  # without the line to the point
            covers = any(box.overlaps(other) for other in taken)
            if not covers and inside.x0 < box.x0 and box.x1 < inside.x1:
                break
        taken.append(box)


def published(baselines):
    """Published best epochs of others' nets, and the best epochs of the same nets as trained here.
    baselines: those of report.py."""
    figure = utils.new_figure(figsize=(8, 6))
    axes = figure.add_subplot(xlabel="test accuracy in the best epoch (%)",
                              ylabel="net, parameters")
    rows = range(len(baselines))
    seeds = [(run["best_test_acc"], row) for row in rows for run in baselines[row]["own"]]
    means = [statistics.mean(run["best_test_acc"] for run in net["own"]) for net in baselines]
    axes.plot(*zip(*seeds), "o", color="C0", alpha=0.35, markersize=5, label="a seed here")
    axes.plot(means, rows, "|", color="C0", markersize=16, markeredgewidth=2,
              label="mean of the seeds")
    axes.plot([float(net["best"]) for net in baselines], rows, "D", color="C1", markersize=6,
              label="published")
    axes.set_yticks(rows, [
        f"{net['net']}{' (reconstructed)' if net['reconstructed'] else ''}, "
        f"{int(net['parameters']):,}" for net in baselines])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="upper left", framealpha=1, edgecolor="white")
    return figure


def prepared(rows):
    """Rows of as many images (28, 28) each, {words: images}, with lines through their middles, to
    compare slant and place."""
    figure = utils.new_figure(figsize=(9, 1.05 * len(rows)))
    grid = figure.subplots(len(rows), max(map(len, rows.values())))
    for row, (words, images) in zip(grid, rows.items()):
        row[0].set_ylabel(words)
        for axes, image in zip(row, images):
            axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
            axes.axvline(13.5, color="C0", linewidth=0.5)
            axes.axhline(13.5, color="C0", linewidth=0.5)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("0.8")
    return figure


def training(rows, rates, title):
    """Accuracy and loss, training and test, above the learning rate. rows: those of metrics.csv;
    rates: those of learning_rate.csv."""
    figure = utils.new_figure(figsize=(9, 6))
    top, middle, low = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    epochs = [int(row["epoch"]) for row in rows]
    for axes, key in (top, "acc"), (middle, "loss"):
        for part, color, up in ("train", "C0", 6), ("test", "C1", -6):
            values = [float(row[f"{part}_{key}"]) for row in rows]
            axes.plot(epochs, values, ".-", color=color)
            axes.annotate(part, (epochs[-1], values[-1]), (6, up), color=color, va="center",
                          textcoords="offset points")
    top.axhline(utils.TARGET, color="tab:green", linewidth=0.8)
    top.text(1, utils.TARGET, f"{utils.TARGET} %", color="tab:green", va="bottom", fontsize=9)
    top.set(title=title, ylabel="accuracy (%)", ylim=(97.5, 100), xlim=(0.5, epochs[-1] + 1.2))
    utils.log_axis(middle)
    middle.set(ylabel="cross-entropy", ylim=(0.02, None))
    steps = len(rates) / len(rows)  # in an epoch
    low.plot([0.5 + number / steps for number in range(len(rates))],
             [float(row["lr"]) for row in rates], color="0.3")
    low.set(ylabel="learning rate", xlabel="epoch", xticks=epochs)
    for axes in (top, middle, low):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def architecture(rows):
    """The layers of Model 3 as a row of boxes as high as their maps, and a full 3×3 convolution
    beside a separable one. rows: those of utils.receptive_field()."""
    figure = utils.new_figure(figsize=(11, 4.4))
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 2))
    left = inputs = 0
    for row in [dict(layer="image", output=(1, 28, 28)), *rows[:-1]]:
        channels, side, *_ = (*row["output"], 1)
        width, words, color = 0.6 + channels / 40, row["layer"], "0.6"
        if row["layer"] == "Conv2d":
            words, color = "{0}×{0}".format(row["kernel"][0]), "C0"
            if channels == inputs and row["kernel"][0] > 1:
                words, color = f"{words} each\nmap by itself", "C3"
        top.add_patch(Rectangle((left, -side / 2), width, side, color=color, alpha=0.5, lw=0))
        shape = f"{channels}×{side}×{side}" if side > 1 else f"{channels}"
        top.text(left + width / 2, side / 2 + 1, shape, ha="center", fontsize=7)
        top.text(left + width / 2, -side / 2 - 1, words.replace("MaxPool2d", "pool"), ha="center",
                 va="top", fontsize=7)
        inputs, left = channels, left + width + 1
    top.set(xlim=(-0.5, left), ylim=(-20, 18))

    for x, side, depth, color, words in (
            (0, 3, 32, "C0", "a full 3×3 convolution, 32 to 32 channels:\n"
             "32 kernels of 3×3×32, 9 · 32 · 32 = 9,216 weights"),
            (56, 3, 1, "C3", "a separable one: 32 kernels of\n3×3×1, 288 weights, and then"),
            (87, 1, 32, "C0", "32 of 1×1×32, 1,024 weights:\nin all 1,312, a seventh")):
        for number in range(3):  # of 32
            box(bottom, x + number * (side + 3 + depth * 0.3), side, depth * 0.3, color)
        bottom.text(x + 3 * (side + 3 + depth * 0.3), 0, "…", color=color)
        bottom.text(x, -2, words, va="top", fontsize=9, color=color)
    bottom.set(xlim=(-2, 125), ylim=(-10, 11), aspect="equal")
    for axes in (top, bottom):
        axes.axis("off")
    return figure


def box(axes, left, side, depth, color):
    """A kernel: a front of side × side weights, and as deep as it has inputs."""
    slant = depth / 2
    for corners in ([(0, 0), (side, 0), (side, side), (0, side)],
                    [(0, side), (depth, side + slant), (side + depth, side + slant), (side, side)],
                    [(side, 0), (side + depth, slant), (side + depth, side + slant), (side, side)]):
        axes.add_patch(Polygon([(left + x, y) for x, y in corners], facecolor=color, alpha=0.4,
                               edgecolor="white", linewidth=1))
    for number in range(1, side):
        axes.plot([left + number] * 2, [0, side], color="white", linewidth=0.8)
        axes.plot([left, left + side], [number] * 2, color="white", linewidth=0.8)


def receptive_field(rows, digit):
    """What one unit of an early, a middle and the last layer sees of a digit (28, 28): its window
    bright, the rest dim; dashed is the window of the unit diagonally beside it.
    rows: utils.receptive_field() of a net without padding."""
    figure = utils.new_figure(figsize=(9, 3.6))
    early, middle = (min(rows, key=lambda row: abs(row["window"] - side)) for side in (4, 12))
    shown = ((early, "deepskyblue", "a bit of a stroke"), (middle, "C1", "a part of a digit"),
             (rows[-2], "C3", "the whole digit"))  # the last row is the logits'
    for axes, (row, color, words) in zip(figure.subplots(1, 3), shown):
        window, jump, first = row["window"], row["jump"], -0.5
        lines = [(0, "-", 3)]
        if jump:
            first += jump * max(row["output"][-1] // 2 - 1, 0)  # near the middle
            lines.append((jump, "--", 1))
        axes.imshow(digit * 0.4, cmap="gray", vmin=0, vmax=digit.max())
        bright = axes.imshow(digit, cmap="gray", vmin=0, vmax=digit.max())
        bright.set_clip_path(Rectangle((first, first), window, window, transform=axes.transData))
        for shift, style, width in lines:
            low, high = first + shift, first + shift + window
            axes.plot([low, high, high, low, low], [low, low, high, high, low], style, color=color,
                      linewidth=width, clip_on=False)
        if row is middle:
            axes.text(13.5, 26.5, "dashed: what a neighbour sees", color=color, ha="center")
        axes.set_title(f"layer {rows.index(row) + 1}, {row['layer']},\nsees {window}×{window} "
                       f"pixels: {words}", color=color, fontsize=11)
        axes.set(xlim=(-0.5, 27.5), ylim=(27.5, -0.5), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


# ---- is a picture up to date? ------------------------------------------------------------------
def digest(figure):
    """What a figure shows, as a short hash: pixels differ between versions of matplotlib."""
    shown = []
    for axes in figure.axes:
        shown += [axes.get_title(), *(text.get_text() for text in axes.texts)]
    for axes in figure.axes:
        shown += [line.get_xydata().round(3).tolist() for line in axes.get_lines()]
        shown += [[path.vertices.round(3).tolist() for path in collection.get_paths()]
                  for collection in axes.collections]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def drawn(path):
    """The digest of the figure in a file, None where there is no such file."""
    return Image.open(path).text.get("Description") if path.exists() else None


def draw(figure, path):
    """Save a figure, and its digest with it."""
    figure.savefig(path, dpi=110, metadata=dict(Description=digest(figure)))
