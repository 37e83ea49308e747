"""Filters over pictures: blocks are not seen, turned pictures are filtered as they were coded, nothing else changes."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from nlaic.classic.blocks import overlap_save
from nlaic.classic.pictures import open_coded, restored
from nlaic.classic.restore import Restorer, Running
from nlaic.classic.weights import find_filter
from nlaic.engine import Execution
from nlaic.errors import NlaicError
from nlaic.export import save_weights
from nlaic.graphs import SUFFIX
from nlaic.onnx_export import export_graphs
from nlaic.weights import read_weights
from tests.classic.conftest import SMALL, rms, small_filter
from tests.conftest import smooth_picture

CPU = Execution("cpu", 1)


def coded(picture, quality=20, **options):
    out = BytesIO()
    picture.save(out, "JPEG", quality=quality, **options)
    out.seek(0)
    return out


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(200, 150), (129, 64), (1, 1)])
def test_blocks_are_those_of_the_whole_picture(name, size):
    restorer, pixels = Restorer(small_filter(name, "jpeg"), CPU), np.asarray(smooth_picture(*size))
    whole = restorer.restore(pixels, 0.5, Running((1024, 1024)))
    assert whole.shape == pixels.shape and rms(whole, pixels) > 0.3
    for block in ((64, 64), (128, 64)):
        parts = restorer.restore(pixels, 0.5, Running(block))
        assert np.abs(parts.astype(int) - whole).max() <= 1  # rounding alone
        assert (parts != whole).mean() < 1e-3


def test_overlap_save_equals_a_plain_convolution():
    rng = np.random.default_rng(0)
    pixels, kernel = rng.integers(0, 256, (90, 70, 3), np.uint8), rng.random(5)

    def run(block):  # as networks do: zeros around what they are given
        for axis in (0, 1):
            block = np.apply_along_axis(lambda line: np.convolve(line, kernel, "same"), axis, block)
        return block

    out = np.empty((90, 70, 3))
    out[:] = run(pixels)
    parts = overlap_save(pixels.astype(float), run, (32, 16), 2)
    assert np.allclose(parts, out)


def test_rotations_are_the_mean_of_four_pictures():
    restorer, pixels = Restorer(small_filter("mvgl-c", "jpeg"), CPU), np.asarray(smooth_picture(96, 64))
    single = [np.rot90(restorer.restore(np.rot90(pixels, k), 0.5), -k).astype(float) for k in range(4)]
    together = restorer.restore(pixels, 0.5, Running(rotations=True))
    assert np.abs(together - np.mean(single, axis=0)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_filtered_on_its_codecs_grid(orientation):
    restorer, picture = Restorer(small_filter("restore-light", "jpeg"), CPU), smooth_picture(72, 40)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a camera"
    upright, source, turn = open_coded(coded(picture, exif=exif))
    plain, _, _ = open_coded(coded(picture))
    found = restored(upright, turn, restorer, source.level)
    expected = Image.fromarray(restorer.restore(np.asarray(plain), source.level))
    expected = expected.transpose(turn) if turn is not None else expected
    assert found.size == upright.size and np.array_equal(np.asarray(found), np.asarray(expected))
    assert Image.open(coded(found, exif=found.info["exif"])).getexif()[0x010F] == "a camera"


def test_grey_stays_grey_and_alpha_stays_what_it_was():
    restorer = Restorer(small_filter("svac2", "jpeg"), CPU)
    grey = restored(smooth_picture(40, 30).convert("L"), None, restorer, 0.5)
    assert grey.mode == "L" and grey.size == (40, 30)
    both = smooth_picture(40, 30)
    both.putalpha(Image.linear_gradient("L").resize((40, 30)))
    out = restored(both, None, restorer, 0.5)
    assert out.mode == "RGBA" and np.array_equal(np.asarray(out)[..., 3], np.asarray(both)[..., 3])


def test_levels_that_were_not_trained_at_are_the_nearest():
    restorer, pixels = Restorer(small_filter("restore-light", "jpeg"), CPU), np.asarray(smooth_picture(64, 64))
    finest, coarsest = restorer.levels  # of qualities 95 and 5
    assert 0.1 < finest < 0.3 and 0.7 < coarsest < 0.9
    assert np.array_equal(restorer.restore(pixels, 0.0), restorer.restore(pixels, finest))
    assert np.array_equal(restorer.restore(pixels, 1.0), restorer.restore(pixels, coarsest))
    assert not np.array_equal(restorer.restore(pixels, finest), restorer.restore(pixels, coarsest))


def test_bf16_is_near_and_a_block_off_the_grid_is_refused():
    weights, pixels = small_filter("restore-light", "jpeg"), np.asarray(smooth_picture(64, 64))
    reduced = Restorer(weights, Execution("cpu", 1, "bf16")).restore(pixels, 0.5)
    assert rms(reduced, Restorer(weights, CPU).restore(pixels, 0.5)) < 1
    with pytest.raises(NlaicError, match="multiples of 16, but got"):
        Restorer(weights, CPU).restore(pixels, 0.5, Running((40, 64)))


def test_weights_of_another_network_are_one_line():
    weights = small_filter("svac2", "jpeg")
    weights.metadata["architecture"], weights.metadata["settings"] = "mvgl-c", SMALL["mvgl-c"]
    with pytest.raises(NlaicError, match="weights None"):
        Restorer(weights, CPU)
    assert torch.is_inference_mode_enabled() is False
    for name, value in (("source", None), ("qualities", "[1"), ("settings", "{")):
        weights = small_filter("svac2", "jpeg")
        weights.metadata.pop(name)
        weights.metadata.update({name: value} if value else {})
        with pytest.raises(NlaicError, match="weights None: incomplete or damaged"):
            Restorer(weights, CPU)


@pytest.mark.parametrize("other", ["onnx", "openvino"])
@pytest.mark.parametrize(("name", "source"), [("restore-light", "jpeg"), ("restore-light", "webp"), ("svac2", "heic")])
def test_other_engines_give_what_torch_does(name, source, other):
    """The shipped filters share their graphs; blocks that do not divide the picture."""
    pytest.importorskip("openvino" if other == "openvino" else "onnxruntime")
    weights, pixels = find_filter(name, source), np.asarray(smooth_picture(150, 90))
    pictures = [
        Restorer(weights, Execution("cpu", 1, "fp32", engine=engine)).restore(pixels, 0.6, Running((64, 48)))
        for engine in (other, "torch")
    ]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1
    assert (pictures[0] != pixels).any()


def test_a_filter_without_graphs_needs_torch():
    with pytest.raises(NlaicError, match="no ONNX graphs"):
        Restorer(small_filter("mvgl-c", "jpeg"), Execution(engine="onnx"))


@pytest.mark.parametrize("name", ["svac2", "mvgl-c", "colorblust"])
def test_every_filter_can_be_exported(name, tmp_path):
    path = save_weights(small_filter(name, "jpeg"), tmp_path / f"{name}-jpeg-00000000.safetensors")
    weights, pixels = read_weights(path), np.asarray(smooth_picture(80, 48))
    path.with_suffix(SUFFIX).write_bytes(export_graphs(weights).to_bytes())
    pictures = [
        Restorer(weights, Execution("cpu", 1, engine=engine)).restore(pixels, 0.5) for engine in ("onnx", "torch")
    ]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1
