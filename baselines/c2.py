"""Net C2, the second of three that one public repository trains on this task.

Source: SecondModel of github.com/milindchawre/erav3-s7-mnist-nn, src/; its README has the logs.
Published: 5,048 parameters; 99.08 % on the test set in its best, the ninth, and 98.97 % in its last
of 15 epochs, one run.

Different: the public code resamples twice, to rotate and then to shift by whole pixels. Here it is
once for both. Its log seems to be of another setting, perhaps one without the shift: the training
accuracy is 98.31 % there, 97.79 % here (five seeds), and here without the shift 98.30 % (seed 0,
--set "augment={'rotate': 8, 'nearest': True}")."""

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
        nn.BatchNorm2d(out_channels), nn.Dropout(0.1))


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # output      RF
            block(1, 8),                       #  8×26×26     3
            block(8, 16),                      # 16×24×24     5
            nn.Conv2d(16, 8, 1, bias=False),   #  8×24×24     5
            nn.MaxPool2d(2),                   #  8×12×12     6
            block(8, 12),                      # 12×10×10    10
            block(12, 12),                     # 12×8×8      14
            block(12, 12, padding=1),          # 12×8×8      18
            nn.AvgPool2d(8),                   # 12×1×1      32
            nn.Conv2d(12, 10, 1, bias=False),  # 10×1×1      32
            nn.Flatten(),                      # 10          32
        )

    def forward(self, images):
        return self.layers(images)
