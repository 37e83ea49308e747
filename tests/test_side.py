"""The search for z: its gradient against autograd through the network that is trained, its steps against Adam's."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from nlaic import side, torch_engine
from nlaic.block import Block
from nlaic.codec import Codec, load
from nlaic.engine import Execution
from nlaic.export import restore
from nlaic.nets.vae import INDEX_STEP, SCALE_MIN, SKIP, gaussian_bits, logistic_bits, round_through
from nlaic.rates import rate_at
from nlaic.search import Plan, search
from nlaic.side import annealed, cooling, descended, drawn
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


def test_all_that_runs_is_on_the_device(codec, monkeypatch):
    """`meta` stands for a GPU."""
    monkeypatch.setattr(torch_engine, "find_device", lambda _: torch.device("meta"))
    engine = torch_engine.TorchEngine(codec.weights, Execution("cpu", 1, "fp32"))
    for name, module in engine._transforms.items():
        assert {tensor.device.type for tensor in (*module.parameters(), *module.buffers())} == {"meta"}, name


def test_edges_repeat_in_the_gradient_too(codec, y):
    """A block of 64x64 has one place of z, and is its own edge on all sides."""
    y, rate = y[:, :4, :4], at(codec, 400, y[:, :4, :4])
    z_hat = torch.from_numpy(np.array(codec.side(y, rate))).requires_grad_()
    (expected,) = torch.autograd.grad(cost(codec, y, rate, z_hat), z_hat)
    got = gradient_of(codec, y, rate, z_hat.detach().numpy())
    np.testing.assert_allclose(got, expected.numpy(), atol=0.005 * float(expected.abs().max()))


def test_many_steps_are_adams(monkeypatch):
    """On a bowl, without draws: where torch's Adam comes to by the same rates."""
    centre, curvature = np.random.default_rng(1).normal(size=(2, 3, 2, 2))
    monkeypatch.setattr(side, "drawn", lambda z, *_: (z, 1.0))
    found = annealed(np.zeros((3, 2, 2)), lambda z: np.abs(curvature) * (z - centre), 40)

    z = torch.zeros(3, 2, 2, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([z], betas=(0.9, 0.99))
    for _, adam.param_groups[0]["lr"] in cooling(40, side.LEARNING_RATE):
        z.grad = torch.from_numpy(np.abs(curvature)) * (z.detach() - torch.from_numpy(centre))
        adam.step()
    np.testing.assert_allclose(found, z.detach().numpy(), rtol=1e-6)


def test_a_few_steps_go_down_alike_in_every_channel_and_shorter_each():
    """Whatever the size of its gradient."""
    gradient = np.random.default_rng(2).uniform(-1, 1, (3, 5, 5)) * np.array([1e-3, 1.0, 1e3])[:, None, None]
    places = [descended(np.zeros((3, 5, 5)), lambda _: gradient, steps) for steps in range(5)]
    steps = np.diff(places, axis=0)
    np.testing.assert_array_equal(np.sign(steps), np.sign([-gradient] * 4))
    lengths = np.sqrt(np.square(steps).mean((2, 3)))
    np.testing.assert_allclose(lengths, np.outer(0.06 * 0.6 ** np.arange(4), np.ones(3)), rtol=1e-4)


def test_the_last_of_a_few_steps_sees_what_is_coded():
    """Integers; the first a mixture with z as it is, that lies between both."""
    seen, start = [], np.random.default_rng(3).uniform(-2, 2, (2, 4, 4))
    descended(start, lambda z_hat: seen.append(z_hat) or np.zeros_like(z_hat), 4)
    np.testing.assert_array_equal(seen[-1], np.round(start))
    shares = [np.abs(z_hat - np.round(start)).sum() / np.abs(start - np.round(start)).sum() for z_hat in seen]
    np.testing.assert_allclose(shares, sorted(shares, reverse=True))
    assert 0.3 < shares[0] < 1


@pytest.mark.parametrize("steps", [4, side.FEW, side.FEW + 1, 20])
def test_each_step_is_told(codec, y, steps):
    told = []
    found = side.search_side(codec, y, at(codec, 500, y), steps, lambda: told.append(1))
    assert len(told) == steps and found.shape == codec.side(y, at(codec, 500, y)).shape


def test_draws_are_neighbours_in_proportion_and_their_slope_is_right():
    """The higher neighbour as often as the softmax of section 3.3 says; cold, they are the nearest integer."""
    temperature, random = 0.5, np.random.default_rng(0)
    for share in (0.1, 0.3, 0.55, 0.8):
        value = np.full(20_000, 2 + share)
        higher = (drawn(value, temperature, random)[0] > 2.5).mean()
        down, up = (math.exp(-math.atanh(distance) / temperature) for distance in (share, 1 - share))
        assert higher == pytest.approx(up / (up + down), abs=0.02)
        np.testing.assert_allclose(drawn(value, 0.001, random)[0], np.round(value), atol=1e-3)
    at, step = np.array([0.3, 1.6, -0.2]), 1e-5
    low, high = (drawn(at + d, 0.4, np.random.default_rng(5))[0] for d in (-step, step))
    np.testing.assert_allclose(drawn(at, 0.4, np.random.default_rng(5))[1], (high - low) / (2 * step), rtol=1e-3)


@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("quality", [0, 100, 300, 600, 1000])
def test_what_is_found_never_costs_more(codec, y, quality, steps):
    """By the modules that are trained; with plain rounding of y, as they do it."""
    rate = at(codec, quality, y)
    block = Block(np.zeros((128, 192, 3), np.uint8), (128, 192), y)
    found = search(codec, block, rate, Plan(steps, 0, 0))
    plain, after = (
        float(cost(codec, y, rate, torch.from_numpy(z_hat).float()))
        for z_hat in (codec.symbols(y, rate).z_hat, found.z_hat)
    )
    assert after < 1.005 * plain
    assert after < plain or quality in (0, 100)


def test_more_steps_find_what_costs_less(codec, y):
    """Means over qualities, of what it cost before: below 98.5 % after 4 steps, 1 % less after 20."""
    block, left = Block(np.zeros((128, 192, 3), np.uint8), (128, 192), y), dict.fromkeys((4, 20), 0.0)
    for quality in (0, 200, 400, 600, 800, 1000):
        rate = at(codec, quality, y)
        plain = float(cost(codec, y, rate, torch.from_numpy(codec.symbols(y, rate).z_hat).float()))
        for steps in left:
            found = search(codec, block, rate, Plan(steps, 0, 0))
            left[steps] += float(cost(codec, y, rate, torch.from_numpy(found.z_hat).float())) / plain / 6
    assert left[4] < 0.985 and left[20] < 0.99 * left[4]
