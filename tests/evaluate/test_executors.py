"""Processes: what fails or dies is one task's matter."""

import os

import pytest

from nlaic.evaluate.executors import run_all


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
    outcomes = dict(run_all(half, numbers, "local", jobs))
    assert set(outcomes) == set(numbers)
    assert outcomes[3].reason == "ValueError: three"
    if jobs:
        assert outcomes[5].reason == "the process died"
        assert all(outcomes[n].result == (n / 2, "1") for n in (0, 1, 2, 4, 6, 7))
    assert os.environ["OMP_NUM_THREADS"] == "7"
