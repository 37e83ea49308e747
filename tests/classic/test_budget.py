"""A budget for a set: never passed, nearly used, and better than one quality for all; on made-up and on real codecs."""

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic.classic.budget import Budget, Option, Try, share
from nlaic.classic.costs import cost_of, told
from nlaic.classic.file import BaseEncoder, parse_pair
from nlaic.classic.ways import BaseWay, LearnedWay, trier
from nlaic.errors import NlaicError
from tests.conftest import smooth_picture

LADDER = [float(quality) for quality in range(0, 101, 10)]


def made_up(number, quality):
    """Files that grow with the quality, costs that fall, each picture's in its own way; bumps as of real encoders."""
    rng = np.random.default_rng(number)
    size = 500 * rng.uniform(0.5, 2) * np.exp(quality / 25) + 37 * np.sin(7 * quality + number)
    cost = rng.uniform(20, 400) * size ** -rng.uniform(0.3, 0.9)
    return {Option(quality): Try(round(size), float(cost), 0.1 + quality / 1000)}


@pytest.mark.parametrize("total", [30_000, 90_000, 200_000])
def test_a_fine_codec_uses_the_budget_and_gains(total):
    found = share(made_up, 12, LADDER, Budget(total), 0.1)
    spent = sum(one.size for one in found.tries)
    assert 0.97 * total <= spent <= total
    assert found.cost < found.single[1]
    option, cost = found.single
    alone = [made_up(number, option.quality)[option] for number in range(12)]
    assert sum(one.size for one in alone) <= total and cost == pytest.approx(np.mean([one.cost for one in alone]))
    coarse = share(made_up, 12, LADDER, Budget(total), 10)
    assert found.cost < coarse.cost and sum(one.size for one in coarse.tries) <= total
    assert all(made_up(n, o.quality)[o] == t for n, (o, t) in enumerate(zip(found.options, found.tries, strict=True)))


@pytest.mark.parametrize("seed", range(20))
def test_one_quality_for_all_is_never_better(seed):
    """Two pictures alike, whose costs wave between the rungs, so that curves through these mislead."""

    def attempt(number, quality):
        size = 500 * np.random.default_rng(100 * seed + 7 * number).uniform(0.8, 1.2) * np.exp(quality / 25)
        return {Option(quality): Try(round(size), -10 * np.log10(size) + 0.5 * np.sin(quality / 3 + number), 0.1)}

    for total in (5000, 9000, 20_000, 26_500):
        found = share(attempt, 2, LADDER, Budget(total), 0.1)
        assert not found.single or found.cost <= found.single[1]


def test_every_budget_that_the_least_files_meet_is_met():
    """Files of one size over several qualities, as small pictures have them."""

    def attempt(number, quality):
        size = round(60 * (number + 1) * (1 + quality // 25) ** 1.5)
        return {Option(quality): Try(size, 1000 / (1 + quality // 25), 0.0)}

    least = sum(attempt(number, 0.0)[Option(0.0)].size for number in range(4))
    for total in range(least, 4 * least, 37):
        assert sum(one.size for one in share(attempt, 4, LADDER, Budget(total), 1).tries) <= total
    with pytest.raises(NlaicError, match=f"budget of {least - 1} bytes cannot be met: the least is {least}"):
        share(attempt, 4, LADDER, Budget(least - 1), 1)


def test_a_filter_is_taken_where_there_is_time_for_it():
    def attempt(number, quality):
        plain = made_up(number, quality)[Option(quality)]
        helped = Try(plain.size, plain.cost * (0.7 + 0.02 * number), plain.seconds + 1)
        return {Option(quality): plain, Option(quality, "filter"): helped}

    counts = []
    for seconds in (2.5, 5.5, 30):
        found = share(attempt, 8, LADDER, Budget(50_000, seconds), 10)
        assert sum(one.seconds for one in found.tries) <= seconds
        counts.append(sum(option.filter == "filter" for option in found.options))
    assert counts[0] <= 1 < counts[1] < counts[2] == 8
    with pytest.raises(NlaicError, match=r"0\.5 seconds cannot be met: the least is"):
        share(attempt, 8, LADDER, Budget(50_000, 0.5), 10)


def test_light_for_real(codec):
    pictures = [smooth_picture(64 + 64 * (n % 2), 64, n) for n in range(3)]
    way = LearnedWay(codec, {"effort": 1})
    sizes = [len(codec.compress(picture, 55, effort=1)) for picture in pictures]
    found = share(trier(way, pictures.__getitem__, "psnr"), 3, way.ladder, Budget(sum(sizes)), way.step)
    files = [codec.compress(p, o.quality, effort=1) for p, o in zip(pictures, found.options, strict=True)]
    assert 0.97 * sum(sizes) <= sum(map(len, files)) <= sum(sizes)
    assert [len(data) for data in files] == [one.size for one in found.tries]
    for option in found.options:
        assert 0 <= option.quality <= 100 and option.quality == round(option.quality, 1)


def test_jpeg_with_a_filter_for_real(filters):
    pictures = [smooth_picture(96, 64, n) for n in range(2)]
    way = BaseWay(BaseEncoder(parse_pair("jpeg+svac2")), strip=False)
    found = share(trier(way, pictures.__getitem__, "mse"), 2, way.ladder, Budget(6000), way.step)
    files = [way.encoder.compress(p, o.quality) for p, o in zip(pictures, found.options, strict=True)]
    assert {option.filter for option in found.options} == {"svac2"}
    assert [len(data) for data in files] == [one.size for one in found.tries] and sum(map(len, files)) <= 6000


def test_costs_are_metrics_with_their_sign():
    a, b = (np.asarray(smooth_picture(200, 180, n)) for n in range(2))
    near = (a.astype(int) * 0.9 + b * 0.1).astype(np.uint8)
    for metric in ("mse", "psnr", "ms_ssim"):
        cost = cost_of(metric)
        assert cost(a, near) < cost(a, b)
    assert cost_of("mse")(a, b) == np.square(a.astype(float) - b).sum()
    assert told("mse", float(cost_of("mse")(a, b)), 200 * 180).endswith(f"{-cost_of('psnr')(a, b):.3f} dB")
    assert told("lpips", 0.25, 1) == "mean lpips 0.2500" and told("ms_ssim", -0.9, 1) == "mean ms_ssim 0.9000"
    with pytest.raises(NlaicError, match="metric must be one of mse, psnr"):
        cost_of("ssim")


def test_a_missing_network_is_asked_for_in_what_every_command_has(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("NLAIC_NETWORKS", raising=False)
    with pytest.raises(NlaicError, match=r"alexnet_features.safetensors is missing; .* named in \$NLAIC_NETWORKS, or"):
        cost_of("lpips")


@pytest.mark.parametrize("codec", ["jpeg", "jpeg+svac2", "light"])
def test_what_is_not_seen_of_a_picture_does_not_count(codec, tiny_model):
    picture = smooth_picture(128, 96).convert("RGBA")
    pixels = np.asarray(picture).copy()
    pixels[:, :64] = (255, 0, 0, 0)
    picture = Image.fromarray(pixels)
    way = (
        LearnedWay(nlaic.load(str(tiny_model), device="cpu"), {"effort": 1})
        if codec == "light"
        else BaseWay(BaseEncoder(parse_pair(codec)), False)
    )
    (tried,) = trier(way, lambda number: picture, "psnr")(0, 90.0).values()
    assert -tried.cost > 25


def test_a_picture_that_a_metric_does_not_take_is_named():
    small = np.zeros((80, 100, 3), np.uint8)
    with pytest.raises(NlaicError, match="100x80 pixels: ms_ssim needs sides of at least 161"):
        cost_of("ms_ssim")(small, small)
