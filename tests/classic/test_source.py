"""What a picture went through: told by its quantisation tables, by its format, or by the user."""

from io import BytesIO

import pytest
from PIL import Image

from nlaic.classic.base import BASES
from nlaic.classic.source import find_source, level_of_tables, parse_source
from nlaic.errors import NlaicError
from tests.conftest import smooth_picture


def opened(format, **options):
    out = BytesIO()
    smooth_picture(32, 32).save(out, format, **options)
    return Image.open(BytesIO(out.getvalue()))


def jpeg_quality(level):
    return min(range(1, 101), key=lambda quality: abs(BASES["jpeg"].level(quality) - level))


@pytest.mark.parametrize("quality", [2, 5, 10, 25, 50, 75, 90, 95])
@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}], ids=["plain", "progressive", "444"])
def test_the_quality_of_a_jpeg_is_in_its_tables(quality, more):
    source = find_source(opened("JPEG", quality=quality, **more))
    assert source.base is BASES["jpeg"]
    assert abs(jpeg_quality(source.level) - quality) <= 1


def test_tables_of_other_programs_are_told_by_their_size():
    flat = level_of_tables({0: [16] * 64})
    assert level_of_tables({0: [8] * 64}) < flat < level_of_tables({0: [40] * 64})
    assert level_of_tables({0: [1] * 64}) < 0.05 and level_of_tables({0: [255] * 64}) > 0.6


def test_levels_rise_as_files_get_smaller():
    for base in BASES.values():
        levels = [base.level(setting) for setting in base.settings()]
        assert levels == sorted(levels, reverse=True) and 0 <= levels[-1] < levels[0] <= 1
        assert base.check(base.default) in base.settings()


def test_formats_without_tables_need_the_user():
    with pytest.raises(NlaicError, match="--source webp:30"):
        find_source(opened("WEBP", quality=30))
    assert find_source(opened("WEBP", quality=30), parse_source("webp:40")).level == pytest.approx(0.6)
    assert find_source(opened("PNG")) is None
    assert find_source(opened("PNG"), parse_source("vvc:37")).base.name == "vvc"
    assert jpeg_quality(find_source(opened("JPEG", quality=30), parse_source("jpeg")).level) == 30


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
