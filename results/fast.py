"""A coarse net for whoever wants 99.47 % in 45 seconds: Model 3 until 2026-11-25.

Its first layer looks at every third pixel only, so that four layers of 16 channels run on 9×9
maps, and a run takes a third of Model 3's time. That costs reliability: three of its twenty seeds
miss 99.4 % in one of the last five epochs, and pale or blurred digits mislead it
(results/robustness.csv). The runs in results/fast call themselves model3, as the file was called
then: python train.py --model results/fast.py --runs 20"""

from torch import nn

RECIPE = dict(
    epochs=15,
    batch_size=512,  # images a step
    optimizer=dict(name="SGD", momentum=0.9, nesterov=True, weight_decay=5e-4,
                   fused=True),  # all parameters in one call
    scheduler=dict(name="OneCycleLR",  # stepped once a batch
                   max_lr=0.4, pct_start=0.2,  # the peak comes after a fifth of all steps
                   cycle_momentum=False),  # momentum stays at 0.9
    deskew=True,  # slanted digits are sheared upright, in training and in test
    augment=dict(rotate=10, shift=1, scale=0.1),  # degrees, pixels, fraction; uniform within ±
    label_smoothing=0.02,  # 2 % of each label's probability is spread over the ten digits
    average=0.998,  # the highest decay, a step, of the average of the weights, which is judged and
                    # saved; in the 1,770 steps of a run it rises to 0.995 (train.py)
)


def conv(in_channels, out_channels, kernel_size=3, stride=1, padding=0):
    """Convolution, BatchNorm, GELU (https://arxiv.org/abs/1606.08415)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels), nn.GELU())


class Net(nn.Module):
    """Deskewed and normalised images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(   # output      RF
            conv(1, 16, 6, 3, 1),      # 16×9×9       6
            conv(16, 16),              # 16×7×7      12
            conv(16, 16),              # 16×5×5      18
            conv(16, 16),              # 16×3×3      24
            nn.Conv2d(16, 16, 3, groups=16, bias=False),  # 16×1×1      30
            nn.Flatten(),              # 16          30
            nn.Linear(16, 10),         # 10          30
        )

    def forward(self, images):
        return self.layers(images)
