"""Model 2: how small can a net be and still reach 99.4 %, on every seed?

Target
    At least 99.4 % on the test set in each of the last five of 15 epochs, on every seed, with as
    few parameters as possible, global average pooling (GAP) and ReduceLROnPlateau.

Result
    99.53 ± 0.04 % (n=40) on the 10,000 test images in the last of 15 epochs;
    lowest of any seed's last five epochs 99.40 %.
    Seeds with at least 99.4 % in each of these five: 40 of 40 (≥ 91 %).
    4,650 parameters, 293,168 multiply-adds an image.
    torch 2.14.1, cpu (x86_64, 2 cores), 1 thread, 150 s a run.
    Reproduce seeds 20 to 59: python train.py --model 2 --seed 20 --runs 40

Analysis
    Changed since Model 1: after the first pool, each 3×3 convolution is split in two, every channel
    by itself and then a 1×1 transition across channels, which needs a seventh of the weights; GAP
    hands 32 numbers to a linear layer. Preparation brings all digits not only to one slant but to
    one place, size and contrast. Muon takes the place of SGD, and the average of the weights is
    what gets judged.
    What each ingredient is worth, by the held-out cross-entropy, the mean of two folds. Smoothed
    labels raise it, so that it is not to be compared with Model 1's:
        0.0352  as it is
        0.0398  trained without preparation
        0.0388  without augmentation
        0.0384  without the two plain epochs at the end
        0.0382  with SGD (rate 0.2, not tuned) in place of Muon
        0.0337  with OneCycleLR in place of ReduceLROnPlateau
    Smaller: with channels of 10 22 22 22 22 32, 3,938 parameters, the same recipe reaches
    99.50 ± 0.05 % (n=20) on the test set, and 18 of 20 seeds hold the target; with 5,790 parameters
    99.56 ± 0.04 % (n=20), and 20 of 20 do. Seeds 0 to 19 had a say in the choice between them, and
    do not count; 20 to 59 had none.
    ReduceLROnPlateau, told to halve the rate whenever an epoch's training loss is not 5 % below the
    lowest so far, leaves it alone for about four epochs and then brings it down in steps. It needs
    no length of the run beforehand; OneCycleLR does, and is a little better for it.
"""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=256,  # images a step
    optimizer=dict(name="Muon", lr=0.03, momentum=0.9,  # evens out the singular values of each
                   # weight matrix's step (utils.py)
                   vectors=6.7,  # BatchNorm's weights and biases: SGD at 6.7 times the rate
                   weight_decay=5e-4),  # of these alone
    scheduler=dict(name="ReduceLROnPlateau",  # stepped once an epoch, watches the training loss
                   factor=0.5, patience=0, threshold=0.05),  # halve unless it fell by 5 %
    upright=True,  # one slant, place, size and contrast for all digits, in training and in test
    augment=dict(rotate=10, shift=1, scale=0.1,  # degrees, pixels, a fraction
                 thickness=0.5, noise=0.2),  # pixels, a fraction; uniform within ±, noise from 0
    plain_epochs=2,  # the last two epochs are without augmentation
    label_smoothing=0.02,  # 2 % of each label's probability is spread over the ten digits
    average=0.998,  # what is tested and saved is a moving average: after each step, the weights
                    # get a share in it of 9 / (9 + steps), but at least 1 - 0.998, which the 3,525
                    # steps of 15 epochs do not reach
)


def conv_pool(in_channels, out_channels):
    """3×3 convolution, 2×2 max pool, BatchNorm, ReLU. After the pool, BatchNorm and ReLU have a
    quarter of the values to handle."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, bias=False),
        nn.MaxPool2d(2), nn.BatchNorm2d(out_channels), nn.ReLU())


def separable(in_channels, out_channels):
    """A 3×3 convolution in two steps, as in MobileNets (https://arxiv.org/abs/1704.04861): each
    channel by itself, then a 1×1 convolution across channels. BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels), nn.ReLU())


class Net(nn.Module):
    """Upright and normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(  # output      RF
            conv_pool(1, 16),         # 16×13×13     4
            separable(16, 24),        # 24×11×11     8
            separable(24, 24),        # 24×9×9      12
            separable(24, 24),        # 24×7×7      16
            separable(24, 24),        # 24×5×5      20
            separable(24, 32),        # 32×3×3      24
            nn.AdaptiveAvgPool2d(1),  # 32×1×1      28
            nn.Flatten(),             # 32          28
            nn.Linear(32, 10),        # 10          28
        )

    def forward(self, images):
        return self.layers(images)
