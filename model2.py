"""Model 2: how small can a net be and still come near 99.4 %?

Target
    Fewer than 4,000 parameters, at most 15 epochs, 99.4 % on the test set. Against Model 1: every
    layer is thinner (6 to 12 channels), pooling comes after the first convolution already, a 1×1
    transition squeezes the channels before the second pool, and global average pooling (GAP)
    hands twelve numbers to a linear layer. New in the recipe: ReduceLROnPlateau, small random
    affine transforms, and an average of the weights, which is what gets judged.

Result
    99.30 ± 0.07 % (n=3) on the 10,000 test images in the last of 15 epochs;
    lowest of any seed's last five epochs 99.19 %; at least 99.4 % in each of them: 0 of 3 seeds.
    3,880 parameters, torch 2.15.0, cpu (x86_64, 2 cores), 1 thread,
    107 s a run.
    Reproduce seeds 0 to 2: python train.py --model 2 --runs 3

Analysis
    On 10,000 held-out training images the net reaches
    `model2:` 99.30 ± 0.02 % (n=2).
    Augmentation pays even at this size: at a learning rate of 0.2 the net reaches
    `model2: optimizer.lr=0.2` 99.25 ± 0.07 % (n=3) with it and
    `model2: augment={}; optimizer.lr=0.2` 99.12 ± 0.10 % (n=2) without.
    A wide first layer was no help, though one seed says little:
    `model2: c8M c8 c12 p6 M c12 v12` 99.16 % (n=1).
    ReduceLROnPlateau, told to halve the rate whenever an epoch's training loss is not 5 % below the
    lowest so far, leaves it alone for five to eight epochs and then brings it down in steps. The
    target is missed: 99.4 % takes more than this net has.
"""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=128,  # images a step
    optimizer=dict(name="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    scheduler=dict(name="ReduceLROnPlateau",  # stepped once an epoch, watches the training loss
                   factor=0.5, patience=0, threshold=0.05),  # halve unless it fell by 5 %
    augment=dict(rotate=7, shift=1, scale=0.05),  # degrees, pixels, fraction; uniform within ±
    average=0.998,  # decay a step of the weight average that is judged and saved
)


def conv(in_channels, out_channels, padding=1):
    """3×3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU())


def conv_pool(in_channels, out_channels):
    """3×3 convolution, 2×2 max pool, BatchNorm, ReLU: pooling first leaves the last two a quarter
    of the work."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                         nn.MaxPool2d(2), nn.BatchNorm2d(out_channels), nn.ReLU())


def transition(in_channels, out_channels):
    """1×1 convolution to fewer channels, BatchNorm, ReLU, 2×2 max pool."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2))


class Net(nn.Module):
    """Normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(   # output      RF
            conv_pool(1, 6),           #  6×14×14     4
            conv(6, 8),                #  8×14×14     8
            conv(8, 8),                #  8×14×14    12
            transition(8, 6),          #  6×7×7      14
            conv(6, 10),               # 10×7×7      22
            conv(10, 10, padding=0),   # 10×5×5      30
            conv(10, 12, padding=0),   # 12×3×3      38
            nn.AdaptiveAvgPool2d(1),   # 12×1×1      46
            nn.Flatten(),              # 12          46
            nn.Linear(12, 10),         # 10          46
        )

    def forward(self, images):
        return self.layers(images)
