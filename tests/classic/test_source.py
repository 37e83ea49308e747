"""What a picture went through: told by its quantisation tables, by its format, or by the user."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nlaic.classic.base import BASES
from nlaic.classic.pictures import open_coded
from nlaic.classic.source import find_source, is_lossless, level_of_tables, parse_source
from nlaic.errors import NlaicError
from tests.conftest import smooth_picture
from tests.files_by_hand import saved


def opened(format, **options):
    out = BytesIO()
    smooth_picture(32, 32).save(out, format, **options)
    return Image.open(BytesIO(out.getvalue()))


def jpeg_quality(level):
    return min(range(1, 101), key=lambda quality: abs(BASES["jpeg"].level(quality) - level))


@pytest.mark.parametrize("quality", [1, 2, 5, 10, 25, 50, 75, 90, 95])
@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}], ids=["plain", "progressive", "444"])
def test_the_quality_of_a_jpeg_is_in_its_tables(quality, more):
    source = find_source(opened("JPEG", quality=quality, **more))
    assert source.base is BASES["jpeg"]
    assert abs(jpeg_quality(source.level) - quality) <= 1


def with_ids(ids):
    """A JPEG without JFIF and Adobe markers whose three components have other ids than 1, 2, 3."""
    out = BytesIO()
    smooth_picture(32, 32).save(out, "JPEG", quality=30, subsampling=0)
    data = out.getvalue()
    frame = data.index(b"\xff\xc0")
    scan = data.index(b"\xff\xda")
    changed = bytearray(data)
    for n, letter in enumerate(ids):
        changed[frame + 10 + 3 * n] = changed[scan + 5 + 2 * n] = letter
    return bytes(changed[:2] + changed[20:])


@pytest.mark.parametrize(
    ("data", "colours"),
    [
        (saved(smooth_picture(32, 32), "JPEG", quality=30, keep_rgb=True), "RGB"),
        (saved(smooth_picture(32, 32).convert("CMYK"), "JPEG", quality=30), "CMYK"),
        (with_ids(b"RGB"), "RGB"),
        (with_ids(b"\1\2\3"), ""),
        (saved(smooth_picture(32, 32).convert("L"), "JPEG", quality=30), ""),
    ],
)
def test_a_jpeg_of_other_colours_than_filters_know_is_left(data, colours):
    notes = []
    picture, source, _ = open_coded(BytesIO(data), warn=notes.append)
    if not colours:
        assert jpeg_quality(source.level) == 30 and notes == []
        return
    assert source is None and notes == [f"coded in {colours}, behind which no filter was trained: it is left as it is"]
    assert np.array_equal(np.asarray(picture), np.asarray(Image.open(BytesIO(data)).convert("RGB")))
    assert open_coded(BytesIO(data), parse_source("jpeg:20"))[1].base.name == "jpeg"


def test_tables_of_other_programs_are_told_by_their_size():
    flat = level_of_tables({0: [16] * 64})
    assert level_of_tables({0: [8] * 64}) < flat < level_of_tables({0: [40] * 64})
    assert level_of_tables({0: [1] * 64}) < 0.05 and level_of_tables({0: [255] * 64}) == 1


def test_levels_rise_as_files_get_smaller():
    for base in BASES.values():
        levels = [base.level(setting) for setting in base.settings()]
        assert levels == sorted(levels, reverse=True) and 0 <= levels[-1] < levels[0] <= 1
        assert base.check(base.default) in base.settings()


def test_formats_without_tables_need_the_user():
    with pytest.raises(NlaicError, match="--source webp:30"):
        find_source(opened("WEBP", quality=30))
    assert find_source(opened("WEBP", quality=30), parse_source("webp:40")).level == pytest.approx(0.6)
    with pytest.raises(NlaicError, match="there is no filter behind avif: --model FILE"):
        find_source(opened("AVIF", quality=30))
    assert find_source(opened("PNG")) is None
    assert find_source(opened("PNG"), parse_source("vvc:37")).base.name == "vvc"
    assert jpeg_quality(find_source(opened("JPEG", quality=30), parse_source("jpeg")).level) == 30


def chunk(kind, content):
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp(*chunks):
    """A WebP file by hand."""
    return b"RIFF" + struct.pack("<I", 4 + len(b"".join(chunks))) + b"WEBP" + b"".join(chunks)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("more", [{}, {"exif": b"Exif\0\0odd", "icc_profile": b"odd"}, {"xmp": b"VP8LVP8L"}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_webp_without_loss_is_told_by_its_chunk(lossless, more, mode):
    """The alpha of a lossy one is without loss."""
    picture, out = smooth_picture(33, 21), BytesIO()
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize((33, 21)))
    picture.save(out, "WEBP", lossless=lossless, quality=30, **more)
    assert is_lossless(out) == lossless
    if lossless:
        assert open_coded(BytesIO(out.getvalue()))[1] is None
        assert open_coded(BytesIO(out.getvalue()), parse_source("webp:40"))[1].level == pytest.approx(0.6)
    else:
        with pytest.raises(NlaicError, match="--source webp:30"):
            open_coded(BytesIO(out.getvalue()))


@pytest.mark.parametrize(
    ("data", "lossless"),
    [
        (webp(chunk(b"ICCP", b"VP8L\0\0\0\0\0"), chunk(b"VP8 ", b"x"), chunk(b"VP8L", b"x")), False),
        (webp(chunk(b"ICCP", b"VP8 \0\0\0\0\0"), chunk(b"VP8L", b"x")), True),
        (webp(chunk(b"ANIM", bytes(6)), chunk(b"ANMF", bytes(16) + chunk(b"VP8L", b"x"))), True),
        (webp(chunk(b"ANMF", bytes(16) + chunk(b"ALPH", b"VP8") + chunk(b"VP8 ", b"x"))), False),
        (webp(b"VP8X\xff\xff\xff\xff"), False),
        (webp(), False),
        (b"RIFF\x10\0\0\0WAVE" + chunk(b"VP8L", b"x"), False),
        (b"", False),
    ],
)
def test_chunks_are_walked_from_one_to_the_next(data, lossless):
    assert is_lossless(BytesIO(data)) == lossless


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gif", "base codec must be one of jpeg"),
        ("jpeg:0", r"whole number 1\.\.100, but got 0"),
        ("vvc:64", r"0\.\.63, but got 64"),
        ("jpeg:good", "CODEC or CODEC:QUALITY, but got 'jpeg:good'"),
    ],
)
def test_what_makes_no_sense_is_refused(text, says):
    with pytest.raises(NlaicError, match=says):
        parse_source(text)
