"""How do the nets read digits that are not quite MNIST's?

    python results/robustness.py        writes results/robustness.csv and results/prepared.png

The 10,000 test images, changed in each of the ways below, read by the published weights of seed 0:
percent correct. Where a change goes in several directions, the mean over them. No net was chosen by
these figures; but those of results/deep.py were the bar when thickness and noise were added to the
augmentation. The picture has eight training digits before and after preparation."""

import argparse
import statistics
from functools import partial

import torch
import torch.nn.functional as F
from report import ROOT, figures, model_file

import train
import utils

NETS = {  # name in the table: folder of the weights under results/
    "Model 1": "model1", "Model 2": "model2", "Model 3": "model3", "fast": "fast", "deep": "deep",
    "B3": "baselines/b3"}
SHOWN = [68, 23, 5, 30, 9, 11, 29, 41]  # training images of the picture: large, small, slanted


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


def main():
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    images, labels = utils.load_mnist(utils.find_mnist(), train=False)
    rows = []
    for name, folder in NETS.items():
        _, net_class, recipe = train.load_model_file(model_file(folder))
        net = net_class()
        net.load_state_dict(utils.load(ROOT / "results" / folder / "seed0" / "model.pt"))
        rows.append(dict(net=name) | accuracies(net, recipe, images, labels))
        print(rows[-1], flush=True)
    utils.write(ROOT / "results" / "robustness.csv", utils.csv_text(rows))

    digits = utils.load_mnist(utils.find_mnist(), train=True)[0][SHOWN]
    figures.draw(figures.prepared(digits, utils.upright(digits)), ROOT / "results" / "prepared.png")


if __name__ == "__main__":
    main()
