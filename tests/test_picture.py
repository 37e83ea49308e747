"""Pictures of every mode to RGB against arithmetic written here, and every bad file to one clear error."""

import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from nlaic import container
from nlaic.errors import NlaicError
from nlaic.picture import (
    INPUT_SUFFIXES,
    encode_picture,
    open_picture,
    output_format,
    read_picture,
    to_rgb,
    write_picture,
)
from tests.conftest import smooth_picture

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


def linear_profile():
    """lcms's sRGB with its curves replaced by the straight line: what a linear-light picture carries."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", data, 128)[0]
    for entry in range(count):
        tag, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * entry)
        if tag == b"rTRC":
            data[offset : offset + size] = b"curv" + bytes(8) + bytes(size - 12)  # no points: identity
        if tag == b"desc":
            data[offset + 28 : offset + size] = "linear".encode("utf-16-be").ljust(size - 28, b"\0")
    return bytes(data)


def test_first_frame_is_taken_and_said():
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    found, notes = through(frames[0], ".tif", save_all=True, append_images=frames[1:])
    assert np.array_equal(found[0, 0], [255, 0, 0])
    assert notes == ["the first of 2 frames is taken"]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows):
    """A PNG put together by hand."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(format):
    buffer = BytesIO()
    Image.fromarray(RGB).save(buffer, format)
    return buffer.getvalue()


def iptc(inner):
    """A picture of 64x64 in Pillow's format IPTC, whose pixels are another file."""
    records = ((3, 60, b"\1\0"), (3, 20, b"\0@"), (3, 30, b"\0@"), (3, 120, b"\5"), (8, 10, inner))
    return b"".join(struct.pack(">BBBH", 0x1C, n, m, len(content)) + content for n, m, content in records)


def with_alpha():
    """A .nlaic file, whose alpha is read while Pillow reads the file."""
    png_in_it = png(8, 8, 8, 0, bytes(72))
    header = container.Header(8, 8, bytes(8), 500, (64, 64))
    return container.pack(header, [b""], {container.ALPHA: png_in_it})


BAD = {
    "empty": (b"", "empty"),
    "text": (b"this is not a picture, only text that goes on and on", "not a picture"),
    "nlaic": (b"\x8bNLC\1" + bytes(60), "damaged or truncated picture: byte 6: width"),
    "bomb": (png(1 << 16, 1 << 15, 8, 2, b""), "too large"),
    "no pixels": (b"P6 0 5 255\n", "damaged|not a picture|at least"),
    "wrapped drawing": (iptc(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "IPTC is a wrapper"),
    "wrapped nlaic": (iptc(with_alpha()), "IPTC is a wrapper"),
    "drawing": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "drawing"),
    **{f"truncated {f}": (encoded(f)[:-40], "damaged or truncated") for f in ("PNG", "JPEG", "TIFF", "BMP", "PPM")},
    "truncated WEBP": (encoded("WEBP")[:-40], "damaged or truncated|not a picture"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", "damaged|not a picture"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_error_naming_the_file(case, tmp_path):
    data, message = BAD[case]
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(NlaicError, match=message) as caught:
        read_picture(path)
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(NlaicError, match=message):
        read_picture(BytesIO(data))


def test_pillows_limit_is_raised_only_while_reading(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    for format in ("PNG", "TIFF"):
        assert read_picture(BytesIO(encoded(format))).size == (17, 13)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_missing_file_is_pythons_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none.png")


def test_a_stream_that_cannot_seek(tmp_path):
    class Pipe(BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise OSError("pipe")

    assert np.array_equal(np.asarray(read_picture(Pipe(encoded("PNG")))), RGB)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".TIFF", ".bmp", ".ppm"])
def test_lossless_formats_give_the_pixels_back(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    write_picture(Image.fromarray(RGB), path)
    assert np.array_equal(np.asarray(Image.open(path)), RGB)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".avif"])
def test_lossy_formats_come_close(suffix, tmp_path):
    smooth = np.asarray(Image.fromarray(RGB[:3, :3]).resize((64, 48), Image.Resampling.BICUBIC))
    write_picture(Image.fromarray(smooth), tmp_path / f"out{suffix}")
    assert np.abs(np.asarray(Image.open(tmp_path / f"out{suffix}")).astype(int) - smooth).mean() < 3


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.nlaic", "a.gif"])
def test_unknown_suffix_names_the_allowed_ones(name):
    with pytest.raises(NlaicError, match=r"\.png .*\.ppm") as caught:
        output_format(Path(name))
    assert str(caught.value).startswith(f"{name}: ")


def test_what_a_format_cannot_hold():
    with pytest.raises(NlaicError, match="20000x1 pixels cannot be written as WEBP"):
        encode_picture(Image.new("RGB", (20000, 1)), "WEBP")
    with pytest.raises(NlaicError, match="65537x1 pixels cannot be written as AVIF"):
        encode_picture(Image.new("RGB", (65537, 1)), "AVIF")
    with pytest.raises(NlaicError, match="allowed are PNG"):
        encode_picture(Image.new("RGB", (1, 1)), "GIF")


def test_every_suffix_that_is_looked_for_is_known_to_pillow():
    known = Image.registered_extensions()
    assert {suffix for suffix in INPUT_SUFFIXES if suffix not in known} <= {".pnm", ".heic", ".heif"}


def test_sixteen_bits_of_a_tiff_whose_white_is_zero():
    values = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    ways = [BytesIO(), BytesIO()]
    Image.fromarray(values).save(ways[0], "TIFF")
    Image.fromarray(65535 - values).save(ways[1], "TIFF", tiffinfo={262: 0})
    plain, negative = (np.asarray(open_picture(BytesIO(way.getvalue()))) for way in ways)
    assert np.array_equal(plain, negative) and plain.min() == 0 and plain.max() == 255


@pytest.mark.parametrize(("most", "notes"), [(65535, 1), (1023, 1), (255, 0), (127, 0)])
def test_bits_of_a_ppm(most, notes):
    said = []
    size = 2 if most > 255 else 1
    data = b"P6\n2 2\n%d\n" % most + most.to_bytes(size, "big") * 12
    picture = open_picture(BytesIO(data), warn=said.append)
    assert picture.getextrema() == ((255, 255),) * 3
    assert said == notes * ["16 bits a sample reduced to 8"]


def test_heic(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    picture = smooth_picture(96, 64)
    picture.save(tmp_path / "a.heic", quality=95)
    Image.init()
    for table in (Image.OPEN, Image.MIME):
        monkeypatch.delitem(table, "HEIF")
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    opened = open_picture(tmp_path / "a.heic")
    assert opened.size == (96, 64) and np.abs(np.asarray(opened, float) - np.asarray(picture)).mean() < 4
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    with pytest.raises(NlaicError, match="HEIC needs pillow-heif, which is missing: pip install"):
        open_picture(tmp_path / "a.heic")
