"""How long does a net take to read digits, beside Model 3?

    python results/inference.py        writes results/inference.csv

One image, and a batch of 1,000, on one thread of the CPU, prepared already. Model 3 and the net
take turns; the figure is the ratio of their shortest times. Multiply-adds do not tell this: one
image waits for Python at each layer, and depthwise convolutions wait for memory."""

import report
import torch
from torch.utils.benchmark import Timer

import train
import utils

ROUNDS = 10  # of each net


def seconds(net, images):
    """Seconds of one forward pass, the median of those in a tenth of a second."""
    timer = Timer("net(images)", globals=dict(net=net, images=images))
    return timer.blocked_autorange(min_run_time=0.1).median


@torch.inference_mode()
def main():
    torch.set_num_threads(1)
    utils.keep_memory()
    reference = train.make_net(train.load_model_file("3")[1]).eval()
    rows = []
    for path in [net["path"] for net in report.all_nets()]:
        net, row = train.make_net(train.load_model_file(path)[1]).eval(), dict(net=path.stem)
        for name, size in ("image", 1), ("batch", 1000):
            images = torch.randn(size, 1, 28, 28)
            times = [(seconds(net, images), seconds(reference, images)) for _ in range(ROUNDS)]
            ours, model3 = map(min, zip(*times))
            row[name] = round(ours / model3, 2) if path.stem != "model3" else 1.0
        rows.append(row)
        print(row, flush=True)
    utils.write(report.ROOT / "results" / "inference.csv", utils.csv_text(rows))


if __name__ == "__main__":
    main()
