"""Net B3, the last of three that github.com/SXD390/ERA-V4-Session_6_MNIST_SUB_8K_Params trains.

Source: NetSub8K of MNIST_Sub_8K.ipynb there; the repository's .py file has dropout behind the last
convolution, and no published run.
Published: 7,784 parameters; 99.47 % on the test set in its best and 99.44 % in its last of 15
epochs, one run."""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=128,
    optimizer=dict(name="SGD", momentum=0.9, nesterov=True),
    scheduler=dict(name="OneCycleLR",  # stepped once a batch: from 0.03 to 0.3 and down to 0.0003
                   max_lr=0.3, pct_start=0.2, div_factor=10, final_div_factor=100),
    augment=dict(rotate=7, nearest=True),  # degrees
    label_smoothing=0.02,
)


def conv(in_channels, out_channels, padding=0):
    """3×3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU())


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(  # output      RF
            conv(1, 7),               #  7×26×26     3
            conv(7, 7),               #  7×24×24     5
            conv(7, 10),              # 10×22×22     7
            nn.MaxPool2d(2),          # 10×11×11     8
            conv(10, 10),             # 10×9×9      12
            conv(10, 12),             # 12×7×7      16
            nn.MaxPool2d(2),          # 12×3×3      18
            conv(12, 16, padding=1),  # 16×3×3      26
            conv(16, 18, padding=1),  # 18×3×3      34
            nn.AdaptiveAvgPool2d(1),  # 18×1×1      42
            nn.Flatten(),             # 18          42
            nn.Linear(18, 10),        # 10          42
        )

    def forward(self, images):
        return self.layers(images)
