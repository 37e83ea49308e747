"""What an error weighs at each place of a picture, by what the weights were trained for.

Weights trained by squared error and MS-SSIM have an encoder that spends its bits where MS-SSIM sees them; symbols
chosen by squared error alone would take that back. For small errors 1 - MS-SSIM (Wang, Simoncelli, Bovik, "Multiscale
structural similarity", Asilomar 2003) is about a squared error too: at each of five scales, divided by twice the
variance of the original around it and a constant. Here the variance is that of luma, and a cell has one weight.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nlaic.errors import NlaicError

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from the finest
PYRAMID = len(EXPONENTS)
C2 = 0.03**2  # of SSIM, for pictures in 0..1
CELL = 16  # pixels, a side
WINDOW, LAST_WINDOW = 8, 4  # sides of what a variance is taken over, in pixels of its scale
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Objective:
    """Weights on the squared error and on 1 - MS-SSIM, both means over the pixels of a picture in 0..1."""

    squared: float = 1.0
    structure: float = 0.0

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Objective":
        """Of the first stage of training, as a weights file tells; squared error where it says nothing of the two.

        Raises:
            NlaicError: if what it says cannot be read.
        """
        try:
            loss = json.loads(metadata.get("loss.rd", "{}"))
            terms, scale = loss.get("terms", {}), loss.get("scale", 0.0) / 255**2
            found = cls(scale * terms.get("mse", 0.0), scale * terms.get("ms_ssim", 0.0))
            if not math.isfinite(found.squared + found.structure):
                raise ValueError(f"{found} is not finite")
        except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
            raise NlaicError(f"weights: loss.rd in the metadata is not one: {error}") from error
        return found if found != cls(0.0, 0.0) else cls()


@dataclass(frozen=True)
class Visibility:
    """Weights of a squared error at each scale in each cell of 16x16 pixels.

    Attributes:
        maps: float32 [5, H/16, W/16]; scale k has squares of means over 2^k x 2^k pixels, summed.
    """

    maps: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, objective: Objective) -> "Visibility":
        """Of a padded block, uint8 [H, W, 3], sides multiples of 64."""
        height, width = pixels.shape[0] // CELL, pixels.shape[1] // CELL
        maps = np.zeros((PYRAMID, height, width), np.float32)
        luma = pixels @ (LUMA / 255)
        for scale, exponent in enumerate(EXPONENTS):
            inverse = 1 / (2 * _variance(luma, WINDOW if scale < PYRAMID - 1 else LAST_WINDOW) + C2)
            maps[scale] = objective.structure * exponent * 4**scale * _cells(inverse, height)
            luma = _mean(luma, 2)
        maps[0] += objective.squared
        return cls(maps)

    def of_channels(self, gain: np.ndarray) -> np.ndarray:
        """What a squared error of 1 in y weighs, float32 [C, H/16, W/16].

        Args:
            gain: the squared error that it makes at each scale, [S, C] (`nlaic.export.synthesis_gain`); scales that
                it lacks do not count.
        """
        return np.einsum("sc,shw->chw", gain.astype(np.float32), self.maps[: len(gain)], optimize=True)


def _variance(luma: np.ndarray, side: int) -> np.ndarray:
    """[H, W] to [H/side, W/side]."""
    return np.maximum(_mean(luma * luma, side) - _mean(luma, side) ** 2, 0)


def _mean(luma: np.ndarray, side: int) -> np.ndarray:
    """[H, W] to [H/side, W/side]."""
    height, width = luma.shape
    return luma.reshape(height // side, side, width // side, side).mean((1, 3))


def _cells(values: np.ndarray, height: int) -> np.ndarray:
    """The mean over each cell of values that lie closer than cells, or each value for all the cells it covers."""
    if len(values) > height:
        return _mean(values, len(values) // height)
    times = height // len(values)
    return values.repeat(times, 0).repeat(times, 1)
