"""Net B2, the second of three that one public repository trains on this task.

Published: 9,382 parameters; 99.27 % on the test set in its best and in its last of 15 epochs, one
run; "squeeze and pull" with 1×1 transitions and global average pooling; a receptive field of 40
pixels. SGD with Nesterov momentum 0.9 under OneCycleLR, label smoothing 0.02, rotation by up to 7
degrees.

Reconstructed: the layers. These are one of many lists that give the count exactly, chosen because
few widths differ. Each of two transitions squeezes the channels before a pool. As in B1, the
receptive field is taken to include the last pool. BatchNorm and ReLU after every convolution but
the last.

The recipe leaves open the batch size, weight decay, dropout, the order inside a block, and whether
OneCycleLR moves the momentum too. Assumed: batches of 128; no weight decay and no dropout;
BatchNorm before ReLU; and torch's default, by which the momentum runs from 0.95 to 0.85 and
back."""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=128,
    optimizer=dict(name="SGD", momentum=0.9, nesterov=True),
    scheduler=dict(name="OneCycleLR",  # stepped once a batch: from 0.03 to 0.3 and down to 0.0003
                   max_lr=0.3, pct_start=0.2, div_factor=10, final_div_factor=100),
    augment=dict(rotate=7),  # degrees
    label_smoothing=0.02,
)


def conv(in_channels, out_channels, kernel_size=3, padding=0):
    """Convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=False),
        nn.BatchNorm2d(out_channels), nn.ReLU())


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # output      RF
            conv(1, 10, padding=1),            # 10×28×28     3
            conv(10, 16, padding=1),           # 16×28×28     5
            conv(16, 8, 1),                    #  8×28×28     5
            nn.MaxPool2d(2),                   #  8×14×14     6
            conv(8, 16, padding=1),            # 16×14×14    10
            conv(16, 16, padding=1),           # 16×14×14    14
            conv(16, 8, 1),                    #  8×14×14    14
            nn.MaxPool2d(2),                   #  8×7×7      16
            conv(8, 16),                       # 16×5×5      24
            conv(16, 18),                      # 18×3×3      32
            nn.AdaptiveAvgPool2d(1),           # 18×1×1      40
            nn.Conv2d(18, 10, 1, bias=False),  # 10×1×1      40
            nn.Flatten(),                      # 10          40
        )

    def forward(self, images):
        return self.layers(images)
