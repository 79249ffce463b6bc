"""Net A1, the first of three that one public repository trains on this task.

Source: MNISTModelLL of github.com/wayoutisin/erav4, wk6-mnist3/, which has the logs, too.
Published: 9,412 parameters; 99.36 % on the test set in its best and in its last of 15 epochs, one
run.

Different: the public code's scheduler watched the test loss, and left the rate as it was. Here the
rate is constant."""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=32,
    optimizer=dict(name="AdamW", lr=0.001, weight_decay=1e-4),
    scheduler=dict(name="StepLR", step_size=1, gamma=1),  # a constant rate
    augment=dict(rotate=7, nearest=True),  # degrees
)


def conv(in_channels, out_channels):
    """3×3 convolution, BatchNorm, ReLU, dropout."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU(), nn.Dropout(0.05))


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # output      RF
            conv(1, 8),                        #  8×26×26     3
            conv(8, 8),                        #  8×24×24     5
            nn.MaxPool2d(2),                   #  8×12×12     6
            conv(8, 16),                       # 16×10×10    10
            conv(16, 16),                      # 16×8×8      14
            nn.MaxPool2d(2),                   # 16×4×4      16
            conv(16, 32),                      # 32×2×2      24
            nn.Conv2d(32, 10, 1, bias=False),  # 10×2×2      24
            nn.BatchNorm2d(10),                # 10×2×2      24
            nn.ReLU(),                         # 10×2×2      24
            nn.AdaptiveAvgPool2d(1),           # 10×1×1      28
            nn.Flatten(),                      # 10          28
            nn.Linear(10, 10, bias=False),     # 10          28
            nn.ReLU(),                         # 10          28
            nn.Linear(10, 10, bias=False),     # 10          28
        )

    def forward(self, images):
        return self.layers(images)
