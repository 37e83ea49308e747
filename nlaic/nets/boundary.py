"""The filter on strips around block boundaries, and how its output is blended in (Eq. 7 and 8 of the paper).

A strip has its boundary in the middle, between two columns; strips along horizontal boundaries are turned, so that one
network sees one orientation. The paper leaves the network open. `light` works at a quarter of the resolution and adds
what its zero-initialised end says, so an untrained filter changes nothing; `paper` has the paper's size, 5.62 MMAC a
pixel, in the plainest layout that comes to it.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from nlaic.nets.layers import ResidualBlock, zero_init
from nlaic.nets.paper import PlainBlock
from nlaic.seams import SIGMA, UNIT, WIDTH
from nlaic.seams import blend_weight as blend_weights

SCALE = 0.1  # of the light filter's branch, as of the codec's


@dataclass(frozen=True)
class BoundarySettings:
    """The shape of a filter.

    Attributes:
        kind: `light` or `paper`.
        channels: of the residual blocks.
        blocks: how many.
        sigma: of the blending weight, in pixels, for strips of 128.
    """

    kind: str = "light"
    channels: int = 64
    blocks: int = 4
    sigma: float = SIGMA

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values, for a weights file."""
        return asdict(self)


class LightFilter(nn.Module):
    """Residual blocks on 4x4 unshuffled pixels: at most 25 kMAC a pixel."""

    SHRINK = 4

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        pixels = 3 * self.SHRINK**2
        self.reach = self.SHRINK * (2 + 2 * blocks)  # pixels that an output depends on, in each direction
        self.branch = nn.Sequential(
            nn.PixelUnshuffle(self.SHRINK),
            nn.Conv2d(pixels, channels, 3, padding=1),
            *(ResidualBlock(channels) for _ in range(blocks)),
            zero_init(nn.Conv2d(channels, pixels, 3, padding=1)),
            nn.PixelShuffle(self.SHRINK),
        )

    def forward(self, strip: Tensor) -> Tensor:
        """Strips [B, 3, H, W] in 0..1, sides multiples of 4, to filtered ones."""
        return strip + SCALE * self.branch(strip - 0.5)


class PaperFilter(nn.Module):
    """conv5, residual blocks of two 3x3 convolutions, conv5, all at full resolution."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.reach = -(-(2 + 2 * blocks + 2) // UNIT) * UNIT
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 5, padding=2),
            *(PlainBlock(channels) for _ in range(blocks)),
            zero_init(nn.Conv2d(channels, 3, 5, padding=2)),
        )

    def forward(self, strip: Tensor) -> Tensor:
        """See `LightFilter`."""
        return strip + self.layers(strip)


def build_boundary(settings: BoundarySettings) -> LightFilter | PaperFilter:
    """Make an untrained filter."""
    kinds: dict[str, type[LightFilter | PaperFilter]] = {"light": LightFilter, "paper": PaperFilter}
    return kinds[settings.kind](settings.channels, settings.blocks)


def blend_weight(width: int, sigma: float = SIGMA) -> Tensor:
    """W_p of Eq. 8, [width]; see `nlaic.seams.blend_weight`."""
    return torch.from_numpy(blend_weights(width, sigma))


def filter_boundaries(
    picture: Tensor,
    columns: Iterable[int],
    rows: Iterable[int],
    network: Callable[[Tensor], Tensor],
    width: int = WIDTH,
    sigma: float = SIGMA,
) -> Tensor:
    """Filter the strips around block boundaries of a picture (Eq. 7).

    Vertical and horizontal strips are filtered on their own, from the same input; where they cross, each correction
    counts by its weight, so that a picture and its transpose give transposed results.

    Args:
        picture: [B, 3, H, W] in 0..1.
        columns: first columns of blocks, without 0.
        rows: first rows of blocks, without 0.
        network: strips [B, 3, n, width] to filtered ones.
        width: of a strip; even, and every boundary at least half of it from the picture's edge.
        sigma: of the blending weight, for strips of 128.

    Returns:
        the filtered picture [B, 3, H, W].
    """
    weighted, total = torch.zeros_like(picture), torch.zeros_like(picture[:1, :1])
    weight = blend_weight(width, sigma).to(picture)
    for boundaries, turned in ((columns, False), (rows, True)):
        source = picture.mT if turned else picture
        target, sums = (weighted.mT, total.mT) if turned else (weighted, total)
        for boundary in boundaries:
            part = slice(boundary - width // 2, boundary + width // 2)
            strip = source[..., part]
            target[..., part] += weight.square() * (network(strip) - strip)
            sums[..., part] += weight
    return picture + weighted / total.clamp_min(torch.finfo(total.dtype).tiny)


def splice(blocks: Tensor) -> Tensor:
    """Four blocks a picture, [4 * B, C, h, w] (upper left, upper right, lower left, lower right), to [B, C, 2h, 2w]."""
    b, c, h, w = blocks.shape
    return blocks.view(b // 4, 2, 2, c, h, w).permute(0, 3, 1, 4, 2, 5).reshape(b // 4, c, 2 * h, 2 * w)


def cut(pictures: Tensor) -> Tensor:
    """The inverse of `splice`."""
    b, c, h, w = pictures.shape
    blocks = pictures.view(b, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(4 * b, c, h // 2, w // 2)
