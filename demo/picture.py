"""From a picture of digits to what MNIST would have made of them: as_mnist(image).

In the order in which it happens: ink on paper, whatever the light; the pieces of ink that may be
digits; each of them as 28×28 pixels. NumPy and Pillow do the work."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageFilter, ImageOps

SIDES = 320, 1600  # pixels: a picture is enlarged or reduced until its longest side is between
MOST = 16  # digits; a picture with more pieces is one of something else
TEXTURE = 500  # pieces of ink from which on a picture is a texture
FAINTEST, PALEST = 0.06, 0.15  # of the paper's brightness: a pixel of ink, and the whole of the ink
SPECK = 0.01  # of the picture's side: what is smaller is none
# Pieces of ink are parts of one digit by these, in heights of a digit where nothing else is said:
PART, OVERLAP = 0.6, 0.4  # a lower piece is no digit; of the narrower above, or the lower beside
ABOVE, BESIDE, TALL = 0.5, 0.12, 2  # gaps at most; the height of all together is less
GAP, SLIM = 0.15, 2.3  # halves: the gap; the height of both is at most so many times their width
LESS_SURE = 0.05  # so much less may a net be sure of two halves as one digit than of each
LOW = 0.4  # of the tallest digit: what is lower is none
RISE, SLOPE, ASIDE = 0.7, 0.15, 0.5  # in a row: how far off the next is, by gap; overlap at most
FIELD, SIDE, FINE = 28, 20, 5  # pixels: MNIST's images, its box, what we work with for each of them
THIN, THICK = 2.0, 4.5  # pixels: strokes are brought between them, in MNIST's box
FAINT_INK, DARK = 0.25, 0.8  # where more is, this quantile of it becomes full ink
BOX, BILINEAR = Image.Resampling.BOX, Image.Resampling.BILINEAR


def as_mnist(image, sure=lambda pixels: 1.0):
    """The digits of a Pillow image of any mode and size, row by row, prepared as MNIST's were: each
    in a box of 20 pixels, its centre of mass in the middle of 28×28 (LeCun et al. 1998,
    http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf). sure: how sure a net is, from 0 to 1, that
    a uint8 (28, 28) is a digit; it decides whether two pieces are two digits or one in halves.

    Returns uint8 (N, 28, 28), 255 for full ink, not deskewed; and N boxes [x, y, width, height] in
    pixels of the image. N is 0 if nothing in it looks like a digit."""
    image = to_rgb(image)
    longest = max(image.size)
    if longest > 100 * min(image.size):  # a strip, of whose small copies nothing would be left
        return np.zeros((0, 28, 28), dtype=np.uint8), []
    factor = np.clip(longest, *SIDES) / longest
    size = [max(1, round(side * factor)) for side in image.size]
    ink = find_ink(image.resize(size, BOX if factor < 1 else Image.Resampling.BICUBIC))
    pixels, boxes = [], []
    for (left, top, right, bottom), digit in find_digits(ink, sure):
        pixels.append(to_mnist(digit))
        box = left, top, right - left, bottom - top
        boxes.append([round(float(value / factor)) for value in box])
    return np.array(pixels, dtype=np.uint8).reshape(-1, 28, 28), boxes


# ---- ink on paper ------------------------------------------------------------------------------
def to_rgb(image):
    """Any Pillow image as RGB. 16 bit and floats are scaled from their darkest to their brightest;
    what is transparent becomes white, or black behind light colours."""
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, dtype=float))
        values -= values.min()
        scaled = 255 * values / max(values.max(), 1e-9)
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    grey = np.asarray(image.convert("L"), dtype=float)
    alpha = np.asarray(image.getchannel("A"), dtype=float)
    light = (grey * alpha).sum() > 127 * alpha.sum()
    paper = Image.new("RGBA", image.size, "black" if light else "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def find_ink(image):
    """How much ink each pixel of an RGB image has: (H, W) floats, 0 for paper, 1 for black on
    white, a little below 0 by noise. Dark ink or light, and whether grey, red, green or blue shows
    it best, is found on a small copy: the choice that sets most ink apart."""
    channels = [image.convert("L"), *image.split()]
    strengths = {}
    for which, channel in enumerate(channels):
        small = np.asarray(ImageOps.contain(channel, (320, 320), BOX), dtype=np.float32)
        usual = paper(small, median)
        for light in (False, True):
            values, middle = (255 - small, 255 - usual) if light else (small, usual)
            ink = np.minimum(paper(values, closing), middle) - values
            weight = 2 if which == 0 else 1  # a single colour is noisier than their mean
            strengths[which, light] = weight * np.mean(ink.clip(0) ** 3)
    which, light = max(strengths, key=strengths.get)
    values = np.asarray(channels[which], dtype=np.float32)
    values = 255 - values if light else values
    blank = paper(values, closing)
    return (blank - values) / np.maximum(blank, 16)


def paper(values, estimate):
    """How bright the paper is at each place (H, W), by `estimate` on a picture of 96 pixels."""
    height, width = values.shape
    small = ImageOps.contain(Image.fromarray(values), (96, 96), BOX)
    small = Image.fromarray(estimate(np.asarray(small)))
    return np.asarray(small.resize((width, height), BILINEAR))


def median(values):
    """The median of the surroundings, half the picture wide. Ink is never the larger part of it."""
    coarse = values[::2, ::2]
    reach = max(coarse.shape) // 4
    window = 2 * reach + 1, 2 * reach + 1
    around = sliding_window_view(np.pad(coarse, reach, mode="edge"), window)
    return np.median(around[:, :, ::2, ::2], axis=(2, 3))


def closing(values):
    """A morphological closing: what is dark and thinner than a quarter of the picture is filled
    with what is around it. Ink is; a shadow is not, and its edge stays where it is."""
    reach = max(values.shape) // 8
    values = np.pad(values, 2 * reach + 1, mode="edge")
    # At last one pixel more: the edge of a shadow is blurred here, and its darker side is to count.
    for extreme, window in ((np.max, 2 * reach + 1), (np.min, 2 * reach + 3)):
        for axis in (0, 1):
            values = extreme(sliding_window_view(values, window, axis), axis=-1)
    return values


def noise_limit(ink):
    """What the paper's noise stays below: its median and four standard deviations, estimated from
    the values' distances from their median, which the ink does not disturb."""
    sample = ink[::3, ::3]
    middle = np.median(sample)
    return middle + 4 * 1.48 * np.median(np.abs(sample - middle))


def otsu(values):
    """The threshold that parts values from 0 to 1 into two classes with the least variance within
    (N. Otsu 1979, A Threshold Selection Method from Gray-Level Histograms)."""
    counts, edges = np.histogram(values, bins=64, range=(0, 1))
    sums = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)
    below = np.cumsum(counts)
    above = below[-1] - below
    distance = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return edges[1:][np.argmax(below * above * distance ** 2)]


# ---- lines of ruled and squared paper ----------------------------------------------------------
def find_lines(ink, visible):
    """A mask (H, W) of the lines of ruled or squared paper in an ink image: thin, straight, from
    edge to edge, sloping by up to 17 degrees. Ink that crosses a line is thicker, and no part of
    it. visible: what is below is no ink."""
    lines = np.zeros(ink.shape, dtype=bool)
    factor = max(1, max(ink.shape) // 400)  # lines are sought in a smaller picture, with less noise
    for ink, found in ((ink, lines), (ink.T, lines.T)):
        height, width = (side // factor for side in ink.shape)
        small = ink[:height * factor, :width * factor]
        small = small.reshape(height, factor, width, factor).mean(axis=(1, 3))
        near = sliding_window_view(np.pad(small, ((1, 1), (0, 0))), 3, axis=0).max(axis=-1)
        y, x = np.nonzero(near > max(0.03, noise_limit(small)))
        thickness = run_lengths((ink > visible).T).T  # of what a pixel lies on, across the line
        at = np.arange(ink.shape[1])
        for slope in np.linspace(-0.3, 0.3, 121):
            # A line is y = row + slope * (x - width / 2). How much of each possible one is ink?
            shift = np.round(slope * (np.arange(width) - width / 2)).astype(int)
            margin = np.abs(shift).max()
            covered = np.bincount(y - shift[x] + margin, minlength=height + 2 * margin)
            for row in np.nonzero(covered > 0.6 * width)[0] - margin:
                possible = np.count_nonzero((row + shift >= 0) & (row + shift < height))
                if covered[row + margin] < 0.9 * possible:
                    continue
                middle = factor * (row + 0.5 + slope * (at / factor - width / 2))
                band = middle.astype(int) + np.arange(-2 * factor, 2 * factor + 1)[:, None]
                band = band.clip(0, ink.shape[0] - 1)
                across = thickness[band, at]
                typical = np.quantile(across[across > 0], 0.3) if across.any() else 0
                if typical < 3 + max(ink.shape) / 100:
                    found[band, at] |= across <= 1.5 * typical + 1
    return lines


def run_lengths(mask):
    """For each pixel of a mask, how long the run of its row is that it belongs to; 0 outside."""
    _, starts, ends = runs(mask)
    result = np.zeros(mask.shape, dtype=np.int32)
    result[mask] = np.repeat(ends - starts, ends - starts)
    return result


def runs(mask):
    """The runs of a mask's rows, in reading order: row, first column, column behind the last."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return rows, starts, ends


# ---- pieces of ink, and which of them are digits -------------------------------------------------
def label(mask):
    """The connected pieces of a mask (H, W): their numbers from 1, and 0 elsewhere. Runs that
    touch, also at a corner, get the smaller of their numbers until nothing changes."""
    rows, starts, ends = runs(mask)
    stride = mask.shape[1] + 2  # rows in one line, with a gap between them
    first = np.searchsorted(rows * stride + ends, (rows + 1) * stride + starts)
    end = np.searchsorted(rows * stride + starts, (rows + 1) * stride + ends, side="right")
    touching = np.maximum(end - first, 0)  # how many runs of the next row
    upper = np.repeat(np.arange(len(rows)), touching)
    lower = np.arange(len(upper)) + np.repeat(first - np.cumsum(touching) + touching, touching)
    names = np.arange(len(rows))
    while (names[upper] != names[lower]).any():
        smaller = np.minimum(names[upper], names[lower])
        np.minimum.at(names, names[upper], smaller)
        np.minimum.at(names, names[lower], smaller)
        names = names[names]
    _, names = np.unique(names, return_inverse=True)
    result = np.zeros(mask.shape, dtype=np.int32)
    result[mask] = np.repeat(names + 1, ends - starts)
    return result


def measure(labels, ink):
    """Of each piece: its box [left, top, right, bottom) (N, 4), its pixels (N,), its mean ink."""
    y, x = np.nonzero(labels)
    piece = labels[y, x] - 1
    n = labels.max(initial=0)
    boxes = np.zeros((n, 4), dtype=int)
    boxes[:, :2] = max(labels.shape)
    for column, extreme, place in ((0, np.minimum, x), (1, np.minimum, y),
                                   (2, np.maximum, x + 1), (3, np.maximum, y + 1)):
        extreme.at(boxes[:, column], piece, place)
    sizes = np.bincount(piece, minlength=n)
    return boxes, sizes, np.bincount(piece, ink[y, x], minlength=n) / np.maximum(sizes, 1)


def find_pieces(ink):
    """The connected pieces of ink in an ink image, without lines: as of label()."""
    visible = max(FAINTEST, noise_limit(ink))
    seen = (ink > visible) & ~find_lines(ink, visible)
    if not seen.any():
        return label(seen)
    strong = ink[seen]
    level = np.mean(strong[strong >= otsu(strong)])  # of the pen, without blurred edges and stains
    return label(seen & (ink > 0.4 * level) & (level > PALEST))


def choose(boxes, sizes, darkness, shape):
    """Which pieces of an ink image of that shape may be digits or parts of them, (N,) of True and
    False, and a digit's height in pixels."""
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    kept = np.maximum(wide, high) >= max(8, SPECK * max(shape))  # no specks
    if not 0 < kept.sum() < TEXTURE:
        return np.zeros_like(kept), 0
    for i in np.nonzero(kept)[0]:  # no frames: they have a piece inside, at least a third as high
        inside = ((boxes[:, :2] > boxes[i, :2]) & (boxes[:, 2:] < boxes[i, 2:])).all(axis=1)
        kept[i] = not (kept & inside & (3 * high > high[i])).any()

    # The piece with most ink is a digit. It does not hang over the picture's edge, unless the
    # others are as nothing to what does.
    margins = np.concatenate([boxes[:, :2], shape[::-1] - boxes[:, 2:]], axis=1)
    inner = kept & (margins > 1).all(axis=1)
    if sizes[inner].max(initial=0) <= 0.1 * sizes[kept].max():
        inner = kept
    digit = np.argmax(np.where(inner, sizes, 0))

    # Other pieces are not much paler than this, no underline wider than it is high, and at the
    # picture's edge about as high.
    alike = (high > 0.6 * high[digit]) & (high < 1.5 * high[digit])
    underline = (wide > 5 * high) & (wide > high[digit])
    kept &= (inner | alike) & ~underline & (darkness > 0.5 * darkness[digit])
    most_of_it = sizes[kept].sum() > 0.3 * sizes[inner].sum()
    return kept & most_of_it, high[digit]


def find_digits(ink, sure):
    """The digits of an ink image, row by row: a list of (box, ink) with box [left, top, right,
    bottom) and the digit's ink in it alone. Empty if there is nothing like a digit."""
    labels = find_pieces(ink)
    boxes, sizes, darkness = measure(labels, ink)
    kept, height = choose(boxes, sizes, darkness, ink.shape)
    if not 0 < kept.sum() < 10 * MOST:
        return []

    def cut_out(group):
        left, top, right, bottom = box = box_around(boxes[group])
        mask = np.isin(labels[top:bottom, left:right], np.array(group) + 1)
        return box, np.where(mask, ink[top:bottom, left:right], 0)

    def sure_of(group):
        return sure(to_mnist(cut_out(group)[1]))

    def bond_of(one, other):
        return bond(box_around(boxes[one]), box_around(boxes[other]), height)

    def are_halves(one, other):
        return bond_of(one, other) == "halves" and (
            sure_of(one + other) > min(sure_of(one), sure_of(other)) - LESS_SURE)

    groups = [[i] for i in np.nonzero(kept)[0]]
    groups = join(join(groups, lambda *two: bond_of(*two) == "parts"), are_halves)
    found = [cut_out(group) for group in groups]
    tallest = max(len(digit) for _, digit in found)
    found = [each for each in found if len(each[1]) > LOW * tallest]
    rows = find_rows([box for box, _ in found])
    return [found[i] for row in rows for i in row] if len(found) <= MOST else []


def find_rows(boxes):
    """The numbers of boxes [left, top, right, bottom) in reading order: a list of rows, from the
    top down, each a list from left to right. A row may slope, and its digits may dance."""
    boxes, rows = np.array(boxes), []
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    wide, high = (boxes[:, 2:] - boxes[:, :2]).T
    for i in np.argsort(middle[:, 0]).tolist():
        # It goes on with the row whose last digit is most nearly at its height, unless that stands
        # above or below it. The further apart the two are, the more the row may have risen.
        last = [row[-1] for row in rows]
        gap = boxes[i, 0] - boxes[last, 2]
        rise = abs(middle[i, 1] - middle[last, 1])
        goes_on = -gap < ASIDE * np.minimum(wide[i], wide[last])
        goes_on &= rise < RISE * np.median(high) + SLOPE * gap.clip(0)
        if goes_on.any():
            rows[np.argmin(np.where(goes_on, rise, np.inf))].append(i)
        else:
            rows.append([i])
    return sorted(rows, key=lambda row: middle[row, 1].mean())


def box_around(boxes):
    """The smallest box around several."""
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def join(groups, belong):
    """Join groups of pieces, lists of their numbers, until no two belong together any more."""
    for i, one in enumerate(groups):
        for other in groups[i + 1:]:
            if belong(one, other):
                rest = [group for group in groups if group is not one and group is not other]
                return join([one + other, *rest], belong)
    return groups


def bond(a, b, height):
    """Whether two boxes hold "parts" of one digit, which a broken stroke has parted, or perhaps its
    "halves", as the two circles of an 8; or None. height: that of a digit."""
    gap_x, gap_y = np.maximum(a[:2], b[:2]) - np.minimum(a[2:], b[2:])  # below 0: they overlap
    narrower, lower = np.minimum(a[2:] - a[:2], b[2:] - b[:2])
    width, tall = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])  # of both together
    above, beside = -gap_x > OVERLAP * narrower, -gap_y > OVERLAP * lower
    is_low = tall < TALL * height
    near = above and gap_y < ABOVE * height or beside and gap_x < BESIDE * height
    if near and is_low and lower < PART * height:
        return "parts"
    is_compact = is_low or tall < SLIM * width
    return "halves" if above and gap_y < GAP * height and is_compact else None


# ---- as MNIST would have it --------------------------------------------------------------------
def to_mnist(ink):
    """The ink (h, w) of one digit alone as MNIST would store it: (28, 28) uint8."""
    # 1. The longest side becomes 100 pixels, five for each one of MNIST's box of 20.
    height, width = ink.shape
    factor = FINE * SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    full = np.quantile(ink[ink > 0], 0.7)
    picture = Image.fromarray((255 * (ink / full).clip(0, 1)).astype(np.uint8))
    picture = picture.resize(size, BOX if factor < 1 else BILINEAR)
    picture = ImageOps.expand(ImageOps.autocontrast(picture), 100)  # hair lines are pale by now

    # 2. Strokes as thick as MNIST's. Their width is twice the area for the outline's length; on a
    #    grid of pixels an outline is longer than the curve, by 4/π on average.
    inside = np.asarray(picture) > 127
    outline = sum(np.count_nonzero(np.diff(inside, axis=axis)) for axis in (0, 1)) * np.pi / 4
    stroke = 2 * np.count_nonzero(inside) / max(outline, 1)
    change = round((np.clip(stroke, FINE * THIN, FINE * THICK) - stroke) / 2)
    if change > 0:
        picture = picture.filter(ImageFilter.MaxFilter(1 + 2 * change))
    elif change < 0:
        picture = picture.filter(ImageFilter.MinFilter(1 - 2 * change))

    # 3. The longest side is 20 pixels, the centre of mass in the middle of 28.
    values = np.asarray(picture, dtype=float)
    y, x = np.nonzero(values > 127)
    pixel = max(np.ptp(x) + 1, np.ptp(y) + 1) / SIDE
    across, down = values.sum(axis=0), values.sum(axis=1)
    middle_x = (np.arange(len(across)) + 0.5) @ across / across.sum()
    middle_y = (np.arange(len(down)) + 0.5) @ down / down.sum()
    half = FIELD / 2 * pixel
    field = middle_x - half, middle_y - half, middle_x + half, middle_y + half
    small = np.asarray(picture.resize((FIELD, FIELD), BOX, box=field), dtype=float)

    # 4. As dark as MNIST's: four fifths of the ink are below this, and it becomes 255.
    dark = np.quantile(small[small > 255 * FAINT_INK], DARK)
    return (255 * (small / dark).clip(0, 1)).round().astype(np.uint8)
