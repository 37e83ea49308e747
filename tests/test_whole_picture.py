"""What a picture is beside its colours comes back: alpha, grey, profile, EXIF, XMP; and what is wrong is refused."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

import nlaic
from nlaic import container
from nlaic.metadata import save_options
from nlaic.picture import encode_picture, normalized, open_picture
from tests.conftest import smooth_picture
from tests.test_picture import linear_profile

RNG = np.random.default_rng(5)
SIZE = (90, 70)
TURNED = SIZE[::-1]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def saved(image, format="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def matrix_profile(primaries, white=(0.3127, 0.3290), name="wide"):
    """A profile (ICC version 2, matrix and sRGB's curve as a gamma of 2.2) of primaries given as (x, y), in bytes."""

    def xyz(x, y):
        return np.array([x / y, 1, (1 - x - y) / y])

    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])  # Bradford
    d50 = np.array([0.9642, 1.0, 0.8249])
    columns = np.stack([xyz(*p) for p in primaries], axis=1)
    columns = columns * np.linalg.solve(columns, xyz(*white))
    adapt = np.linalg.inv(cone) @ np.diag(cone @ d50 / (cone @ xyz(*white))) @ cone
    numbers = [np.rint(c * 65536).astype(int) for c in (adapt @ columns).T]
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" + bytes(78)}
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + struct.pack(">3i", *np.rint(d50 * 65536).astype(int))
    for letter, column in zip("rgb", numbers, strict=True):
        tags[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + struct.pack(">3i", *column)
        tags[f"{letter}TRC".encode()] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    return _profile(b"RGB ", tags)


def _profile(space, tags):
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += struct.pack(">4sII", tag, place + len(body), len(content))
        body += content
    head = struct.pack(">I4xI4s4s4s12x4s24x3i", 0, 0x02400000, b"mntr", space, b"XYZ ", b"acsp", 63190, 65536, 54061)
    data = head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(data)) + data[4:]


P3 = matrix_profile([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)], name="Display P3")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = _profile(
    b"GRAY",
    {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.2 * 256)) + b"\0\0",
    },
)


@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0", b"Exif\0\0garbage"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_exif_that_is_none_stands_in_no_pictures_way(exif, format):
    picture, told = smooth_picture(32, 32), []
    picture.info["exif"] = exif
    data = encode_picture(picture, format, warn=told.append)
    assert Image.open(BytesIO(data)).size == (32, 32)
    assert bool(told) == (format in ("AVIF", "TIFF"))


def camera_exif(orientation=6, order="<", thumbnail=True):
    """EXIF as a camera writes it: maker, orientation, exposure, a note of its own, then a thumbnail at the end."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]

    def entry(tag, kind, count, value):
        fixed = struct.pack(f"{order}H2x", value) if kind == 3 else struct.pack(f"{order}I", value)
        return struct.pack(f"{order}HHI", tag, kind, count) + fixed

    ifd0, exif_at, note, maker = 8, 8 + 2 + 36 + 4, b"secret\xff\0note", b"Maker of cameras\0"
    texts = exif_at + 2 + 24 + 4
    first = struct.pack(f"{order}H", 3) + entry(0x010F, 2, len(maker), texts) + entry(0x0112, 3, 1, orientation)
    first += entry(0x8769, 4, 1, exif_at)
    below = struct.pack(f"{order}H", 2) + entry(0x8827, 3, 1, 400) + entry(0x927C, 7, len(note), texts + len(maker))
    end = texts + len(maker) + len(note)
    last = struct.pack(f"{order}H", 2) + entry(0x0201, 4, 1, end + 30) + entry(0x0202, 4, 1, 4000) + bytes(4)
    link = struct.pack(f"{order}I", end if thumbnail else 0)
    tail = last + bytes(range(250)) * 16 if thumbnail else b""
    return b"Exif\0\0" + mark + struct.pack(f"{order}I", ifd0) + first + link + below + bytes(4) + maker + note + tail


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


# EXIF and XMP


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


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Possibly corrupt")
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


def test_a_profile_larger_than_jpeg_holds_is_left_out_and_said():
    notes: list[str] = []
    large = {"icc_profile": bytes(255 * 65519 + 1)}
    assert save_options(large, "JPEG", notes.append) == {} and "colour profile left out" in notes[0]
    assert save_options({"icc_profile": bytes(255 * 65519)}, "JPEG", notes.append)


def test_exif_of_an_orientation_alone_is_nothing(codec):
    image = smooth_picture(*SIZE)
    exif = Image.Exif()
    exif[0x0112] = 1
    plain = codec.compress(image, 50, effort=1)
    image.info["exif"] = exif.tobytes()
    assert codec.compress(image, 50, effort=1) == plain


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
