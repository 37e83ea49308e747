"""How the encoder rounds: to the nearest symbol, or to the one that is worth its bits. The decoder does not know."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nlaic.entropy import Tables


class Rounding(Protocol):
    """Values in steps to integers."""

    def __call__(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Residuals [C, h, w], their table indices, and the bits a squared step is worth [C, 1, 1]: int32 [C, h, w]."""

    def hyper(self, z: np.ndarray) -> np.ndarray:
        """The hyper-latent around its mean, [Cz, h, w], to int32."""


@dataclass(frozen=True)
class Nearest:
    """To the nearest integer."""

    def __call__(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """See `Rounding`."""
        return np.rint(residual).astype(np.int32)

    def hyper(self, z: np.ndarray) -> np.ndarray:
        """See `Rounding`."""
        return np.rint(z).astype(np.int32)


nearest = Nearest()


@dataclass(frozen=True)
class RateDistortionRounding:
    """To the nearest integer or the next one towards zero, whichever has the lower bits + weight * error^2.

    Attributes:
        bits: cost of the values -limit..limit by table, [T, 2 * limit + 1], from `Tables.bits`.
        strength: factor on the bits; 1 is what the loss says if nothing but the symbol changed.
        outward: how much further from zero than the residual the best value lies, in steps: the decoder, which has
            learned from nearest symbols, draws them towards zero.
        dead_zone: of z: how much beyond 1/2 a fraction must lie to be rounded away from zero. z has no distortion of
            its own: a rougher one costs some bits of y and saves more of its own.
    """

    bits: np.ndarray
    strength: float = 0.7
    outward: float = 0.1
    dead_zone: float = 0.2

    @classmethod
    def of(cls, tables: Tables, strength: float = 0.7, outward: float = 0.1) -> "RateDistortionRounding":
        """For the tables of y; symbols above 64 are rounded to the nearest."""
        return cls(tables.bits(64), strength, outward)

    def __call__(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """See `Rounding`."""
        symbols = np.rint(residual).astype(np.int32)
        limit = self.bits.shape[1] // 2
        # Only symbols that are not zero can move, and most are zero.
        where = np.flatnonzero((symbols != 0) & (np.abs(symbols) <= limit))
        value, near, table = residual.ravel()[where], symbols.ravel()[where], index.ravel()[where]
        sign = np.sign(near)
        lower = near - sign
        worth = weight.ravel()[where // residual[0].size]
        now, then = self.bits[table, near + limit], self.bits[table, lower + limit]
        with np.errstate(invalid="ignore"):  # beyond the table's bound both are infinite: the clamp decides
            saved = self.strength * (now - then)
        lost = worth * (1 + 2 * (sign * (value - near) + self.outward))
        symbols.ravel()[where[saved > lost]] = lower[saved > lost]
        return symbols

    def hyper(self, z: np.ndarray) -> np.ndarray:
        """See `Rounding`."""
        return (np.sign(z) * np.floor(np.abs(z) + 0.5 - self.dead_zone)).astype(np.int32)
