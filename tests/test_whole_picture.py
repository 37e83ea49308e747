"""Grey, colour profiles and every mode come back as they were."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic import container
from nlaic.metadata import save_options
from nlaic.picture import encode_picture, open_picture
from tests.conftest import smooth_picture
from tests.files_by_hand import GREY, P3, SRGB, XMP, camera_exif, linear_profile, matrix_profile, saved

RNG = np.random.default_rng(5)
SIZE = (90, 70)
TURNED = SIZE[::-1]


def ragged_alpha():
    """All kinds of values, with parts that cannot be seen."""
    alpha = RNG.integers(0, 256, TURNED, dtype=np.uint8)
    alpha[:40, :50] = 0
    alpha[50:, 60:] = 255
    return alpha


# Grey


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "I"])
def test_grey_is_grey_and_costs_what_it_would_in_rgb(mode, codec):
    grey = smooth_picture(*SIZE).convert("L")
    image = grey.convert("1") if mode == "1" else grey
    if mode[0] == "I":
        image = Image.fromarray(np.asarray(grey).astype({"I": np.int32, "I;16": np.uint16}[mode]) * 257)
    assert image.mode == mode
    plain = grey.convert("1").convert("L") if mode == "1" else grey
    data, as_rgb = codec.compress(image, 70), codec.compress(plain.convert("RGB"), 70)
    assert len(data) == len(as_rgb)
    assert container.unpack(data).block(0) == container.unpack(as_rgb).block(0)
    back, colour = codec.decompress(data), np.asarray(codec.decompress(as_rgb), float)
    assert back.mode == "L"
    assert np.abs(np.asarray(back) - colour @ [0.299, 0.587, 0.114]).max() <= 0.51
    assert codec.decompress(data, region=(5, 6, 20, 30)).tobytes() == back.crop((5, 6, 25, 36)).tobytes()


# Profiles


def test_a_p3_photograph_keeps_values_and_profile(there_and_back):
    image = smooth_picture(*SIZE)
    back, file, notes = there_and_back(saved(image, icc_profile=P3))
    assert (back.info["icc_profile"], notes) == (P3, [])
    plain, without, _ = there_and_back(saved(image))
    assert np.array_equal(np.asarray(back), np.asarray(plain))
    assert len(file) == len(without) + len(P3) + 4 + 3
    for format in ("PNG", "JPEG", "WEBP", "AVIF", "TIFF"):
        assert Image.open(BytesIO(encode_picture(back, format))).info["icc_profile"] == P3


def test_stripped_a_p3_photograph_becomes_srgb(there_and_back):
    """A colour of P3 to sRGB by the two matrices of the standards; the profile's curve is a gamma of 2.2."""
    image = Image.new("RGB", SIZE, (180, 120, 90))
    data = saved(image, "JPEG", quality=100, subsampling=0, icc_profile=P3, exif=camera_exif(1), xmp=XMP)
    stripped = open_picture(BytesIO(data), strip=True)
    assert stripped.info == {}
    to_srgb = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
    linear = to_srgb @ (np.array([180, 120, 90]) / 255) ** 2.2
    expected = (1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(np.asarray(stripped, float) - expected).max() <= 3
    back, file, notes = there_and_back(data, strip=True)
    assert (back.info, nlaic.info(file)["sections"]) == ({}, {})
    assert notes == ["colours converted from 'Display P3' to sRGB"]


@pytest.mark.parametrize("icc", [SRGB, matrix_profile([(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)])])
def test_srgb_needs_no_profile_and_its_name_does_not_matter(icc, codec):
    image = smooth_picture(*SIZE)
    plain = codec.compress(image, 50, effort=1)
    image.info["icc_profile"] = icc
    # A gamma of 2.2 is not sRGB's curve: only the real one is left out.
    assert (codec.compress(image, 50, effort=1) == plain) == (icc is SRGB)


def test_a_profile_that_is_called_srgb_and_is_not(there_and_back):
    icc = linear_profile().replace("linear".encode("utf-16-be"), "sRGB l".encode("utf-16-be"))
    assert there_and_back(saved(smooth_picture(*SIZE), icc_profile=icc))[0].info == {"icc_profile": icc}


def test_a_grey_profile_stays_with_a_grey_picture(there_and_back):
    image = smooth_picture(*SIZE).convert("LA")
    image.putalpha(Image.fromarray(ragged_alpha()))
    back, _, _ = there_and_back(saved(image, icc_profile=GREY))
    assert (back.mode, back.info) == ("LA", {"icc_profile": GREY})
    stripped, _, notes = there_and_back(saved(image, icc_profile=GREY), strip=True)
    assert (stripped.mode, stripped.info) == ("LA", {})
    for format in ("WEBP", "AVIF"):  # whose grey is RGB, which no grey profile is for
        coloured = Image.open(BytesIO(encode_picture(back, format)))
        seen = np.abs(np.asarray(coloured.convert("LA"), int) - np.asarray(stripped, int))[..., 0][ragged_alpha() > 0]
        assert "icc_profile" not in coloured.info and seen.mean() < 4
    assert notes == ["colours converted from 'grey' to sRGB"]
    middle = (np.asarray(back)[..., 0] > 90) & (np.asarray(back)[..., 0] < 160)  # a gamma of 1.2 is lighter there
    assert np.all(np.asarray(stripped)[..., 0][middle] > np.asarray(back)[..., 0][middle] + 20)


@pytest.mark.parametrize("icc", [b"no profile", P3[:200], P3[:128] + bytes(len(P3) - 128), GREY])
def test_a_profile_that_is_damaged_or_of_another_kind_is_ignored(icc, there_and_back):
    image = smooth_picture(*SIZE)
    back, _, notes = there_and_back(saved(image, icc_profile=icc))
    assert back.info == {}
    assert len(notes) == 1 and notes[0].startswith("colour profile ignored: ")


def test_a_cmyk_jpeg_becomes_rgb(there_and_back):
    image = Image.new("CMYK", SIZE, (200, 40, 20, 30))
    for icc in ({}, {"icc_profile": P3}):  # one that does not fit is ignored
        back, _, notes = there_and_back(saved(image, "JPEG", quality=95, **icc))
        assert (back.mode, back.info, len(notes)) == ("RGB", {}, len(icc))
        expected = [55 * 225 / 255, 215 * 225 / 255, 235 * 225 / 255]
        assert np.abs(np.asarray(back, float).mean((0, 1)) - expected).max() < 8


def test_a_profile_larger_than_jpeg_holds_is_left_out_and_said():
    notes: list[str] = []
    large = {"icc_profile": bytes(255 * 65519 + 1)}
    assert save_options(large, "JPEG", notes.append) == {} and "colour profile left out" in notes[0]
    assert save_options({"icc_profile": bytes(255 * 65519)}, "JPEG", notes.append)


# Written again


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "BMP", "PPM", "JPEG", "AVIF"])
def test_every_format_takes_every_mode(format, mode):
    image = smooth_picture(*SIZE).convert(mode[0] if mode[0] == "L" else "RGB")
    alpha = np.where(np.mgrid[0:70, 0:90][0] < 30, 0, 255).astype(np.uint8)
    if "A" in mode:
        image.putalpha(Image.fromarray(alpha))
    notes = []
    found = Image.open(BytesIO(encode_picture(image, format, warn=notes.append)))
    if "A" in mode and format in ("PNG", "WEBP", "TIFF", "AVIF"):
        assert np.array_equal(np.asarray(found.convert("RGBA"))[..., 3], alpha)
        assert notes == []
    elif "A" in mode:
        assert notes == [f"{format} holds no transparency: it is put over white"]
        assert np.asarray(found.convert("RGB"))[:20].min() > 245
    near = np.abs(np.asarray(found.convert("RGB"), float) - np.asarray(image.convert("RGB")))[36:]
    assert near.mean() < (2 if format in ("JPEG", "AVIF") else 1e-9)


def test_a_format_without_metadata_gets_srgb_colours():
    image, notes = Image.new("RGB", SIZE, (180, 120, 90)), []
    image.info = {"icc_profile": P3, "exif": camera_exif(1), "xmp": XMP}
    found = Image.open(BytesIO(encode_picture(image, "PPM", warn=notes.append)))
    assert found.getpixel((0, 0))[0] > 185
    assert notes == ["PPM holds no EXIF and no XMP: left out", "colours converted from 'Display P3' to sRGB"]
