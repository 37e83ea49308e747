"""Processes: what fails or dies is one task's matter."""

import os

import pytest

from nlaic.evaluate.outcomes import outcomes


def half(number):
    if number == 3:
        raise ValueError("three")
    if number == 5:
        os._exit(1)
    return number / 2, os.environ["OMP_NUM_THREADS"]


@pytest.mark.parametrize("jobs", [0, 2])
def test_outcomes(jobs, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    numbers = [n for n in range(8) if jobs or n != 5]
    became = dict(outcomes(half, numbers, "local", jobs))
    assert set(became) == set(numbers)
    assert became[3].reason == "ValueError: three"
    if jobs:
        assert became[5].reason == "the process that worked on it died, 3 times"
        assert all(became[n].result == (n / 2, "1") for n in (0, 1, 2, 4, 6, 7))
    assert os.environ["OMP_NUM_THREADS"] == "7"
