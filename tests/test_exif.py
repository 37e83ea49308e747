"""EXIF made upright in place: nothing else changes, and noise raises nothing but ValueError."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nlaic.exif import upright, without_orientation
from tests.files_by_hand import camera_exif


@pytest.mark.parametrize("order", "<>")
def test_only_orientation_and_thumbnail_change(order):
    expected = camera_exif(1, order, thumbnail=False)[6:]
    for orientation in range(1, 9):
        assert upright(camera_exif(orientation, order)) == expected
    assert upright(expected) == expected


@pytest.mark.parametrize("order", "<>")
def test_without_orientation_all_else_stays_at_its_place(order):
    whole = camera_exif(6, order)[6:]
    found = without_orientation(camera_exif(6, order))
    assert len(found) == len(whole) and found[50:] == whole[50:]  # from the end of the first directory on
    before, after = Image.Exif(), Image.Exif()
    before.load(whole)
    after.load(found)
    assert before.pop(0x0112) == 6 and dict(after) == dict(before)
    assert after.get_ifd(0x8769) == before.get_ifd(0x8769) and after.get_ifd(1) == before.get_ifd(1)
    assert without_orientation(found) == found
    assert without_orientation(b"II*\0" + struct.pack("<I", 8) + directory([(0x0112, 3, 1, 6)])) == b""


def test_what_stands_behind_a_thumbnail_stays_and_its_pixels_do_not():
    stored, notes = camera_exif(1)[6:], bytes(range(1, 200))
    kept = upright(b"Exif\0\0" + stored + notes)
    assert len(kept) == len(stored) + len(notes) and kept.endswith(bytes(4000) + notes)
    assert upright(b"Exif\0\0" + stored + bytes(50)) == upright(stored)  # padding is nothing


def test_a_thumbnail_that_does_not_stand_at_the_end_is_only_unlinked():
    plain = camera_exif(1, thumbnail=False)[6:]
    data = bytearray(plain)
    struct.pack_into("<I", data, 8 + 2 + 36, 8)  # the chain leads back to the first directory
    assert upright(bytes(data)) == plain


def directory(entries):
    return struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)


def test_directories_without_end():
    """Each points to the next: a file of 60 kB that would take long."""
    chain = [directory([(0x8769, 4, 1, 8 + 18 * (k + 1))]) for k in range(3000)]
    assert len(chain[0]) == 18
    first = b"II*\0" + struct.pack("<I", 8) + b"".join(chain)
    linked = first[: 8 + 14] + struct.pack("<I", 30) + first[8 + 18 :]
    with pytest.raises(ValueError, match="too many"):
        upright(linked)
    circle = b"II*\0" + struct.pack("<I", 8) + directory([(0x8769, 4, 1, 8)])
    assert upright(circle) == circle


@pytest.mark.parametrize("length", range(8))
def test_short(length):
    for change in (upright, without_orientation):
        with pytest.raises(ValueError, match="no sound TIFF"):
            change(camera_exif()[: 6 + length])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 118), st.binary(min_size=1, max_size=12), st.booleans())
def test_noise(place, noise, cut):
    data = camera_exif()[6:]
    data = data[:place] + noise + (b"" if cut else data[place + len(noise) :])
    for change in (upright, without_orientation):
        with suppress(ValueError):
            assert len(change(data)) <= len(data)


def test_pixels_of_an_uncompressed_thumbnail_go_too():
    """It stands in strips, which have tags of their own; here behind the last directory, with a note behind them."""
    pixels, note = bytes(range(1, 241)) * 4, b"a note that stays"
    first_end = 8 + 2 + 24 + 4
    second = struct.pack("<H", 2) + struct.pack("<HHIIHHII", 0x0111, 4, 1, first_end + 30, 0x0117, 4, 1, len(pixels))
    head = b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHIHHHHI4s", 0x0112, 3, 1, 6, 0, 0x0131, 2, 4, b"us!\0")
    data = head + struct.pack("<I", first_end) + second + bytes(4) + pixels + note
    kept = upright(data)
    assert kept.endswith(bytes(len(pixels)) + note) and len(kept) == len(data)


def test_what_a_thumbnail_claims_among_what_is_kept_stays():
    """Its pixels are said to lie in the first directory's texts."""
    whole = bytearray(camera_exif(1)[6:])
    place = whole.index(b"Maker of cameras")
    struct.pack_into("<I", whole, whole.index(struct.pack("<HHI", 0x0201, 4, 1)) + 8, place)
    assert b"Maker of cameras" in upright(bytes(whole))
