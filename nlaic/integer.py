"""The exact scale network: from the integers z_hat to the table index of every symbol of y, in integers alone.

Everything that decides how a symbol is decoded is in this file and in `nlaic.entropy`. It always runs in NumPy on the
processor, whatever runs the rest, and gives the same result on every machine.

This page specifies how a block's table indices come from z_hat in codec 1, with `scale.*`, `rates.z_multiplier` and
`rates.offset` of the weights file (`nlaic.weights`):

    z_hat [Cz, h/4, w/4] ─ levels ─ conv3 scale.0 ─ 1x1 scale.1 ─ shuffle ─ conv3 scale.2 ─ 1x1 scale.3 ─► [C, h, w]

`x >> n` is floor(x / 2^n), clip is to both ends included; int64 holds every value. The rows of `rates.*` stand at R
equally spaced qualities; between them, where quality * (R-1) = 1000 * k + rest with 0 <= rest < 1000, a value is
(row[k] * (1000 - rest) + row[min(k+1, R-1)] * rest + 500) div 1000, rounded down, for each channel alone: so for
`rates.z_multiplier` and `rates.offset` here and for `rates.z_index` (`nlaic.entropy`).

Number formats:
    z_hat        integers; level = clip(((z_hat * z_multiplier + 2^15) >> 16) + 128, 0, 255)
    levels       0..255, input and output of every layer
    weights      int8, -127..127
    accumulator  sum(weight * level) + bias, bias int32; below 2^31 in magnitude, checked at load
    requantised  (accumulator * multiplier + 2^23) >> 24 in int64 (arithmetic shift: half-up), clipped to 0..255
    last layer   index = (accumulator * multiplier + (offset << 16) + 2^23) >> 24, clipped to 0..63;
                 offset is in 1/256 of an index
Multiplier and offset are int32, by output channel, z_multiplier by channel of z. A 3x3 convolution is a correlation
that repeats the edge of its input by one position: output o at (row, column) sums weight[o, i, dy, dx] * level[i,
row + dy - 1, column + dx - 1], a row or column outside taken as the nearest inside; 1x1 sums weight[o, i, 0, 0] *
level[i, row, column]. After the second layer channels c*16 + 4*dy + dx become channel c at the position (4*row + dy,
4*column + dx).

The sums are matrix products in floating point: products of integers added in any order are exact while the sum of
their magnitudes stays below 2^24 in float32 and 2^53 in float64. No convolution routine is called: some of them
(Winograd, FFT) are not exact.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nlaic.errors import FormatError

LEVELS, CENTRE = 255, 128
SHIFT, Z_SHIFT, OFFSET_SHIFT = 24, 16, 8
SHUFFLE = 4  # from 1/64 to 1/16
INDICES = 64  # table indices are 0..63
ROWS = 8  # of the last layer at a time, its largest: they stay in the processor's cache
QUALITIES = 1000  # a quality is an integer 0..QUALITIES in the file


@dataclass(frozen=True)
class IntegerLayer:
    """One layer.

    Attributes:
        weight: int8 [O, I, k, k], k 1 or 3.
        bias: int32 [O].
        multiplier: int32 [O], the requantisation factor times 2^24.
    """

    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray

    def __post_init__(self) -> None:
        bound = LEVELS * np.abs(self.weight.astype(np.int64)).sum((1, 2, 3)) + np.abs(self.bias.astype(np.int64))
        if bound.max() >= 2**31:  # times a multiplier of 31 bits and the offset: within int64 (and float64 before)
            raise FormatError(f"weights: an accumulator can reach {bound.max()}, allowed: below 2^31")

    @cached_property
    def _matrix(self) -> np.ndarray:
        """The weights as [k*k*I, O], in the smallest float type in which their sums are exact."""
        bound = LEVELS * np.abs(self.weight.astype(np.int64)).sum((1, 2, 3)).max()
        kind = np.float32 if bound < 2**24 else np.float64
        return np.ascontiguousarray(self.weight.transpose(2, 3, 1, 0).reshape(-1, len(self.weight)), kind)

    def accumulate(self, levels: np.ndarray) -> np.ndarray:
        """Levels uint8 [h, w, I] to accumulators int64 [h, w, O]."""
        h, w = levels.shape[:2]
        if self.weight.shape[2] == 3:
            edged = np.pad(levels, ((1, 1), (1, 1), (0, 0)), mode="edge")
            levels = np.concatenate([edged[y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=2)
        sums = levels.reshape(h * w, -1).astype(self._matrix.dtype) @ self._matrix
        accumulators = sums.astype(np.int64).reshape(h, w, -1)
        accumulators += self.bias
        return accumulators

    def requantise(self, levels: np.ndarray, offset: np.ndarray | int = 0) -> np.ndarray:
        """Levels uint8 [h, w, I] to (accumulator * multiplier + offset + half) >> 24, int64 [h, w, O]."""
        values = self.accumulate(levels)  # and on in place: new arrays of this size take longer than the sums
        values *= self.multiplier
        values += offset + (1 << (SHIFT - 1))
        values >>= SHIFT
        return values


@dataclass(frozen=True)
class IntegerScaleNetwork:
    """The four layers and what moves with the quality, as rows at equally spaced qualities.

    Attributes:
        layers: conv3, 1x1 (then shuffle), conv3, 1x1.
        z_multiplier: int32 [R, Cz], level of z's unit times 2^16.
        offset: int32 [R, C], in 1/256 of an index.
    """

    layers: tuple[IntegerLayer, IntegerLayer, IntegerLayer, IntegerLayer]
    z_multiplier: np.ndarray
    offset: np.ndarray

    def indices(self, z_hat: np.ndarray, quality: int) -> np.ndarray:
        """z_hat integers [Cz, h/4, w/4] to table indices uint8 [C, h, w]."""
        z = z_hat.transpose(1, 2, 0).astype(np.int64)
        level = ((z * at_quality(self.z_multiplier, quality) + (1 << (Z_SHIFT - 1))) >> Z_SHIFT) + CENTRE
        first, second, third, last = self.layers
        levels = _clip(first.requantise(_clip(level, LEVELS)), LEVELS)
        levels = _shuffle(_clip(second.requantise(levels), LEVELS))
        levels = _clip(third.requantise(levels), LEVELS)
        offset = at_quality(self.offset, quality) << (SHIFT - OFFSET_SHIFT)
        parts = [levels[row : row + ROWS] for row in range(0, len(levels), ROWS)]
        index = np.concatenate([_clip(last.requantise(part, offset), INDICES - 1) for part in parts])
        return np.ascontiguousarray(index.transpose(2, 0, 1))


def at_quality(rows: np.ndarray, quality: int) -> np.ndarray:
    """Interpolate integer rows [R, C] at a quality 0..1000: int64 [C], half rounded up.

    Row k stands at quality 1000 * k / (R - 1).
    """
    row, rest = divmod(quality * (len(rows) - 1), QUALITIES)
    low = rows[row].astype(np.int64)
    high = rows[min(row + 1, len(rows) - 1)].astype(np.int64)
    return (low * (QUALITIES - rest) + high * rest + QUALITIES // 2) // QUALITIES


def _clip(values: np.ndarray, high: int) -> np.ndarray:
    return np.clip(values, 0, high, out=values).astype(np.uint8)


def _shuffle(levels: np.ndarray) -> np.ndarray:
    """[h, w, C*16] to [4h, 4w, C]."""
    h, w, channels = levels.shape
    blocks = levels.reshape(h, w, channels // SHUFFLE**2, SHUFFLE, SHUFFLE)
    return blocks.transpose(0, 3, 1, 4, 2).reshape(h * SHUFFLE, w * SHUFFLE, -1)
