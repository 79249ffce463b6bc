"""When the page says that a drawing is no digit: python results/doubt.py

Writes doubt.json, a small net that demo/export.py hands to the page, and doubt.csv, what it does
to digits and to other shapes at several limits. Drawings are made as on the page: strokes of a
round pen. Digits are MNIST's, traced. Shapes are in shapes.json: those to choose with, and those to
report on, drawn when the rule was settled. Needs five minutes.

The net gets 31 numbers of a drawing, and its logit is the trust in it:
    logarithms  of the probabilities that the three nets give to the ten digits
    distance    Mahalanobis', from the answer's class in 32 numbers: the mean and the largest of
                each of the 16 maps of Model 1's layer 5. The last layers force any drawing into one
                of ten classes; in the middle a net still tells how it looks
It was taught on traced training digits, and on drawings that are none: made() makes them."""

import json
import sys

import numpy as np
import torch
from PIL import Image, ImageDraw
from report import ROOT
from torch import nn

import utils

sys.path.insert(0, str(ROOT / "demo"))
import export  # noqa: E402
import picture  # noqa: E402
import predict  # noqa: E402

FIT, LIMIT = 6000, 3000  # traced training digits: to teach with, to take the limits from
TEST = slice(4000, 5000)  # test digits to report on
MAPS = 8  # of Model 1's operations, so many lead to the 32 numbers: up to layer 5's ReLU
LEAST = -15  # of the logarithms
MIRRORED = (2, 3, 4, 5, 6, 7, 9)  # the others are digits in a mirror, too
BUDGETS = 0.005, 0.01, 0.0125, 0.015, 0.02, 0.03, 0.04, 0.05  # of right digits, doubted
PERHAPS, NONE = 0.02, 0.005  # those that the page uses: perhaps another digit; no digit


# ---- drawings: lists of strokes, lists of points (x, y) in a unit square -----------------------
def shape(text):
    """The strokes of a shape in shapes.json: "28 51 78/35 65" has two, the first from (2, 8)."""
    return [[((int(x) + 0.5) / 10, (int(y) + 0.5) / 10) for x, y in stroke.split()]
            for stroke in text.split("/")]


def shapes(part):
    """{name: strokes} of the shapes "choose" or "report"."""
    with open(ROOT / "results" / "shapes.json", encoding="utf-8") as file:
        return {name: shape(text) for name, text in json.load(file)[part].items()}


def mirror(strokes):
    return [[(1 - x, y) for x, y in stroke] for stroke in strokes]


def thin(mask):
    """The skeleton of a mask, one pixel wide (Zhang and Suen 1984, A Fast Parallel Algorithm for
    Thinning Digital Patterns)."""
    mask = np.pad(mask.astype(np.uint8), 1)
    around = (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)
    before = None
    while before is None or (mask != before).any():
        before = mask.copy()
        for first, second in ((4, 2), (6, 0)):
            near = [np.roll(mask, shift, (0, 1)) for shift in around]  # from the one above, around
            count = sum(near)
            starts = sum((near[i] == 0) & (near[(i + 1) % 8] == 1) for i in range(8))
            corner = near[0] * near[2] * near[first], near[second] * near[4] * near[6]
            edge = (count > 1) & (count < 7) & (starts == 1) & (corner[0] == 0) & (corner[1] == 0)
            mask[edge & (mask == 1)] = 0
    return mask[1:-1, 1:-1]


def trace(digit, zoom=3):
    """Strokes that draw a digit (28, 28) again, along its skeleton: from an end, or from anywhere
    on a ring, to where all around is drawn; then from another end."""
    large = Image.fromarray(digit).resize((28 * zoom, 28 * zoom), Image.Resampling.BICUBIC)
    y, x = np.nonzero(thin(np.asarray(large) > 110))
    points = set(zip(x.tolist(), y.tolist()))
    left, strokes = set(points), []

    def neighbours(point, among):
        steps = (1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)
        near = ((point[0] + dx, point[1] + dy) for dx, dy in steps)
        return [each for each in near if each in among]

    while left:
        ends = [point for point in left if len(neighbours(point, left)) < 2]
        point = min(ends or left, key=lambda point: point[::-1])
        stroke = neighbours(point, points - left)[:1]  # begins on what is drawn already
        while point:
            left.discard(point)
            stroke.append(point)
            point = next(iter(neighbours(point, left)), None)
        stroke += neighbours(stroke[-1], points - left - set(stroke[-2:]))[:1]
        if len(stroke) > 2 or not strokes:
            path = np.pad((np.array(stroke) + 0.5) / (28 * zoom), ((1, 1), (0, 0)), mode="edge")
            strokes.append(((path[:-2] + path[1:-1] + path[2:]) / 3).tolist())  # a little smoother
    return strokes


def made(traced, labels, rng):
    """For each traced digit a drawing that is none: the digit mirrored or turned by a quarter, or
    strokes at random."""
    drawings = []
    for strokes, label in zip(traced, labels):
        kind = rng.integers(4)
        if kind == 0 and label in MIRRORED:
            drawings.append(mirror(strokes))
        elif kind == 1 and label not in (0, 8):
            drawings.append([[(y, 1 - x) for x, y in stroke] for stroke in strokes])
        else:
            drawings.append([scrawl(rng) for _ in range(rng.integers(1, 4))])
    return drawings


def scrawl(rng):
    """A stroke from one place to others at random; half of them have their corners cut off."""
    points = rng.uniform(0.1, 0.9, (rng.integers(2, 9), 2))
    for _ in range(3 * rng.integers(2)):
        here, there = points[:-1], points[1:]
        near, far = 0.75 * here + 0.25 * there, 0.25 * here + 0.75 * there
        points = np.stack([near, far], axis=1).reshape(-1, 2)
    return points.tolist()


def pixels_of(strokes, size=1, pen=40):
    """uint8 (28, 28) of a drawing, taken as one piece; size: the part of the canvas."""
    image = Image.new("L", (560, 560), 255)
    brush = ImageDraw.Draw(image)
    for stroke in strokes:
        points = [(560 * size * x, 560 * size * y) for x, y in stroke]
        brush.line(points, 0, pen, joint="curve")
        for x, y in (points[0], points[-1]):
            brush.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 0)
    ink = 1 - np.asarray(image.resize((280, 280), Image.Resampling.BOX)) / 255
    y, x = np.nonzero(ink > 0.5)
    return picture.to_mnist(ink[y.min():y.max() + 1, x.min():x.max() + 1])


def prepared(drawings, rng=None):
    """uint8 (N, 28, 28) of drawings; with rng, of any size and pen."""
    sizes = [(1, 40) if rng is None else (rng.uniform(0.4, 1), round(rng.uniform(20, 60)))
             for _ in drawings]
    return np.array([pixels_of(strokes, *each) for strokes, each in zip(drawings, sizes)])


# ---- the rule ----------------------------------------------------------------------------------
def looks(pixels):
    """Of uint8 (N, 28, 28): the logarithms of the three nets' probabilities (N, 30), the 32 numbers
    (N, 32)."""
    images, logarithms = torch.from_numpy(pixels), []
    for model in ("1", "2", "3"):
        net, recipe = predict.load_net(model)
        logarithms.append(utils.predict(net, images, recipe).log().clamp(min=LEAST))
    net, recipe = predict.load_net("1")
    steps, numbers = export.operations(net)[:MAPS], []
    for part in utils.prepare(images, recipe).split(500):
        maps = export.compute(steps, utils.normalise(part.float()).unsqueeze(1))
        maps = maps.detach().view(len(part), 16, -1)
        numbers.append(torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1))
    return torch.cat(logarithms, dim=1).numpy(), torch.cat(numbers).double().numpy()


def fit(numbers, labels):
    """(a matrix (32, 32) that makes the covariance within the classes that of one unit in every
    direction, the classes' means behind it (10, 32))."""
    means = np.array([numbers[labels == digit].mean(axis=0) for digit in range(10)])
    within = numbers - means[labels]
    whiten = np.linalg.cholesky(np.linalg.inv(within.T @ within / len(within))).T
    return whiten, means @ whiten.T


def inputs(pixels, whiten, centres):
    """Of uint8 (N, 28, 28): Model 3's answers (N,), what the small net gets (N, 31)."""
    logarithms, numbers = looks(pixels)
    answers = logarithms[:, 20:].argmax(axis=1)
    distances = np.linalg.norm(numbers @ whiten.T - centres[answers], axis=1)
    return answers, torch.tensor(np.column_stack([logarithms, distances]), dtype=torch.float32)


def teach(digits, others, epochs=15):
    """A net that tells digits from other drawings, taught on their numbers (N, 31) each."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(31, 16), nn.ReLU(), nn.Linear(16, 1))
    numbers = torch.cat([digits, others])
    truth = torch.cat([torch.ones(len(digits), 1), torch.zeros(len(others), 1)])
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(len(others) / len(digits)))
    optimizer = torch.optim.AdamW(net.parameters())
    batches = [batch for _ in range(epochs) for batch in torch.randperm(len(numbers)).split(256)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=len(batches))
    for batch in batches:
        optimizer.zero_grad()
        loss(net(numbers[batch]), truth[batch]).backward()
        optimizer.step()
        schedule.step()
    return net


def linear(weight, bias):
    """An operation of demo/net.js."""
    weight, bias = (np.round(each.tolist(), 4).ravel().tolist() for each in (weight, bias))
    return dict(kind="linear", shape=[len(bias)], weight=weight, bias=bias)


# ---- measuring it ------------------------------------------------------------------------------
def main():
    rng = np.random.default_rng(0)
    images, labels = (each.numpy() for each in utils.load_mnist(utils.find_mnist(), train=True))
    order = rng.permutation(len(images))[:FIT + LIMIT]
    images, labels = images[order], labels[order]
    traced = [trace(digit) for digit in images]
    drawn = prepared(traced, rng)
    # Fitted on the digits as they are, too: the page shows some of those.
    digits = np.concatenate([drawn[:FIT], images[:FIT]])
    fitted = fit(looks(digits)[1], np.tile(labels[:FIT], 2))
    others = prepared(made(traced[:FIT // 2], labels[:FIT // 2], rng), rng)
    net = teach(inputs(digits, *fitted)[1], inputs(others, *fitted)[1])

    def trust(pixels, labels=None):
        """The net's logits; with labels, of the digits that are read right."""
        answers, numbers = inputs(pixels, *fitted)
        logits = net(numbers).detach().numpy()[:, 0]
        return logits if labels is None else logits[answers == labels]

    tests, test_labels = (each.numpy()[TEST] for each in
                          utils.load_mnist(utils.find_mnist(), train=False))
    test_traced = [trace(digit) for digit in tests]
    groups = {}
    for part, strokes, truth, each in (("choose", traced[FIT:], labels[FIT:], 6),
                                       ("report", test_traced, test_labels, 2)):
        drawings = [*shapes(part).values()]
        for digit in MIRRORED:
            drawings += [mirror(strokes[i]) for i in np.nonzero(truth == digit)[0][:each]]
        groups[f"{part}: other shapes"] = trust(prepared(drawings))
    groups["traced test digits, right"] = trust(prepared(test_traced), test_labels)
    groups["test digits, right"] = trust(tests, test_labels)

    right = trust(drawn[FIT:], labels[FIT:])
    limits = {budget: round(float(np.quantile(right, budget)), 2) for budget in BUDGETS}
    rows = [{"right training digits (%)": 100 * budget, "trust below": limit}
            | {f"{name} (%, of {len(values)})": round(100 * (values < limit).mean(), 1)
               for name, values in groups.items()} for budget, limit in limits.items()]
    folder = ROOT / "results"
    utils.write(folder / "doubt.csv", utils.csv_text(rows))
    whiten, centres = fitted
    rule = dict(perhaps=limits[PERHAPS], none=limits[NONE], least=LEAST, maps=MAPS,
                looks=linear(whiten, np.zeros(32)), centres=centres.round(4).tolist(), operations=[
                    linear(net[0].weight, net[0].bias), dict(kind="relu", shape=[16]),
                    linear(net[2].weight, net[2].bias)])
    utils.write(folder / "doubt.json", json.dumps(rule) + "\n")


if __name__ == "__main__":
    main()
