"""Pictures of every mode and orientation to RGB, against arithmetic written here."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from nlaic.errors import NlaicError
from nlaic.picture import (
    normalized,
    read_picture,
    to_rgb,
)
from tests.files_by_hand import linear_profile, png

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)


def through(image, suffix=".png", **options):
    """The picture as `read_picture` finds it in a file, and the notes."""
    buffer, notes = BytesIO(), []
    image.save(buffer, Image.registered_extensions()[suffix], **options)
    found = read_picture(BytesIO(buffer.getvalue()), warn=notes.append)
    assert found.mode == "RGB"
    assert found.info == {}
    return np.asarray(found).astype(int), notes


def test_rgb_is_untouched():
    found, notes = through(Image.fromarray(RGB))
    assert np.array_equal(found, RGB)
    assert notes == []


def test_grey_bilevel_and_palette():
    grey = RGB[..., 0]
    assert np.array_equal(through(Image.fromarray(grey))[0], np.repeat(grey[..., None], 3, axis=2))
    bits = Image.fromarray(grey > 128)
    assert np.array_equal(through(bits)[0], np.repeat((grey > 128)[..., None] * 255, 3, axis=2))
    palette = Image.fromarray(grey % 16, "P")
    colours = RNG.integers(0, 256, (16, 3), dtype=np.uint8)
    palette.putpalette(colours.tobytes())
    found, notes = through(palette)
    assert np.array_equal(found, colours[grey % 16])
    assert notes == []


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_composited_over_white(mode):
    alpha = RNG.integers(0, 256, RGB.shape[:2], dtype=np.uint8)
    colours = RGB if mode == "RGBA" else np.repeat(RGB[..., :1], 3, axis=2)
    image = Image.fromarray(RGB if mode == "RGBA" else RGB[..., 0])
    image = image.convert("P").convert("PA") if mode == "PA" else image
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == mode
    notes = []
    found = np.asarray(to_rgb(image, warn=notes.append)).astype(int)
    part = alpha[..., None] / 255
    assert np.abs(found - (colours * part + 255 * (1 - part))).max() <= 1
    assert notes == ["transparency is lost: composited over white"]


def test_opaque_alpha_is_dropped_without_a_word():
    found, notes = through(Image.fromarray(RGB).convert("RGBA"))
    assert np.array_equal(found, RGB)
    assert notes == []


def test_transparent_palette_colour_becomes_white():
    palette = Image.fromarray(RGB[..., 0] % 4, "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    found, notes = through(palette, transparency=2)
    expected = np.array([[10, 20, 30], [40, 50, 60], [255, 255, 255], [100, 110, 120]])[RGB[..., 0] % 4]
    assert np.array_equal(found, expected)
    assert len(notes) == 1


def test_sixteen_bit_grey_is_scaled_and_rounded():
    values = RNG.integers(0, 65536, (9, 11), dtype=np.uint16)
    values[0, :6] = [0, 128, 129, 257, 65534, 65535]
    expected = np.repeat(np.floor(values / 257 + 0.5).astype(int)[..., None], 3, axis=2)
    for suffix in (".png", ".tif"):
        found, notes = through(Image.fromarray(values), suffix)
        assert np.array_equal(found, expected)
        assert notes == ["16 bits a sample reduced to 8"]
    assert np.array_equal(np.asarray(to_rgb(Image.fromarray(values.astype(np.int32)))), expected)


def test_sixteen_bit_colour_is_noted():
    rows = RNG.integers(0, 65536, (3, 5, 3), dtype=np.uint16)
    notes = []
    found = read_picture(
        BytesIO(png(5, 3, 16, 2, b"".join(b"\0" + r.astype(">u2").tobytes() for r in rows))), warn=notes.append
    )
    assert np.abs(np.asarray(found) - rows / 257.0).max() <= 1
    assert notes == ["16 bits a sample reduced to 8"]


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2), np.float32), np.full((2, 2), 70000, np.int32), np.full((2, 2), -1, np.int32)]
)
def test_unknown_range_is_refused(array):
    with pytest.raises(NlaicError, match="allowed"):
        to_rgb(Image.fromarray(array))


def test_cmyk_without_profile():
    inks = RNG.integers(0, 256, (6, 7, 4), dtype=np.uint8)
    found = np.asarray(to_rgb(Image.frombytes("CMYK", (7, 6), inks.tobytes()))).astype(int)
    light = 255 - inks.astype(float)
    assert np.abs(found - light[..., :3] * light[..., 3:] / 255).max() <= 1


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB"])
def test_other_colour_spaces(mode):
    grey = Image.new("RGB", (4, 4), (120, 120, 120))
    if mode == "LAB":
        grey_lab = ImageCms.profileToProfile(
            grey, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        found = to_rgb(grey_lab)
    else:
        found = to_rgb(grey.convert(mode))
    assert np.abs(np.asarray(found).astype(int) - 120).max() <= 2


ORIENTED = {  # EXIF orientation: the stored array of an upright one
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_orientation_is_applied(orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(ORIENTED[orientation](RGB))
    assert np.array_equal(through(Image.fromarray(stored), suffix, exif=exif)[0], RGB)


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_an_opened_picture_is_turned_as_its_file_is_and_only_once(orientation, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(ORIENTED[orientation](RGB))
    buffer = BytesIO()
    Image.fromarray(stored).convert(mode).save(buffer, "PNG", exif=exif)
    opened = Image.open(buffer)
    found = to_rgb(opened)
    assert np.array_equal(np.asarray(found), np.asarray(read_picture(BytesIO(buffer.getvalue()))))
    assert np.array_equal(np.asarray(to_rgb(found)), np.asarray(found))
    assert np.array_equal(np.asarray(opened), np.asarray(Image.fromarray(stored).convert(mode)))  # the caller's own
    assert opened.getexif()[0x0112] == orientation


@pytest.mark.parametrize("given", ["photo.png", RGB, None])
def test_what_is_no_picture_is_named(given):
    with pytest.raises(NlaicError, match=rf"PIL image, but got {type(given).__name__}: use PIL\.Image\.open"):
        to_rgb(given)


def left(image):
    """As it is behind its `with` block, not loaded in it."""
    with image:
        return image


def closed(image):
    image.load()
    image.close()
    return image


def tagged(image):
    image.info["transparency"] = "red"
    return image


@pytest.mark.parametrize(("spoil", "mode"), [(left, "RGB"), (closed, "RGB"), (tagged, "L")])
def test_a_picture_that_cannot_be_used_is_one_error(spoil, mode, tmp_path):
    Image.fromarray(RGB).convert(mode).save(tmp_path / "a.png")
    for take in (to_rgb, normalized):
        with pytest.raises(NlaicError, match=r"closed, damaged or oddly tagged: .+"):
            take(spoil(Image.open(tmp_path / "a.png")))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_costs_at_most_the_orientation():
    found, _ = through(Image.fromarray(RGB), exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff\x01\x12")
    assert np.array_equal(found, RGB)


def test_profile_is_converted_and_a_bad_one_ignored():
    lab = np.asarray(through(Image.fromarray(RGB), icc_profile=linear_profile())[0])
    linear = RGB / 255
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(lab - expected).max() <= 3
    found, notes = through(Image.fromarray(RGB), icc_profile=b"no profile")
    assert np.array_equal(found, RGB)
    assert len(notes) == 1 and "ignored" in notes[0]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found, notes = through(Image.fromarray(RGB), icc_profile=srgb)
    assert np.array_equal(found, RGB)
    assert notes == []


def test_first_frame_is_taken_and_said():
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    found, notes = through(frames[0], ".tif", save_all=True, append_images=frames[1:])
    assert np.array_equal(found[0, 0], [255, 0, 0])
    assert notes == ["the first of 2 frames is taken"]
