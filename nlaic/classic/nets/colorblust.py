"""The filter behind VVC of ColorBlust, an entry to the CLIC of 2019 (CVPR workshop), section 3 of its paper.

Thirty residual blocks with channel and spatial attention. The paper gives no width and no layer of the attentions: 64
channels, and the attentions of CBAM, are ours.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.nets.layers import zero_init

REDUCTION = 16  # channels of the attention's middle: one of so many
UNIT = 0.03  # of the last layer's output: about an error of a pixel, so that one learning rate fits all layers
KERNEL = 7  # of the spatial attention


class AttentionBlock(nn.Module):
    """x + SA(CA(conv3(ReLU(conv3(x))))), C to C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.squeeze = nn.Conv2d(channels, max(channels // REDUCTION, 1), 1)
        self.excite = nn.Conv2d(max(channels // REDUCTION, 1), channels, 1)
        self.spatial = nn.Conv2d(2, 1, KERNEL, padding=KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        y = self.conv2(F.relu(self.conv1(x)))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        seen = torch.cat((y.mean(1, keepdim=True), y.amax(1, keepdim=True)), dim=1)  # (B, 2, H, W)
        return x + y * torch.sigmoid(self.spatial(seen))


class ColorBlust(nn.Module):
    """conv3 ─┬─ blocks ─ conv3 ─ + ─ conv3 ─ + x.

    The channel attention takes means over all that it is given: the picture cut into blocks is not filtered exactly as
    the whole one.

    Args:
        blocks: 30 in the paper.
        channels: ours, 64.
    """

    multiple = 1

    def __init__(self, blocks: int = 30, channels: int = 64) -> None:
        super().__init__()
        self.reach = blocks * (2 + KERNEL // 2) + 3
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(AttentionBlock(channels) for _ in range(blocks)), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.tail = zero_init(nn.Conv2d(channels, 3, 3, padding=1))  # an untrained filter changes nothing

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 to filtered ones; `level` is not looked at."""
        features = self.head(x)
        return x + UNIT * self.tail(features + self.body(features))
