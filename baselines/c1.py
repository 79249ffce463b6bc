"""Net C1, the first of three that one public repository trains on this task.

Source: FirstModel of github.com/milindchawre/erav3-s7-mnist-nn, src/; its README has the logs.
Published: 13,808 parameters; 99.50 % on the test set in its best, the twelfth, and 99.41 % in its
last of 15 epochs, one run.

Different: the public code resamples twice, to rotate and then to shift by whole pixels. Here it is
once for both."""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=64,
    optimizer=dict(name="SGD", lr=0.01, momentum=0.9),
    scheduler=dict(name="StepLR", step_size=1, gamma=1),  # a constant rate
    augment=dict(rotate=8, shift=2.8, nearest=True),  # degrees, pixels (0.1 of 28)
)


def block(in_channels, out_channels, padding=0):
    """3×3 convolution, ReLU, BatchNorm, dropout."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False), nn.ReLU(),
        nn.BatchNorm2d(out_channels), nn.Dropout(0.03))


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # output      RF
            block(1, 16),                      # 16×26×26     3
            block(16, 32),                     # 32×24×24     5
            nn.Conv2d(32, 10, 1, bias=False),  # 10×24×24     5
            nn.MaxPool2d(2),                   # 10×12×12     6
            block(10, 16),                     # 16×10×10    10
            block(16, 16),                     # 16×8×8      14
            block(16, 16),                     # 16×6×6      18
            block(16, 16, padding=1),          # 16×6×6      22
            nn.AvgPool2d(6),                   # 16×1×1      32
            nn.Conv2d(16, 10, 1, bias=False),  # 10×1×1      32
            nn.Flatten(),                      # 10          32
        )

    def forward(self, images):
        return self.layers(images)
