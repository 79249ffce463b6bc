"""Model 1: does the pipeline work, and what does a small net reach without a budget?

Target
    99.55 % on the test set, on average over the seeds. Seeds differ by 0.05 points, so that hardly
    one would end below the task's 99.4 %. The net is over the budget of 8,000 parameters on
    purpose.

Result
    99.58 ± 0.05 % (n=10) on the 10,000 test images in the last of 15 epochs;
    lowest of any seed's last five epochs 99.46 %.
    Seeds with at least 99.4 % in each of these five: 10 of 10 (≥ 69 %).
    13,808 parameters, 3,393,376 multiply-adds an image.
    torch 2.15.0, cpu (x86_64, 2 cores), 1 thread, 384 s a run.
    Reproduce seeds 0 to 9: python train.py --model 1 --runs 10

Analysis
    The layers are those of baselines/c1.py, with which this task is usually begun: 3×3
    convolutions, a 1×1 convolution before the pool, an average pool at the end. The recipe is
    short: SGD with momentum under OneCycleLR, deskewed digits, small random distortions.

    It does not underfit: 99.60 % of the training images, though they are distorted, against 99.58 %
    of the test images. How much it overfits is not measured: they are distorted to the end.

    Of its 3.39 million multiply-adds, 2.65 are in layer 2, which makes 32 maps of 24×24 pixels only
    for layer 3 to squeeze them to ten. Next: pool before that, and make a 3×3 convolution cheaper.
"""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=128,  # images a step
    optimizer=dict(name="SGD", momentum=0.9, nesterov=True, weight_decay=1e-4),
    scheduler=dict(name="OneCycleLR",  # stepped once a batch
                   max_lr=0.1, pct_start=0.2,  # the peak comes after a fifth of all steps
                   cycle_momentum=False),  # momentum stays at 0.9
    deskew=True,  # slanted digits are sheared upright, in training and in test
    augment=dict(rotate=10, shift=1, scale=0.1),  # degrees, pixels, fraction; uniform within ±
)


def conv(in_channels, out_channels, padding=0):
    """3×3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU())


class Net(nn.Module):
    """Deskewed and normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # layer, output, RF (the image has 28)
            conv(1, 16),                       # 1   16×26×26     3
            conv(16, 32),                      # 2   32×24×24     5
            nn.Conv2d(32, 10, 1, bias=False),  # 3   10×24×24     5
            nn.MaxPool2d(2),                   # 4   10×12×12     6
            conv(10, 16),                      # 5   16×10×10    10
            conv(16, 16),                      # 6   16×8×8      14
            conv(16, 16),                      # 7   16×6×6      18
            conv(16, 16, padding=1),           # 8   16×6×6      22
            nn.AvgPool2d(6),                   # 9   16×1×1      32
            nn.Conv2d(16, 10, 1, bias=False),  # 10  10×1×1      32
            nn.Flatten(),                      #     10          32
        )

    def forward(self, images):
        return self.layers(images)
