"""Tables for one picture (section 4.8): descent of squared error + price * bits, levels chosen anew at every step.

The levels are the best ones for the step they are chosen at, so the cost's gradient by a step is that of the squared
error with the levels fixed: bits depend on the levels alone.
"""

from collections.abc import Callable

import numpy as np

from nlaic.classic.jpeg.blocks import Planes
from nlaic.classic.jpeg.model import LARGEST, as_tables
from nlaic.classic.jpeg.rounding import thoughtful
from nlaic.classic.jpeg.symbols import count, in_zigzag

REACH = 0.3  # a step's logarithm changes by no more at once
SHORTER = 0.5  # factor on the next change after one that was none for the better


def tune(
    planes: Planes, log_steps: np.ndarray, price: float, steps: int, progress: Callable[[float], None]
) -> np.ndarray:
    """The logarithms of better steps [2, 8, 8].

    Args:
        planes: the picture.
        log_steps: where to begin.
        price: of a bit, in squared errors of RGB samples.
        steps: how many.
        progress: called with the share that is done.
    """
    here = best = log_steps
    lowest, change = np.inf, np.zeros_like(log_steps)
    rates = np.ones(len(GROUPS))
    for number in range(steps + 1):
        tables = as_tables(here)
        levels = thoughtful(planes, tables, price)
        found = cost(planes, tables, levels, price)
        if found < lowest:
            best, lowest = here, found
            change = _change(planes, tables, levels, price)
        else:
            rates[(number - 1) % len(GROUPS)] *= SHORTER
        turn = number % len(GROUPS)
        here = np.clip(best + np.clip(rates[turn] * change, -REACH, REACH) * GROUPS[turn], 0, np.log(LARGEST))
        progress(number / max(steps, 1))
    return best


def _groups() -> np.ndarray:
    """What moves in turn [4, 2, 8, 8]: luma, its mean, chroma, its mean."""
    masks = np.zeros((2, 2, 2, 8, 8))
    for table in range(2):
        masks[table, 0, table] = 1
        masks[table, :, table, 0, 0] = (0, 1)
    return masks.reshape(4, 2, 8, 8)


GROUPS = _groups()


def cost(planes: Planes, tables: np.ndarray, levels: list[np.ndarray], price: float) -> float:
    """Squared error + price * bits, in squared errors of RGB samples."""
    return _squared_error(planes, tables, levels) + price * _bits(levels)


def _squared_error(planes: Planes, tables: np.ndarray, levels: list[np.ndarray]) -> float:
    errors = (
        weight * float(np.square(q * tables[min(n, 1)] - c).sum())
        for n, (q, c, weight) in enumerate(zip(levels, planes.coefficients, planes.weights, strict=True))
    )
    return sum(errors)


def _bits(levels: list[np.ndarray]) -> float:
    places = [in_zigzag(q) for q in levels]
    return sum(count(part).bits() for part in (places[:1], places[1:]) if part)


def _change(planes: Planes, tables: np.ndarray, levels: list[np.ndarray], price: float) -> np.ndarray:
    """Newton's, of the cost by the logarithms of the steps, for each by itself.

    Of large levels the part through the rounding is taken in: its mean is zero, and the noise of their signs goes. The
    lowest frequency is not rounded by cost: a bit more or less for each doubling of its differences.
    """
    slope, bend = np.zeros(tables.shape), np.full(tables.shape, 1e-9)
    for n, (q, c, weight) in enumerate(zip(levels, planes.coefficients, planes.weights, strict=True)):
        table = min(n, 1)
        step = tables[table]
        x = c / step
        moved = (q - np.clip((np.abs(x) - 1) / 4, 0, 1) * x) * step
        slope[table] += 2 * weight * ((q * step - c) * moved).sum((0, 1))
        bend[table] += 2 * weight * np.square(moved).sum((0, 1)) + weight * step**2
        differences = np.abs(np.diff(q[..., 0, 0].ravel().astype(int)))
        slope[table, 0, 0] -= price / np.log(2) * (differences / (1 + differences)).sum()
    return -slope / bend
