"""Net B1, the first of three that github.com/SXD390/ERA-V4-Session_6_MNIST_SUB_8K_Params trains.

Source: ModelPrimary of MNIST_Sub_8K.ipynb there; the repository's .py file has another order inside
a block and dropout elsewhere, and no published run.
Published: 13,808 parameters; 99.58 % on the test set in its best, the thirteenth, and 99.50 % in
its last of 15 epochs, one run. The layers are those of C1."""

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
    """3×3 convolution, ReLU, BatchNorm, dropout."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False), nn.ReLU(),
        nn.BatchNorm2d(out_channels), nn.Dropout(0.1))


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # output      RF
            conv(1, 16),                       # 16×26×26     3
            conv(16, 32),                      # 32×24×24     5
            nn.Conv2d(32, 10, 1, bias=False),  # 10×24×24     5
            nn.MaxPool2d(2),                   # 10×12×12     6
            conv(10, 16),                      # 16×10×10    10
            conv(16, 16),                      # 16×8×8      14
            conv(16, 16),                      # 16×6×6      18
            conv(16, 16, padding=1),           # 16×6×6      22
            nn.AvgPool2d(6),                   # 16×1×1      32
            nn.Conv2d(16, 10, 1, bias=False),  # 10×1×1      32
            nn.Flatten(),                      # 10          32
        )

    def forward(self, images):
        return self.layers(images)
