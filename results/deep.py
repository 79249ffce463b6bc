"""The net that was Model 3 until the digits were deskewed: nine thin layers, most of them 14×14.

Kept because the experiments whose names begin with `deep:` vary it, and because results/deep has
its runs on all 60,000 images: python train.py --model results/deep.py --runs 5"""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=128,  # images a step
    optimizer=dict(name="SGD", momentum=0.9, nesterov=True, weight_decay=1e-4),
    scheduler=dict(name="OneCycleLR",  # stepped once a batch
                   max_lr=0.1, pct_start=0.2,  # the peak comes after a fifth of all steps
                   cycle_momentum=False),  # momentum stays at 0.9
    augment=dict(rotate=10, shift=1, scale=0.1),  # degrees, pixels, fraction; uniform within ±
    label_smoothing=0.02,  # 2 % of each label's probability is spread over the ten digits
    average=0.998,  # the decay, a step, of the average of the weights, which is judged and saved
)


def conv(in_channels, out_channels, padding=1):
    """3×3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU())


def conv_pool(in_channels, out_channels):
    """3×3 convolution, 2×2 max pool, BatchNorm, ReLU: pooling first leaves the last two a quarter
    of the work."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                         nn.MaxPool2d(2), nn.BatchNorm2d(out_channels), nn.ReLU())


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(   # output      RF
            conv_pool(1, 8),           #  8×14×14     4
            conv(8, 8),                #  8×14×14     8
            conv(8, 8),                #  8×14×14    12
            conv(8, 8),                #  8×14×14    16
            conv(8, 10),               # 10×14×14    20
            conv_pool(10, 12),         # 12×7×7      26
            conv(12, 12),              # 12×7×7      34
            conv(12, 12, padding=0),   # 12×5×5      42
            conv(12, 12, padding=0),   # 12×3×3      50
            nn.AdaptiveAvgPool2d(1),   # 12×1×1      58
            nn.Flatten(),              # 12          58
            nn.Linear(12, 10),         # 10          58
        )

    def forward(self, images):
        return self.layers(images)
