"""Pillow opens and saves .nlaic files once nlaic is imported, and imports torch only for pixels."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import nlaic
from nlaic.picture import open_picture
from tests.conftest import smooth_picture
from tests.files_by_hand import XMP, linear_profile


@pytest.fixture
def tiny(tiny_model, monkeypatch):
    """The tiny model stands where weights are looked for by name and id."""
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tiny_model.parent))
    return {"model": "tiny", "device": "cpu", "effort": 1}


def test_save_and_open(tiny, tmp_path):
    image, path = smooth_picture(90, 70), tmp_path / "a.nlaic"
    image.putalpha(Image.fromarray(np.arange(6300, dtype=np.uint16).astype(np.uint8).reshape(70, 90)))
    image.save(path, quality=40, xmp=b"<xmp/>", **tiny)
    assert path.read_bytes()[:4] == b"\x8bNLC"
    assert nlaic.info(path.read_bytes())["quality"] == 40
    with Image.open(path) as opened:
        assert (opened.format, opened.mode, opened.size) == ("NLAIC", "RGBA", (90, 70))
        assert opened.get_format_mimetype() == "image/x-nlaic"
        assert opened.info == {"xmp": b"<xmp/>"}
        assert np.array_equal(np.asarray(opened), np.asarray(nlaic.decompress(path.read_bytes(), device="cpu")))
        assert np.array_equal(np.asarray(opened.getchannel("A")), np.asarray(image.getchannel("A")))
        opened.resize((9, 7)).save(tmp_path / "b.png")


def test_streams_and_what_save_takes(tiny):
    image, buffer = smooth_picture(90, 70).convert("L"), BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    image.save(buffer, "NLAIC", max_bytes=1500, exif=exif, optimize=True, **tiny)
    assert len(buffer.getvalue()) <= 1500
    assert "exif" not in image.info
    opened = Image.open(buffer)
    assert opened.mode == "L" and opened.getexif()[0x010F] == "Maker"
    assert opened.copy().getextrema()[1] > 0
    assert not buffer.closed
    stripped = BytesIO()
    image.save(stripped, "NLAIC", exif=exif, strip=True, **tiny)
    assert Image.open(stripped).info == {}


def test_what_is_wrong(tiny, tmp_path):
    path = tmp_path / "a.nlaic"
    with pytest.raises(nlaic.NlaicError, match="quality"):
        smooth_picture(64, 64).save(path, quality=400, **tiny)
    with pytest.raises(nlaic.NlaicError, match="but got 'web_high'"):
        smooth_picture(64, 64).save(path, quality="web_high", **tiny)
    assert not path.exists()
    smooth_picture(64, 64).save(path, **tiny)
    data = path.read_bytes()
    with pytest.raises(OSError, match="truncated"):
        Image.open(BytesIO(data[:30]))
    broken = Image.open(BytesIO(data[:-6] + bytes(2) + data[-4:]))
    with pytest.raises(OSError, match="block 0"):
        broken.load()
    with pytest.raises(UnidentifiedImageError):
        Image.open(BytesIO(b"\x8bPNG" + data[4:]))
    with pytest.raises(nlaic.NlaicError, match=r"is a \.nlaic file already"):
        open_picture(path)


def test_torch_waits_for_the_pixels(tiny, tmp_path):
    path = tmp_path / "a.nlaic"
    smooth_picture(64, 64).save(path, **tiny)
    code = (
        "import sys, nlaic\nfrom PIL import Image\n"
        "image = Image.open(sys.argv[1])\nprint(image.size, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "(64, 64) False\n"


def _turned(image, **options):
    out = BytesIO()
    image.save(out, "NLAIC", **options)
    return Image.open(out)


def _exif(orientation=None):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    if orientation:
        exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("xmp", [b"", XMP], ids=["", "xmp"])  # which says 6, too
@pytest.mark.parametrize(
    ("options", "upright"),
    [
        ({}, True),
        ({"strip": True}, True),
        ({"exif": _exif(6)}, True),
        ({"exif": _exif(6).tobytes(), "strip": True}, True),
        ({"exif": None}, True),
        ({"exif": b"", "icc_profile": None}, True),
        ({"xmp": b"<x/>"}, True),
        ({"exif": _exif(1)}, False),  # it is said to be upright as it lies there
        ({"exif": _exif()}, False),
    ],
)
def test_a_photograph_is_turned_by_the_exif_given_or_by_its_own(options, upright, xmp, tiny):
    picture, source = smooth_picture(96, 64), BytesIO()
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    stored.save(source, "WEBP", lossless=True, exif=_exif(6), xmp=xmp)
    found = _turned(Image.open(source), **options, **tiny | {"effort": 1, "quality": 90})
    assert found.size == (picture if upright else stored).size
    assert np.abs(np.asarray(found, float) - np.asarray(picture if upright else stored)).mean() < 25
    assert found.getexif().get(0x0112, 1) == 1
    assert ("exif" in found.info) == (options.get("exif", True) not in (None, b"") and not options.get("strip"))


@pytest.mark.parametrize(
    ("key", "junk"), [("exif", b"junk"), ("exif", b"Exif\0\0II*\0\xff\xff"), ("icc_profile", b"junk")]
)
def test_metadata_given_that_are_none_are_refused(key, junk, tiny):
    with pytest.raises(nlaic.NlaicError, match=f"{key} is damaged: ."):
        smooth_picture(64, 64).save(BytesIO(), "NLAIC", **{key: junk}, **tiny)


def test_what_is_decoded_is_sound(tiny):
    out = BytesIO()
    smooth_picture(64, 64).save(out, "NLAIC", **tiny)
    opened = Image.open(out)
    opened.load()
    opened.verify()


def test_metadata_that_are_asked_to_go_do(tiny):
    image, exif = smooth_picture(64, 64), Image.Exif()
    exif[0x010F] = "Maker"
    source = BytesIO()
    image.save(source, "PNG", exif=exif, icc_profile=linear_profile())
    for given, left in (
        ({}, {"exif", "icc_profile"}),
        ({"exif": None}, {"icc_profile"}),
        ({"icc_profile": b""}, {"exif"}),
    ):
        out = BytesIO()
        Image.open(source).save(out, "NLAIC", **given, **tiny)
        assert set(Image.open(out).info) == left
    out = BytesIO()
    image.save(out, "NLAIC", xmp="<x/>", **tiny)
    assert Image.open(out).info == {"xmp": b"<x/>"}
    with pytest.raises(nlaic.NlaicError, match="exif must be bytes or None, but got int"):
        image.save(out, "NLAIC", exif=5, **tiny)
