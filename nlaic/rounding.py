"""How the encoder rounds: to the nearest symbol, or to the one that is worth its bits. The decoder does not know."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nlaic.entropy import Tables


class Rounding(Protocol):
    """Residuals to symbols."""

    def __call__(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Residuals in steps [C, h, w], their table indices, and the bits a squared step is worth [C, 1, 1]."""


def nearest(residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """To the nearest integer."""
    return np.rint(residual).astype(np.int32)


@dataclass(frozen=True)
class RateDistortionRounding:
    """To the nearest integer or the next one towards zero, whichever has the lower bits + weight * error^2.

    Attributes:
        bits: cost of the values -limit..limit by table, [T, 2 * limit + 1], from `Tables.bits`.
        strength: factor on the bits; 1 is what the loss says.
    """

    bits: np.ndarray
    strength: float = 1.0

    @classmethod
    def of(cls, tables: Tables, strength: float = 1.0, limit: int = 64) -> "RateDistortionRounding":
        """For the tables of y; symbols above `limit` are rounded to the nearest."""
        return cls(tables.bits(limit), strength)

    def __call__(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """See `Rounding`."""
        symbols = np.rint(residual).astype(np.int32)
        limit = self.bits.shape[1] // 2
        # Only symbols that are not zero can move, and most are zero.
        where = np.flatnonzero((symbols != 0) & (np.abs(symbols) <= limit))
        value, near, table = residual.ravel()[where], symbols.ravel()[where], index.ravel()[where]
        lower = near - np.sign(near)
        worth = weight.ravel()[where // residual[0].size]
        saved = self.strength * (self.bits[table, near + limit] - self.bits[table, lower + limit])
        lost = worth * ((value - lower) ** 2 - (value - near) ** 2)
        symbols.ravel()[where[saved > lost]] = lower[saved > lost]
        return symbols
