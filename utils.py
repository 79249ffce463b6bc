"""What train.py stands on: device, data, augmentation, evaluation, receptive field, files, plots.
Plain functions in the order in which a run needs them. None of them knows a particular net."""

import contextlib
import csv
import ctypes
import hashlib
import io
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import nn

HERE = Path(__file__).resolve().parent
MEAN, STD = 0.1307, 0.3081  # of all training pixels on the scale 0..1; a test recomputes them
CENTRES = (torch.arange(28) + 0.5) / 14 - 1  # of the pixels, in a grid that runs from -1 to 1
FAINT, SPREAD = 0.3, 0.46  # for upright(): a share of the brightest pixel; 0.46 is 6.4 pixels
TARGET, BUDGET = 99.4, 8000  # % in each of the last five epochs, with fewer parameters than this
RAW_FILES = {  # their MD5. torchvision checks the archives that it downloads, but not these.
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class UserError(Exception):
    """Something the user can put right; main() prints the message and exits with `status`."""

    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


# ---- words -------------------------------------------------------------------------------------
def print_anything():
    """Have print() show every line at once, and a ? for what a terminal lacks, such as ±."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has not
            stream.reconfigure(errors="replace", line_buffering=True)


def warn(text):
    """Print a warning to standard error."""
    print(f"warning: {text}", file=sys.stderr)


def describe(error):
    """An exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def table(header, rows):
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


# ---- device and data ---------------------------------------------------------------------------
def pick_device(name="auto"):
    """The torch.device `name`; "auto": the first of cuda, mps, cpu. Raises UserError (status 2)."""
    devices = dict(cuda=torch.cuda.is_available(), mps=torch.backends.mps.is_available(), cpu=True)
    available = [each for each, is_there in devices.items() if is_there]
    if name not in ("auto", *available):
        raise UserError(f"--device {name}: torch {torch.__version__} finds no such device here; "
                        f"available: {', '.join(available)}", 2)
    return torch.device(available[0] if name == "auto" else name)


def keep_memory():
    """Have glibc keep what is freed, or every step gets its memory anew, zeroed page by page."""
    threshold, trim = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h, in bytes
    with contextlib.suppress(AttributeError, TypeError):  # another C library
        for option in (threshold, trim):
            ctypes.CDLL(None).mallopt(option, 2**31 - 1)


def find_mnist(data_dir=None):
    """The folder that holds MNIST/raw/: `data_dir`, or data/ beside this file; downloaded if it is
    not there. Raises UserError if that fails."""
    root = Path(data_dir or HERE / "data")
    raw = root / "MNIST" / "raw"
    if all((raw / name).is_file() for name in RAW_FILES):
        return root
    print(f"MNIST is not in {root}: downloading it")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # seconds; torchvision sets none and might wait for ever
    try:
        from torchvision import datasets  # here, because importing it takes as long as torch
        with contextlib.redirect_stdout(io.StringIO()):  # the mirrors' failures: see below
            datasets.MNIST(root, download=True)
    except Exception as error:  # a dozen kinds: no network, no right to write, half an archive ...
        raise UserError(
            f"MNIST is not in {root}, and the download failed:\n  {describe(error)}\n"
            f"Put these files into {raw}/:\n  {'  '.join(RAW_FILES)}\n"
            "or name a folder that holds MNIST/raw/ with --data-dir.") from None
    finally:
        socket.setdefaulttimeout(timeout)
    return root


def read_raw(path):
    """The bytes of a raw MNIST file (N,) uint8. Raises UserError if they are not exactly the
    published ones."""
    data = path.read_bytes()
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if digest != RAW_FILES[path.name]:
        raise UserError(f"{path} is damaged or of another data set: {len(data)} bytes, MD5 "
                        f"{digest}, expected {RAW_FILES[path.name]}. Delete it and run again.")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def load_mnist(root, train):
    """The 60,000 training or the 10,000 test images (N, 28, 28) uint8 and their labels (N,) int64.
    Raises UserError if a raw file is not, byte for byte, the published one."""
    raw, part = Path(root, "MNIST", "raw"), "train" if train else "t10k"
    images = read_raw(raw / f"{part}-images-idx3-ubyte")
    labels = read_raw(raw / f"{part}-labels-idx1-ubyte")
    return images[16:].view(-1, 28, 28), labels[8:].long()  # behind the files' headers


def rendered_digits(n, seed):
    """n digits in Pillow's own font, warped at random: images (n, 28, 28) uint8, labels (n,)."""
    glyphs = []
    for digit in "0123456789":
        picture = Image.new("L", (28, 28))
        ImageDraw.Draw(picture).text((14, 14), digit, 255, ImageFont.load_default(22), anchor="mm")
        glyphs.append(list(picture.tobytes()))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (n,), generator=generator)
    thetas = draw_affine(n, dict(rotate=15, shift=3, scale=0.2), generator)
    images = torch.tensor(glyphs, dtype=torch.float)[labels].view(n, 1, 28, 28)
    return warp(images, thetas).round().to(torch.uint8).squeeze(1), labels


# ---- preparation -------------------------------------------------------------------------------
def as_uint8(images):
    """Images (N, 28, 28) or (N, 1, 28, 28), ink high, as uint8 (N, 28, 28). Floats lie on 0..1, as
    torchvision's ToTensor() gives them. Raises ValueError for anything else; never changes what it
    is given."""
    images = images.squeeze(1)
    is_unit_scale = images.is_floating_point() and ((images >= 0) & (images <= 1)).all()
    if images.shape[1:] != (28, 28) or not (images.dtype == torch.uint8 or is_unit_scale):
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}, expected (N, 28, 28), "
                         "uint8 or floats from 0 to 1")
    return (255 * images).round().to(torch.uint8) if is_unit_scale else images


def deskew(images):
    """Images as as_uint8() takes them, each sheared along its rows about the ink's centre until x
    and y of the ink are uncorrelated: slanted digits stand upright, and no label is needed. uint8
    (N, 28, 28). An old remedy, as in LeCun et al. 1998
    (http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf)."""
    images = as_uint8(images)
    result, centres = torch.empty_like(images), CENTRES.to(images.device)
    for batch, out in zip(images.split(1000), result.split(1000)):
        ink = batch.float()
        rows = ink.sum(dim=2)  # (B, 28): ink in each row
        y = rows @ centres / rows.sum(dim=1).clamp(min=1)  # clamped for an empty image
        dy = centres - y[:, None]
        slope = ((ink @ centres) * dy).sum(dim=1) / (rows * dy ** 2).sum(dim=1).clamp(min=1)
        thetas = torch.eye(2, 3, device=images.device).repeat(len(batch), 1, 1)
        thetas[:, 0, 1], thetas[:, 0, 2] = slope, -slope * y
        out.copy_(warp(ink.unsqueeze(1), thetas).round().squeeze(1))
    return result


def upright(images):
    """Images as as_uint8() takes them, each brought to the same contrast, slant, place and size:
    the brightest pixel to 255; sheared as by deskew(); the ink's centre to the middle; the ink's
    root mean square distance from it to SPREAD, by a zoom of 0.7 to 1.4. uint8 (N, 28, 28).

    Only what is brighter than FAINT counts as ink, so that noise moves nothing. Moment
    normalisation, as in Liu et al. 2004 (https://doi.org/10.1016/S0031-3203(03)00224-3)."""
    images = as_uint8(images)
    result, centres = torch.empty_like(images), CENTRES.to(images.device)
    for batch, out in zip(images.split(1000), result.split(1000)):
        batch = batch.float()
        batch = batch * (255 / batch.amax(dim=(1, 2), keepdim=True).clamp(min=1))
        ink = (batch - 255 * FAINT).clamp(min=0)
        total = ink.sum(dim=(1, 2)).clamp(min=1)  # clamped for an empty image
        columns, rows = ink.sum(dim=1) / total[:, None], ink.sum(dim=2) / total[:, None]  # (B, 28)
        x, y = columns @ centres, rows @ centres
        dx, dy = centres - x[:, None], centres - y[:, None]
        variance_x, variance_y = (columns * dx ** 2).sum(dim=1), (rows * dy ** 2).sum(dim=1)
        covariance = ((ink @ centres) * dy).sum(dim=1) / total
        slope = covariance / variance_y.clamp(min=1e-4)
        # Shearing upright takes slope * covariance from the variance along x.
        spread = (variance_y + variance_x - slope * covariance).clamp(min=0).sqrt()
        zoom = (spread / SPREAD).clamp(0.7, 1.4)
        thetas = torch.stack([zoom, slope * zoom, x, 0 * zoom, zoom, y], dim=1).view(-1, 2, 3)
        out.copy_(warp(batch.unsqueeze(1), thetas).round().squeeze(1))
    return result


def normalise(images):
    """Float images on the scale 0..255 to zero mean and unit variance, in place."""
    return images.sub_(255 * MEAN).div_(255 * STD)


# ---- augmentation and batches ------------------------------------------------------------------
def affine_matrix(angle, shift_x, shift_y, scale, shear):
    """Matrices (N, 2, 3) for warp(), from output to input. The arguments are tensors (N,), as in
    torchvision.transforms.functional.affine: angle and shear (along x) in degrees, shifts in
    pixels, scale a factor."""
    cos, sin = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
    slope = torch.tan(torch.deg2rad(shear))
    matrix = torch.stack([cos - sin * slope, cos * slope + sin, -sin, cos], dim=1).view(-1, 2, 2)
    matrix = matrix / scale[:, None, None]
    shift = torch.stack([shift_x, shift_y], dim=1)[:, :, None] * (2 / 28)  # grids run from -1 to 1
    return torch.cat([matrix, -matrix @ shift], dim=2)


AUGMENTATIONS = dict(  # what a step of a recipe's augment may have, and the highest strength
    rotate=180, shear=80,  # degrees
    shift=28, thickness=1,  # pixels
    scale=0.99, contrast=1,  # fractions
    brightness=1, noise=1,  # fractions of white
    p=1,  # the share of images that the step changes
    nearest=1)  # True or False


def steps_of(augment):
    """The steps of a recipe's augment, which is a list of dicts or a dict for a single step."""
    return augment if isinstance(augment, list) else [augment]


def draw_affine(n, augment, generator):
    """n random matrices (n, 2, 3), every parameter uniform within ± its strength; None if nothing
    is to be moved.
    augment: a dict with any of rotate, shear (degrees), shift (pixels), scale (a fraction)."""
    rotate, shift, scale, shear = (augment.get(name, 0)
                                   for name in ("rotate", "shift", "scale", "shear"))
    if not any((rotate, shift, scale, shear)):
        return None
    bounds = torch.tensor([rotate, shift, shift, scale, shear])
    draws = torch.rand(5, n, generator=generator) * 2 - 1
    angle, x, y, zoom, slant = draws * bounds[:, None]
    return affine_matrix(angle, x, y, 1 + zoom, slant)


def change_thickness(images, pixels):
    """Float images (B, 1, 28, 28) with strokes thicker by `pixels` (B, 1, 1, 1), thinner where
    negative, at most 1: mixed with the brightest (thinner: the darkest) of each 2×2 pixels."""
    padded = F.pad(images, (1, 0, 1, 0))
    above, below = padded[:, :, :-1], padded[:, :, 1:]  # F.max_pool2d is much slower
    most, least = torch.maximum(above, below), torch.minimum(above, below)
    most = torch.maximum(most[..., :-1], most[..., 1:])
    least = torch.minimum(least[..., :-1], least[..., 1:])
    return images + pixels.clamp(min=0) * (most - images) + pixels.clamp(max=0) * (images - least)


def warp(images, thetas, mode="bilinear"):
    """Float images (B, 1, 28, 28) resampled through thetas (B, 2, 3), zeros outside: the sampler of
    Spatial Transformer Networks (https://arxiv.org/abs/1506.02025). mode "bilinear" mixes four
    pixels, "nearest" takes one."""
    centres = CENTRES.to(images.device)
    x, y = centres.repeat(28), centres.repeat_interleave(28)
    # As F.affine_grid, but without its slow product for each image.
    grid = thetas @ torch.stack([x, y, torch.ones_like(x)])  # (B, 2, 784)
    grid = grid.view(-1, 2, 28, 28).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


def draw_step(n, step, generator):
    """Random numbers for n images and one dict of `augment`: matrices (n, 2, 3), or None if nothing
    is to be moved, and the other changes' strengths {name: (n,)}, uniform within ± step[name], that
    for noise between 0 and 255 × step["noise"]. With p=0.5 about half of them change nothing."""
    left = torch.zeros(n, dtype=torch.bool)
    if "p" in step:
        left = torch.rand(n, generator=generator) >= step["p"]
    thetas = draw_affine(n, step, generator)
    if thetas is not None:
        thetas[left] = torch.eye(2, 3)
    strengths = {}
    for name in ("thickness", "brightness", "contrast"):
        if step.get(name):
            draws = 2 * torch.rand(n, generator=generator) - 1
            strengths[name] = step[name] * draws
    if step.get("noise"):
        strengths["noise"] = 255 * step["noise"] * torch.rand(n, generator=generator)
    for values in strengths.values():
        values[left] = 0
    return thetas, strengths


def change_pixels(images, strengths, generator):
    """Float images (B, 1, 28, 28) on 0..255, changed by strengths {name: (B, 1, 1, 1)}."""
    if "thickness" in strengths:
        images = change_thickness(images, strengths["thickness"])
    if "contrast" in strengths:  # then brightness, as Albumentations' RandomBrightnessContrast
        images = (1 + strengths["contrast"]) * images
    if "brightness" in strengths:
        images = images + 255 * strengths["brightness"]
    if "noise" in strengths:
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        images = images + strengths["noise"] * noise
    return images.clamp(0, 255)


def batches(images, labels, batch_size, generator, augment):
    """One epoch: yields normalised images (B, 1, 28, 28) and labels (B,), every image once; the
    last batch may be smaller. images (N, 28, 28) uint8 and labels (N,) lie on the device.
    `generator`, of random numbers, lies on the CPU and serves nothing else: order and transforms
    depend on its seed alone, not on the device or dropout.

    augment: a dict of strengths, or a list of such dicts, one step after the other. The affine
    transforms of all steps come first, in a single resampling, which mixes pixels bilinearly, or,
    if any step has nearest=True, takes the nearest. torchvision resamples in each step."""
    n, device = len(images), images.device
    order = torch.randperm(n, generator=generator).to(device)
    steps = steps_of(augment)
    mode = "nearest" if any(step.get("nearest") for step in steps) else "bilinear"
    thetas, changes = None, []
    for step in steps:
        matrices, strengths = draw_step(n, step, generator)
        if matrices is not None:
            matrices = matrices.to(device)  # one copy an epoch
            if thetas is not None:  # resample once where two steps would do it twice
                linear, shift = thetas.split([2, 1], dim=2)
                matrices = linear @ matrices
                matrices[:, :, 2:] += shift
            thetas = matrices
        if strengths:
            changes.append({name: values.to(device) for name, values in strengths.items()})

    for start in range(0, n, batch_size):
        part = slice(start, start + batch_size)
        batch = images.index_select(0, order[part])  # images[order[part]], but faster
        batch = batch.unsqueeze(1).float()
        if thetas is not None:  # before normalising, so that zeros from outside are background
            batch = warp(batch, thetas[part], mode)
        for change in changes:
            change = {name: values[part].view(-1, 1, 1, 1) for name, values in change.items()}
            batch = change_pixels(batch, change, generator)
        yield normalise(batch), labels[order[part]]


# ---- optimizer and scheduler -------------------------------------------------------------------
class Muon(torch.optim.Optimizer):
    """Muon, by Keller Jordan (https://kellerjordan.github.io/posts/muon).

    SGD's step for a weight matrix goes far in a few directions and hardly anywhere in all others.
    Muon takes SGD's step with Nesterov momentum and makes it equally long in every direction, by
    orthogonal(). That costs five products of small matrices for each layer and step.

    A convolution's matrix is (outputs, inputs × window). What is no matrix, BatchNorm's weights and
    the biases, takes SGD's own steps, at `vectors` times the rate and with `weight_decay`."""

    def __init__(self, params, lr=0.02, momentum=0.9, vectors=5.0, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, vectors=vectors,
                                      weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                gradient, rate = weight.grad, group["lr"]
                is_matrix = weight.ndim >= 2
                if not is_matrix:
                    gradient = gradient.add(weight, alpha=group["weight_decay"])
                    rate = rate * group["vectors"]
                velocity = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                velocity.mul_(group["momentum"]).add_(gradient)
                step = gradient.add(velocity, alpha=group["momentum"])
                if is_matrix:
                    matrix = orthogonal(step.flatten(1))
                    outputs, inputs = matrix.shape
                    rate = rate * max(1, outputs / inputs) ** 0.5  # tall matrices step further
                    step = matrix.view_as(weight)
                weight.sub_(step, alpha=rate)


def orthogonal(matrix):
    """About the nearest matrix with orthogonal rows or columns: five Newton-Schulz steps with
    Keller Jordan's coefficients, which bring all but tiny singular values to about 1."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    matrix = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * square + 2.0315 * square @ square) @ matrix
    return matrix


class ByEpoch(torch.optim.lr_scheduler.LRScheduler):
    """A scheduler with a list of rates, one for each epoch; stepped once an epoch."""

    def __init__(self, optimizer, rates):
        self.rates = rates
        super().__init__(optimizer)

    def get_lr(self):
        rate = self.rates[min(self.last_epoch, len(self.rates) - 1)]  # stepped after the last, too
        return [rate] * len(self.optimizer.param_groups)


# ---- evaluation --------------------------------------------------------------------------------
@torch.inference_mode()
def forward(net, images, batch_size=500):
    """Logits (N, 10) of `net`, set to eval mode, for prepared images; see as_uint8()."""
    net.eval()
    parts = as_uint8(images).unsqueeze(1).split(batch_size)
    return torch.cat([net(normalise(part.float())) for part in parts])


def evaluate(net, images, labels):
    """Mean cross-entropy, accuracy in percent, and predicted digits (N,) of `net` for images as
    as_uint8() takes them, prepared already, as prepare() leaves them."""
    logits = forward(net, images)
    predictions = logits.argmax(dim=1)
    accuracy = 100 * (predictions == labels).sum().item() / len(labels)
    return F.cross_entropy(logits, labels).item(), accuracy, predictions


def prepare(images, recipe):
    """Raw images, as as_uint8() takes them, as a net with this RECIPE wants them."""
    if recipe.get("upright"):
        return upright(images)
    return deskew(images) if recipe.get("deskew") else as_uint8(images)


def predict(net, images, recipe):
    """Probabilities (N, 10) of the ten digits for raw images: uint8 or floats from 0 to 1,
    (N, 28, 28) or (N, 1, 28, 28), ink high, straight from MNIST. They are prepared as `recipe`,
    the RECIPE of the net's model file, asks for it."""
    device = next(net.parameters()).device
    return forward(net, prepare(images.to(device), recipe)).softmax(dim=1)


# ---- receptive field ---------------------------------------------------------------------------
def reach(net, lines):
    """What each layer of `net` gets to see of images with lines of NaN, which spreads to whatever
    these pixels reach: {(number, layer): bool (N, ...)}, in the order in which the layers run; the
    last is the net itself. What cannot run at that size is left out. lines: bool (N, side, side)"""
    images = torch.zeros(lines.shape, dtype=next(net.parameters()).dtype)
    images = images.masked_fill(lines, math.nan).unsqueeze(1)
    reached = {}

    def look(layer, _, output):
        if isinstance(output, torch.Tensor) and len(output) == len(images):
            reached[len(reached), layer] = output.isnan()

    hooks = [layer.register_forward_hook(look) for layer in net.modules()
             if layer is net or not list(layer.children())]
    try:
        net.eval()(images)
    except Exception:  # a linear layer has weights for 28×28 pixels alone, say
        if lines.shape[1] == 28:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    return reached


def windows(reached):
    """(first, sides), each (..., units): the number of the first line that reached a unit, and how
    many did. reached: bool (..., lines, units)."""
    first = reached.int().argmax(dim=-2)
    last = reached.shape[-2] - 1 - reached.int().flip(-2).argmax(dim=-2)
    return first, torch.where(reached.any(dim=-2), last - first + 1, 0)


def without_edges(reached):
    """(side, jump) of the windows of a layer's units in the middle of 84×84 pixels, which no edge
    clips; "" for what is not the same for all. reached: bool (84, channels, height, width), by row
    and column 0, 1, ...: a unit on the diagonal sees as many of each."""
    _, _, height, width = reached.shape
    if height != width:
        return "", ""
    middle = range(max(height // 2 - 2, 0), min(height // 2 + 3, height))
    first, sides = windows(reached.any(dim=1)[:, middle, middle])
    inside = (first > 0) & (first + sides < 84)
    jumps = first[inside].diff().unique().tolist()
    side = sides[inside].max().item() if inside.any() else ""
    return side, jumps[0] if len(jumps) == 1 else ""


@torch.no_grad()
def receptive_field(net):
    """What each layer of any net, on the CPU, sees of its 28×28 pixels: a list of dicts, in the
    order in which the layers run; last are the logits. BatchNorm, activations and the like, which
    look at one pixel each, are counted with the layer before. All of it is measured: see reach().

    layer, kernel, stride, padding: as the module says, "" where it does not
    output: its shape without the batch
    window: side of the square of pixels that reaches one of its units, clipped to the image
    without_edges, jump: side and distance of the windows on an image without edges; "" for what is
        no map, cannot run on a larger image, or sees more of a larger image
    parameters: each counted once; with the logits those that belong to no layer"""
    row, long_row = (torch.eye(side, dtype=torch.bool)[:, :, None].expand(side, side, side)
                     for side in (28, 84))  # image i has row i
    near = reach(net, torch.cat([row, row.transpose(1, 2)]))
    far = reach(net, long_row | long_row.transpose(1, 2))
    rows, counted = [], set()
    for place, reached in near.items():
        _, layer = place
        fresh = set(layer.parameters()) - counted
        counted |= fresh
        parameters = sum(p.numel() for p in fresh)
        _, sides = windows(reached.reshape(2, 28, -1))
        window = sides.max().item()
        looks = layer is net or hasattr(layer, "kernel_size") or isinstance(layer, nn.Linear)
        before = (rows[-1]["window"], math.prod(rows[-1]["output"])) if rows else None
        if before == (window, reached[0].numel()) and not looks:
            rows[-1]["parameters"] += parameters
            continue
        grows = reached.dim() == 4 and place in far and far[place].shape[2] > reached.shape[2]
        side, jump = without_edges(far[place]) if grows else ("", "")
        rows.append(dict(
            layer="logits" if layer is net else type(layer).__name__,
            kernel=getattr(layer, "kernel_size", ""), stride=getattr(layer, "stride", ""),
            padding=getattr(layer, "padding", ""), output=tuple(reached.shape[1:]), window=window,
            without_edges=side, jump=jump, parameters=parameters))
    return rows


def receptive_field_table(net):
    """receptive_field() as a Markdown table, closed by the number of parameters."""
    rows = receptive_field(net)
    for number, row in enumerate(rows, 1):
        if row["layer"] != "logits":
            row["layer"] = f"{number} {row['layer']}"
        row["parameters"] = f"{row['parameters']:,}"
        for name, value in row.items():
            if isinstance(value, tuple):
                square = name != "output" and len(set(value)) == 1
                row[name] = value[0] if square else "×".join(map(str, value))
    header = ("layer", "kernel", "stride", "padding", "output", "sees (pixels)", "without edges",
              "jump", "parameters")
    lines = [("input", "", "", "", "1×28×28", 1, 1, 1, 0), *(row.values() for row in rows)]
    total = sum(p.numel() for p in net.parameters())
    return f"{table(header, lines)}\nParameters: {total:,}.\n"


# ---- processes ---------------------------------------------------------------------------------
def cores():
    """The number of CPU cores that this process may use: on a cluster, not all that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run_side_by_side(commands, at_once):
    """Run commands {key: list of words} as processes, some at a time, with one thread each; yield
    (key, exit status, what it said on standard error) as each ends. Whatever ends the caller's
    loop, as Ctrl-C does, ends the processes."""
    env = os.environ | dict(OMP_NUM_THREADS="1", PYTHONIOENCODING="utf-8")
    waiting, running = list(commands.items()), []
    try:
        while waiting or running:
            if waiting and len(running) < at_once:
                key, command = waiting.pop(0)
                said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
                process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=said)
                running.append((key, process, said))
            time.sleep(0.1)
            for ended in [each for each in running if each[1].poll() is not None]:
                running.remove(ended)
                key, process, said = ended
                said.seek(0)
                yield key, process.returncode, said.read().strip()
    finally:
        for _, process, _ in running:
            process.terminate()
        for _, process, _ in running:
            process.wait()


# ---- files of a run ----------------------------------------------------------------------------
def write(path, data, needed=True):
    """Write bytes or str so that a kill at any moment leaves the old file or the new, never half of
    one. Raises UserError; a warning will do for a file that is not `needed`, as when a spreadsheet
    has the old one open."""
    part = Path(f"{path}.part")  # one that a kill leaves is replaced by the next
    try:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        message = f"cannot write {path}: {error.strerror}"
        if needed:
            raise UserError(message) from None
        warn(message)


def csv_text(rows, columns=None):
    """Dicts with the same keys as a CSV file. columns: the keys, where there may be no rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_csv(path):
    """The rows of a CSV file as dicts of text."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save(path, state):
    """torch.save, but never half a file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write(path, buffer.getbuffer())


def load(path):
    """What save() wrote, on the CPU. Raises UserError if it is missing, damaged or foreign.
    weights_only runs no code of the file's."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # zipfile, pickle and torch have a dozen kinds for damaged files
        raise UserError(f"{path} is missing, damaged or not a checkpoint of train.py") from None


# ---- plots -------------------------------------------------------------------------------------
def new_figure(**options):
    """A matplotlib Figure that needs no window."""
    if "ipykernel" not in sys.modules:  # a notebook's "!python train.py" may name a backend that
        os.environ.pop("MPLBACKEND", None)  # is not installed here
    from matplotlib.figure import Figure
    return Figure(layout="constrained", **options)


def png(figure):
    """A matplotlib Figure as the bytes of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, dpi=110)
    return file.getvalue()


def plot(title, xlabel, ylabel, xs, lines):
    """Figure with one line for each label in `lines`, a dict label -> ys."""
    figure = new_figure(figsize=(7, 4.5))
    axes = figure.add_subplot(title=title, xlabel=xlabel, ylabel=ylabel)
    for label, ys in lines.items():
        axes.plot(xs, ys, marker="." if len(xs) < 100 else "", label=label)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def curves(rows, rates, title, recipe):
    """{file name: Figure}: accuracy and loss over epochs, learning rate over steps.
    rows: those of metrics.csv. rates: the learning rate of every step."""
    epochs = [row["epoch"] for row in rows]
    notes = dict(augment="augmented images", label_smoothing="smoothed labels")
    changed = [words for key, words in notes.items() if recipe[key]]
    note = f" ({', '.join(changed)})" if changed else ""
    judged = "val" if "val_acc" in rows[0] else "test"
    accuracy, loss, lowest = {}, {}, 98.9
    for part, words in (("train", note), (judged, "")):
        percent = [row[f"{part}_acc"] for row in rows]
        entropy = [row[f"{part}_loss"] for row in rows]
        accuracy[f"{part}: {percent[-1]:.2f}% at the end"] = percent
        loss[f"{part}{words}: {entropy[-1]:.4f} at the end"] = entropy
        lowest = min(lowest, *(percent[1:] or percent))  # epoch 1 may start below
    accuracy[f"target: {TARGET}%"] = [TARGET] * len(rows)

    accuracy = plot(title, "epoch", "accuracy (%)", epochs, accuracy)
    accuracy.axes[0].set_ylim(math.floor(lowest), 100)
    loss = plot(title, "epoch", "loss (cross-entropy)", epochs, loss)
    log_axis(loss.axes[0])
    steps = range(1, len(rates) + 1)
    rate = plot(title, "step", "learning rate", steps, {f"highest: {max(rates):.4g}": rates})
    return {"accuracy.png": accuracy, "loss.png": loss, "learning_rate.png": rate}


def log_axis(axes):
    """A logarithmic y axis with numbers that one can read."""
    axes.set_yscale("log", subs=[2, 5])  # beside the powers of ten
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def mistakes(images, labels, predictions, title, first=0, most=60, ringed=()):
    """Figure of the first misclassified of images (N, 28, 28): index: true label → prediction. The
    index counts from `first`; those of `ringed` get a ring."""
    wrong = (predictions != labels).nonzero().flatten().tolist()
    lines = max(1, math.ceil(min(len(wrong), most) / 10))
    shown = f"the first {most}: " if len(wrong) > most else ""
    figure = new_figure(figsize=(10, 0.8 + 1.13 * lines))
    figure.suptitle(f"{title}\n{len(wrong)} of {len(labels)} wrong, as the net sees them\n"
                    f"{shown}index: true → guess")
    axes = figure.add_subplot()
    axes.axis("off")
    for place, i in enumerate(wrong[:most]):
        left, top = 36 * (place % 10), 40 * (place // 10)  # a cell of 36×40 for each
        axes.imshow(images[i].numpy(), cmap="gray_r", vmin=0, vmax=255,
                    extent=(left, left + 28, top + 28, top))
        axes.text(left + 14, top - 2, f"{first + i}: {labels[i]} → {predictions[i]}",
                  ha="center", fontsize=8)
        if first + i in ringed:
            axes.plot(left + 14, top + 14, "o", markersize=46, fillstyle="none", color="C3")
    axes.set(xlim=(0, 352), ylim=(40 * lines - 8, -10))
    return figure
