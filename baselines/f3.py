"""Net F3: Adam, and a rate that falls in two steps.

Source: github.com/sunpau/ERA_V1_S7, model.py and S7_final_model.ipynb.
Published: 6,128 parameters; 99.47 % on the test set in its best, the twelfth, and 99.44 % in its
last of 15 epochs, one run."""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=64,
    optimizer=dict(name="Adam", lr=0.01),
    scheduler=dict(name="StepLR", step_size=6, gamma=0.1),  # stepped once an epoch
    augment=dict(rotate=7, nearest=True),  # degrees
)


def conv(in_channels, out_channels, dropout=0.1, padding=0):
    """3×3 convolution, ReLU, BatchNorm, dropout."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False), nn.ReLU(),
        nn.BatchNorm2d(out_channels), nn.Dropout(dropout))


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(           # output      RF
            conv(1, 8, padding=1),             #  8×28×28     3
            conv(8, 16),                       # 16×26×26     5
            nn.MaxPool2d(2),                   # 16×13×13     6
            nn.Conv2d(16, 8, 1, bias=False),   #  8×13×13     6
            conv(8, 8),                        #  8×11×11    10
            conv(8, 8),                        #  8×9×9      14
            conv(8, 16),                       # 16×7×7      18
            conv(16, 10, dropout=0),           # 10×5×5      22
            nn.Conv2d(10, 10, 3, bias=False),  # 10×3×3      26
            nn.AdaptiveAvgPool2d(1),           # 10×1×1      30
            nn.Flatten(),                      # 10          30
        )

    def forward(self, images):
        return self.layers(images)
