"""Layers of the networks: residual blocks, lapped transform, sub-pixel resampling, DCT kernels."""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Back = Callable[[Tensor], Tensor]  # the gradient by what went in, of the one by what came out
Layer = TypeVar("Layer", nn.Conv1d, nn.Conv2d)

SLOPE = 0.1  # of every leaky ReLU of `light`
LAP = 16  # pixels around a boundary of blocks that the lap changes

# ITU-R BT.601 full range, the colour space of JPEG: rows are Y, Cb, Cr.
RGB_TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


class ResidualBlock(nn.Module):
    """x + conv3(lrelu(conv3(lrelu(x)))), C to C. Starts close to the identity: the last weights are small."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)
            self.conv2.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W]."""
        return x + self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, SLOPE)), SLOPE, inplace=True))


def reversible(layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, Back]:
    """Run layers one after the other; returns what comes out, and what turns a gradient by that into one by x.

    Without autograd, so that a graph can hold it. Layers are convolutions of stride 1 that keep the size, leaky ReLUs,
    pixel shuffles, and what has a `reversible` of its own.
    """
    backs: list[Back] = []
    for layer in layers:
        x, back = _reversible(layer, x)
        backs.append(back)

    def through(gradient: Tensor) -> Tensor:
        for back in reversed(backs):
            gradient = back(gradient)
        return gradient

    return x, through


def _reversible(layer: nn.Module, x: Tensor) -> tuple[Tensor, Back]:
    if isinstance(layer, nn.Conv2d):
        return layer(x), lambda g: F.conv2d(g, turned(layer.weight), padding=layer.kernel_size[0] // 2)
    if isinstance(layer, nn.LeakyReLU):
        return layer(x), lambda g: torch.where(x < 0, layer.negative_slope * g, g)
    if isinstance(layer, nn.PixelShuffle):
        return layer(x), lambda g: F.pixel_unshuffle(g, layer.upscale_factor)
    return cast(tuple[Tensor, Back], layer.reversible(x))  # type: ignore[operator]


def turned(weight: Tensor) -> Tensor:
    """Weights [O, I, k, k] of a convolution to those of its transpose, [I, O, k, k]."""
    return weight.transpose(0, 1).flip(2, 3)


def zero_init(layer: Layer) -> Layer:
    """Return the layer with weights and bias set to zero, so that its branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def to_blocks(x: Tensor, size: int) -> Tensor:
    """[B, C, H, W] to [B, H/size, W/size, C*size*size]: `pixel_unshuffle` with channels last, and a faster gradient."""
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // size, size, w // size, size).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(b, h // size, w // size, c * size * size)


def from_blocks(blocks: Tensor, size: int) -> Tensor:
    """The inverse of `to_blocks`."""
    b, h, w, c = blocks.shape
    x = blocks.reshape(b, h, w, c // size**2, size, size).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(b, c // size**2, h * size, w * size)


class Blocks(nn.Module):
    """`to_blocks` with channels before rows."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C*size*size, H/size, W/size]."""
        return to_blocks(x, self.size).permute(0, 3, 1, 2)


class Lap(nn.Module):
    """One linear map of the 16 pixels around every boundary of blocks of 16, along rows, then along columns.

    Before the DCT it takes apart what neighbouring blocks share, after the inverse it joins them: a lapped transform,
    whose blocks end softly. T. Tran, J. Liang, C. Tu, "Lapped transform via time-domain pre- and post-filtering", IEEE
    Transactions on Signal Processing 51 (2003). Starts as the identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(LAP))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same, H and W multiples of 16 from 32 on; the outermost 8 pixels stay as they are."""
        return _around_boundaries(x, lambda row: row @ self.matrix, lambda column: self.matrix.T @ column)

    def transposed(self, x: Tensor) -> Tensor:
        """Apply the transpose of the whole map, [B, C, H, W] to the same.

        The matrix stands before both products: behind one and transposed, OpenVINO 2026.4 takes it for another.
        """
        return _around_boundaries(x, lambda row: (self.matrix @ row.mT).mT, lambda column: self.matrix @ column)


def _around_boundaries(x: Tensor, rows: Callable[[Tensor], Tensor], columns: Callable[[Tensor], Tensor]) -> Tensor:
    """Change 16 pixels around each boundary of blocks along rows, [.., n, 16], then along columns, [.., n, 16, W]."""
    half = LAP // 2
    with torch.autocast(x.device.type, enabled=False):
        left, middle, right = x.split((half, x.shape[-1] - LAP, half), -1)
        x = torch.cat((left, rows(middle.unflatten(-1, (-1, LAP))).flatten(-2), right), -1)
        top, middle, bottom = x.split((half, x.shape[-2] - LAP, half), -2)
        return torch.cat((top, columns(middle.unflatten(-2, (-1, LAP))).flatten(-3, -2), bottom), -2)


class Fine(nn.Module):
    """What blocks of 8 cannot say, such as that beside an edge there is nothing: three layers at half the resolution.

    The features at 1/8 tell them what to expect.
    """

    GUIDE = 4  # channels at 1/2 that the features become

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.guide = nn.Sequential(nn.Conv2d(features, 16 * self.GUIDE, 1), nn.PixelShuffle(4))
        self.layers = nn.Sequential(
            nn.Conv2d(12 + self.GUIDE, channels, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            zero_init(nn.Conv2d(channels, 12, 3, padding=1)),
            nn.PixelShuffle(2),
        )

    def forward(self, x_hat: Tensor, features: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] and features [B, C, H/8, W/8] to what is added to the pictures."""
        return self.layers(torch.cat((F.pixel_unshuffle(x_hat - 0.5, 2), self.guide(features)), 1))


def dct_matrix(n: int) -> np.ndarray:
    """Orthonormal DCT-II: [n, n], row k is the k-th basis function."""
    k, x = np.arange(n)[:, None], np.arange(n)[None]
    matrix = np.sqrt(2 / n) * np.cos(np.pi * (2 * x + 1) * k / (2 * n))
    matrix[0] /= math.sqrt(2)
    return matrix


def dct_coefficients(luma: int, chroma: int, size: int = 16) -> list[tuple[int, int, int]]:
    """List the kept coefficients as (component, u, v), by rising frequency: `luma` of Y, `chroma` each of Cb, Cr."""
    by_radius = sorted(((u, v) for u in range(size) for v in range(size)), key=lambda c: (c[0] ** 2 + c[1] ** 2, c))
    return [(component, u, v) for component, n in ((0, luma), (1, chroma), (2, chroma)) for u, v in by_radius[:n]]


def dct_kernels(coefficients: list[tuple[int, int, int]], size: int = 16) -> tuple[Tensor, Tensor]:
    """Make the block DCT of YCbCr as convolution kernels on RGB, stride `size`.

    Returns:
        analysis and synthesis kernels, each [len(coefficients), 3, size, size]; with all coefficients the second
        undoes the first.
    """
    dct, to_rgb = dct_matrix(size), np.linalg.inv(RGB_TO_YCBCR)
    basis = np.stack([np.outer(dct[u], dct[v]) for _, u, v in coefficients])  # (C, size, size)
    component = np.array([c for c, _, _ in coefficients])
    analysis = RGB_TO_YCBCR[component][:, :, None, None] * basis[:, None]
    synthesis = to_rgb.T[component][:, :, None, None] * basis[:, None]
    return torch.from_numpy(analysis).float(), torch.from_numpy(synthesis).float()
