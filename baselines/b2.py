"""Net B2, the second of three that github.com/SXD390/ERA-V4-Session_6_MNIST_SUB_8K_Params trains.

Source: Model_Intermediate of MNIST_Sub_8K.ipynb there; the repository's .py file has no biases,
9,264 parameters, and no published run.
Published: 9,382 parameters; 99.27 % on the test set in its best and in its last of 15 epochs, one
run."""

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


def conv(in_channels, out_channels):
    """3×3 convolution with bias, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1),
                         nn.BatchNorm2d(out_channels), nn.ReLU())


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(  # output      RF
            conv(1, 16),              # 16×28×28     3
            conv(16, 16),             # 16×28×28     5
            nn.MaxPool2d(2),          # 16×14×14     6
            nn.Conv2d(16, 12, 1),     # 12×14×14     6
            nn.Dropout(0.05),         # 12×14×14     6
            conv(12, 20),             # 20×14×14    10
            conv(20, 20),             # 20×14×14    14
            nn.MaxPool2d(2),          # 20×7×7      16
            nn.Conv2d(20, 24, 1),     # 24×7×7      16
            nn.Dropout(0.05),         # 24×7×7      16
            nn.AdaptiveAvgPool2d(1),  # 24×1×1      40
            nn.Conv2d(24, 10, 1),     # 10×1×1      40
            nn.Flatten(),             # 10          40
        )

    def forward(self, images):
        return self.layers(images)
