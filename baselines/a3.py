"""Net A3, the last of three that one public repository trains on this task: A2 without dropout, its
last convolution behind the average.

Source: MNISTModelFinal of "MNIST Training Challenge", a public repository whose address was not
found; its model3.py, train.py and README.
Published: 6,972 parameters; 99.40 % on the test set in its best and in its last of 15 epochs, one
run. The rate was 0.0005 in its last epochs, and then 0.00025.

Different: the public code rotates to the nearest pixel. Here pixels are interpolated. The
public code's scheduler watched the test loss. This one watches the training loss, so
that the rate may be halved later than it was, or never."""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=32,
    optimizer=dict(name="AdamW", lr=0.001, weight_decay=1e-4),
    scheduler=dict(name="ReduceLROnPlateau",  # stepped once an epoch
                   patience=3, factor=0.5, min_lr=1e-6),
    augment=dict(rotate=7),  # degrees
)


def conv(in_channels, out_channels):
    """3×3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU())


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # output      RF
            conv(1, 12),                       # 12×26×26     3
            conv(12, 12),                      # 12×24×24     5
            nn.MaxPool2d(2),                   # 12×12×12     6
            conv(12, 12),                      # 12×10×10    10
            conv(12, 12),                      # 12×8×8      14
            nn.MaxPool2d(2),                   # 12×4×4      16
            conv(12, 24),                      # 24×2×2      24
            nn.AdaptiveAvgPool2d(1),           # 24×1×1      28
            nn.Conv2d(24, 10, 1, bias=False),  # 10×1×1      28
            nn.Flatten(),                      # 10          28
        )

    def forward(self, images):
        return self.layers(images)
