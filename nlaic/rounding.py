"""How the encoder rounds: to the nearest symbol, or to the one that is worth its bits. The decoder does not know."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nlaic.entropy import Tables

# Residuals in steps [C, h, w], their table indices and the bits that a squared step is worth, [C, h, w] or [C, 1, 1],
# to int32 [C, h, w].
Rounding = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def nearest(residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """To the nearest integer (half to even)."""
    return np.rint(residual).astype(np.int32)


@dataclass(frozen=True)
class RateDistortionRounding:
    """To the nearest integer or the next one towards zero, whichever has the lower bits + weight * error^2.

    Attributes:
        bits: cost of the values -limit..limit by table, [T, 2 * limit + 1], from `Tables.bits`.
        strength: factor on the bits; 1 is what the loss says if nothing but the symbol changed.
        outward: how much further from zero than the residual the best value lies, in steps: the decoder, which has
            learned from nearest symbols, draws them towards zero.
    """

    bits: np.ndarray
    strength: float = 0.35
    outward: float = 0.1

    @classmethod
    def of(cls, tables: Tables, strength: float = 0.35, outward: float = 0.1) -> "RateDistortionRounding":
        """For the tables of y; symbols above 64 are rounded to the nearest."""
        return cls(tables.bits(64), strength, outward)

    def __call__(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """See `Rounding`."""
        symbols = np.rint(residual).astype(np.int32)
        limit = self.bits.shape[1] // 2
        # Only symbols that are not zero can move, and most are zero.
        where = np.flatnonzero((symbols != 0) & (-limit <= symbols) & (symbols <= limit))
        value, near, table = residual.ravel()[where], symbols.ravel()[where], index.ravel()[where]
        sign = np.sign(near)
        lower = near - sign
        worth = np.broadcast_to(weight, residual.shape).reshape(-1)[where]
        now, then = self.bits[table, near + limit], self.bits[table, lower + limit]
        with np.errstate(invalid="ignore"):  # beyond the table's bound both are infinite: the clamp decides
            saved = self.strength * (now - then)
        lost = worth * (1 + 2 * (sign * (value - near) + self.outward))
        symbols.ravel()[where[saved > lost]] = lower[saved > lost]
        return symbols
