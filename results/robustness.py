"""How do the nets read digits that are not quite MNIST's?

    python results/robustness.py            writes robustness.csv, prepared.png and mistakes.png
    python results/robustness.py --qmnist   downloads QMNIST, too, and reads it

The 10,000 test images, changed in each of the ways below, read by the published weights of five
seeds: percent correct. Where a change goes in several directions, the mean over them. No net was
chosen by these figures; but those of results/deep.py were the bar when thickness and noise were
added to the augmentation.

Other people's digits: USPS's 2,007 test digits, if they lie in data/usps/zip.test.gz (the file of
https://hastie.su.domains/ElemStatLearn/data.html), and QMNIST's 50,000 that MNIST's test set left
out (https://arxiv.org/abs/1905.10498)."""

import argparse
import gzip
import statistics
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from report import DOUBTFUL, FIRST_SEED, ROOT, figures, model_file
from torchvision import datasets

import train
import utils

NETS = {  # name in the table: folder of the weights under results/
    "Model 1": "model1", "Model 2": "model2", "Model 3": "model3", "fast": "fast", "deep": "deep",
    "B3 by Model 3's recipe": "baselines/b3-by-model3"}
AS_THEY_ARE, USPS, QMNIST = "without preparation", "USPS, 2,007 digits", "QMNIST, 50,000 digits"
SHOWN = [68, 23, 5, 30, 9, 11, 592, 29, 41, 487]  # training images: large, small, slanted


def affine(images, angle=0, x=0, y=0, scale=1, shear=0):
    """Float images (N, 1, 28, 28), all rotated and sheared (degrees), moved (pixels) and scaled."""
    one = torch.ones(len(images))
    thetas = utils.affine_matrix(angle * one, x * one, y * one, scale * one, shear * one)
    return utils.warp(images, thetas)


def noise(images, deviation):
    """Gaussian noise on every pixel, the same on every call; deviation on the scale 0..1."""
    generator = torch.Generator().manual_seed(0)
    return images + 255 * deviation * torch.randn(images.shape, generator=generator)


CHANGES = {  # name in the table: functions of float images (N, 1, 28, 28) on the scale 0..255
    "unchanged": [lambda images: images],
    "half contrast": [lambda images: images / 2],
    "blurred 3×3": [lambda images: F.avg_pool2d(images, 3, stride=1, padding=1)],
    # Of each 2×2 pixels the least, and the most.
    "thinner by 1 px": [lambda images: -F.max_pool2d(-F.pad(images, (0, 1, 0, 1)), 2, stride=1)],
    "thicker by 1 px": [lambda images: F.max_pool2d(F.pad(images, (1, 0, 1, 0)), 2, stride=1)],
    "noise 0.1": [partial(noise, deviation=0.1)],
    "noise 0.2": [partial(noise, deviation=0.2)],
    "shear ±15°": [partial(affine, shear=15), partial(affine, shear=-15)],
    "rotation ±15°": [partial(affine, angle=15), partial(affine, angle=-15)],
    "shift by 3 px": [partial(affine, x=3), partial(affine, x=-3),
                      partial(affine, y=3), partial(affine, y=-3)],
    "scale 0.8": [partial(affine, scale=0.8)],
    "scale 1.25": [partial(affine, scale=1.25)],
}


def usps(path):
    """[images (N, 28, 28) uint8] and labels of USPS's file: a line is a label and 16×16 greys from
    -1 to 1. They are scaled to 20×20 pixels in the middle, as MNIST's digits are."""
    with gzip.open(path, "rt") as file:
        rows = torch.tensor([[float(word) for word in line.split()] for line in file])
    greys = (rows[:, 1:].view(-1, 1, 16, 16) + 1) * 127.5
    images = F.interpolate(greys, size=(20, 20), mode="bilinear", align_corners=False)
    images = F.pad(images, (4, 4, 4, 4)).clamp(0, 255).round().to(torch.uint8)
    return [images.squeeze(1)], rows[:, 0].long()


def draw_digits(digits):
    """prepared.png: digits (N, 28, 28) as written and prepared; one of them augmented, N times."""
    recipe = train.load_model_file("3")[2]
    prepared, generator = utils.prepare(digits, recipe), torch.Generator().manual_seed(0)
    same, labels = prepared[2].expand(len(digits), 28, 28), torch.zeros(len(digits))
    batch, _ = next(utils.batches(same, labels, len(digits), generator, recipe["augment"]))
    rows = {"as written": digits, "deskewed": utils.deskew(digits), "prepared": prepared,
            "augmented": 255 * (batch.squeeze(1) * utils.STD + utils.MEAN)}
    figures.draw(figures.prepared(rows), ROOT / "results" / "prepared.png")


def draw_mistakes(images, labels):
    """mistakes.png: the test images that seed 0 of Model 3 misreads."""
    _, net_class, recipe = train.load_model_file("3")
    net, prepared = net_class(), utils.prepare(images, recipe)
    net.load_state_dict(utils.load(ROOT / "results" / "model3" / "seed0" / "model.pt"))
    _, _, predictions = utils.evaluate(net, prepared, labels)
    title = "Model 3, seed 0. Ringed: most people, asked anew, doubt the label"
    figure = utils.mistakes(prepared, labels, predictions, title, ringed=DOUBTFUL)
    figures.draw(figure, ROOT / "results" / "mistakes.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--qmnist", action="store_true", help="read QMNIST, too (a download)")
    args = parser.parse_args()
    root = utils.find_mnist()
    images, labels = utils.load_mnist(root, train=False)
    tests = {}  # {name in the table: (versions of the images (N, 28, 28) uint8, their labels)}
    for name, functions in CHANGES.items():
        changed = [change(images.unsqueeze(1).float()) for change in functions]
        tests[name] = [each.clamp(0, 255).round().to(torch.uint8) for each in changed], labels
    tests |= {AS_THEY_ARE: ([images], labels), USPS: ([], None), QMNIST: ([], None)}
    if (root / "usps" / "zip.test.gz").exists():
        tests[USPS] = usps(root / "usps" / "zip.test.gz")
    if args.qmnist:
        digits = datasets.QMNIST(root, what="test50k", download=True)
        tests[QMNIST] = [digits.data], digits.targets

    rows = []
    for name, folder in NETS.items():
        model, by, _ = Path(folder).name.partition("-by-model3")
        _, net_class, recipe = train.load_model_file(model_file(model))
        if by:
            recipe = train.load_model_file("3")[2]
        is_prepared = recipe["upright"] or recipe["deskew"]
        net, first = net_class(), FIRST_SEED.get(model, 0)
        for seed in range(first, first + 5):
            net.load_state_dict(utils.load(ROOT / "results" / folder / f"seed{seed}" / "model.pt"))
            row = dict(net=name, seed=seed)
            for test, (versions, labels) in tests.items():
                if test != AS_THEY_ARE:
                    versions = [utils.prepare(each, recipe) for each in versions]
                elif not is_prepared:
                    versions = []
                correct = [utils.evaluate(net, each, labels)[1] for each in versions]
                row[test] = round(statistics.mean(correct), 2) if correct else ""
            rows.append(row)
            print(row, flush=True)
    utils.write(ROOT / "results" / "robustness.csv", utils.csv_text(rows))
    draw_digits(utils.load_mnist(root, train=True)[0][SHOWN])
    draw_mistakes(*utils.load_mnist(root, train=False))


if __name__ == "__main__":
    main()
