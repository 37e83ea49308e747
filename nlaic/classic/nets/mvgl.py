"""MVGL's filters: Kirmemis, Bakar, Tekalp, "Learned Compression Artifact Removal by Deep Residual Networks" (CVPR
workshop 2018), section 3.

EDSR with SELU for ReLU and without its upsampling; what the network says, times 0.1, is added to its input.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.nets.layers import zero_init

RESIDUAL = 0.1  # of a block, as in EDSR; the paper says that there is such a factor, not which
OUTPUT = 0.1  # of the whole network


class SeluBlock(nn.Module):
    """x + 0.1 conv3(SELU(conv3(x))), n to n."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, n, H, W] to the same."""
        return x + RESIDUAL * self.conv2(F.selu(self.conv1(x)))


class Mvgl(nn.Module):
    """x - mean ─ conv3 ─┬─ blocks ─ conv3 ─ + ─ conv3 ─ times 0.1 ─ + x.

    Args:
        blocks: B of the paper; 32, 8 and 32 for A, B and C.
        channels: n; 96, 96 and 48.
    """

    multiple = 1

    def __init__(self, blocks: int, channels: int) -> None:
        super().__init__()
        self.reach = 2 * blocks + 3  # half of the effective kernel: the paper's l, a layer a pixel
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(SeluBlock(channels) for _ in range(blocks)), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.tail = zero_init(nn.Conv2d(channels, 3, 3, padding=1))  # an untrained filter changes nothing
        self.mean = nn.Buffer(torch.full((3,), 0.5))  # of the training pictures' R, G and B

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 to filtered ones; `level` is not looked at."""
        features = self.head(x - self.mean[:, None, None])
        return x + OUTPUT * self.tail(features + self.body(features))
