"""EXIF and XMP come back with their picture, without what is wrong in them."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image

import nlaic
from nlaic.picture import encode_picture, normalized
from tests.conftest import smooth_picture
from tests.files_by_hand import (
    XMP,
    camera_exif,
    saved,
)
from tests.test_whole_picture import SIZE, TURNED


@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0", b"Exif\0\0garbage"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_exif_that_is_none_stands_in_no_pictures_way(exif, format):
    picture, told = smooth_picture(32, 32), []
    picture.info["exif"] = exif
    data = encode_picture(picture, format, warn=told.append)
    assert Image.open(BytesIO(data)).size == (32, 32)
    assert bool(told) == (format in ("AVIF", "TIFF"))


ODD = {  # tag, type, bytes of the value: what programs write and Pillow's writers raise TypeError and others on
    "unit": (0x0128, 5, struct.pack("<II", 72, 1)),
    "unit beyond": (0x0128, 4, struct.pack("<I", 70000)),
    "resolution 0/0": (0x011A, 5, bytes(8)),
    "resolution below 0": (0x011A, 10, struct.pack("<ii", -5, 3)),
    "resolution in words": (0x011A, 2, b"72 dpi\0\0"),
    "title": (0x010E, 5, struct.pack("<II", 1, 2)),
    "date": (0x0132, 12, struct.pack("<d", 1.5)),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("format", ["AVIF", "TIFF"])
def test_an_odd_tag_stands_in_no_pictures_way(odd, format):
    """It stays where EXIF is written as it is; TIFF, whose tags are written anew, goes without, and it is said."""
    tag, kind, value = ODD[odd]
    count, far = len(value) if kind == 2 else 1, len(value) > 4
    entries = struct.pack("<HHI4s", 0x0112, 3, 1, b"\1") + struct.pack("<HHI4s", 0x0131, 2, 4, b"us!\0")
    entries += struct.pack("<HHI", tag, kind, count) + (struct.pack("<I", 50) if far else value)
    picture, told = smooth_picture(32, 32), []
    picture.info["exif"] = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 3) + entries + bytes(4) + (value if far else b"")
    written = Image.open(BytesIO(encode_picture(picture, format, warn=told.append))).getexif()
    assert written[0x0131] == "us!" and 0x0112 not in written
    assert (tag in written, bool(told)) == (format == "AVIF", format == "TIFF")
    assert format == "AVIF" or f"{ExifTags.TAGS[tag]} of EXIF left out" in told[0]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_turned_photograph_is_upright_with_its_exif(format, order, there_and_back):
    exif = camera_exif(6, order)
    image = smooth_picture(*SIZE)
    stored = image.transpose(Image.Transpose.ROTATE_90)
    back, file, notes = there_and_back(saved(stored, format, exif=exif, quality=95))
    assert (back.size, notes) == (SIZE, [])
    assert np.abs(np.asarray(back, float) - np.asarray(image)).mean() < 12
    for found in (back, *(Image.open(BytesIO(encode_picture(back, f))) for f in ("PNG", "JPEG", "WEBP", "AVIF"))):
        tags = found.getexif()
        assert tags.get(0x0112, 1) == 1 and tags[0x010F] == "Maker of cameras"
        assert tags.get_ifd(0x8769)[0x8827] == 400
        assert tags.get_ifd(0x8769)[0x927C] == b"secret\xff\0note"
        assert not tags.get_ifd(1)
    assert nlaic.info(file)["sections"]["EXIF"] == len(camera_exif(1, order, thumbnail=False)) - 6
    assert back.getexif()[0x0112] == 1
    assert Image.open(BytesIO(encode_picture(back, "TIFF", warn=notes.append))).getexif()[0x010F] == "Maker of cameras"
    assert notes == ["of EXIF only title, camera, date and rights are written to TIFF"]


def test_xmp_turns_and_is_kept(there_and_back):
    stored = smooth_picture(*SIZE).transpose(Image.Transpose.ROTATE_90)
    back, file, _ = there_and_back(saved(stored, "JPEG", xmp=XMP))
    assert back.size == SIZE
    assert back.info == {"xmp": XMP.replace(b'"6"', b'"1"')}
    for format in ("PNG", "JPEG", "WEBP", "AVIF", "TIFF"):
        assert Image.open(BytesIO(encode_picture(back, format))).info["xmp"] == back.info["xmp"]
    again, second, _ = there_and_back(encode_picture(back))
    assert again.info == back.info and nlaic.info(second)["sections"] == nlaic.info(file)["sections"]
    beside_damage, _, notes = there_and_back(saved(stored, "JPEG", xmp=XMP, exif=b"Exif\0\0garbage!"))
    assert (beside_damage.size, beside_damage.info) == (back.size, back.info)
    assert notes == ["EXIF left out, it is damaged (ValueError)"]


def test_tags_of_a_tiff_are_those_of_the_picture_and_not_of_its_storage(there_and_back):
    tags = {0x010F: "Maker", 0x0112: 6, 0x8298: "nobody", 0x8769: {0x8827: 200}}
    back, _, _ = there_and_back(saved(smooth_picture(*SIZE), "TIFF", tiffinfo=tags))
    assert back.size == TURNED
    assert dict(back.getexif()) | {0x8769: 0} == {0x010F: "Maker", 0x8298: "nobody", 0x8769: 0}
    assert back.getexif().get_ifd(0x8769) == {0x8827: 200}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Possibly corrupt", "ignore:Truncated File Read")
@pytest.mark.parametrize("cut", [8, 14, 20, 40])
def test_a_damaged_exif_is_left_out(cut, there_and_back):
    back, _, notes = there_and_back(saved(smooth_picture(*SIZE), exif=camera_exif()[:cut]))
    assert back.info == {}
    assert any("damaged" in note for note in notes)


@pytest.mark.parametrize("xmp", [1_000_000, (999,), 1.5])
def test_xmp_that_is_none_is_left_out(xmp):
    image, notes = Image.new("RGB", (8, 8)), []
    image.info["xmp"] = xmp
    assert normalized(image, warn=notes.append)[1] == {}
    assert notes[-1] == "XMP left out, it is damaged"
    image.info["xmp"] = "a\udc80b"  # a string that cannot be encoded
    assert normalized(image)[1] == {"xmp": b"a?b"}


def test_exif_of_an_orientation_alone_is_nothing(codec):
    image = smooth_picture(*SIZE)
    exif = Image.Exif()
    exif[0x0112] = 1
    plain = codec.compress(image, 50, effort=1)
    image.info["exif"] = exif.tobytes()
    assert codec.compress(image, 50, effort=1) == plain


def segment(marker, content):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


IPTC = b"\x1c\2\x78\0\7Caption\x1c\2\x74\0\6rights"
IPTC_TOLD, XMP_TOLD = (
    "IPTC (caption, keywords, rights) left out",
    "extended XMP left out, what goes beyond the first 64 kB",
)
FURTHER = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + struct.pack(">II", 9, 0) + b"<rest />!")
RESOURCES = b"8BIM\4\4\0\0" + struct.pack(">I", len(IPTC)) + IPTC


@pytest.mark.parametrize(
    ("format", "options", "between", "told"),
    [
        ("JPEG", {}, segment(0xED, b"Photoshop 3.0\0" + RESOURCES), [IPTC_TOLD]),
        ("JPEG", {"xmp": XMP}, FURTHER, [XMP_TOLD]),
        ("JPEG", {"xmp": XMP}, segment(0xED, b"Photoshop 3.0\0" + RESOURCES) + FURTHER, [IPTC_TOLD, XMP_TOLD]),
        ("JPEG", {}, segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\x25\0\0\0\0\0\2ab"), []),
        ("TIFF", {"tiffinfo": {33723: IPTC}}, b"", [IPTC_TOLD]),
    ],
)
def test_what_is_told_of_a_picture_elsewhere_is_said_to_be_left_out(format, options, between, told, there_and_back):
    data = saved(smooth_picture(*SIZE), format, **options)
    data = data[:2] + between + data[2:]
    assert there_and_back(data)[2] == told
    assert there_and_back(data, strip=True)[2] == []


def test_large_metadata_counts_and_jpeg_says_what_it_cannot_hold(codec):
    image = smooth_picture(*SIZE)
    image.info["xmp"] = bytes(range(32, 127)) * 1000
    image.info["exif"] = camera_exif(thumbnail=False) + bytes(70000)
    data = codec.compress(image, max_bytes=200_000, effort=1)
    assert 165_000 < len(data) <= 200_000
    with pytest.raises(nlaic.NlaicError, match=r"alpha, colour profile, EXIF and XMP alone have 165"):
        codec.compress(image, max_bytes=100_000, effort=1)
    assert len(codec.compress(image, max_bytes=5000, effort=1, strip=True)) <= 5000
    back, notes = codec.decompress(data), []
    assert back.info["xmp"] == image.info["xmp"]
    assert Image.open(BytesIO(encode_picture(back, "PNG"))).info["xmp"] == image.info["xmp"]
    jpeg = Image.open(BytesIO(encode_picture(back, "JPEG", warn=notes.append)))
    assert not {"exif", "xmp"} & set(jpeg.info)
    assert notes == [
        f"EXIF left out, it has {len(back.info['exif'])} bytes and JPEG holds 65533",
        "XMP left out, it has 95000 bytes and JPEG holds 65504",
    ]
