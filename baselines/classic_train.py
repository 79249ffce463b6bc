"""The pipeline that everybody writes, for any model file: torchvision's dataset, one PIL image at a
time, a DataLoader with batches of 64, eager float32.

    python baselines/classic_train.py --model 3

It takes the recipe's optimizer, scheduler, affine augmentation and label smoothing, with the
learning rate scaled to batches of 64. It knows nothing of prepared digits, of changed strokes,
light and noise, of epochs without augmentation and of a weight average."""

import argparse
import sys
import traceback
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import train  # noqa: E402
import utils  # noqa: E402

BATCH_SIZE = 64


def make_loader(root, training, augment, part=1):
    """DataLoader over the first 1/part of the training or the test images."""
    utils.load_mnist(root, training)  # for its check of the files
    steps = []
    for step in utils.steps_of(augment) if training and augment else []:
        shift, scale, shear = (step.get(key, 0) for key in ("shift", "scale", "shear"))
        mode = "nearest" if step.get("nearest") else "bilinear"
        affine = transforms.RandomAffine(
            step.get("rotate", 0), translate=(shift / 28, shift / 28),
            scale=(1 - scale, 1 + scale), shear=shear or None,
            interpolation=transforms.InterpolationMode(mode))
        steps.append(transforms.RandomApply([affine], step["p"]) if "p" in step else affine)
    steps += [transforms.ToTensor(), transforms.Normalize((utils.MEAN,), (utils.STD,))]
    dataset = datasets.MNIST(root, train=training, transform=transforms.Compose(steps))
    dataset = Subset(dataset, range(len(dataset) // part))
    return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=training)


def scaled(recipe):
    """The recipe with its learning rate for batches of 64 (linear scaling,
    https://arxiv.org/abs/1706.02677)."""
    factor = BATCH_SIZE / recipe["batch_size"]

    def scale(rate):
        return [each * factor for each in rate] if isinstance(rate, list) else rate * factor

    return recipe | {part: {key: scale(value) if key in ("lr", "max_lr", "rates") else value
                            for key, value in recipe[part].items()}
                     for part in ("optimizer", "scheduler")}


def train_epoch(net, loader, optimizer, scheduler, recipe, device):
    """One pass over the training images; returns the mean loss and the accuracy in percent."""
    net.train()
    total, correct = 0.0, 0
    bar = tqdm(loader, disable=None, leave=False)
    for images, labels in bar:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe["label_smoothing"])
        loss.backward()
        optimizer.step()
        if recipe["scheduler"]["name"] == "OneCycleLR":
            scheduler.step()
        total += loss.item() * len(labels)
        correct += (logits.argmax(dim=1) == labels).sum().item()
        bar.set_description(f"loss {loss.item():.4f}")
    return total / len(loader.dataset), 100 * correct / len(loader.dataset)


@torch.no_grad()
def test(net, loader, device):
    """Accuracy in percent."""
    net.eval()
    correct = 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        correct += (net(images).argmax(dim=1) == labels).sum().item()
    return 100 * correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="3", help="as in train.py (default: 3)")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--device", default="auto", help="as in train.py (default: auto)")
    parser.add_argument("--data-dir", help="as in train.py")
    args = parser.parse_args()
    path, net_class, recipe = train.load_model_file(args.model)
    device, root = utils.pick_device(args.device), utils.find_mnist(args.data_dir)
    train.rehearse(path, net_class, recipe, device)
    recipe["epochs"] = args.epochs or recipe["epochs"]
    torch.manual_seed(args.seed)
    net = net_class().to(device)
    train_loader = make_loader(root, True, recipe["augment"])
    test_loader = make_loader(root, False, {})
    optimizer = train.make_optimizer(net, scaled(recipe))
    scheduler = train.make_scheduler(optimizer, scaled(recipe), len(train_loader))
    for epoch in range(1, recipe["epochs"] + 1):
        loss, accuracy = train_epoch(net, train_loader, optimizer, scheduler, recipe, device)
        if recipe["scheduler"]["name"] == "ReduceLROnPlateau":
            scheduler.step(loss)
        elif recipe["scheduler"]["name"] != "OneCycleLR":
            scheduler.step()
        print(f"Epoch {epoch:2d}/{recipe['epochs']} | Train Loss: {loss:.4f} | Train Acc: "
              f"{accuracy:.2f}% | Test Acc: {test(net, test_loader, device):.2f}%", flush=True)


if __name__ == "__main__":
    try:
        main()
    except utils.UserError as error:
        print(f"classic_train.py: error: {error}", file=sys.stderr)
        if error.__cause__:  # the net's own exception
            traceback.print_exception(error.__cause__)
        sys.exit(error.status)
    except OSError as error:
        sys.exit(f"classic_train.py: error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
