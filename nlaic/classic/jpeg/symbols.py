"""What levels cost: the symbols of JPEG's entropy coding (T.81, F.1.2), counted, and the lengths of their codes.

An AC symbol is a run of zeros and the size of what follows it: size 0 with run 15 stands for sixteen zeros, with run 0
for the end of the block. DC is the difference to the block before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlaic.classic.jpeg.blocks import ZIGZAG

SIZES = 12  # 0 to 11 bits
RUNS = 16
NEVER = 1e9  # bits of what there is not
SMOOTHING = 0.5  # added to every count: a symbol that was not seen is dear, not impossible


def sizes_of(levels: np.ndarray) -> np.ndarray:
    """How many bits the magnitude of each integer has."""
    return np.frexp(np.abs(levels).astype(np.float32))[1]


def in_zigzag(levels: np.ndarray) -> np.ndarray:
    """[rows, columns, 8, 8] to [blocks, 64]."""
    return levels.reshape(-1, 64)[:, ZIGZAG]


@dataclass(frozen=True)
class Counts:
    """How often each symbol of one table is used: AC float64 [16, 12] by run and size, DC [12] by size."""

    ac: np.ndarray
    dc: np.ndarray

    def bits(self) -> float:
        """Of a file, about: symbols at their entropy, and the bits of the values."""
        values = (self.ac.sum(0) + self.dc) @ np.arange(SIZES)
        return float(_entropy(self.ac) + _entropy(self.dc) + values)

    def ac_costs(self) -> np.ndarray:
        """Bits of a level of each size after each run of zeros, float32 [64, 12], its value's bits included.

        Size 0 at run 0 is the end of the block; there is nothing at the other runs of size 0.
        """
        lengths = -np.log2((self.ac + SMOOTHING) / (self.ac + SMOOTHING).sum())
        runs = np.arange(64)
        costs = (runs // RUNS)[:, None] * lengths[RUNS - 1, 0] + lengths[runs % RUNS] + np.arange(SIZES)
        costs[:, 0] = NEVER
        costs[0, 0] = lengths[0, 0]
        return costs.astype(np.float32)


def count(zigzag: Sequence[np.ndarray]) -> Counts:
    """The symbols of planes that share a table; integers [blocks, 64] each."""
    ac, dc = np.zeros((RUNS, SIZES)), np.zeros(SIZES)
    for levels in zigzag:
        block, place = np.nonzero(levels[:, 1:])
        before = np.zeros_like(place)
        before[1:] = np.where(block[1:] == block[:-1], place[:-1] + 1, 0)
        runs = place - before
        sizes = sizes_of(levels[:, 1:][block, place])
        np.add.at(ac, (runs % RUNS, sizes), 1)
        ac[RUNS - 1, 0] += (runs // RUNS).sum()
        ac[0, 0] += (levels[:, 63] == 0).sum()
        dc += np.bincount(sizes_of(np.diff(levels[:, 0], prepend=0)), minlength=SIZES)[:SIZES]
    return Counts(ac, dc)


def _entropy(counts: np.ndarray) -> float:
    used = counts[counts > 0]
    return float(-(used * np.log2(used / counts.sum())).sum())
