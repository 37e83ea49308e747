"""What moves with the quality, at one quality: steps of y and z, means and tables of z, the encoder's lambda.

The rows of the weights file stand at equally spaced qualities 0..1000. What decides how symbols are decoded is
interpolated in integers (`nlaic.integer.at_quality`), the rest in logarithms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np

from nlaic.errors import NlaicError
from nlaic.integer import QUALITIES, at_quality


@dataclass(frozen=True)
class Rate:
    """Everything the codec needs at one quality.

    Attributes:
        quality: 0..1000.
        step: of y, float32 [C, 1, 1].
        z_step: of z, float32 [Cz, 1, 1].
        z_mean: of z, float32 [Cz, 1, 1]; the encoder's alone.
        z_index: table of each channel of z, [Cz].
        weight: bits that a squared error of one step in y is worth, float32 [C, 1, 1], or [C, h, w] where it is known
            what is seen; the encoder's alone.
        lambda_: weight on 255^2 MSE against bits per pixel; the encoder's alone.
    """

    quality: int
    step: np.ndarray
    z_step: np.ndarray
    z_mean: np.ndarray
    z_index: np.ndarray
    weight: np.ndarray
    lambda_: float

    @property
    def error_weight(self) -> float:
        """Bits that a squared error of 1, in a picture of 0..1, is worth."""
        return self.lambda_ * 255**2 / 3


def rate_at(tensors: Mapping[str, np.ndarray], quality: int) -> Rate:
    """Interpolate the rows `rates.*` and `encoder.*` of a weights file at a quality 0..1000.

    Where the weights hold the decoding half alone, what is the encoder's is 0.
    """
    step = np.exp(_interpolate(tensors["rates.log_step"], quality))
    z_mean = tensors.get("encoder.z_mean", np.zeros_like(tensors["rates.log_z_step"]))
    log_lambda = tensors.get("encoder.log_lambda")
    lambda_ = 0.0 if log_lambda is None else float(np.exp(_interpolate(log_lambda, quality))[0])
    # A squared error of one step changes the squared error of the picture by step^2 * gain (three values a pixel).
    weight = lambda_ * 255**2 / 3 * np.atleast_2d(tensors.get("encoder.gain", 0.0))[0] * step**2
    return Rate(
        quality,
        _column(step),
        _column(np.exp(_interpolate(tensors["rates.log_z_step"], quality))),
        _column(_interpolate(z_mean, quality)),
        at_quality(tensors["rates.z_index"], quality),
        _column(weight),
        lambda_,
    )


def _interpolate(rows: np.ndarray, quality: int) -> np.ndarray:
    row, rest = divmod(quality * (len(rows) - 1), QUALITIES)
    low, high = rows[row].astype(np.float64), rows[min(row + 1, len(rows) - 1)].astype(np.float64)
    return low + (high - low) * (rest / QUALITIES)


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None, None]


def quality_number(quality: float) -> int:
    """The integer 0..1000 of a quality 0..100 in steps of 0.1.

    Raises:
        NlaicError: if it is out of range, or no number.
    """
    if not isinstance(quality, Real) or not 0 <= quality <= 100:
        raise NlaicError(f"quality must be 0..100, but got {quality!r}")
    return round(float(quality) * 10)
