"""Model 2: how small can a net be and still reach 99.4 %?

Target
    Fewer than 4,000 parameters, at most 15 epochs, 99.4 % on the test set. Against Model 1: every
    layer is thinner (6 to 12 channels) and has GELU, pooling comes after the first convolution
    already, a 1×1 transition squeezes the channels before the second pool, and global average
    pooling (GAP) hands twelve numbers to a linear layer. New in the recipe: ReduceLROnPlateau in
    place of OneCycleLR, weaker augmentation, and an average of the weights, which is what gets
    judged.

Result
    99.36 ± 0.05 % (n=20) on the 10,000 test images in the last of 15 epochs;
    lowest of any seed's last five epochs 99.23 %; at least 99.4 % in each of them: 1 of 20 seeds.
    3,880 parameters, torch 2.15.0, cpu (x86_64, 2 cores), 1 thread,
    164 s a run.
    Reproduce seeds 0 to 19: python train.py --model 2 --runs 20

Analysis
    On average a little short of the target, and of twenty seeds one holds it. On 10,000 held-out
    training images the net reaches `model2:` 99.35 ± 0.05 % (n=5). None of the recipe's
    ingredients shows in five seeds: without deskewing
    `model2: deskew=False` 99.33 ± 0.05 % (n=5), without augmentation
    `model2: augment={}` 99.33 ± 0.07 % (n=5), without the weight average
    `model2: average=0.0` 99.34 ± 0.05 % (n=5). Without augmentation the net fits the images it
    is shown better, and the held-out ones no better and no worse.
    ReduceLROnPlateau, told to halve the rate whenever an epoch's training loss is not 5 % below the
    lowest so far, leaves it alone for four to eight epochs and then brings it down in steps.
"""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=128,  # images a step
    optimizer=dict(name="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4,
                   fused=True),  # all parameters in one call
    scheduler=dict(name="ReduceLROnPlateau",  # stepped once an epoch, watches the training loss
                   factor=0.5, patience=0, threshold=0.05),  # halve unless it fell by 5 %
    deskew=True,  # slanted digits are sheared upright, in training and in test
    augment=dict(rotate=7, shift=1, scale=0.05),  # degrees, pixels, fraction; uniform within ±
    average=0.998,  # decay a step of the weight average that is judged and saved
)


def conv(in_channels, out_channels, padding=1, pool=False):
    """3×3 convolution, BatchNorm, GELU (https://arxiv.org/abs/1606.08415). A 2×2 max pool comes
    right behind the convolution, because it leaves the last two a quarter of the work."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=False),
        *[nn.MaxPool2d(2)] * pool, nn.BatchNorm2d(out_channels), nn.GELU())


def transition(in_channels, out_channels):
    """1×1 convolution to fewer channels, BatchNorm, GELU, 2×2 max pool."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False),
                         nn.BatchNorm2d(out_channels), nn.GELU(), nn.MaxPool2d(2))


class Net(nn.Module):
    """Deskewed and normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(   # output      RF
            conv(1, 6, pool=True),     #  6×14×14     4
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
