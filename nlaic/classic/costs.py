"""What a budget's choice may be best by, as costs. Imports no NumPy: commands name them before its threads are set."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from nlaic.errors import NlaicError

if TYPE_CHECKING:
    import numpy as np

    from nlaic.evaluate.metrics import Metric

METRICS = {"mse": "", "psnr": "psnr", "ms_ssim": "ms_ssim", "lpips": "lpips_alex"}  # rows of an evaluation's

Measure = Callable[["np.ndarray", "np.ndarray"], float]


def cost_of(metric: str) -> Measure:
    """A metric as a cost: original and decoded uint8 [H, W, 3] to a number of which less is better.

    Raises:
        NlaicError: if the metric is not known, or lacks its package or network.
    """
    if metric not in METRICS:
        raise NlaicError(f"metric must be one of {', '.join(METRICS)}, but got {metric!r}")
    if metric == "mse":  # MVGL's objective: the sum of squared errors, so that large pictures count for more
        return lambda original, decoded: float(((decoded.astype(float) - original) ** 2).sum())
    from nlaic.evaluate.metrics import Pair

    row = _row(metric)
    measured, sign = row.load(None), -1 if row.higher_is_better else 1

    def cost(original: "np.ndarray", decoded: "np.ndarray") -> float:
        height, width, _ = original.shape
        if min(height, width) < row.smallest:
            raise NlaicError(f"{width}x{height} pixels: {metric} needs sides of at least {row.smallest}")
        return sign * measured(Pair(original, decoded))

    return cost


def told(metric: str, cost: float, pixels: float) -> str:
    """A mean cost for people; `pixels` is the mean number of them."""
    if metric == "mse":
        return f"PSNR of all pixels {10 * math.log10(3 * 255**2 * pixels / max(cost, 1e-9)):.3f} dB"
    return f"mean {metric} {-cost if _row(metric).higher_is_better else cost:.4f}"


def _row(metric: str) -> "Metric":
    from nlaic.evaluate.metrics import METRICS as ROWS

    return ROWS[METRICS[metric]]
