"""The codec as a whole: any size, rates and targets, the engine's place, what it refuses."""

import inspect
import itertools
import math
import os
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic import container
from nlaic.codec import Codec
from nlaic.rates import quality_number, rate_at
from nlaic.tiles import padded
from nlaic.weights import Weights, read_weights
from tests.conftest import smooth_picture


def psnr(a, b) -> float:
    mse = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return -10 * math.log10(max(mse, 1e-9) / 255**2)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (63, 2), (64, 64), (65, 130), (200, 129)])
def test_any_size_comes_back(codec, size):
    picture = smooth_picture(*size, seed=1)
    data = codec.compress(picture, 90, block=(128, 64))
    back = codec.decompress(data)
    assert back.size == size and back.mode == "RGB"
    assert psnr(picture, back) > 24


def test_decoded_symbols_are_those_that_were_coded(codec):
    pixels = np.asarray(smooth_picture(192, 128, seed=2))
    for quality in (0, 333, 1000):
        rate = rate_at(codec.weights.tensors, quality)
        y = codec.engine.analysis(pixels)
        chosen = codec.symbols(y, rate)
        payload = codec.coder.encode(chosen.z_hat, rate.z_index, chosen.r, chosen.index)
        decoded = codec.decode_symbols(payload, rate, 128, 192)
        for name in ("z_hat", "r", "index"):
            assert np.array_equal(getattr(chosen, name), getattr(decoded, name))
        assert np.all(chosen.r[chosen.index < codec.coder.skip] == 0)


def test_encoder_and_decoder_see_the_same_picture(codec):
    """What the encoder meant is what comes out: y - y_hat is within half a step where nothing was skipped."""
    pixels = np.asarray(smooth_picture(128, 128, seed=3))
    rate = rate_at(codec.weights.tensors, 800)
    y = codec.engine.analysis(pixels)
    s = codec.symbols(y, rate)
    mean = codec.engine.mean(s.z_hat * rate.z_step)
    mean = codec.engine.refine(s.r + mean, mean)
    error = np.abs(y / rate.step - (s.r + mean))
    free = (s.index >= codec.coder.skip) & (np.abs(s.r) < codec.coder.y.bounds[s.index])
    assert error[free].max() <= 0.5 + 1e-4
    assert free.mean() > 0.2


def test_sizes_and_fidelity_rise_with_quality(codec):
    picture = smooth_picture(256, 192, seed=4)
    files = [codec.compress(picture, quality) for quality in range(0, 101, 10)]
    sizes = [len(data) for data in files]
    assert sizes == sorted(sizes) and len(set(sizes)) == len(sizes)
    fidelity = [psnr(picture, codec.decompress(data)) for data in files]
    assert fidelity[-1] - fidelity[0] > 8
    assert all(b > a - 0.05 for a, b in itertools.pairwise(fidelity))


@pytest.mark.parametrize("effort", [1, 3])
@pytest.mark.parametrize("target", [{"bpp": 0.5}, {"max_bytes": 4000}])
def test_targets_are_met_from_below(codec, target, effort):
    picture = smooth_picture(256, 192, seed=6)
    limit = target.get("max_bytes") or int(target["bpp"] * 256 * 192 / 8)
    data = codec.compress(picture, effort=effort, **target)
    assert 0.97 * limit <= len(data) <= limit
    quality = container.unpack(data).header.quality
    assert len(codec.compress(picture, (quality + 1) / 10, effort=effort)) > limit


def test_a_large_target_is_quality_100(codec):
    picture = smooth_picture(64, 64)
    assert container.unpack(codec.compress(picture, max_bytes=10**6)).header.quality == 1000


def test_a_target_that_cannot_be_met_names_the_smallest_file(codec):
    picture = smooth_picture(128, 64)
    smallest = min(len(codec.compress(picture, 0, effort=effort)) for effort in (2, 3))
    assert len(codec.compress(picture, max_bytes=smallest)) == smallest
    with pytest.raises(nlaic.NlaicError, match=f"smallest file has {smallest} bytes"):
        codec.compress(picture, max_bytes=smallest - 1)


def test_blocks_are_independent(codec):
    """A block's payload does not depend on what stands beside it."""
    left, right = smooth_picture(64, 64, seed=7), smooth_picture(64, 64, seed=8)
    both = Image.new("RGB", (128, 64))
    both.paste(left, (0, 0))
    both.paste(right, (64, 0))
    file = container.unpack(codec.compress(both, 50, block=(64, 64)))
    alone = [container.unpack(codec.compress(p, 50, block=(64, 64))) for p in (left, right)]
    assert [file.block(0), file.block(1)] == [alone[0].block(0), alone[1].block(0)]


def test_overhead_is_at_most_40_bytes(codec):
    data = codec.compress(smooth_picture(256, 192), 50)
    assert len(data) - container.unpack(data).block_lengths[0] <= 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": 100.1}, "quality"),
        ({"quality": -1}, "quality"),
        ({"effort": 0}, "effort"),
        ({"bpp": 0}, "target"),
        ({"bpp": float("nan")}, "target"),
        ({"bpp": float("inf")}, "target"),
        ({"max_bytes": float("nan")}, "target"),
        ({"bpp": 1e-4}, "target of 0 bytes cannot be met"),
        ({"bpp": 1, "max_bytes": 1}, "not both"),
        ({"block": (100, 64)}, "multiples of 64"),
        ({"block": (128.0, 128.0)}, "multiples of 64"),
        ({"block": 64}, "two multiples of 64"),
        ({"block": (131072, 64)}, "multiples of 64 up to 65536"),
    ],
)
def test_wrong_arguments_are_refused(codec, arguments, message):
    with pytest.raises(nlaic.NlaicError, match=message):
        codec.compress(smooth_picture(64, 64), **arguments)


def test_symbols_other_than_those_coded_are_an_error_that_names_the_block(codec):
    """A sound file, every checksum in order, read by tables other than the encoder's: those of another quality."""
    file = container.unpack(codec.compress(smooth_picture(256, 64, 3), 70, block=(128, 64)))
    other = container.pack(replace(file.header, quality=650), [file.block(0), file.block(1)])
    with pytest.raises(
        nlaic.FormatError, match=r"^byte \d+: block 0 \(column 0, row 0\): entropy payload does not end"
    ):
        codec.decompress(other)


def test_a_file_of_other_weights_is_refused(codec):
    file = container.unpack(codec.compress(smooth_picture(64, 64), 50))
    header = container.Header(64, 64, b"12345678", 500, (2048, 1024))
    other = container.pack(header, [file.block(0)])
    with pytest.raises(nlaic.FormatError, match=codec.weights.model_id.hex()):
        codec.decompress(other)
    with pytest.raises(nlaic.NlaicError, match=b"12345678".hex()):
        nlaic.load_for(other)


def test_the_api(tiny_model, monkeypatch):
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tiny_model.parent))
    picture = smooth_picture(96, 80)
    data = nlaic.compress(picture, 40, model="tiny", device="cpu")
    assert nlaic.decompress(data, realism=0.5, device="cpu").size == (96, 80)  # found by the model id
    for same in (bytearray(data), memoryview(data)):
        assert nlaic.decompress(same, device="cpu") == nlaic.decompress(data, device="cpu")
        assert nlaic.info(same)["quality"] == 40
    assert nlaic.compress(picture, 40, model="tiny", block=np.array([128, 64])) == nlaic.compress(
        picture, 40, model="tiny", block=(128, 64)
    )
    with pytest.raises(nlaic.NlaicError, match="region must be four whole numbers"):
        nlaic.decompress(data, region=(0.0, 0.0, 5.0, 5.0), device="cpu")
    for wrong in ("photo.nlaic", 5, BytesIO(data)):
        with pytest.raises(nlaic.NlaicError, match="data must be the bytes of a file"):
            nlaic.info(wrong)
    with pytest.raises(nlaic.NlaicError, match="realism"):
        nlaic.load("tiny").decompress(data, realism=2)
    with pytest.raises(nlaic.NlaicError, match="absent"):
        nlaic.load("absent")
    with pytest.raises(nlaic.NlaicError, match="threads must be 1 or more, but got 0"):
        nlaic.load("tiny", threads=0)


def test_weights_that_were_replaced_are_read_again(tiny_model, tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(tiny_model.read_bytes())
    data = nlaic.compress(smooth_picture(64, 64), model=str(mine), device="cpu", effort=1)
    weights = read_weights(tiny_model)
    other = dict(weights.tensors)
    other["rates.offset"] = other["rates.offset"] + np.int32(1)
    mine.write_bytes(Weights(other, weights.metadata).to_bytes())
    os.utime(mine, ns=(1, 1))
    again = nlaic.compress(smooth_picture(64, 64), model=str(mine), device="cpu", effort=1)
    assert nlaic.info(data)["model_id"] != nlaic.info(again)["model_id"]


def test_a_picture_is_turned_by_its_exif_orientation(codec):
    upright = smooth_picture(80, 50, seed=10)
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.getexif()[0x0112] = 6
    data = codec.compress(stored, 60)
    assert nlaic.info(data)["width"] == 80
    assert data == codec.compress(upright, 60)


def test_a_path_in_the_place_of_a_picture(codec):
    with pytest.raises(nlaic.NlaicError, match=r"image must be a PIL image, but got str: use PIL\.Image\.open"):
        codec.compress("photo.jpg")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I", "I;16", "CMYK"])
def test_an_empty_picture_is_refused(codec, mode):
    with pytest.raises(nlaic.NlaicError, match="7x0 pixels: at least 1x1 is needed"):
        codec.compress(Image.new(mode, (7, 0)))


@pytest.mark.parametrize("function", [nlaic.load, nlaic.compress, nlaic.decompress, Codec.compress, Codec.decompress])
def test_help_tells_every_argument(function):
    told = inspect.getdoc(function)
    for name in set(inspect.signature(function).parameters) - {"self"}:
        assert f"    {name}: " in told


def test_repr_tells_weights_and_how_they_run(codec):
    assert repr(codec) == (
        f"<Codec tiny-00000000: model {codec.weights.model_id.hex()}, device cpu, precision {codec.engine.precision}>"
    )


def test_a_second_decoder_is_known_from_the_weights(codec):
    assert not codec.has_second_decoder
    second = {
        name.replace("g_s.", "g_s_perceptual."): t for name, t in codec.weights.tensors.items() if name[:4] == "g_s."
    }
    weights = replace(codec.weights, tensors={**codec.weights.tensors, **second})
    assert Codec(weights, codec.engine).has_second_decoder


def test_quality_numbers():
    assert [quality_number(q) for q in (0, 0.1, 49.9, 100)] == [0, 1, 499, 1000]
    assert padded(1) == 64
