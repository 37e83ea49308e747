"""Every codec that is there: what comes back is the picture; and points measured independently with the plain tools."""

import csv
from functools import cache

import numpy as np
import pytest
from PIL import Image

from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import MissingError, _table, parse
from nlaic.evaluate.metrics import Pair, load
from nlaic.evaluate.zoo import MODELS, ZooCoder
from nlaic.weights import Weights, read_weights
from tests.conftest import at_hand, smooth_picture

OURS = ("light", "nlaic")


def opened(name):
    try:
        return parse(name).open()
    except MissingError as error:
        pytest.skip(str(error))


def psnr(a, b):
    return load("psnr", None)(Pair(np.asarray(a), np.asarray(b)))


@pytest.mark.parametrize("name", [name for name in _table() if name not in (*OURS, *MODELS)])
@pytest.mark.parametrize("size", [(96, 80), (71, 75)], ids=["even", "odd"])
def test_a_round_trip_is_near_and_more_rate_is_nearer(name, size):
    coder, row, picture = opened(name), parse(name).codec, smooth_picture(*size)
    values = []
    for setting in (row.settings[1], row.settings[-1]):
        data = coder.encode(picture, setting)
        decoded = coder.decode(data)
        assert decoded.size == size and decoded.mode == "RGB"
        values.append((len(data), psnr(picture, decoded)))
    assert values[0][0] < values[1][0] and 15 < values[0][1] < values[1][1]


def test_ours_at_an_effort_and_by_weights_of_one_rate(tiny_model):
    picture = smooth_picture(128, 64)
    sizes = {}
    for effort in (1, 4):
        coder = parse(f"light:model={tiny_model},effort={effort}").open()
        assert f"effort {effort}" in coder.version
        data = coder.encode(picture, 60)
        sizes[effort] = len(data)
        assert coder.decode(data).size == picture.size
    assert sizes[1] != sizes[4]


def test_a_series_decodes_with_the_weights_that_coded(tiny_model, tmp_path):
    picture, weights = smooth_picture(128, 64), read_weights(tiny_model)

    def changed(name, change, file):
        tensors = {**weights.tensors, name: (weights.tensors[name] + change).astype(weights.tensors[name].dtype)}
        (tmp_path / file).write_bytes(Weights(tensors, weights.metadata).to_bytes())
        return tmp_path / file

    other = changed("rates.log_step", 0.2, "other.safetensors")
    series = parse(f"nlaic:models={tiny_model}+{other}").open()
    assert list(series.settings) == [1, 2]
    for number, path in enumerate((tiny_model, other), 1):
        alone = parse(f"light:model={path}").open()
        data = series.encode(picture, number)
        assert data == alone.encode(picture, 50)
        assert np.array_equal(series.decode(data), alone.decode(data))
    with pytest.raises(NlaicError, match="2 weights, but setting is 3"):
        series.encode(picture, 3)
    name = next(name for name in weights.tensors if name.startswith("g_s."))
    twin = changed(name, 0.1, "twin.safetensors")  # the same model id
    with pytest.raises(NlaicError, match="do not tell them apart"):
        parse(f"nlaic:models={tiny_model}+{twin}").open()


def test_an_untrained_model_of_the_zoo_goes_there_and_back():
    coder, picture = ZooCoder("bmshj2018-factorized", pretrained=False), smooth_picture(100, 70)
    data = coder.encode(picture, 1)
    assert coder.decode(data).size == (100, 70)
    with pytest.raises(NlaicError, match=r"qualities 1\.\.8"):
        coder.encode(picture, 9)


def test_weights_that_are_missing_are_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingError, match="no weights named 'nlaic-low'"):
        parse("nlaic").open()
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(MissingError, match="no weights of mbt2018"):
        parse("mbt2018").open()


def test_sweeps_and_searches_go_from_small_files_to_large():
    for row in _table().values():
        every = row.all_settings()
        assert len(set(every)) == len(every) and every in (sorted(every), sorted(every, reverse=True))
        rising = row.settings == tuple(sorted(row.settings))
        assert rising == (every == sorted(every)) or len(every) == 1
        assert set(row.settings) <= set(every)


@cache
def anchors():
    with at_hand("data/anchors-kodak.csv").open() as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(row["codec"], float(row["setting"]), row["picture"]): row for row in lines}


POINTS = {
    "jpeg": 25,
    "webp": 30,
    "jpeg2000": 40,
    "avif": 48,
    "jxl": 45,
    "heic": 42,
    "jpegli": 20,
    "vvc": 42,
}


@pytest.mark.parametrize(("name", "setting"), POINTS.items(), ids=POINTS)
def test_points_measured_independently(name, setting, kodak):
    path = kodak[22]
    row = anchors()[name, setting, path.name]
    coder, picture = opened(name), Image.open(path)
    data = coder.encode(picture, setting)
    pair = Pair(np.asarray(picture), np.asarray(coder.decode(data)))
    assert len(data) == pytest.approx(int(row["bytes"]), rel=1e-3)
    assert load("psnr", None)(pair) == pytest.approx(float(row["psnr"]), abs=0.002)
    assert load("ms_ssim", None)(pair) == pytest.approx(float(row["ms_ssim"]), abs=1e-4)
    for network in ("lpips_squeeze", "lpips_alex"):
        value = load(network, str(at_hand("weights")))(pair)
        assert value == pytest.approx(float(row[network]), abs=1e-4)
