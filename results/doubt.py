"""When the page says that a drawing is no digit: python results/doubt.py

Writes doubt.json, the numbers of the rule, which demo/export.py hands to the page; and doubt.csv,
what the rule does to digits and to other shapes at several thresholds. Drawings are made as on the
page: strokes of a round pen. Digits are MNIST's, traced. Shapes are in shapes.json: those to choose
with, others to report on, and the last, measured once on the page. Needs three minutes.

The rule doubts a drawing if the sum of two numbers, each on its own scale, is lower than for all
but a few of the training digits that are read right:
    agreement   the logarithm of the least probability that any of the three nets gives the answer
    closeness   minus the Mahalanobis distance from the answer's class in 32 numbers: the mean and
                the largest of each of the 16 maps of Model 1's layer 5. The last layers force any
                drawing into one of ten classes; in the middle a net still tells how it looks
A doubted drawing is no digit if its closeness alone is so low, else perhaps one of two digits."""

import json
import sys

import numpy as np
import torch
from PIL import Image, ImageDraw
from report import ROOT

import utils

sys.path.insert(0, str(ROOT / "demo"))
import export  # noqa: E402
import picture  # noqa: E402
import predict  # noqa: E402

FIT, THRESHOLD, REPORTED = 6000, 3000, 1000  # traced digits: training, other training, test
MAPS = 8  # of Model 1's operations, so many lead to the 32 numbers: up to layer 5's ReLU
MIRRORED = (2, 3, 4, 5, 6, 7, 9)  # the others are digits in a mirror, too
BUDGETS = 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05  # of right digits, doubted
CHOSEN = 0.025  # the least that doubts three of four of the shapes to choose with


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


def draw(strokes, pen=40):
    """The strokes on the page's canvas of 560 pixels, here 280: a Pillow image, ink dark."""
    image = Image.new("L", (560, 560), 255)
    brush = ImageDraw.Draw(image)
    for stroke in strokes:
        points = [(560 * x, 560 * y) for x, y in stroke]
        brush.line(points, 0, pen, joint="curve")
        for x, y in (points[0], points[-1]):
            brush.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 0)
    return image.resize((280, 280), Image.Resampling.BOX)


# ---- the rule ----------------------------------------------------------------------------------
def looks(pixels):
    """Of uint8 (N, 28, 28): the three nets' probabilities (3, N, 10), the 32 numbers (N, 32)."""
    images = torch.from_numpy(pixels)
    probabilities = []
    for model in ("1", "2", "3"):
        net, recipe = predict.load_net(model)
        probabilities.append(utils.predict(net, images, recipe).numpy())
    net, recipe = predict.load_net("1")
    steps = export.operations(net)[:MAPS]
    seen = utils.normalise(utils.prepare(images, recipe).float()).unsqueeze(1)
    with torch.no_grad():
        maps = export.compute(steps, seen).view(len(images), 16, -1)
    numbers = torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1).double().numpy()
    return np.array(probabilities), numbers


def fit(numbers, labels):
    """(means (10, 32) of the classes, the inverse of the covariance within them (32, 32))."""
    means = np.array([numbers[labels == digit].mean(axis=0) for digit in range(10)])
    within = numbers - means[labels]
    return means, np.linalg.inv(within.T @ within / len(within))


def judge(pixels, means, inverse):
    """Of uint8 (N, 28, 28): Model 3's answers, agreement and closeness, (N,) each."""
    probabilities, numbers = looks(pixels)
    answers = probabilities[2].argmax(axis=1)
    agreement = np.log(probabilities[:, np.arange(len(answers)), answers].min(axis=0))
    apart = numbers - means[answers]
    return answers, agreement, -np.sqrt(np.einsum("ni,ij,nj->n", apart, inverse, apart))


def scale(values):
    """From their median down to what 2 % are below."""
    return np.median(values) - np.quantile(values, 0.02)


# ---- measuring it ------------------------------------------------------------------------------
def prepared(drawings, rng=None):
    """uint8 (N, 28, 28) of drawings, each taken as one piece; with rng, of any size and pen."""
    result = []
    for strokes in drawings:
        pen = 40
        if rng is not None:
            size, pen = rng.uniform(0.4, 1), round(rng.uniform(20, 60))
            strokes = [[(size * x, size * y) for x, y in stroke] for stroke in strokes]
        ink = 1 - np.asarray(draw(strokes, pen)) / 255
        y, x = np.nonzero(ink > 0.5)
        result.append(picture.to_mnist(ink[y.min():y.max() + 1, x.min():x.max() + 1]))
    return np.array(result)


def main():
    rng = np.random.default_rng(0)
    images, labels = (each.numpy() for each in utils.load_mnist(utils.find_mnist(), train=True))
    order = rng.permutation(len(images))[:FIT + THRESHOLD]
    images, labels = images[order], labels[order]
    traced = [trace(digit) for digit in images]
    drawn = prepared(traced, rng)
    # Fitted on the digits as they are, too: the page shows some of those.
    _, numbers = looks(np.concatenate([drawn[:FIT], images[:FIT]]))
    means, inverse = fit(numbers, np.tile(labels[:FIT], 2))
    answers, *train = judge(drawn[FIT:], means, inverse)
    train = [values[answers == labels[FIT:]] for values in train]

    tests, test_labels = (each.numpy()[:REPORTED] for each in
                          utils.load_mnist(utils.find_mnist(), train=False))
    test_traced = [trace(digit) for digit in tests]
    groups = {}
    for part, strokes, digits, each in (("choose", traced, labels, 3),
                                        ("report", test_traced, test_labels, 2)):
        others = [*shapes(part).values()]
        for digit in MIRRORED:
            others += [mirror(strokes[i]) for i in np.nonzero(digits == digit)[0][:each]]
        groups[f"{part}: other shapes"] = judge(prepared(others), means, inverse)[1:]
    for name, pixels in (("traced test digits, right", prepared(test_traced)),
                         ("test digits, right", tests)):
        answers, *values = judge(pixels, means, inverse)
        groups[name] = [each[answers == test_labels] for each in values]

    # Trust in closeness's own scale: closeness + weight * agreement.
    weight = round(scale(train[1]) / scale(train[0]), 3)
    rows = []
    for budget in BUDGETS:
        limit = round(np.quantile(train[1] + weight * train[0], budget), 2)
        rows.append({"right training digits (%)": round(100 * budget, 2), "trust below": limit})
        for name, (agreement, closeness) in groups.items():
            doubted = closeness + weight * agreement < limit
            rows[-1][f"{name} (%, of {len(doubted)})"] = round(100 * doubted.mean(), 1)
        if budget == CHOSEN:
            rule = dict(weight=weight, trust=limit,
                        closeness=round(np.quantile(train[1], budget), 2))
    folder = ROOT / "results"
    utils.write(folder / "doubt.csv", utils.csv_text(rows))
    rule |= dict(maps=MAPS, means=means.round(4).tolist(),
                inverse=[[float(f"{value:.5g}") for value in row] for row in inverse])
    utils.write(folder / "doubt.json", json.dumps(rule) + "\n")


if __name__ == "__main__":
    main()
