"""`restore-light`, ours: one filter for every quality of a codec, at most 60 kMAC a pixel.

Residual blocks at a quarter of the size, where convolutions are cheap. Two things make one network fit all qualities:
what it says is in units of the error that the codec usually leaves at the level given, measured before training
(`start_restore`), and shift and scale of the first features move with the level. Blocks of 8 (and of 16 in 4:2:0
chroma) have a place on a grid, which convolutions do not see: a learned pattern of 16 pixels tells them. Behind codecs
that filter by themselves a few narrow layers at full size follow. The ends are zero-initialised: an untrained filter
changes nothing.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.nets.layers import SLOPE, ResidualBlock, zero_init

SHRINK = 4  # pixels to a position of the features, each way
GRID = 16  # pixels after which the pattern comes again
ANCHORS = 11  # levels at which there are parameters, equally spaced
FINE_LAYERS = 5
GAIN = 4.0  # brings pixels of -0.5..0.5 to the size that layers begin for


class RestoreLight(nn.Module):
    """unshuffle ─ conv3 ─ scale, shift of the level, pattern ─ residual blocks ─ conv3 ─ usual error ─ shuffle ─ + x.

    Args:
        channels: of the residual blocks, at 1/4.
        blocks: how many.
        fine: channels of the layers at full size, which see x and what has become of it; 0: there are none.
    """

    multiple = GRID

    def __init__(self, channels: int = 48, blocks: int = 6, fine: int = 0) -> None:
        super().__init__()
        self.reach = -(-(SHRINK * (2 * blocks + 3) + (FINE_LAYERS if fine else 0)) // GRID) * GRID
        planes = 3 * SHRINK**2
        self.first = nn.Conv2d(planes, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.last = zero_init(nn.Conv2d(channels, planes, 3, padding=1))
        self.pattern = nn.Parameter(torch.zeros(channels, (GRID // SHRINK) ** 2))
        self.scale, self.shift = (nn.Parameter(torch.zeros(ANCHORS, channels)) for _ in range(2))
        self.log_error = nn.Parameter(torch.zeros(ANCHORS, 1))
        self.fine = _fine(fine) if fine else None

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1, H and W multiples of 16, coded at levels [B] in 0..1, to filtered ones."""
        features = self.first(F.pixel_unshuffle(GAIN * (x - 0.5), SHRINK))  # (B, C, H/4, W/4)
        features = features * at(self.scale, level).exp() + at(self.shift, level)
        height, width = features.shape[-2:]
        side = GRID // SHRINK
        pattern = self.pattern.view(-1, side, side).repeat(1, height // side, width // side)
        features = F.leaky_relu(self.blocks(features + pattern), SLOPE)
        error = at(self.log_error, level).exp()
        restored = x + F.pixel_shuffle(self.last(features) * error, SHRINK)
        if self.fine is None:
            return restored
        return restored + self.fine(GAIN * (torch.cat((restored, x), 1) - 0.5)) * error


def _fine(channels: int) -> nn.Sequential:
    widths = (6, *(channels,) * (FINE_LAYERS - 1))
    layers = [(nn.Conv2d(one, two, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True)) for one, two in pairwise(widths)]
    return nn.Sequential(*(layer for pair in layers for layer in pair), zero_init(nn.Conv2d(channels, 3, 3, padding=1)))


def at(table: Tensor, level: Tensor) -> Tensor:
    """Rows [K, C] at equally spaced levels, interpolated at [B] in 0..1: [B, C, 1, 1]."""
    position = level * (len(table) - 1)
    low = position.floor().clamp(max=len(table) - 2).long()
    return torch.lerp(table[low], table[low + 1], (position - low)[:, None])[..., None, None]


@torch.no_grad()
def start_restore(net: RestoreLight, pairs: Sequence[tuple[Tensor, Tensor, float]]) -> None:
    """Measure the usual error at each level, on decoded and original pictures [B, 3, H, W] and their level in 0..1.

    The logarithm of the error is taken to be linear in the level, as it nearly is.
    """
    level = torch.tensor([pair[2] for pair in pairs])
    error = torch.stack([(x - target).square().mean().sqrt() for x, target, _ in pairs]).clamp_min(1e-4).log()
    apart = level - level.mean()
    slope = (apart * error).sum() / apart.square().sum().clamp_min(1e-6)
    anchors = torch.linspace(0, 1, ANCHORS)
    net.log_error.copy_((error.mean() + slope * (anchors - level.mean()))[:, None])
