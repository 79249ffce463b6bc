"""What train.py stands on: device, data, augmentation, evaluation, files, plots.
Plain functions in the order in which a run needs them; none of them knows a particular net."""

import contextlib
import ctypes
import hashlib
import io
import math
import os
import socket
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
MEAN, STD = 0.1307, 0.3081  # of all training pixels on the scale 0..1; a test recomputes them
CENTRES = (torch.arange(28) + 0.5) / 14 - 1  # of the pixels, in a grid that runs from -1 to 1
TARGET, BUDGET = 99.4, 8000  # % in each of the last five epochs, with fewer parameters than this
RAW_FILES = {  # bytes and MD5. torchvision checks the archives it downloads, but not these.
    "train-images-idx3-ubyte": (47040016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (60008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (7840016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (10008, "27ae3e4e09519cfbb04c329615203637"),
}


class UserError(Exception):
    """Something the user can put right; main() prints the message alone and exits with `status`."""
    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


# ---- device and data ---------------------------------------------------------------------------
def pick_device(name="auto"):
    """The torch.device `name`; "auto": the first of cuda, mps, cpu. Raises UserError (status 2)."""
    available = (["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
                 + ["cpu"])
    if name != "auto" and name not in available:
        raise UserError(f"--device {name}: torch {torch.__version__} finds no such device here; "
                        f"available: {', '.join(available)}", 2)
    return torch.device(available[0] if name == "auto" else name)


def keep_memory():
    """Have glibc keep what is freed, or every step gets its memory anew, zeroed page by page."""
    with contextlib.suppress(AttributeError, TypeError):  # another C library
        for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD: in bytes
            ctypes.CDLL(None).mallopt(option, 2**31 - 1)


def find_mnist(data_dir=None):
    """The folder that holds MNIST/raw/: `data_dir`, else data/ or ../shared/mnist/ beside this
    file, else the first of these, after a download. Raises UserError if that fails."""
    places = [Path(data_dir)] if data_dir else [HERE / "data", HERE.parent / "shared" / "mnist"]
    for place in places:
        if all((place / "MNIST" / "raw" / name).is_file() for name in RAW_FILES):
            return place
    looked = " or ".join(map(str, places))
    print(f"MNIST is not in {looked}: downloading it into {places[0]}", flush=True)
    socket.setdefaulttimeout(20)  # seconds; torchvision sets none and might wait for ever
    try:
        from torchvision import datasets  # here, because importing it takes as long as torch
        with contextlib.redirect_stdout(io.StringIO()):  # the mirrors' failures: see below
            datasets.MNIST(places[0], download=True)
    except Exception as error:  # a dozen kinds: no network, no right to write, half an archive ...
        raise UserError(
            f"MNIST is not in {looked}, and the download failed:\n  "
            f"{' '.join(str(error).split()) or type(error).__name__}\n"
            f"Run this again where there is a network; or put these four files into\n"
            f"{places[0] / 'MNIST' / 'raw'}/:\n  {'  '.join(RAW_FILES)}\n"
            "or name a folder that holds MNIST/raw/ with --data-dir.") from None
    return places[0]


def load_mnist(root, train):
    """The 60,000 training or the 10,000 test images (N, 28, 28) uint8 and their labels (N,) int64.
    Raises UserError if a raw file is not, byte for byte, the published one."""
    contents = []
    for kind in ("images-idx3", "labels-idx1"):
        path = Path(root, "MNIST", "raw", f"{'train' if train else 't10k'}-{kind}-ubyte")
        data, (size, md5) = path.read_bytes(), RAW_FILES[path.name]
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if (len(data), found) != (size, md5):
            raise UserError(f"{path} is damaged: {len(data)} bytes, MD5 {found}, expected {size} "
                            f"bytes, MD5 {md5}. Delete it and run again.")
        contents.append(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return contents[0][16:].view(-1, 28, 28), contents[1][8:].long()  # behind the files' headers


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


# ---- deskewing, augmentation, batches, evaluation ----------------------------------------------
def deskew(images):
    """uint8 images (N, 28, 28), each sheared along its rows about the ink's centre until x and y of
    the ink are uncorrelated: slanted digits stand upright, and no label is needed. An old remedy,
    as in LeCun et al. 1998 (http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf)."""
    upright, centres = torch.empty_like(images), CENTRES.to(images.device)
    for batch, result in zip(images.split(1000), upright.split(1000)):
        ink = batch.float()
        rows = ink.sum(dim=2)  # (B, 28): ink in each row
        y = rows @ centres / rows.sum(dim=1).clamp(min=1)  # clamped for an empty image
        dy = centres - y[:, None]
        slope = ((ink @ centres) * dy).sum(dim=1) / (rows * dy ** 2).sum(dim=1).clamp(min=1)
        thetas = torch.eye(2, 3, device=images.device).repeat(len(batch), 1, 1)
        thetas[:, 0, 1], thetas[:, 0, 2] = slope, -slope * y
        result.copy_(warp(ink.unsqueeze(1), thetas).round().squeeze(1))
    return upright


def affine_matrix(angle, shift_x, shift_y, scale, shear):
    """Output-to-input matrices (N, 2, 3) from five tensors (N,): angle and shear in degrees, shifts
    in pixels, scale a factor, as in torchvision.transforms.functional.affine, shear along x."""
    cos, sin = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
    slope = torch.tan(torch.deg2rad(shear))
    matrix = torch.stack([cos - sin * slope, cos * slope + sin, -sin, cos], dim=1).view(-1, 2, 2)
    matrix = matrix / scale[:, None, None]
    shift = torch.stack([shift_x, shift_y], dim=1)[:, :, None] * (2 / 28)  # grids run from -1 to 1
    return torch.cat([matrix, -matrix @ shift], dim=2)


def draw_affine(n, augment, generator):
    """n random matrices (n, 2, 3), every parameter uniform within ± its strength; None for none.
    augment: a dict with any of rotate, shear (degrees), shift (pixels), scale (a fraction below
    1). Raises ValueError for anything else in it."""
    strengths = dict(rotate=0, shift=0, scale=0, shear=0) | augment
    if len(strengths) > 4 or not all(0 <= s < math.inf for s in strengths.values()) \
            or strengths["scale"] >= 1 or strengths["shift"] > 28:
        raise ValueError(f"augment is {augment}; expected strengths >= 0 for any of rotate, shear "
                         "(degrees), shift (at most 28 pixels), scale (below 1)")
    if not any(strengths.values()):
        return None
    rotate, shift, scale, shear = strengths.values()
    draws = torch.rand(5, n, generator=generator) * 2 - 1
    angle, x, y, zoom, slant = draws * torch.tensor([rotate, shift, shift, scale, shear])[:, None]
    return affine_matrix(angle, x, y, 1 + zoom, slant)


def warp(images, thetas):
    """Float images (B, 1, 28, 28) resampled bilinearly through thetas (B, 2, 3), zeros outside:
    the sampler of Spatial Transformer Networks (https://arxiv.org/abs/1506.02025)."""
    centres = CENTRES.to(images.device)
    x, y = centres.repeat(28), centres.repeat_interleave(28)
    grid = thetas @ torch.stack([x, y, torch.ones_like(x)])  # (B, 2, 784). F.affine_grid does the
    grid = grid.view(-1, 2, 28, 28).permute(0, 2, 3, 1)  # same, but slowly: one product an image
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def normalise(images):
    """Float images on the scale 0..255 to zero mean and unit variance, in place."""
    return images.sub_(255 * MEAN).div_(255 * STD)


def batches(images, labels, batch_size, generator, augment):
    """One epoch: yields normalised images (B, 1, 28, 28) and labels (B,), every image once; the
    last batch may be smaller. images (N, 28, 28) uint8 and labels (N,) lie on the device,
    `generator` on the CPU; it serves nothing else, so that order and transforms depend on its seed
    alone, not on the device nor on dropout."""
    order = torch.randperm(len(images), generator=generator).to(images.device)
    thetas = draw_affine(len(images), augment, generator)
    thetas = None if thetas is None else thetas.to(images.device)  # one copy an epoch
    for start in range(0, len(images), batch_size):
        index = order[start:start + batch_size]
        batch = images.index_select(0, index).unsqueeze(1).float()  # images[index], but faster
        if thetas is not None:  # before normalising, so that zeros from outside are background
            batch = warp(batch, thetas[start:start + batch_size])
        yield normalise(batch), labels[index]


@torch.inference_mode()
def evaluate(net, images, labels, batch_size=500):
    """Mean cross-entropy, accuracy in percent, and predictions (N,) of `net`, set to eval mode."""
    net.eval()
    logits = torch.cat([net(normalise(batch.unsqueeze(1).float()))
                        for batch in images.split(batch_size)])
    predictions = logits.argmax(dim=1)
    accuracy = 100 * (predictions == labels).sum().item() / len(labels)
    return F.cross_entropy(logits, labels).item(), accuracy, predictions


# ---- files of a run ----------------------------------------------------------------------------
def write(path, data):
    """Write bytes or str so that a kill at any moment leaves the old or the new, never half."""
    beside = Path(f"{path}.part")
    with open(beside, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def write_csv(path, rows):
    """rows: dicts with the same keys, which become the header."""
    write(path, "\n".join(",".join(map(str, line)) for line in [rows[0], *(
        row.values() for row in rows)]) + "\n")


def save(path, state):
    """torch.save, but never half a file."""
    torch.save(state, buffer := io.BytesIO())
    write(path, buffer.getbuffer())


def load(path):
    """What save() wrote, on the CPU. Raises UserError if it is missing, damaged or foreign. The
    zip's checksums come first, because torch.load ignores them; weights_only runs no code."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise zipfile.BadZipFile(f"wrong checksum of {archive.testzip()}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:  # zipfile, pickle and torch have a dozen kinds for damaged files
        raise UserError(f"{path} is damaged or not a checkpoint: {str(error)[:99]!r}") from None


# ---- plots -------------------------------------------------------------------------------------
def plot(title, xlabel, ylabel, lines):
    """Figure with one line for each label in `lines`, a dict label -> (xs, ys)."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=xlabel, ylabel=ylabel)
    for label, (xs, ys) in lines.items():
        axes.plot(xs, ys, marker="." if len(xs) < 100 else "", label=label)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def curves(rows, rates, title):
    """{file name: Figure}: accuracy and loss over epochs, learning rate over steps.
    rows: those of metrics.csv. rates: the learning rate of every step."""
    epochs, parts = [row["epoch"] for row in rows], [key[:-4] for key in rows[0] if "_acc" in key]
    accuracy, loss = ({f"{part}: {rows[-1][f'{part}_{key}']:{digits}}{unit} at the end": (
        epochs, [row[f"{part}_{key}"] for row in rows]) for part in parts}
        for key, digits, unit in (("acc", ".2f", "%"), ("loss", ".4f", "")))
    accuracy[f"target: {TARGET}%"] = epochs, [TARGET] * len(epochs)
    steps = {f"highest: {max(rates):.4g}": (range(1, len(rates) + 1), rates)}
    figures = {"accuracy.png": plot(title, "epoch", "accuracy (%)", accuracy),
               "loss.png": plot(title, "epoch", "loss (cross-entropy)", loss),
               "learning_rate.png": plot(title, "step", "learning rate", steps)}
    low = min(y for _, ys in accuracy.values() for y in ys[1:] or ys)  # epoch 1 may start below
    figures["accuracy.png"].axes[0].set_ylim(math.floor(min(low, 98.9)), 100)
    figures["loss.png"].axes[0].set_yscale("log")
    return figures


def mistakes(images, labels, predictions, title, most=60):
    """Figure of the first misclassified of images (N, 28, 28): index: true label → prediction."""
    wrong = (predictions != labels).nonzero().flatten().tolist()
    lines = max(1, math.ceil(min(len(wrong), most) / 10))
    figure = Figure(figsize=(10, 0.8 + 1.2 * lines), layout="constrained")
    shown = f"the first {most}: " if len(wrong) > most else ""
    figure.suptitle(f"{title}\n{len(wrong)} of {len(labels)} wrong\n{shown}index: true → guess")
    for axes, i in zip(figure.subplots(lines, 10, squeeze=False).flat, wrong + [None] * 10):
        axes.axis("off")
        if i is not None:
            axes.imshow(images[i].numpy(), cmap="gray_r", vmin=0, vmax=255)
            axes.set_title(f"{i}: {labels[i]} → {predictions[i]}", fontsize=8)
    return figure
