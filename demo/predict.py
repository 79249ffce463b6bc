"""Read the digits in your own pictures: python demo/predict.py photo.jpg scan.png

A net that knows MNIST reads a picture only if that looks like MNIST, and what makes it so is the
preparation: paper, lines and specks go, each digit is fitted to a box of 20 pixels and its centre
of mass to the middle of 28×28. Several digits in a row are read as one number."""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageOps

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import train  # noqa: E402
import utils  # noqa: E402
from utils import UserError  # noqa: E402

SURE = 0.5  # below this probability it is no digit
MOST = 12  # digits in a row; a picture with more pieces than this is one of something else
SIDES = 320, 1600  # pixels: pictures are enlarged or reduced until their longest side is between
THIN, THICK = 2.0, 4.5  # pixels: MNIST's strokes in its box of 20


# ---- from a file to ink on paper ---------------------------------------------------------------
def open_picture(path):
    """The file as an RGB image, upright, whatever Pillow opens. Raises UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = ImageOps.exif_transpose(Image.open(path))
            return to_rgb(image)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # Pillow has a dozen kinds for damaged and foreign files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: not a picture that can be read: {reason}") from None


def to_rgb(image):
    """Any Pillow image as RGB. 16 bit and float are scaled from their darkest to their brightest;
    what is transparent becomes white, or black behind light colours."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=float)
        low, high = values.min(), values.max()
        return Image.fromarray(np.uint8(255 * (values - low) / max(high - low, 1e-9))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    *colours, alpha = np.asarray(image, dtype=float).transpose(2, 0, 1)
    brightness = (np.mean(colours, axis=0) * alpha).sum() / max(alpha.sum(), 1)
    paper = Image.new("RGBA", image.size, "black" if brightness > 127 else "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def find_ink(image):
    """How much ink each pixel of an RGB image has: (H, W) floats, 0 for paper, 1 for black on
    white, a little below 0 by noise. Of grey, red, green and blue, the one counts in which ink
    stands out most."""
    channels = [np.asarray(each, dtype=np.float32) for each in (image.convert("L"), *image.split())]
    strengths = []
    for values in channels:
        difference = (values - paper_of(values, median_filter))[::3, ::3]
        strengths.append(np.mean(difference ** 3))  # its sign is that of what stands out
    weights = np.abs(strengths) * [2, 1, 1, 1]  # a single colour is noisier than their mean
    best = np.argmax(weights)
    values = 255 - channels[best] if strengths[best] > 0 else channels[best]  # dark ink from here on
    paper = paper_of(values, closing)
    return (paper - values) / np.maximum(paper, 16)


def spread(values):
    """What most of the paper's noise stays below: its median and four standard deviations, from
    the values' median and their distances from it, which ink does not disturb."""
    middle = np.median(values)
    return middle + 4 * 1.48 * np.median(np.abs(values - middle))


def paper_of(values, estimate):
    """The paper's brightness at each pixel, estimated on a picture of 96 pixels."""
    height, width = values.shape
    factor = 96 / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(values)
    small = estimate(np.asarray(image.resize(size, Image.Resampling.BOX)))
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def median_filter(values):
    """The median of the surroundings, half the picture wide: ink is never the larger part of it."""
    small = values[::2, ::2]
    reach = max(small.shape) // 4
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(small, reach, mode="edge"), (2 * reach + 1, 2 * reach + 1))
    return np.median(around[:, :, ::2, ::2], axis=(2, 3))


def closing(values):
    """A morphological closing: what is dark and thinner than a quarter of the picture is filled
    with what is around it. Ink is; a shadow is not, and its edge stays where it is."""
    reach = max(values.shape) // 8
    values = np.pad(values, 2 * reach + 1, mode="edge")
    # At last one pixel more: the edge of a shadow is blurred here, and its darker side is to count.
    for extreme, window in ((np.max, 2 * reach + 1), (np.min, 2 * reach + 3)):
        for axis in (0, 1):
            around = np.lib.stride_tricks.sliding_window_view(values, window, axis)
            values = extreme(around, axis=-1)
    return values


# ---- from ink to digits ------------------------------------------------------------------------
def label(mask):
    """Connected parts of a mask (H, W): an array (H, W) of their numbers from 1, 0 elsewhere.

    Rows are cut into runs of ink; runs that touch, also at a corner, get the smallest of their
    numbers until nothing changes."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    stride = mask.shape[1] + 2  # places as one number, in which a row does not run into the next
    first = np.searchsorted(rows * stride + ends, (rows + 1) * stride + starts)
    last = np.searchsorted(rows * stride + starts, (rows + 1) * stride + ends, side="right")
    touching = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(rows)), touching)
    below = np.arange(len(above)) + np.repeat(first - np.cumsum(touching) + touching, touching)
    names = np.arange(len(rows))
    while (names[above] != names[below]).any():
        smaller = np.minimum(names[above], names[below])
        np.minimum.at(names, names[above], smaller)
        np.minimum.at(names, names[below], smaller)
        names = names[names]
    _, names = np.unique(names, return_inverse=True)
    result = np.zeros(mask.shape, dtype=np.int32)
    result[mask] = np.repeat(names + 1, ends - starts)
    return result


def boxes_of(labels):
    """[left, top, right, bottom) of each part, (N, 4), and its pixels, (N,)."""
    y, x = np.nonzero(labels)
    part = labels[y, x] - 1
    n = labels.max(initial=0)
    boxes = np.concatenate([np.full((n, 2), max(labels.shape)), np.zeros((n, 2), int)], axis=1)
    np.minimum.at(boxes[:, 0], part, x)
    np.minimum.at(boxes[:, 1], part, y)
    np.maximum.at(boxes[:, 2], part, x + 1)
    np.maximum.at(boxes[:, 3], part, y + 1)
    return boxes, np.bincount(part, minlength=n)


def run_lengths(mask):
    """For each pixel of a mask, how long the run of its row is that it belongs to; 0 outside."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    result = np.zeros(mask.shape, dtype=np.int32)
    result[mask] = np.repeat(lengths, lengths)
    return result


def find_lines(ink, visible):
    """A mask (H, W) of the lines of ruled or squared paper in an ink image: thin, straight, from
    edge to edge, sloping by up to 17 degrees. Ink that crosses a line is thicker, and no part of
    it. visible: below this is no ink."""
    lines = np.zeros(ink.shape, dtype=bool)
    factor = max(1, max(ink.shape) // 400)  # lines are found on a smaller picture, with less noise
    for ink, found in ((ink, lines), (ink.T, lines.T)):
        height, width = (side // factor for side in ink.shape)
        small = ink[:height * factor, :width * factor]
        small = small.reshape(height, factor, width, factor).mean(axis=(1, 3))
        around = np.lib.stride_tricks.sliding_window_view(np.pad(small, ((1, 1), (0, 0))), 3, axis=0)
        y, x = np.nonzero(around.max(axis=-1) > max(0.03, spread(small)))
        thickness = run_lengths((ink > visible).T).T  # of what a pixel lies on, across the line
        at = np.arange(ink.shape[1])
        for slope in np.linspace(-0.3, 0.3, 121):
            # A line is y = row + slope * (x - width / 2); how many of its pixels have ink?
            shift = np.round(slope * (np.arange(width) - width / 2)).astype(int)
            margin = shift.max()
            covered = np.bincount(y - shift[x] + margin, minlength=height + 2 * margin)
            for row in np.nonzero(covered > 0.6 * width)[0] - margin:
                possible = np.count_nonzero((row + shift >= 0) & (row + shift < height))
                if covered[row + margin] < 0.9 * possible:
                    continue
                line = factor * (row + 0.5 + slope * (at / factor - width / 2))
                band = line.astype(int) + np.arange(-2 * factor, 2 * factor + 1)[:, None]
                band = band.clip(0, ink.shape[0] - 1)
                across = thickness[band, at]
                typical = np.median(across[across > 0]) if across.any() else 0
                if typical < 3 + max(ink.shape) / 100:
                    found[band, at] |= across <= 1.5 * typical + 1
    return lines


def find_digits(ink):
    """The digits on an ink image (H, W), left to right: a list of (box, mask) with box [left, top,
    right, bottom) and mask (H, W) of the digit's ink. Empty if there is nothing like a digit."""
    visible = max(0.06, spread(ink[::3, ::3]))
    strong = ink[ink > visible]
    if strong.size < 30:
        return []
    lines = find_lines(ink, visible)
    strong = ink[(ink > visible) & ~lines]
    if strong.size < 30:
        return []
    level = np.mean(strong[strong > otsu(strong)])
    mask = (ink > max(0.45 * level, visible)) & ~lines
    labels = label(mask)
    boxes, sizes = boxes_of(labels)
    height, width = mask.shape
    sides = boxes[:, 2:] - boxes[:, :2]
    # Specks.
    alive = sides.max(axis=1) >= max(8, 0.01 * max(mask.shape))
    # What hangs over the picture's edge, unless there is nothing else.
    touches = (boxes[:, :2] <= 1).any(axis=1) | (boxes[:, 2:] >= (width - 1, height - 1)).any(axis=1)
    inner = alive & ~touches
    if inner.any() and sizes[inner].max() > 0.1 * sizes[alive].max():
        alive = inner
    # Frames: what has a part inside that is at least a third as high.
    for i in np.nonzero(alive)[0]:
        within = (boxes[:, :2] > boxes[i, :2]).all(1) & (boxes[:, 2:] < boxes[i, 2:]).all(1)
        if (within & alive & (3 * sides[:, 1] > sides[i, 1])).any():
            alive[i] = False
    if not alive.any():
        return []
    parts = [(boxes[i], [i]) for i in np.nonzero(alive)[0]]
    parts = join(parts, reference=sides[np.argmax(np.where(alive, sizes, 0)), 1])
    tallest = max(box[3] - box[1] for box, _ in parts)
    darkness = np.bincount(labels[mask] - 1, ink[mask], minlength=len(boxes)) / sizes
    dark = 0.6 * darkness[alive].max()
    parts = [(box, names) for box, names in parts if box[3] - box[1] > 0.4 * tallest
             and darkness[names].max() > dark]
    if len(parts) > MOST:
        return []
    return [(box, np.isin(labels, np.array(names) + 1)) for box, names in
            sorted(parts, key=lambda part: part[0][0] + part[0][2])]


def otsu(values):
    """The threshold that parts values 0..1 into two classes with the least variance within
    (N. Otsu, A threshold selection method from gray-level histograms, 1979)."""
    counts, edges = np.histogram(values, bins=64, range=(0, 1))
    middles = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts), counts.sum() - np.cumsum(counts)
    total = np.cumsum(counts * middles)
    means = total / np.maximum(below, 1) - (total[-1] - total) / np.maximum(above, 1)
    return edges[1:][np.argmax(below * above * means ** 2)]


def join(parts, reference):
    """Join the pieces of a broken digit. reference: a digit's height in pixels."""
    parts = list(parts)
    i = 0
    while i < len(parts):
        for j in range(i + 1, len(parts)):
            if belong_together(parts[i][0], parts[j][0], reference):
                (a, names), (b, others) = parts[i], parts.pop(j)
                box = np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
                parts[i] = box, names + others
                i = -1
                break
        i += 1
    return parts


def belong_together(a, b, reference):
    """Whether two boxes hold pieces of one digit."""
    gap = np.maximum(a[:2], b[:2]) - np.minimum(a[2:], b[2:])  # below 0 where they overlap
    sides = np.minimum(a[2:] - a[:2], b[2:] - b[:2])  # the smaller width and height
    small = sides[1] < 0.6 * reference  # one of the two is no digit by itself
    above = -gap[0] > 0.4 * sides[0] and gap[1] < (0.5 if small else 0.15) * reference
    beside = small and -gap[1] > 0.4 * sides[1] and gap[0] < 0.12 * reference
    joint = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    return (above or beside) and joint[1] < 2 * reference


# ---- from ink to what MNIST looks like ---------------------------------------------------------
def to_mnist(ink):
    """The ink (h, w) of one digit, 0..1, as MNIST would store it: (28, 28) uint8."""
    height, width = ink.shape
    factor = 100 / max(height, width)  # 5 pixels of this for one of MNIST's
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = Image.fromarray(np.uint8(255 * ink)).resize(size, Image.Resampling.BILINEAR)
    picture = ImageOps.expand(picture, 40)
    # Strokes as thick as MNIST's.
    inside = np.asarray(picture) > 127
    outline = sum(np.count_nonzero(np.diff(inside, axis=axis)) for axis in (0, 1)) * np.pi / 4
    stroke = 2 * np.count_nonzero(inside) / max(outline, 1)
    change = round((np.clip(stroke, 5 * THIN, 5 * THICK) - stroke) / 2)
    if change > 0:
        picture = picture.filter(ImageFilter.MaxFilter(2 * change + 1))
    elif change < 0:
        picture = picture.filter(ImageFilter.MinFilter(1 - 2 * change))
    # The longest side is 20 pixels of 28, the centre of mass in the middle.
    values = np.asarray(picture, dtype=float)
    y, x = np.nonzero(values > 127)
    if not len(y):
        return np.zeros((28, 28), dtype=np.uint8)
    pixel = max(np.ptp(y) + 1, np.ptp(x) + 1) / 20
    total = values.sum()
    middle_x = (values.sum(axis=0) @ (np.arange(values.shape[1]) + 0.5)) / total
    middle_y = (values.sum(axis=1) @ (np.arange(values.shape[0]) + 0.5)) / total
    margin = 100
    picture = ImageOps.expand(picture, margin)
    box = [middle + margin + side * 14 * pixel for side in (-1, 1) for middle in (middle_x, middle_y)]
    small = np.asarray(picture.resize((28, 28), Image.Resampling.BOX, box=box), dtype=float)
    # As dark as MNIST's.
    dark = np.quantile(small[small > 64], 0.8) if (small > 64).any() else 255
    return np.uint8(np.clip(small * 255 / dark, 0, 255).round())


def prepare(image):
    """The digits of a Pillow image of any mode, prepared as MNIST's were (LeCun et al. 1998,
    http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf): uint8 (N, 28, 28), ink high, not deskewed,
    and their boxes [x, y, width, height] in pixels of the image, left to right."""
    image = to_rgb(image)
    longest = max(image.size)
    factor = np.clip(longest, *SIDES) / longest
    size = [max(1, round(side * factor)) for side in image.size]
    image = image.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC)
    ink = find_ink(image)
    digits, boxes = [], []
    for (left, top, right, bottom), mask in find_digits(ink):
        part = slice(top, bottom), slice(left, right)
        grown = np.asarray(Image.fromarray(mask[part]).convert("L").filter(ImageFilter.MaxFilter(3)))
        level = np.quantile(ink[part][mask[part]], 0.7)
        digit = to_mnist(np.clip(ink[part] / level, 0, 1) * (grown > 0))
        if not digit.any():
            continue
        digits.append(digit)
        boxes.append([round(float(v) / factor) for v in (left, top, right - left, bottom - top)])
    return np.array(digits, dtype=np.uint8).reshape(-1, 28, 28), boxes


def read(image, net, recipe):
    """The digits of a Pillow image, left to right, that the net is sure of: dicts with digit,
    probability, likeliest (the three likeliest digits as (digit, probability)), box [x, y, width,
    height] in pixels of the image, and pixels, the (28, 28) uint8 that the net gets."""
    pixels, boxes = prepare(image)
    if not boxes:
        return []
    found = []
    for row, each in enumerate(utils.predict(net, torch.from_numpy(pixels), recipe)):
        best = each.topk(3)
        likeliest = list(zip(best.indices.tolist(), best.values.tolist()))
        digit, probability = likeliest[0]
        if probability >= SURE:
            found.append(dict(digit=digit, probability=probability, likeliest=likeliest,
                              box=boxes[row], pixels=pixels[row]))
    return found


# ---- command line ------------------------------------------------------------------------------
def picture_of(image, digits):
    """The image with a box around each digit, beside the 28×28 pixels that the net saw of it."""
    image = to_rgb(image)
    image.thumbnail((800, 800))
    return image


def load_net(model, weights):
    """(net in eval mode, recipe) of --model and --weights. Raises UserError."""
    path, net_class, recipe = train.load_model_file(model)
    weights = weights or utils.HERE / "results" / path.stem / "seed0" / "model.pt"
    net = net_class()
    try:
        net.load_state_dict(utils.load(weights))
    except (RuntimeError, TypeError, AttributeError):
        raise UserError(f"{weights} holds the weights of another net than {path}'s", 2) from None
    return net.eval(), recipe


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(prog="predict.py", description=__doc__.partition(":")[0])
    arg = parser.add_argument
    arg("pictures", nargs="+", metavar="PICTURE", help="a photo or scan of one or several digits")
    arg("--model", default="3", metavar="{1,2,3,PATH}",
        help="model1.py, model2.py, model3.py, or the path of any model file (default: 3)")
    arg("--weights", metavar="FILE", help="its model.pt (default: the published one of seed 0)")
    arg("--json", action="store_true", help="print one JSON object a picture")
    arg("--show", action="store_true", help="open each picture beside what the net saw of it")
    arg("--out", metavar="FOLDER", help="leave there what --show opens, a PNG a picture")
    return parser.parse_args(argv)


def main(argv=None):
    """Returns the exit status: 0, 1 (a picture could not be read, or has no digit), 2 (arguments,
    model file)."""
    args = parse_arguments(argv)
    status = 0
    try:
        net, recipe = load_net(args.model, args.weights)
        for path in args.pictures:
            try:
                image = open_picture(path)
                digits = read(image, net, recipe)
            except UserError as error:
                print(f"predict.py: error: {error}", file=sys.stderr)
                status = 1
                continue
            if not digits:
                status = 1
            text = "".join(str(each["digit"]) for each in digits)
            if args.json:
                fields = ("digit", "probability", "box")
                print(json.dumps(dict(file=path, text=text, digits=[
                    {key: each[key] for key in fields} for each in digits])))
            else:
                print(f"{path}: {text or 'no digit'}")
    except (UserError, OSError) as error:
        print(f"predict.py: error: {error}", file=sys.stderr)
        return getattr(error, "status", 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
