"""What the interface is given: numbers of any kind are what they say, and what is none is one clear error."""

import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic import container
from nlaic.block import Symbols
from nlaic.codec import load
from nlaic.limits import pixel_limit
from nlaic.rates import quality_number, rate_at
from nlaic.target import target_bytes
from nlaic.tiles import region_box
from nlaic.torch_engine import TorchEngine
from tests.conftest import smooth_picture


@pytest.fixture(scope="module")
def picture():
    return smooth_picture(128, 96)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint64, np.float16, np.float32, np.float64])
def test_numbers_of_numpy_are_numbers(kind):
    assert quality_number(kind(50)) == 500
    assert target_bytes(kind(2), None, (7680, 5120)) == 2 * 7680 * 5120 // 8
    assert target_bytes(None, kind(100), (7680, 5120)) == 100
    if issubclass(kind, np.integer):
        assert region_box(np.array([1, 2, 90, 100], kind), 300, 300) == (1, 2, 91, 102)


def test_a_region_may_come_in_any_order_of_things():
    assert region_box((n for n in (1, 2, 3, 4)), 10, 10) == (1, 2, 4, 6)
    for region in (5, "1,2,3,4", (1, 2, 3), (1, 2, 3, 4.0)):
        with pytest.raises(nlaic.NlaicError, match="region must be four whole numbers"):
            region_box(region, 10, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": "50"}, "quality must be 0..100, but got '50'"),
        ({"effort": "3"}, "effort must be 1..9, but got '3'"),
        ({"effort": None}, "effort must be 1..9, but got None"),
        ({"bpp": "1"}, "bpp must be a number, but got '1'"),
        ({"max_bytes": [4000]}, r"max_bytes must be a number, but got \[4000\]"),
        ({"device": ["cpu"]}, "device must be one of auto, cpu, cuda, but got"),
        ({"model": b"light"}, "weights are named by a str or a Path, but got b'light'"),
        ({"model": "x" * 5000}, "no weights named 'xxx"),
    ],
)
def test_what_compress_cannot_use_is_said(options, message, picture, tiny_model):
    with pytest.raises(nlaic.NlaicError, match=message):
        nlaic.compress(picture, **{"model": str(tiny_model), "device": "cpu"} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"realism": "0.5"}, "realism must be a number, but got '0.5'"),
        ({"realism": np.array(0.5)}, "realism must be a number"),
        ({"max_pixels": None}, "max_pixels must be a number above 0, but got None"),
        ({"max_pixels": float("nan")}, "max_pixels must be a number above 0, but got nan"),
        ({"device": ["cpu"]}, "device must be one of"),
    ],
)
def test_what_decompress_cannot_use_is_said(options, message, picture, codec, tiny_model, monkeypatch):
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tiny_model))
    with pytest.raises(nlaic.NlaicError, match=message):
        nlaic.decompress(codec.compress(picture, effort=1), **options)


@pytest.mark.parametrize("threads", [1.5, "2", 0])
def test_threads_are_counted(threads, tiny_model):
    with pytest.raises(nlaic.NlaicError, match="threads must be"):
        nlaic.load(str(tiny_model), threads=threads)


def test_a_codec_goes_to_another_process(codec, picture):
    other = pickle.loads(pickle.dumps(codec))
    assert other.compress(picture, 40) == codec.compress(picture, 40)
    assert (other.engine.precision, other.weights.model_id) == (codec.engine.precision, codec.weights.model_id)


def test_weights_that_take_the_place_of_others_are_read(tiny_model, picture, tmp_path, monkeypatch):
    """By their name, too: a run that has gone on has exported them again."""
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tmp_path))
    place = tmp_path / "mine-00000000.safetensors"
    place.write_bytes(tiny_model.read_bytes())
    first = nlaic.compress(picture, effort=1, model="mine", device="cpu")
    other = nlaic.load(str(tiny_model)).weights
    tensors = {name: np.array(value) for name, value in other.tensors.items()}
    tensors["rates.log_step"] += 0.25
    place.write_bytes(type(other)(tensors, dict(other.metadata), None).to_bytes())
    os.utime(place, (1, 1))
    second = nlaic.compress(picture, effort=1, model="mine", device="cpu")
    assert nlaic.info(first)["model_id"] != nlaic.info(second)["model_id"]


def test_threads_that_ask_for_different_realism_get_it(picture):
    """Torch's engine keeps the last decoder asked for; here every look at it lets another thread come first."""

    class Slow(TorchEngine):
        @property
        def _mixed(self):
            found = self.kept
            time.sleep(0.005)
            return found

        @_mixed.setter
        def _mixed(self, value):
            self.kept = value
            time.sleep(0.005)

    codec = load("light", device="cpu", threads=1, engine="torch", precision="fp32")
    data = codec.compress(picture.resize((64, 64)), 30, effort=1)
    asked = [0.3, 0.6, 1.0] * 10
    expected = {realism: np.asarray(codec.decompress(data, realism=realism)) for realism in asked}
    codec.engine = Slow(codec.weights, codec.engine.execution)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda realism: np.asarray(codec.decompress(data, realism=realism)), asked))
    assert all(np.array_equal(one, expected[realism]) for one, realism in zip(found, asked, strict=True))


def test_symbols_beyond_what_can_be_coded_are_the_nearest_that_can(codec, picture):
    """Nothing less keeps the native coder alive."""
    pixels = np.asarray(picture.resize((128, 128)))
    y = 1e3 * codec.engine.analysis(pixels)
    rate = rate_at(codec.weights.tensors, 500)
    symbols = codec.symbols(y, rate)
    bound = codec.coder.coded_bounds[symbols.index]
    assert (np.abs(symbols.r) <= bound).all() and (np.abs(symbols.r) == bound).any()
    payload = codec.coder.encode(symbols.z_hat, rate.z_index, symbols.r, symbols.index)
    back = codec.decode_symbols(payload, rate, 128, 128)
    assert np.array_equal(back.r, symbols.r) and np.array_equal(back.z_hat, symbols.z_hat)


def test_side_information_beyond_what_can_be_coded_is_the_nearest_that_can(codec, picture, monkeypatch):
    rate = rate_at(codec.weights.tensors, 500)
    y = codec.engine.analysis(np.asarray(picture.resize((128, 128))))
    far = np.full((len(rate.z_index), 2, 2), 1e6, np.float32)
    far[:, 0] = -1e6
    monkeypatch.setattr(codec.engine, "hyper_analysis", lambda _: far, raising=False)
    symbols: Symbols = codec.symbols(y, rate)
    bounds = codec.coder.z.bounds[rate.z_index]
    assert np.array_equal(symbols.z_hat, np.sign(far) * bounds[:, None, None])
    payload = codec.coder.encode(symbols.z_hat, rate.z_index, symbols.r, symbols.index)
    assert np.array_equal(codec.decode_symbols(payload, rate, 128, 128).z_hat, symbols.z_hat)


def test_verify_sees_what_is_damaged(codec, picture, tmp_path):
    path: Path = tmp_path / "a.nlaic"
    data = bytearray(codec.compress(picture, effort=1))
    path.write_bytes(data)
    Image.open(path).verify()
    data[container.unpack(bytes(data)).header_bytes + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"block 0 .* is damaged: its CRC-32"):
        Image.open(path).verify()


def test_the_limit_of_pixels_is_put_back_when_threads_meet(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12345)
    inside, met = threading.Event(), threading.Event()

    def first():
        with pixel_limit():
            inside.set()
            met.wait(0.2)  # time for the other one to come in, and to remember what is set now

    def second():
        inside.wait()
        with pixel_limit():
            met.set()
            one.join(5)

    one, other = (threading.Thread(target=work) for work in (first, second))
    one.start()
    other.start()
    other.join()
    assert Image.MAX_IMAGE_PIXELS == 12345
