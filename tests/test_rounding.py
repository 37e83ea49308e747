"""Rounding keeps its promises, whatever the residuals."""

import math

import numpy as np
import pytest

from nlaic.entropy import Tables, gaussian_mass, make_tables
from nlaic.rounding import RateDistortionRounding, nearest

SCALES = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 9.0])


@pytest.fixture(scope="module")
def tables() -> Tables:
    return make_tables(SCALES, gaussian_mass, 8.0)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Residuals and indices [6, 9, 7], a few of them far beyond what their table holds."""
    rng = np.random.default_rng(3)
    index = rng.integers(0, len(SCALES), (6, 9, 7))
    residual = (
        rng.normal(size=index.shape) * SCALES[index] * rng.choice([1.0, 3.0, 60.0], index.shape, p=[0.6, 0.3, 0.1])
    )
    return residual.astype(np.float32), index


def weights(value: float) -> np.ndarray:
    return (value * np.linspace(0.5, 2, 6)).astype(np.float32)[:, None, None]


def cost(rounding: RateDistortionRounding, symbol: int, value: float, index: int, weight: float) -> float:
    """Bits and error of one symbol, in plain Python."""
    column = symbol + rounding.bits.shape[1] // 2
    bits = float(rounding.bits[index, column]) if 0 <= column < rounding.bits.shape[1] else math.inf
    return rounding.strength * bits + weight * (value + math.copysign(rounding.outward, value) - symbol) ** 2


@pytest.mark.parametrize("value", [0.0, 0.5, 4.0, 11.0, 1e6])
@pytest.mark.parametrize(("strength", "outward"), [(0.7, 0.1), (1.0, 0.0), (0.5, 0.0)])
def test_each_symbol_is_the_cheaper_of_the_nearest_and_the_next_towards_zero(tables, drawn, value, strength, outward):
    rounding = RateDistortionRounding.of(tables, strength, outward)
    residual, index = drawn
    chosen = rounding(residual, index, weights(value))
    for place in np.ndindex(residual.shape):
        v, table, weight = float(residual[place]), int(index[place]), float(weights(value)[place[0], 0, 0])
        near = round(v)
        candidates = [near, near - int(math.copysign(1, near))] if near else [0]
        costs = [cost(rounding, c, v, table, weight) for c in candidates]
        assert chosen[place] in candidates
        if math.isfinite(costs[0]):
            assert cost(rounding, int(chosen[place]), v, table, weight) <= min(costs) * (1 + 1e-4) + 1e-4


@pytest.mark.parametrize("value", [0.0, 1.0, 12.0, 1e9])
def test_a_symbol_moves_by_one_at_most_and_only_towards_zero(tables, drawn, value):
    residual, index = drawn
    plain = nearest(residual, index, weights(value))
    moved = np.abs(plain) - np.abs(RateDistortionRounding.of(tables)(residual, index, weights(value)))
    assert set(np.unique(moved)) <= {0, 1}
    assert not moved[plain == 0].any()


def test_a_huge_weight_rounds_to_the_nearest(tables, drawn):
    residual, index = drawn
    bound = tables.bounds[index]  # beyond it the encoder clamps
    chosen = np.clip(RateDistortionRounding.of(tables)(residual, index, weights(1e9)), -bound, bound)
    np.testing.assert_array_equal(chosen, np.clip(nearest(residual, index, weights(1e9)), -bound, bound))


def test_a_weight_of_zero_moves_every_symbol_that_saves_bits(tables, drawn):
    residual, index = drawn
    rounding = RateDistortionRounding.of(tables)
    plain, chosen = nearest(residual, index, weights(0)), rounding(residual, index, weights(0))
    held = (np.abs(plain) <= np.minimum(tables.bounds[index], 64)) & (plain != 0)
    # A frequency of 1 of 2^16 cannot fall further: only there are two neighbours as dear as each other.
    column = np.where(held, plain, 0) + 64
    saves = held & (rounding.bits[index, column] > rounding.bits[index, column - np.sign(plain)])
    np.testing.assert_array_equal(chosen[saves], (plain - np.sign(plain))[saves])
    np.testing.assert_array_equal(chosen[~saves & held], plain[~saves & held])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_networks_make_that_overflow_is_rounded_to_something(tables, drawn, value):
    residual, index = drawn
    plain = RateDistortionRounding.of(tables)(residual, index, weights(1.0))
    residual = residual.copy()
    residual[0, 0] = value
    assert np.array_equal(RateDistortionRounding.of(tables)(residual, index, weights(1.0))[1:], plain[1:])


def test_it_leaves_its_input_alone(tables, drawn):
    residual, index = drawn
    copies = residual.copy(), index.copy()
    RateDistortionRounding.of(tables)(residual, index, weights(1.0))
    np.testing.assert_array_equal(residual, copies[0])
    np.testing.assert_array_equal(index, copies[1])
