"""The search for z: its gradient against autograd through the network that is trained, its steps against Adam."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nlaic import side
from nlaic.codec import Codec, load
from nlaic.export import restore
from nlaic.nets.vae import INDEX_STEP, SCALE_MIN, SKIP, gaussian_bits, logistic_bits, round_through
from nlaic.rates import rate_at
from nlaic.side import cooling, drawn, learning_rate, search_side
from tests.conftest import smooth_picture


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load("light", engine="torch", device="cpu", threads=1, precision="fp32")


@pytest.fixture(scope="module")
def y(codec) -> np.ndarray:
    return codec.engine.analysis(np.asarray(smooth_picture(192, 128, seed=3)))


def at(codec, quality, y):
    rate = rate_at(codec.weights.tensors, quality)
    return replace(rate, weight=np.broadcast_to(rate.weight, y.shape))


def cost(codec, y, rate, z_hat):
    """Bits and error by the modules that are trained, of z_hat [Cz, h/4, w/4]."""
    net = restore(codec.weights).requires_grad_(False)
    position = torch.tensor([rate.quality / 1000 * (net.rates.anchors - 1)])
    given = (y / rate.step, rate.weight, rate.z_step)
    y, weight, z_step = (torch.from_numpy(np.array(array, np.float32))[None] for array in given)
    index, mean = net.index(z_hat[None], z_step, position, quantise=False), net.mean(z_hat[None], z_step)
    residual = y - net.refine(round_through(y - mean) + mean, mean)
    coded = index >= SKIP
    r = round_through(residual) * coded
    bits = (gaussian_bits(r, index * INDEX_STEP + math.log(SCALE_MIN)) * coded).sum()
    bits = bits + logistic_bits(z_hat[None], net.rates.at(net.rates.log_z_scale, position)).sum()
    return bits + (weight * (r - residual).square()).sum()


def gradient_of(codec, y, rate, z_hat):
    return codec.engine.side_gradient(z_hat, y / rate.step, rate.weight, **side.of_rate(codec, rate))


@pytest.mark.parametrize("quality", [100, 500, 900])
def test_the_gradient_is_autograds(codec, y, quality):
    rate = at(codec, quality, y)
    z_hat = torch.from_numpy(np.array(codec.side(y, rate))).requires_grad_()
    (expected,) = torch.autograd.grad(cost(codec, y, rate, z_hat), z_hat)
    got = gradient_of(codec, y, rate, z_hat.detach().numpy())
    np.testing.assert_allclose(got, expected.numpy(), atol=0.005 * float(expected.abs().max()))


def test_edges_repeat_in_the_gradient_too(codec, y):
    """A block of 64x64 has one place of z, and is its own edge on all sides."""
    y, rate = y[:, :4, :4], at(codec, 400, y[:, :4, :4])
    z_hat = torch.from_numpy(np.array(codec.side(y, rate))).requires_grad_()
    (expected,) = torch.autograd.grad(cost(codec, y, rate, z_hat), z_hat)
    got = gradient_of(codec, y, rate, z_hat.detach().numpy())
    np.testing.assert_allclose(got, expected.numpy(), atol=0.005 * float(expected.abs().max()))


def test_the_steps_are_adams(monkeypatch):
    """On a bowl, without draws: where torch's Adam comes to by the same rates."""
    centre, curvature = np.random.default_rng(1).normal(size=(2, 3, 2, 2))
    start = np.zeros((3, 2, 2))
    monkeypatch.setattr(side, "drawn", lambda z, *_: (z, 1.0))
    monkeypatch.setattr(side, "of_rate", lambda *_: {})
    engine = SimpleNamespace(side_gradient=lambda z, *_: np.abs(curvature) * (z - centre))
    codec = SimpleNamespace(engine=engine, side=lambda *_: start.copy())
    rate = SimpleNamespace(step=1.0, weight=None)
    steps = []
    found = search_side(codec, start, rate, 40, lambda: steps.append(1))

    z = torch.zeros(3, 2, 2, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([z], betas=(0.9, 0.99))
    for _, adam.param_groups[0]["lr"] in cooling(40, learning_rate(40)):
        z.grad = torch.from_numpy(np.abs(curvature)) * (z.detach() - torch.from_numpy(centre))
        adam.step()
    np.testing.assert_allclose(found, z.detach().numpy(), rtol=1e-6)
    assert len(steps) == 40


def test_draws_are_neighbours_in_proportion_and_their_slope_is_right():
    value = np.linspace(-1.9, 1.9, 400)[:, None].repeat(200, 1)
    cold, _ = drawn(value, 0.001, np.random.default_rng(0))
    up = np.round(cold) - np.floor(value)
    assert set(np.unique(up)) == {0.0, 1.0}
    share = (value - np.floor(value))[:, 0]
    assert (np.diff(up.mean(1)[(share > 0.05) & (share < 0.95)]) != 0).any()
    assert up.mean(1)[share < 0.05].max() < 0.2 < 0.8 < up.mean(1)[share > 0.95].min()
    at, step = np.array([0.3, 1.6, -0.2]), 1e-5
    low, high = (drawn(at + d, 0.4, np.random.default_rng(5))[0] for d in (-step, step))
    np.testing.assert_allclose(drawn(at, 0.4, np.random.default_rng(5))[1], (high - low) / (2 * step), rtol=1e-3)


@pytest.mark.parametrize("quality", [150, 600])
def test_what_is_found_costs_less(codec, y, quality):
    rate = at(codec, quality, y)
    found = search_side(codec, y, rate, 20, lambda: None)
    costs = [float(cost(codec, y, rate, torch.from_numpy(np.rint(z)).float())) for z in (codec.side(y, rate), found)]
    assert costs[1] < costs[0]
