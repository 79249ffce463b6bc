"""How do the nets read digits that are not quite MNIST's?

    python results/robustness.py            writes results/robustness.csv and prepared.png
    python results/robustness.py --qmnist   downloads QMNIST, too, and reads it

The 10,000 test images, changed in each of the ways below, read by the published weights of five
seeds: percent correct. Where a change goes in several directions, the mean over them. No net was
chosen by these figures; but those of results/deep.py were the bar when thickness and noise were
added to the augmentation. The picture has eight training digits before and after preparation.

Other people's digits: USPS's 2,007 test digits, if they lie in data/usps/zip.test.gz (the file of
https://hastie.su.domains/ElemStatLearn/data.html), and QMNIST's 50,000 that MNIST's test set left
out (https://arxiv.org/abs/1905.10498)."""

import argparse
import gzip
import statistics
from functools import partial

import torch
import torch.nn.functional as F
from report import DOUBTFUL, FIRST_SEED, QMNIST, ROOT, USPS, figures, model_file

import train
import utils

NETS = {  # name in the table: model file, folder of the weights under results/
    "Model 1": ("model1", "model1"), "Model 2": ("model2", "model2"),
    "Model 3": ("model3", "model3"), "fast": ("fast", "fast"), "deep": ("deep", "deep"),
    "B3 by Model 3's recipe": ("b3", "baselines/b3-by-model3")}
SHOWN = [68, 23, 5, 30, 9, 11, 592, 29, 41, 487]  # training images: large, small, slanted


def affine(images, angle=0, x=0, y=0, scale=1, shear=0):
    """Float images (N, 1, 28, 28), all rotated and sheared (degrees), moved (pixels) and scaled."""
    one = torch.ones(len(images))
    thetas = utils.affine_matrix(angle * one, x * one, y * one, scale * one, shear * one)
    return torch.cat([utils.warp(*part) for part in zip(images.split(1000), thetas.split(1000))])


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


def accuracies(net, recipe, images, labels):
    """{change: percent correct} for uint8 images (N, 28, 28). The last is that of images as they
    are, without the preparation that the recipe asks for; "" if it asks for none."""
    results = {}
    for name, functions in CHANGES.items():
        correct = []
        for change in functions:
            changed = change(images.unsqueeze(1).float()).clamp(0, 255).round().to(torch.uint8)
            correct.append(utils.evaluate(net, utils.prepare(changed, recipe), labels)[1])
        results[name] = round(statistics.mean(correct), 2)
    is_prepared = recipe["upright"] or recipe["deskew"]
    as_they_are = round(utils.evaluate(net, images, labels)[1], 2) if is_prepared else ""
    return results | {"without preparation": as_they_are}


def usps(path):
    """Images (2007, 28, 28) uint8 and labels of the file: a line is a label and 16×16 greys from -1
    to 1. They are scaled to 20×20 pixels in the middle, as MNIST's digits are."""
    with gzip.open(path, "rt") as file:
        rows = torch.tensor([[float(word) for word in line.split()] for line in file])
    greys = (rows[:, 1:].view(-1, 1, 16, 16) + 1) * 127.5
    images = F.interpolate(greys, size=(20, 20), mode="bilinear", align_corners=False)
    images = F.pad(images, (4, 4, 4, 4)).clamp(0, 255).round().to(torch.uint8)
    return images.squeeze(1), rows[:, 0].long()


def draw_digits(digits):
    """prepared.png: digits (N, 28, 28) as written and prepared; one of them augmented, N times."""
    recipe = train.load_model_file("3")[2]
    prepared = utils.prepare(digits, recipe)
    generator = torch.Generator().manual_seed(0)
    same = prepared[2].expand(len(digits), 28, 28)
    batch, _ = next(utils.batches(same, torch.zeros(len(digits)), len(digits), generator,
                                  recipe["augment"]))
    augmented = 255 * (batch.squeeze(1) * utils.STD + utils.MEAN)
    rows = {"as written": digits, "deskewed": utils.deskew(digits), "prepared": prepared,
            "augmented": augmented}
    figure = figures.prepared({words: images.numpy() for words, images in rows.items()})
    figures.draw(figure, ROOT / "results" / "prepared.png")


def draw_mistakes(images, labels):
    """mistakes.png: the test images that seed 0 of Model 3 misreads."""
    _, net_class, recipe = train.load_model_file("3")
    net = net_class()
    net.load_state_dict(utils.load(ROOT / "results" / "model3" / "seed0" / "model.pt"))
    prepared = utils.prepare(images, recipe)
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
    further = {USPS: None, QMNIST: None}
    if (root / "usps" / "zip.test.gz").exists():
        further[USPS] = usps(root / "usps" / "zip.test.gz")
    if args.qmnist:
        from torchvision import datasets
        digits = datasets.QMNIST(root, what="test50k", download=True)
        further[QMNIST] = digits.data, digits.targets
    rows = []
    for name, (model, folder) in NETS.items():
        _, net_class, recipe = train.load_model_file(model_file(model))
        if folder.endswith("-by-model3"):
            recipe = train.load_model_file("3")[2]
        net, first = net_class(), FIRST_SEED.get(model, 0)
        for seed in range(first, first + 5):
            path = ROOT / "results" / folder / f"seed{seed}" / "model.pt"
            net.load_state_dict(utils.load(path))
            row = dict(net=name, seed=seed) | accuracies(net, recipe, images, labels)
            for digits, pair in further.items():
                row[digits] = ""
                if pair:
                    prepared = utils.prepare(pair[0], recipe)
                    row[digits] = round(utils.evaluate(net, prepared, pair[1])[1], 2)
            rows.append(row)
            print(row, flush=True)
    utils.write(ROOT / "results" / "robustness.csv", utils.csv_text(rows))

    draw_digits(utils.load_mnist(root, train=True)[0][SHOWN])
    draw_mistakes(images, labels)


if __name__ == "__main__":
    main()
