"""The mix of two settings against every other mix in the same order."""

import runpy
from pathlib import Path

import numpy as np

tool = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "mixed.py"))
PIXELS = 10_000


def points():
    """Six pictures at four settings, larger files at lower numbers, as a quantiser's."""
    random = np.random.default_rng(3)
    sizes = random.integers(200, 900, 6)
    return [
        {
            "setting": setting,
            "picture": f"{n}",
            "bytes": (size := int(first * 1.3 ** (40 - setting))),
            "bpp": 8 * size / PIXELS,
        }
        for setting in (37, 38, 39, 40)
        for n, first in enumerate(sizes)
    ]


def test_the_largest_mix_below_the_rate():
    every = points()
    rates = {q: tool["rate"]([p for p in every if p["setting"] == q]) for q in (37, 38, 39, 40)}
    for wanted in np.linspace(rates[40] * 1.001, rates[37] * 0.999, 23):
        chosen = tool["mixed"](every, wanted)
        assert [p["picture"] for p in chosen] == [f"{n}" for n in range(6)] and tool["rate"](chosen) <= wanted
        coarse = max(p["setting"] for p in chosen)
        assert rates[coarse] <= wanted < rates[coarse - 1]
        fine = sum(p["setting"] == coarse - 1 for p in chosen)
        one_more = {(p["setting"], p["picture"]): p for p in every}[(coarse - 1, f"{fine}")]
        assert tool["rate"]([*chosen[:fine], one_more, *chosen[fine + 1 :]]) > wanted


def test_a_rate_that_no_two_settings_enclose():
    every = points()
    assert tool["mixed"](every, 0.0001) == [] == tool["mixed"](every, 100.0)
