"""The integer programme against brute force, on any small case, and on one as large as a folder of photographs."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlaic.classic.allocate import Limit, allocate
from nlaic.errors import NlaicError


def best(costs, limits):
    """The least sum of costs by trying everything, and None where nothing fits."""
    rows, found = np.arange(len(costs)), None
    for choice in product(range(costs.shape[1]), repeat=len(costs)):
        chosen = list(choice)
        if all(limit.amounts[rows, chosen].sum() <= limit.total for limit in limits):
            total = costs[rows, chosen].sum()
            found = total if found is None else min(found, total)
    return found


@st.composite
def cases(draw, many=1):
    pictures, options = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    whole = st.lists(st.integers(1, 60), min_size=pictures * options, max_size=pictures * options)

    def table():
        return np.array(draw(whole), float).reshape(pictures, options)

    costs = table()
    limits = []
    for name in ("bytes", "seconds")[:many]:
        amounts = table()
        limits.append(Limit(name, amounts, draw(st.integers(1, int(amounts.max(1).sum()) + 5))))
    return costs, tuple(limits)


@pytest.mark.parametrize("many", [1, 2])
def test_equal_to_brute_force(many):
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(cases(many))
    def check(case):
        costs, limits = case
        expected = best(costs, limits)
        if expected is None:
            with pytest.raises(NlaicError, match=r"cannot be met|meets all"):
                allocate(costs, *limits)
            return
        chosen, rows = allocate(costs, *limits), np.arange(len(costs))
        assert costs[rows, chosen].sum() == pytest.approx(expected, rel=1e-5)
        for limit in limits:
            assert limit.amounts[rows, chosen].sum() <= limit.total

    check()


def rate_distortion(pictures, options, seed=0):
    """Costs and sizes as of photographs: squared error falls as the size rises, each picture in its own way."""
    rng = np.random.default_rng(seed)
    sizes = np.rint(np.geomspace(3000, 120_000, options)[None] * rng.lognormal(0, 0.5, (pictures, 1)))
    slope, start = rng.uniform(0.6, 1.3, (pictures, 1)), rng.lognormal(5, 0.8, (pictures, 1))
    return start * (sizes / sizes[:, :1]) ** -slope, sizes


def test_a_thousand_pictures_use_the_budget_and_beat_one_setting_for_all():
    costs, sizes = rate_distortion(1000, 20)
    total = float(sizes[:, 8].sum()) + 1000
    chosen, rows = allocate(costs, Limit("bytes", sizes, total)), np.arange(1000)
    spent = sizes[rows, chosen].sum()
    assert 0.999 * total < spent <= total
    assert costs[rows, chosen].sum() < costs[:, 8].sum()
    # Lagrange's bound from below: no choice at all is better than the least of cost + price * size, less the budget.
    bound = max((costs + price * sizes).min(1).sum() - price * total for price in np.geomspace(1e-5, 1, 400))
    assert bound <= costs[rows, chosen].sum() <= 1.001 * bound


def test_the_solver_is_quiet(capfd):
    for seed in range(12):
        costs, sizes = rate_distortion(24, 14, seed)
        allocate(costs, Limit("bytes", sizes, float(sizes[:, 5].sum())))
    assert capfd.readouterr() == ("", "")


def test_a_budget_below_the_smallest_says_the_smallest():
    costs, sizes = rate_distortion(3, 4)
    with pytest.raises(NlaicError, match=rf"10 bytes cannot be met: the least is {sizes.min(1).sum():g}"):
        allocate(costs, Limit("bytes", sizes, 10))


def test_options_that_are_not_there_are_not_taken():
    costs = np.array([[1.0, np.inf], [np.inf, 2.0]])
    assert list(allocate(costs, Limit("bytes", np.array([[9.0, 1], [1, 9]]), 18))) == [0, 1]
