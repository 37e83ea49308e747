"""The filter on strips around block boundaries, and how its output is blended in (Eq. 7 and 8 of the paper).

A strip has its boundary in the middle, between two columns; strips along horizontal boundaries are turned, so that one
network sees one orientation. The paper leaves the network open. `light` takes the pixels of a row for channels, so it
knows how far each is from the boundary; its end is zero-initialised, so an untrained filter changes nothing. `paper`
has the paper's size, 5.62 MMAC a pixel, in the plainest layout that comes to it.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.errors import NlaicError
from nlaic.nets.layers import RGB_TO_YCBCR, SLOPE, dct_matrix, zero_init
from nlaic.nets.paper import PlainBlock
from nlaic.seams import SIGMA, SIGMA_MAX, UNIT, WIDTH
from nlaic.seams import blend_weight as blend_weights

KINDS = ("light", "paper")
ANCHORS = 11  # qualities at which the light filter has parameters, equally spaced
LUMA, CHROMA = 2.0, 0.45  # size of DCT coefficient k of a row of a photograph, times k + 1
CORRECTION = 0.02  # size of what is to be corrected, over that of the coefficients


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
    channels: int = 256
    blocks: int = 4
    sigma: float = SIGMA

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise NlaicError(f"stage.settings.kind must be one of {', '.join(KINDS)}, but got {self.kind!r}")
        if not 0 < self.sigma <= SIGMA_MAX:
            raise NlaicError(f"stage.settings.sigma must be above 0 and at most {SIGMA_MAX:g}, but got {self.sigma}")

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values, for a weights file."""
        return asdict(self)


class RowBlock(nn.Module):
    """x + conv1(lrelu(conv3(lrelu(x)))) along the boundary, C to C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n] to [B, C, n]."""
        return x + self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, SLOPE)), SLOPE, inplace=True))


class LightFilter(nn.Module):
    """Convolutions along the boundary, whose channels are a row's pixels across it: at most 25 kMAC a pixel.

    A row is seen without its mean and through the DCT of its luma and chroma, each coefficient divided by its size in
    photographs, so that one learning rate fits all; what comes out goes the same way back. Strips narrower than 128
    are seen with their edges repeated.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.reach = UNIT * -(-(2 + blocks) // UNIT)  # pixels along that an output depends on, each way
        self.first = nn.Conv1d(3 * WIDTH, channels, 3, padding=1)
        self.blocks = nn.ModuleList(RowBlock(channels) for _ in range(blocks))
        self.last = zero_init(nn.Conv1d(channels, 3 * WIDTH, 3, padding=1))
        self.linear = zero_init(nn.Conv1d(3 * WIDTH, 3 * WIDTH, 3, padding=1, bias=False))
        self.shift = nn.Parameter(torch.zeros(ANCHORS, channels))
        self.log_gain = nn.Parameter(torch.zeros(ANCHORS, 3 * WIDTH))
        size = np.array((LUMA, CHROMA, CHROMA))[:, None] / np.arange(1, WIDTH + 1)
        self.dct, self.to_ycbcr, self.to_rgb, self.size = (
            nn.Buffer(torch.tensor(value, dtype=torch.float32), persistent=False)
            for value in (dct_matrix(WIDTH), RGB_TO_YCBCR, np.linalg.inv(RGB_TO_YCBCR), size.reshape(-1, 1))
        )

    def forward(self, strip: Tensor, quality: Tensor) -> Tensor:
        """Strips [B, 3, n, w] in 0..1, w at most 128, coded at qualities [B] in 0..1, to filtered ones."""
        return strip + self._correction(strip, quality)

    def _correction(self, strip: Tensor, quality: Tensor) -> Tensor:
        batch, _, length, width = strip.shape
        more = (WIDTH - width) // 2
        rows = F.pad(strip - strip.mean((1, 3), keepdim=True), (more, more, 0, 0), mode="replicate")
        rows = torch.einsum("bdhw,kw->bdkh", rows, self.dct)
        rows = torch.einsum("bdkh,cd->bckh", rows, self.to_ycbcr).reshape(batch, -1, length) / self.size
        x = self.first(rows) + _at(self.shift, quality)
        for block in self.blocks:
            x = block(x)
        x = self.last(F.leaky_relu(x, SLOPE)) + self.linear(rows)
        x = x * (CORRECTION * self.size * _at(self.log_gain, quality).exp())
        x = torch.einsum("bckh,dc->bdkh", x.view(batch, 3, WIDTH, length), self.to_rgb)
        return torch.einsum("bdkh,kw->bdhw", x, self.dct[:, more : more + width])


def _at(table: Tensor, quality: Tensor) -> Tensor:
    """Rows [K, C] at equally spaced qualities, interpolated at [B] in 0..1: [B, C, 1]."""
    position = quality * (len(table) - 1)
    low = position.floor().clamp(max=len(table) - 2).long()
    return torch.lerp(table[low], table[low + 1], (position - low)[:, None])[..., None]


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

    def forward(self, strip: Tensor, quality: Tensor) -> Tensor:
        """See `LightFilter`; one for all qualities."""
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
