"""Tables for one picture (section 4.8): descent of squared error + price * bits, levels chosen anew at every step.

The levels are the best ones for the step they are chosen at, so the cost's gradient by a step is that of the squared
error with the levels fixed: bits depend on the levels alone.
"""

from collections.abc import Callable

import numpy as np

from nlaic.classic.jpeg.blocks import Planes
from nlaic.classic.jpeg.model import as_tables
from nlaic.classic.jpeg.rounding import thoughtful
from nlaic.classic.jpeg.symbols import count, in_zigzag

FIRST, LAST = 0.12, 0.02  # change of a step's logarithm, at the beginning and at the end
MEMORY = 0.6  # of the gradients before


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
    here, best = log_steps.copy(), (np.inf, log_steps)
    mean, spread = np.zeros_like(here), np.zeros_like(here)
    for number in range(steps + 1):
        tables = as_tables(here)
        levels = thoughtful(planes, tables, price, rounds=1 if number else 2)
        cost = _squared_error(planes, tables, levels) + price * _bits(levels)
        best = min(best, (cost, here), key=lambda pair: pair[0])
        gradient = _gradient(planes, tables, levels)
        mean = MEMORY * mean + (1 - MEMORY) * gradient
        spread = MEMORY * spread + (1 - MEMORY) * gradient**2
        rate = FIRST * (LAST / FIRST) ** (number / max(steps, 1))
        here = np.clip(here - rate * mean / (np.sqrt(spread) + 1e-9), 0, np.log(255))
        progress(number / max(steps, 1))
    return best[1]


def _squared_error(planes: Planes, tables: np.ndarray, levels: list[np.ndarray]) -> float:
    errors = (
        weight * float(np.square(q * tables[min(n, 1)] - c).sum())
        for n, (q, c, weight) in enumerate(zip(levels, planes.coefficients, planes.weights, strict=True))
    )
    return sum(errors)


def _bits(levels: list[np.ndarray]) -> float:
    places = [in_zigzag(q) for q in levels]
    return sum(count(part).bits() for part in (places[:1], places[1:]) if part)


def _gradient(planes: Planes, tables: np.ndarray, levels: list[np.ndarray]) -> np.ndarray:
    """Of the squared error by the logarithms of the steps.

    Of large levels the part through the rounding is taken in: its mean is zero, and the noise of their signs goes.
    """
    total = np.zeros(tables.shape)
    for n, (q, c, weight) in enumerate(zip(levels, planes.coefficients, planes.weights, strict=True)):
        step = tables[min(n, 1)]
        x = c / step
        large = np.clip((np.abs(x) - 1) / 4, 0, 1)
        total[min(n, 1)] += 2 * weight * ((q * step - c) * (q - large * x) * step).sum((0, 1))
    return total
