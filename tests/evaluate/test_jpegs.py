"""The rows of JPEG: all are packed alike and what they claim; the part of a curve that counts."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nlaic.classic.jpeg.tables import family
from nlaic.errors import NlaicError
from nlaic.evaluate import jpegs
from nlaic.evaluate.bd import at_rate, bd_rate, below
from nlaic.evaluate.codecs import MissingError, parse
from tests.classic.conftest import model_of, untrained
from tests.conftest import smooth_picture


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "untrained.safetensors"
    path.write_bytes(model_of(untrained("420"), untrained("444")).to_bytes())
    return path


@pytest.mark.parametrize("text", ["jpeg-packed", "jpeg-family", "jpeg-learned", "jpegli-packed"])
def test_each_row_writes_files_that_nothing_packs_further(text, weights):
    text += f":model={weights}" if text == "jpeg-learned" else ""
    coder, picture = parse(text).open(), smooth_picture(200, 150)
    settings = parse(text).codec.settings
    small, large = (coder.encode(picture, setting) for setting in (settings[1], settings[-1]))
    assert len(small) < len(large)
    assert jpegs.packed(large) == large
    assert coder.decode(large).size == (200, 150)


def test_options_are_kept_apart(weights):
    picture = smooth_picture(200, 150)
    names = ["", ",rounding=attention", ",rounding=nearest", ",tune=2", ",subsampling=444"]
    coders = [parse(f"jpeg-learned:model={weights}{name}").open() for name in names]
    assert len({coder.version for coder in coders}) == len({coder.encode(picture, 40) for coder in coders}) == 5
    with pytest.raises(NlaicError, match="has no option 'speed': allowed are subsampling, rounding"):
        parse("jpeg-learned:speed=1").open()
    with pytest.raises(MissingError, match=r"none\.safetensors"):
        parse("jpeg-learned:model=none.safetensors").open()


def test_the_family_is_what_it_is_called():
    table = family(10, 0.5, 2)[1]
    assert (table[0, 0], table[1, 2], table[7, 7]) == (20, 50, 160)
    data = parse("jpeg-family:a=0.5,chroma=2").open().encode(smooth_picture(40, 40), 10)
    stored = Image.open(BytesIO(data)).quantization
    assert stored[0][0] == 10 and sorted(stored[1]) == sorted(table.ravel())


def test_a_series_of_weights(weights):
    coder = parse(f"jpeg-series:models={weights}+{weights}").open()
    picture = smooth_picture(64, 64)
    assert coder.decode(coder.encode(picture, 2)).size == (64, 64)
    with pytest.raises(NlaicError, match="there are 2 weights, but setting is 3"):
        coder.encode(picture, 3)


def test_the_part_of_a_curve_below_a_rate():
    curve = [(0.8, 34.0), (0.1, 25.0), (0.2, 28.0), (0.4, 31.0)]
    assert below(curve, None) == sorted(curve) and below(curve, 1.0) == sorted(curve)
    cut = below(curve, 0.3)
    assert cut[:2] == [(0.1, 25.0), (0.2, 28.0)] and cut[2] == (0.3, at_rate(curve, 0.3))
    other = [(0.1, 25.5), (0.2, 28.6), (0.4, 31.2), (0.8, 33.0)]  # better below, worse above
    assert bd_rate(below(curve, 0.3), other) < bd_rate(curve, other)
    assert np.isclose(bd_rate(below(curve, 0.3), curve), 0, atol=1e-6)
