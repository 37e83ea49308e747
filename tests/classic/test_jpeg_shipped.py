"""The JPEG encoder that ships: what it weighs, and that it is worth having."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nlaic.classic.jpeg.encoder import Options, encode
from nlaic.classic.jpeg.model import load
from nlaic.resources import resource_folder


@pytest.fixture(scope="module")
def photographs():
    data = pytest.importorskip("skimage.data")
    return [Image.fromarray(picture) for picture in (data.astronaut(), data.coffee(), data.chelsea())]


def psnr(a, b) -> float:
    mse = np.square(np.asarray(a, float) - np.asarray(b, float)).mean()
    return -10 * np.log10(mse / 255**2)


def opened(data):
    return Image.open(BytesIO(data)).convert("RGB")


def test_what_ships_is_small():
    files = sorted((resource_folder("weights") / "classic").glob("jpeg-*.safetensors"))
    assert files and sum(path.stat().st_size for path in files) <= 300_000


@pytest.mark.parametrize("subsampling", ["420", "444"])
def test_better_than_pillow_at_its_bytes(subsampling, photographs):
    """At a tenth fewer bytes than Pillow's progressive files of low quality, and still nearer to the picture."""
    for photograph in photographs:
        out = BytesIO()
        options = {"optimize": True, "progressive": True, "subsampling": ":".join(subsampling)}
        photograph.save(out, "JPEG", quality=12, **options)
        ours = encode(photograph, load(), options=Options(subsampling), max_bytes=int(0.9 * out.tell()))
        assert psnr(opened(ours), photograph) > psnr(opened(out.getvalue()), photograph)


def test_thoughtful_levels_are_worth_it(photographs):
    """Nearer to the picture than the nearest levels are, in fewer bytes."""
    for photograph in photographs:
        nearest = encode(photograph, load(), 30, Options(rounding="nearest"))
        ours = encode(photograph, load(), max_bytes=int(0.95 * len(nearest)))
        assert psnr(opened(ours), photograph) > psnr(opened(nearest), photograph)


def test_the_finest_quality_is_nearly_the_picture(photographs):
    for photograph in photographs:
        assert psnr(opened(encode(photograph, load(), 100, Options("444"))), photograph) > 42
