"""Net D1, the first of three that one public repository trains on this task: no BatchNorm.

Source: MnistNet_1 of "MNIST Classification Models", a public repository whose address was not
found; its src/model.py and src/train_all.py. Its first version, with logs, is
github.com/KD1994/session-7-MNIST-8k.
Published: 8,620 parameters; 98.49 % on the test set, one run; in which epoch is not stated.
The first version: 98.37 % in its best and 98.24 % in its last of 15 epochs."""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=128,
    optimizer=dict(name="SGD", lr=0.01, momentum=0.9),
    scheduler=dict(name="StepLR", step_size=1, gamma=1),  # a constant rate
)


def conv(in_channels, out_channels, kernel_size=3):
    """Convolution, ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size, bias=False), nn.ReLU())


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # output      RF
            conv(1, 8),                        #  8×26×26     3
            conv(8, 16),                       # 16×24×24     5
            conv(16, 16),                      # 16×22×22     7
            nn.Conv2d(16, 8, 1, bias=False),   #  8×22×22     7
            nn.MaxPool2d(2),                   #  8×11×11     8
            conv(8, 8),                        #  8×9×9      12
            conv(8, 8),                        #  8×7×7      16
            conv(8, 16),                       # 16×5×5      20
            conv(16, 10, 1),                   # 10×5×5      20
            nn.Conv2d(10, 10, 5, bias=False),  # 10×1×1      28
            nn.Flatten(),                      # 10          28
        )

    def forward(self, images):
        return self.layers(images)
