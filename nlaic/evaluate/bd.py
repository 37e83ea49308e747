"""Bjontegaard's delta rate and values at a rate, between measured points."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from nlaic.evaluate.codecs import plugin

FEWEST = 3  # points of a curve, after those that are beaten by a cheaper one are left out
Curve = Sequence[tuple[float, float]]  # (bpp, value), in any order


def better(name: str, value: float, higher_is_better: bool) -> float:
    """A value turned so that more is better and steps are even: MS-SSIM in dB, distances negated."""
    if name == "ms_ssim":
        return -10 * math.log10(max(1 - value, 1e-9))
    return value if higher_is_better else -value


def rising(curve: Curve) -> list[tuple[float, float]]:
    """The points that no cheaper one equals or beats, by rate."""
    kept: list[tuple[float, float]] = []
    for rate, value in sorted(curve, key=lambda point: (point[0], -point[1])):
        if not kept or (rate > kept[-1][0] and value > kept[-1][1]):
            kept.append((rate, value))
    return kept


def below(curve: Curve, rate: float | None) -> list[tuple[float, float]]:
    """The points of up to so many bits a pixel, and where the curve goes on the one just there; None keeps all."""
    points = sorted(curve)
    if rate is None or not points or points[-1][0] <= rate:
        return points
    end = at_rate(points, rate)
    return [point for point in points if point[0] < rate] + ([(rate, end)] if end is not None else [])


def bjontegaard() -> Any:
    """The package, or a MissingError that says how to get it."""
    return plugin("bjontegaard", "bjontegaard")


def bd_rate(anchor: Curve, test: Curve) -> float | None:
    """Difference of rate in percent at equal value, over the values both reach.

    None where they share none, or one has fewer than `FEWEST` points.

    Bjontegaard, "Calculation of average PSNR differences between RD-curves" (VCEG-M33), with piecewise cubics (pchip)
    as in JVET's practice, by the package `bjontegaard`. Values must be higher where better.
    """
    library = bjontegaard()
    curves = [rising(curve) for curve in (anchor, test)]
    if min(map(len, curves)) < FEWEST:
        return None
    (rates_a, values_a), (rates_b, values_b) = (zip(*curve, strict=True) for curve in curves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that curves overlap little; results hold how many pictures counted
        value = library.bd_rate(
            np.array(rates_a), np.array(values_a), np.array(rates_b), np.array(values_b), "pchip", False
        )
    return float(value) if np.isfinite(value) else None


def at_rate(curve: Curve, rate: float) -> float | None:
    """Value at a rate, linear in the logarithm of the rate; None where the curve does not reach it."""
    points = sorted(curve)
    if not points or not points[0][0] <= rate <= points[-1][0]:
        return None
    rates, values = zip(*points, strict=True)
    return float(np.interp(math.log(rate), np.log(rates), values))
