"""What an error weighs is what MS-SSIM, written by others, says of small errors."""

import copy
import json

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim

from nlaic.errors import NlaicError
from nlaic.visibility import CELL, EXPONENTS, Objective, Visibility
from tests.conftest import smooth_picture

SIDE = 256


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """A smooth picture with noise of a strength that grows from left to right."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(SIDE, SIDE, 1)) * np.linspace(0, 40, SIDE)[None, :, None]
    return np.clip(np.asarray(smooth_picture(SIDE, SIDE, seed=3)) + noise, 30, 225).astype(np.uint8)


def error_of(scale: int, place: slice, seed: int) -> np.ndarray:
    """Noise without detail finer than 2^scale pixels, in some columns of the picture, [3, H, W]."""
    side = SIDE >> scale
    coarse = np.random.default_rng(seed).normal(size=(3, side, side))
    error = np.zeros((3, SIDE, SIDE))
    error[..., place] = coarse.repeat(2**scale, 1).repeat(2**scale, 2)[..., place]
    return 0.003 * error


def weighed(visibility: Visibility, error: np.ndarray) -> float:
    """Plain loops over scales and cells."""
    total = 0.0
    for scale, weights in enumerate(visibility.maps):
        side = CELL >> scale
        for y, x in np.ndindex(weights.shape):
            total += weights[y, x] * np.square(error[:, y * side : (y + 1) * side, x * side : (x + 1) * side]).sum()
        channels, height, width = error.shape
        error = error.reshape(channels, height // 2, 2, width // 2, 2).mean((2, 4))
    return float(total)


@pytest.mark.parametrize("scale", range(4))
@pytest.mark.parametrize("place", [slice(0, 96), slice(160, 256)], ids=["flat", "busy"])
def test_small_errors_weigh_what_ms_ssim_says(pixels, scale, place):
    visibility = Visibility.of(pixels, Objective(0.0, 1.0))
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255
    found, wanted = 0.0, 0.0
    for seed in range(3):
        error = error_of(scale, place, seed)
        found += weighed(visibility, error)
        similarity = ms_ssim(x + torch.from_numpy(error)[None], x, data_range=1, weights=list(EXPONENTS))
        wanted += float(1 - similarity) * error.size
    assert 0.5 < found / wanted < 2


def test_squared_error_alone_is_the_same_everywhere(pixels):
    maps = Visibility.of(pixels, Objective()).maps
    assert (maps[0] == 1).all()
    assert not maps[1:].any()


def test_what_was_measured_of_a_channel_meets_the_weights_of_its_cell(pixels):
    visibility = Visibility.of(pixels, Objective(0.5, 0.02))
    gain = np.random.default_rng(1).uniform(0, 2, (5, 3)).astype(np.float32)
    worth = visibility.of_channels(gain)
    for c, y, x in ((0, 0, 0), (2, 15, 3), (1, 7, 12)):
        assert worth[c, y, x] == pytest.approx(float((gain[:, c] * visibility.maps[:, y, x]).sum()), rel=1e-5)
    np.testing.assert_allclose(visibility.of_channels(gain[:1]), gain[0, :, None, None] * visibility.maps[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("terms", "scale", "expected"),
    [
        ({"mse": 0.33, "ms_ssim": 0.0185}, 65025.0, Objective(0.33, 0.0185)),
        ({"mse": 100.0, "dists": 1.0}, 650.25, Objective(1.0, 0.0)),
        ({"ms_ssim": 1.0}, 2601.0, Objective(0.0, 0.04)),
        ({"dists": 1.0}, 650.25, Objective(1.0, 0.0)),
    ],
)
def test_the_weights_say_what_they_were_trained_for(terms, scale, expected):
    found = Objective.of({"loss.rd": json.dumps({"terms": terms, "scale": scale})})
    assert (found.squared, found.structure) == pytest.approx((expected.squared, expected.structure))
    assert Objective.of({}) == Objective(1.0, 0.0)


def test_the_encoder_goes_by_it(codec):
    """Where every error is seen symbols are rounded to the nearest, where none is they cost as little as they can."""
    picture = smooth_picture(200, 140, seed=8)
    files = {}
    for name, objective in (("all", Objective(0.0, 1e6)), ("none", Objective(1e-6, 0.0))):
        encoder = copy.copy(codec)
        vars(encoder)["objective"] = objective  # in the place of the cached property
        files[name] = encoder.compress(picture, 60, effort=2)
    assert files["all"] == codec.compress(picture, 60, effort=1)
    assert len(files["none"]) < len(files["all"])


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", '{"terms": 3}', '{"terms": {"mse": "x"}, "scale": 1.0}', '{"scale": "1"}'),
        *("[" * 200_000, '{"terms": {"mse": 1}, "scale": NaN}', '{"terms": {"mse": 1}, "scale": 1e999}'),
        '{"scale": 1' + "0" * 400 + "}",
    ],
    ids=lambda text: text[:40],
)
def test_a_loss_that_is_none_is_an_error(text):
    with pytest.raises(NlaicError, match=r"loss\.rd"):
        Objective.of({"loss.rd": text})
