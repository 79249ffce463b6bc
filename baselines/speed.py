"""An epoch by the pipeline that everybody writes beside an epoch of train.py, in one process.

    python baselines/speed.py --model 3

The classic side: torchvision's dataset, PIL RandomRotation, ToTensor, Normalize, a DataLoader with
batches of 64, one evaluation of the test set. Our side: the model's own recipe, with evaluation.
They take turns; medians over the rounds, each on a part of the images, scaled to a whole epoch."""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision import datasets, transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import train  # noqa: E402
import utils  # noqa: E402


def loader(root, part, training):
    """The classic DataLoader over every image of the first 60,000 / part (test: 10,000 / part)."""
    steps = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    steps = [transforms.RandomRotation(7), *steps] if training else steps
    dataset = datasets.MNIST(root, train=training, transform=transforms.Compose(steps))
    dataset = torch.utils.data.Subset(dataset, range(len(dataset) // part))
    return torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=training)


def classic_epoch(net, train_loader, test_loader):
    """Train and evaluate once; returns the test accuracy in percent."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True,
                                weight_decay=1e-4)
    net.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        correct = sum((net(images).argmax(dim=1) == labels).sum().item()
                      for images, labels in test_loader)
    return 100 * correct / len(test_loader.dataset)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="3", help="as in train.py (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="how often (default: 5)")
    parser.add_argument("--part", type=int, default=6,
                        help="a round takes 1/PART of the images (default: 6)")
    parser.add_argument("--data-dir", help="as in train.py")
    args = parser.parse_args()
    root = utils.find_mnist(args.data_dir)
    _, net_class, recipe = train.load_model_file(args.model)
    train_loader, test_loader = (loader(root, args.part, training) for training in (True, False))
    sets = [[part[:len(part) // args.part] for part in utils.load_mnist(root, training)]
            for training in (True, False)]

    def classic():
        classic_epoch(net_class(), train_loader, test_loader)

    def ours():
        net = net_class().to(memory_format=torch.channels_last)
        train.train(net, recipe | dict(epochs=1), 0, *sets)

    seconds = dict(classic=[], ours=[])
    for i in range(args.rounds + 1):  # the first round warms up
        for name, run in (("classic", classic), ("ours", ours)):
            began = time.perf_counter()
            run()
            if i:
                seconds[name].append((time.perf_counter() - began) * args.part)
    ratio = statistics.median(a / b for a, b in zip(seconds["classic"], seconds["ours"]))
    for name, values in seconds.items():
        print(f"{name:8s} {statistics.median(values):6.2f} s an epoch")
    print(f"ratio    {ratio:6.2f}  (model {args.model}, {torch.get_num_threads()} threads, "
          f"{args.rounds} rounds, torch {torch.__version__})")


if __name__ == "__main__":
    main()
