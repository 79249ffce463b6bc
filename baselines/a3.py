"""Net A3, the last of three that one public repository trains on this task: A2 without dropout, its
last convolution bare and behind the average.

Source: MNISTModelFinal of github.com/wayoutisin/erav4, wk6-mnist3/, which has the logs, too. The
net is that of commit 050c889, which was trained. A later one pads the first four convolutions.
Published: 6,972 parameters; 99.40 % on the test set in its best and in its last of 15 epochs, one
run.

Different: the public code's scheduler watched the test loss. Here the rates are those of the
log."""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=32,
    optimizer=dict(name="AdamW", weight_decay=1e-4),
    scheduler=dict(name="ByEpoch", rates=10 * [0.001] + 5 * [0.0005]),
    augment=dict(rotate=7, nearest=True),  # degrees
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
