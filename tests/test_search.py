"""The search lowers the loss it claims to, and what it chooses is what is decoded."""

import copy

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim

import nlaic.search
from nlaic.block import Block
from nlaic.codec import Codec
from nlaic.errors import NlaicError
from nlaic.nets.transforms import transforms
from nlaic.rates import rate_at
from nlaic.search import NEIGHBOURS, PLANS, Plan, around, colour_channels, ideal, search
from nlaic.tiles import pad
from nlaic.visibility import Objective
from tests.conftest import smooth_picture

SIZE = (100, 150)  # padded to 128 x 192


@pytest.fixture(scope="module")
def block(codec) -> Block:
    pixels = pad(np.asarray(smooth_picture(SIZE[1], SIZE[0], seed=5)))
    return Block(pixels, SIZE, codec.engine.analysis(pixels))


def loss_of(codec, block, rate, chosen) -> float:
    """What symbols cost: the bits of the tables, and lambda * 255^2 * MSE of the picture without its padding."""
    coder, limit = codec.coder, 64
    coded = chosen.index >= coder.skip
    spent = coder.y.bits(limit)[chosen.index[coded], np.clip(chosen.r[coded], -limit, limit) + limit].sum()
    z_index = np.broadcast_to(rate.z_index[:, None, None], chosen.z_hat.shape)
    spent += coder.z.bits(limit)[z_index, np.clip(chosen.z_hat, -limit, limit) + limit].sum()
    with torch.inference_mode():
        y_hat = torch.from_numpy(codec.decoded(chosen, rate)).float()[None]
        x_hat = codec.engine.net.g_s(y_hat)[0].permute(1, 2, 0).numpy()[: block.size[0], : block.size[1]]
    error = np.square(x_hat - block.pixels[: block.size[0], : block.size[1]] / 255).sum()
    return float(spent + rate.lambda_ * 255**2 / 3 * error)


@pytest.mark.parametrize("quality", [200, 500, 900])
@pytest.mark.parametrize(
    "plan", [Plan(0, 0, 1), Plan(0, 0, 6), Plan(0, 25, 2), Plan(25, 0, 0)], ids=["one", "rounds", "annealed", "side"]
)
def test_it_lowers_the_loss(codec, block, quality, plan):
    rate = rate_at(codec.weights.tensors, quality)
    plain = codec.symbols(block.y, rate)
    assert loss_of(codec, block, rate, search(codec, block, rate, plan)) < loss_of(codec, block, rate, plain)


def test_a_search_for_z_that_finds_worse_is_not_taken(codec, block, monkeypatch):
    rate = rate_at(codec.weights.tensors, 500)
    plain = codec.symbols(block.y, rate).z_hat
    assert (search(codec, block, rate, Plan(20, 0, 0)).z_hat != plain).any()
    monkeypatch.setattr(nlaic.search, "search_side", lambda *_: plain + 5)
    np.testing.assert_array_equal(search(codec, block, rate, Plan(20, 0, 0)).z_hat, plain)


def test_the_annealed_search_goes_by_what_the_weights_were_trained_for(codec, block):
    """Which of the two pictures is more like the original is what pytorch-msssim and plain squares say."""
    rate = rate_at(codec.weights.tensors, 500)
    original = torch.from_numpy(block.pixels[: SIZE[0], : SIZE[1]]).permute(2, 0, 1)[None] / 255
    found = {}
    for name, objective in (("squares", Objective(1.0, 0.0)), ("structure", Objective(0.0, 0.1))):
        encoder = copy.copy(codec)
        vars(encoder)["objective"] = objective  # in the place of the cached property
        chosen = search(encoder, block, rate, Plan(0, 40, 0))
        with torch.inference_mode():
            y_hat = torch.from_numpy(codec.decoded(chosen, rate)).float()[None]
            x_hat = codec.engine.net.g_s(y_hat)[..., : SIZE[0], : SIZE[1]]
        similarity = ms_ssim(x_hat, original, data_range=1, win_size=5)
        found[name] = (float((x_hat - original).square().mean()), 1 - float(similarity))
    assert found["squares"][0] < found["structure"][0]
    assert found["structure"][1] < found["squares"][1]


def test_more_rounds_lower_it_further(codec, block):
    rate = rate_at(codec.weights.tensors, 600)
    losses = [loss_of(codec, block, rate, search(codec, block, rate, Plan(0, 0, rounds))) for rounds in (1, 4, 12)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("plan", [Plan(0, 0, 3), Plan(8, 8, 1)], ids=["rounds", "annealed"])
def test_what_it_chooses_is_decoded(codec, block, plan):
    rate = rate_at(codec.weights.tensors, 500)
    chosen = search(codec, block, rate, plan)
    payload = codec.coder.encode(chosen.z_hat, rate.z_index, chosen.r, chosen.index)
    back = codec.decode_symbols(payload, rate, *block.pixels.shape[:2])
    for name in ("z_hat", "r", "index"):
        np.testing.assert_array_equal(getattr(back, name), getattr(chosen, name))
    assert not chosen.r[chosen.index < codec.coder.skip].any()


def test_it_chooses_the_same_twice(codec, block):
    rate = rate_at(codec.weights.tensors, 500)
    first, second = (search(codec, block, rate, Plan(5, 5, 1)) for _ in range(2))
    np.testing.assert_array_equal(first.r, second.r)


def test_padding_does_not_count(codec, block):
    rate = rate_at(codec.weights.tensors, 500)
    noise = block.pixels.copy()
    noise[SIZE[0] :], noise[:, SIZE[1] :] = 255, 0
    y_hat = codec.decoded(codec.symbols(block.y, rate), rate)
    there, here = (ideal(codec, Block(pixels, SIZE, block.y), y_hat) for pixels in (noise, block.pixels))
    np.testing.assert_array_equal(there, here)
    assert (ideal(codec, Block(noise, noise.shape[:2], block.y), y_hat) != here).any()


def test_the_shortcut_says_what_the_gradient_says(codec, block):
    """Where g_s is its shortcut and nothing else both ways to the ideal y are one."""
    rate = rate_at(codec.weights.tensors, 500)
    chosen, engine = codec.symbols(block.y, rate), copy.copy(codec.engine)
    engine.net = copy.deepcopy(codec.engine.net)
    torch.nn.init.zeros_(engine.net.g_s.branch[-1].weight)
    torch.nn.init.zeros_(engine.net.g_s.fine.layers[-2].weight)
    torch.manual_seed(0)
    torch.nn.init.normal_(engine.net.g_s.lap.matrix, std=0.3)  # not symmetric, as trained ones are not
    y_hat = codec.decoded(chosen, rate)
    engine._transforms, engine.precision = transforms(engine.net, codec.scale), "fp32"
    by_shortcut = engine.pull(y_hat, block.pixels, block.size)
    del engine._transforms["pull"]
    by_gradient = engine.pull(y_hat, block.pixels, block.size)
    np.testing.assert_allclose(by_gradient, by_shortcut, atol=1e-4)
    assert np.abs(by_shortcut).max() > 0.1


def test_a_row_makes_up_for_what_is_missing_around_it():
    error = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    for parity in (0, 1):
        found = around(error, parity)
        for row in range(5):
            for column in range(4):
                rows = [min(max(row + n, 0), 4) for n in (-1, 0, 1)]
                columns = [min(max(column + n, 0), 3) for n in (-1, 0, 1)]
                expected = error[:, rows][:, :, columns].mean((1, 2)) if row % 2 == parity else 0
                np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-5, atol=1e-6)


def test_channels_of_colour_are_the_means_of_cells(codec):
    kernels = codec.engine.net.g_s.dct.detach().numpy().reshape(-1, 3, 256)
    constant = np.abs(kernels.mean(2)).max(1) / np.abs(kernels).max((1, 2))
    np.testing.assert_array_equal(colour_channels(codec.gain), np.flatnonzero(constant > 0.5))
    assert len(colour_channels(codec.gain)) == 3 and not len(colour_channels(codec.gain[:1]))


def test_casts_of_colour_are_smaller(codec, monkeypatch):
    picture = smooth_picture(256, 256, seed=5)
    casts = []
    for share in (0.0, NEIGHBOURS):
        monkeypatch.setattr("nlaic.search.NEIGHBOURS", share)
        squares = []
        for quality in range(10, 50, 8):
            error = np.asarray(codec.decompress(codec.compress(picture, quality)), float) - np.asarray(picture, float)
            squares.append(error.reshape(4, 64, 4, 64, 3).mean((1, 3)).std())
        casts.append(np.mean(squares))
    assert casts[1] < 0.95 * casts[0]


def test_progress_grows_to_one(codec, block):
    seen: list[float] = []
    search(codec, block, rate_at(codec.weights.tensors, 500), Plan(0, 3, 2), seen.append)
    assert seen == sorted(seen)
    assert len(seen) == 5
    assert seen[-1] == 1


@pytest.mark.parametrize("effort", [2, 3, 6, 8])
def test_a_target_holds_at_every_effort(codec, effort, monkeypatch):
    monkeypatch.setitem(PLANS, 8, Plan(0, 4, 1))
    seen: list[float] = []
    picture = smooth_picture(200, 140, seed=8)
    assert 0.97 * 4000 <= len(codec.compress(picture, max_bytes=4000, effort=effort, progress=seen.append)) <= 4000
    assert seen == sorted(seen)
    with pytest.raises(NlaicError, match="cannot be met"):
        codec.compress(picture, max_bytes=60, effort=effort)


def test_blocks_are_searched_one_by_one(codec):
    seen: list[float] = []
    data = codec.compress(smooth_picture(200, 140, seed=8), 50, effort=4, block=(128, 64), progress=seen.append)
    assert codec.decompress(data).size == (200, 140)
    assert seen == sorted(seen)
    assert seen[-1] == 1


class OtherEngine:
    """An engine without gradients."""

    name, pulls = "other", False

    def __init__(self, codec: Codec) -> None:
        self.engine = codec.engine

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)


def test_without_torch_low_efforts_work_and_high_ones_say_why_not(codec):
    other = Codec(codec.weights, OtherEngine(codec))  # type: ignore[arg-type]
    picture = smooth_picture(128, 128, seed=2)
    assert other.compress(picture, effort=3) == codec.compress(picture, effort=2)
    with pytest.raises(NlaicError, match="the torch engine"):
        other.compress(picture, effort=9)
