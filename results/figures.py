"""The pictures that show more than one run, for report.py. Each function returns a Figure."""

import hashlib
import itertools
import json
import statistics

from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

import utils

COLORS = ("C0", "C1", "C3", "C4", "C5", "tab:olive")


def seeds(model, runs):
    """Test accuracy over the epochs: a grey line a seed, a coloured one if it misses the target."""
    missed = [run for run in runs if run["last5_min"] < utils.TARGET]
    missed.sort(key=lambda run: run["accuracy"][-1])
    last = len(runs[0]["accuracy"])
    figure = utils.new_figure(figsize=(7, 4.5))
    axes = figure.add_subplot(xlabel="epoch", ylabel="test accuracy (%)")
    axes.set_title(f"{model}.py, {runs[0]['params']:,} parameters: {len(runs) - len(missed)} of "
                   f"{len(runs)} seeds hold {utils.TARGET} %", loc="left", fontsize=11)
    axes.fill_between([last - 4.4, last + 0.2], utils.TARGET, 100, color="tab:green", alpha=0.1,
                      linewidth=0)
    axes.text(last - 4.3, 99.745, "the target", color="tab:green", fontsize=9, va="top")
    for run in runs:
        axes.plot(range(1, last + 1), run["accuracy"], color="0.75", linewidth=1, zorder=1)
    heights = []  # of the labels at the right: beside the lines' ends, none over another
    for run in missed:
        heights.append(max([run["accuracy"][-1], *(height + 0.05 for height in heights[-1:])]))
    too_high = max([0, *(height - 99.7 for height in heights)])
    for number, (run, height) in enumerate(zip(missed, heights)):
        color = f"C{number}"
        axes.plot(range(1, last + 1), run["accuracy"], color=color, linewidth=1.3, zorder=2)
        axes.text(last + 0.4, height - too_high, f"seed {run['seed']}", color=color, fontsize=8,
                  va="center")
    axes.set(xlim=(0.8, last + 1.7), ylim=(98.6, 99.75), xticks=range(1, last + 1))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def accuracy(ours, others, baselines):
    """Accuracy against parameters: our models large, further ones small, the published nets as
    trained here pale. ours, others: {name: runs}. baselines: those of report.py."""
    nets = ours | others
    sizes = [runs[0]["params"] for runs in nets.values()]
    lowest = min(run["test_acc"] for runs in nets.values() for run in runs)
    figure = utils.new_figure(figsize=(9, 5.5))
    axes = figure.add_subplot(
        xlabel="parameters (log scale)", ylabel="test accuracy in the last epoch (%)",
        xscale="log", xlim=(min(3200, 0.9 * min(sizes)), max(17000, 1.1 * max(sizes))),
        ylim=(min(98.86, lowest - 0.05), 99.75))
    ticks = (4000, 6000, 8000, 10000, 12000, 16000)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.fill_between([0, utils.BUDGET], utils.TARGET, 100, color="tab:green", alpha=0.1, lw=0)
    axes.text(3300, 99.735, "99.4 % or more in the last epoch,\nfewer than 8,000 parameters",
              color="tab:green", fontsize=9, va="top")

    points = []  # for draw_points()
    for color, (name, runs) in zip(itertools.cycle(COLORS), nets.items()):
        values = [run["test_acc"] for run in runs]
        words, size, font = f"{name}.py", 5, 8
        if name in ours:
            mean, deviation = statistics.mean(values), statistics.stdev(values)
            words = f"{name.replace('model', 'Model ')}\n{mean:.2f} ± {deviation:.2f} %"
            size, font = 10, 11
        points.append((runs[0]["params"], statistics.mean(values), (min(values), max(values)),
                       words, size, dict(color=color, fontsize=font)))
    below = ""
    for net in baselines:
        values = [run["test_acc"] for run in net["own"]]
        if values and statistics.mean(values) < 98.9:
            below += f"; {net['net']} is at {statistics.mean(values):.2f} %"
        elif values:
            style = dict(color="0.65", fontsize=8)
            points.append((int(net["parameters"]), statistics.mean(values),
                           (min(values), max(values)), net["net"], 4, style))
    axes.text(16800, 98.87, "grey: others' nets, trained here by their own recipes"
              f"{below}\nbars: from the lowest seed to the highest", color="0.5",
              fontsize=8, ha="right", va="bottom")
    draw_points(axes, points)
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
              "of 8,000 parameters or more\nbars: ± a standard error of the mean over seeds",
              ha="right", va="bottom", fontsize=8, color="0.4")
    colors, points = itertools.cycle(COLORS), []  # the same as in accuracy()
    for name, ((parameters, macs), runs) in nets.items():
        is_ours, values = len(name) > 2, [run["test_acc"] for run in runs]
        color = next(colors) if is_ours else "0.4" if parameters < utils.BUDGET else "0.75"
        if not runs:
            continue
        mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
        size = 10 if name == "model3" else 5
        style = dict(color=color, fontsize=11 if name == "model3" else 8)
        points.append((macs / 1000, mean, (mean - error, mean + error),
                       name.replace("model", "Model "), size, style))
    draw_points(axes, points)
    return figure


def draw_points(axes, points):
    """Draw points (x, y, (low, high) of its bar, words, size, style of the words), each with its
    words beside it, where they cover no others and no point."""
    for x, y, (low, high), _, size, style in points:
        axes.errorbar(x, y, [[y - low], [high - y]], marker="o", markersize=size,
                      color=style["color"], elinewidth=size / 5, zorder=size)
    axes.figure.draw_without_rendering()  # fixes the scale
    inside = axes.get_window_extent()
    taken = [Bbox(axes.transData.transform([(x, low), (x, high)])).padded(size)
             for x, _, (low, high), _, size, _ in points]
    places = [(side, up) for up in (0, 10, -10, 20, -20, 30, -30, 40, -40) for side in (1, -1)]
    for x, y, _, words, size, style in points:
        line = dict(arrowstyle="-", color=style["color"], lw=0.6, shrinkA=0, shrinkB=size / 2)
        note = axes.annotate(words, (x, y), (0, 0), **style, va="center",
                             textcoords="offset points", zorder=20, in_layout=False,
                             arrowprops=line)
        for side, up in places:
            note.set(position=(side * (size / 2 + 5), up), ha="left" if side > 0 else "right")
            note.get_window_extent()  # puts it where it belongs
            box = Text.get_window_extent(note)  # without the line to the point
            covers = any(box.overlaps(each) for each in taken)
            if not covers and inside.x0 < box.x0 and box.x1 < inside.x1:
                break
        taken.append(box)


def published(baselines):
    """Published best epochs of others' nets, and the best epochs of the same nets as trained here.
    baselines: those of report.py."""
    figure = utils.new_figure(figsize=(8, 6))
    axes = figure.add_subplot(xlabel="test accuracy in the best epoch (%)",
                              ylabel="net, parameters")
    for row, net in enumerate(baselines):
        best = [run["best_test_acc"] for run in net["own"]]
        axes.plot(best, [row] * len(best), "o", color="C0", alpha=0.35, markersize=5)
        mean = [statistics.mean(best)] if best else []
        axes.plot(mean, [row] * len(mean), "|", color="C0", markersize=16, markeredgewidth=2)
        axes.plot(float(net["best"]), row, "D", color="C1", markersize=6, zorder=3)
    for line, words in zip(axes.get_lines(), ("a seed here", "mean of the seeds", "published")):
        line.set_label(words)
    axes.set_yticks(range(len(baselines)), [
        f"{net['net']}{' (reconstructed)' if net['reconstructed'] else ''}, "
        f"{int(net['parameters']):,}" for net in baselines])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="upper left", framealpha=1, edgecolor="white")
    return figure


def prepared(before, after):
    """Images (N, 28, 28) in a row, and below them the same digits as the net gets them."""
    figure = utils.new_figure(figsize=(9, 2.5))
    grid = figure.subplots(2, len(before))
    for row, images, words in zip(grid, (before, after), ("as written", "prepared")):
        row[0].set_ylabel(words)
        for axes, image in zip(row, images):
            axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.axvline(13.5, color="C0", linewidth=0.5)  # the middle, to compare slant and place
            axes.spines[:].set_color("0.8")
    return figure


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
        if jump:
            first += jump * max(row["output"][-1] // 2 - 1, 0)  # near the middle
        axes.imshow(digit * 0.4, cmap="gray", vmin=0, vmax=digit.max())
        bright = axes.imshow(digit, cmap="gray", vmin=0, vmax=digit.max())
        bright.set_clip_path(Rectangle((first, first), window, window, transform=axes.transData))
        axes.plot(*square(first, window), color=color, linewidth=3, clip_on=False)
        if jump:
            axes.plot(*square(first + jump, window), "--", color=color, linewidth=1)
        if row is middle:
            axes.text(13.5, 26.5, "dashed: what a neighbour sees", color=color, ha="center")
        axes.set_title(f"layer {rows.index(row) + 1}, {row['layer']},\nsees {window}×{window} "
                       f"pixels: {words}", color=color, fontsize=11)
        axes.set(xlim=(-0.5, 27.5), ylim=(27.5, -0.5), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


def square(first, side):
    """The corners of a square on the diagonal, as a closed line's x and y."""
    last = first + side
    return (first, last, last, first, first), (first, first, last, last, first)


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
