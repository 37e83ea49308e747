"""Files of pictures: every bad one is one clear error, and every format is read and written."""

import struct
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nlaic import container
from nlaic.errors import NlaicError
from nlaic.picture import (
    INPUT_SUFFIXES,
    encode_picture,
    open_picture,
    output_format,
    read_picture,
    write_picture,
)
from tests.conftest import smooth_picture
from tests.files_by_hand import png, tiff
from tests.test_picture import RGB


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
    with pytest.raises(NlaicError, match="allowed are PNG"):
        encode_picture(Image.new("RGB", (1, 1)), "GIF")


@pytest.mark.parametrize(
    ("format", "size"), [("JPEG", (65501, 1)), ("WEBP", (1, 16384)), ("AVIF", (32769, 1)), ("AVIF", (16385, 16384))]
)
def test_no_picture_is_written_that_nobody_can_read(format, size, capfd):
    image = Image.new("L", size)
    with pytest.raises(NlaicError, match=f"x{size[1]} pixels cannot be written as {format}: .* holds sides up"):
        encode_picture(image, format)
    assert capfd.readouterr().err == ""  # libjpeg says things by itself


@pytest.mark.parametrize(("format", "side"), [("JPEG", 65500), ("WEBP", 16383), ("AVIF", 32768)])
def test_the_longest_pictures_that_are_written_can_be_read(format, side):
    assert read_picture(BytesIO(encode_picture(Image.new("RGB", (side, 1)), format))).size == (side, 1)


def test_every_suffix_that_is_looked_for_is_known_to_pillow():
    known = Image.registered_extensions()
    assert {suffix for suffix in INPUT_SUFFIXES if suffix not in known} <= {".pnm", ".heic", ".heics", ".heif", ".hif"}


@pytest.mark.parametrize(
    ("suffix", "format"),
    [(".ico", "ICO"), (".icns", "ICNS"), (".dds", "DDS"), (".j2c", "JPEG2000"), (".jpf", "JPEG2000")],
)
def test_icons_textures_and_further_names_of_jpeg_2000(suffix, format, tmp_path):
    picture, path = smooth_picture(128, 128), tmp_path / f"a{suffix}"
    picture.save(path, format)
    found = open_picture(path).resize((128, 128))  # Pillow writes icons of several sizes, the largest is read
    assert suffix in INPUT_SUFFIXES and np.abs(np.asarray(found, float) - np.asarray(picture)).mean() < 1


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


def planes(depth, more):
    """A picture of 6x4 pixels and a TIFF of it, the planes of its colours apart, with more tags."""
    values = np.linspace(0, 2**depth - 1, 72).astype(f"<u{depth // 8}").reshape(3, 4, 6)
    size, places = values[0].nbytes, [8 + n * values[0].nbytes for n in range(3)]
    tags = {256: [6], 257: [4], 258: 3 * [depth], 259: [1], 262: [2], 273: places, 277: [3], 279: 3 * [size], 284: [2]}
    return np.moveaxis(values, 0, 2), tiff(values.tobytes(), tags | more)


@pytest.mark.parametrize("more", [{}, {330: [8]}, {254: [1]}])  # smaller ones below it; itself a smaller one
def test_a_tiff_by_planes_is_read(more):
    values, data = planes(8, more)
    assert np.array_equal(np.asarray(open_picture(BytesIO(data))), values)


@pytest.mark.parametrize(
    ("depth", "more", "says"),
    [
        (16, {}, "16 bits a sample in planes apart"),
        (8, {50706: [1]}, "camera raw, develop it first"),
        (8, {254: [1], 330: [8]}, "camera raw, develop it first"),
    ],
)
def test_a_tiff_that_would_be_read_as_another_picture_is_refused(depth, more, says):
    with pytest.raises(NlaicError, match=says):
        open_picture(BytesIO(planes(depth, more)[1]))


def test_samples_with_a_sign_are_refused():
    tags = {256: [6], 257: [4], 258: [8], 262: [1], 273: [8], 279: [24]}
    plain, signed = (BytesIO(tiff(bytes(range(24)), tags | {339: [sign]})) for sign in (1, 2))
    assert np.array_equal(np.asarray(open_picture(plain)), np.arange(24).reshape(4, 6))
    with pytest.raises(NlaicError, match="samples of 8 bits with a sign"):
        open_picture(signed)


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
