"""Layers that the networks share: residual blocks, DCT kernels, sub-pixel resampling."""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = TypeVar("Layer", nn.Conv1d, nn.Conv2d)

SLOPE = 0.1  # of every leaky ReLU of `light`

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
