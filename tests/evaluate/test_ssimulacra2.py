"""Against values of the program that defines the metric."""

import numpy as np
import pytest

from nlaic.evaluate.ssimulacra2 import ssimulacra2


def grey(value, side):
    return np.full((side, side, 3), value, np.uint8)


def mean_8x8(picture):
    """The mean over a window of -4..3, clamped at the edge, by integer division."""
    side = len(picture)
    at = np.clip(np.arange(side)[:, None] + np.arange(-4, 4), 0, side - 1)
    return (picture[at][:, :, at].astype(int).sum((1, 3)) // 64).astype(np.uint8)


def rgb(plane):
    return np.repeat(plane.astype(np.uint8)[:, :, None], 3, 2)


x = np.arange(64)[None].repeat(64, 0)
RAMP, EDGE = rgb(x * 255 // 63), rgb(np.where(x < 32, 0, 255))

CASES = {
    "grey 133, 64": (grey(128, 64), grey(133, 64), 91.52),
    "grey 148, 64": (grey(128, 64), grey(148, 64), 56.06),
    "grey 178, 64": (grey(128, 64), grey(178, 64), -8.76),
    "grey 133, 256": (grey(128, 256), grey(133, 256), 89.73),
    "grey 148, 256": (grey(128, 256), grey(148, 256), 59.78),
    "grey 178, 256": (grey(128, 256), grey(178, 256), -0.39),
    "ramp": (RAMP, mean_8x8(RAMP), 94.34),
    "edge": (EDGE, mean_8x8(EDGE), 24.27),
}


@pytest.mark.parametrize(("reference", "decoded", "score"), CASES.values(), ids=CASES)
def test_scores_of_the_program(reference, decoded, score):
    assert ssimulacra2(reference, decoded) == pytest.approx(score, abs=0.5)


def test_equal_pictures_have_100_and_more_noise_less():
    rng = np.random.default_rng(0)
    picture = mean_8x8(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    noisy = [np.clip(picture + rng.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8) for sigma in (2, 5, 20)]
    scores = [ssimulacra2(picture, n) for n in noisy]
    assert ssimulacra2(picture, picture) == pytest.approx(100, abs=1e-3) and scores == sorted(scores, reverse=True)
