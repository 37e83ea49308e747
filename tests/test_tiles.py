"""Blocks: they cover the picture once, padding is reflection where there is enough to reflect."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlaic.tiles import Grid, pad, padded


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 5), st.integers(1, 5))
def test_boxes_cover_every_pixel_once(width, height, columns, rows):
    covered = np.zeros((height, width), int)
    for left, top, right, bottom in Grid(width, height, (64 * columns, 64 * rows)).boxes():
        assert right - left <= 64 * columns and bottom - top <= 64 * rows
        covered[top:bottom, left:right] += 1
    assert np.all(covered == 1)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 63), (33, 128), (2, 90), (40, 31)])
def test_padding(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    out = pad(pixels)
    assert out.shape[:2] == (padded(size[0]), padded(size[1]))
    assert np.array_equal(out[: size[0], : size[1]], pixels)
    for axis in (0, 1):
        n = size[axis]
        moved, source = np.moveaxis(out, axis, 0), np.moveaxis(pixels, axis, 0)
        other = size[1 - axis]
        for k in range(n, min(moved.shape[0], 2 * n - 1)):
            assert np.array_equal(moved[k, :other], source[2 * n - 2 - k])


def test_one_pixel_is_repeated():
    assert np.all(pad(np.full((1, 1, 3), 7, np.uint8)) == 7)
