"""The measures of tools/artefacts.py on pictures that have what they look for, and on some that have not."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import smooth_picture

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOOLS))
    try:
        return runpy.run_path(str(TOOLS / "artefacts.py"))
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def found(tool):
    return tool["found"]


@pytest.fixture(scope="module")
def original():
    noise = np.random.default_rng(1).normal(0, 6, (96, 160, 3))
    return np.asarray(smooth_picture(160, 96), np.float32) + noise.astype(np.float32)


def test_the_picture_itself_has_none(found, original):
    result = found(original, original)
    assert result.steps == [1.0, 1.0] and result.colour == 0


@pytest.mark.parametrize(("side", "eight", "sixteen"), [(8, True, True), (16, True, True), (6, False, False)])
def test_a_checkerboard_is_seen_on_its_own_grid(found, original, side, eight, sixteen):
    rows, columns = (np.arange(n) // side % 2 for n in original.shape[:2])
    board = 8.0 * (rows[:, None] ^ columns[None])[..., None]
    steps = found(original + board, original).steps
    assert [step > 1.05 for step in steps] == [eight, sixteen]


def test_a_grid_is_seen_in_what_has_been_a_jpeg(tool, found, original):
    """As long as pictures are whole, such an original has jumps of its own where the codec's are looked for."""
    own, ours = (np.random.default_rng(seed).normal(0, 8, (12, 20, 1)).repeat(8, 0).repeat(8, 1) for seed in (4, 5))
    whole = Image.fromarray(np.clip(original + own, 0, 255).astype(np.uint8))
    steps = []
    for picture in (whole, tool["cut"](whole)):
        pixels = np.asarray(picture, np.float32)
        steps.append(found(pixels + 0.5 * ours[: len(pixels), : pixels.shape[1]], pixels).steps[0])
    assert steps[0] < 1.1 < steps[1]


def test_flat_blocks_that_come_alive(found):
    flat = np.full((64, 64, 3), 100, np.float32)
    flat[:32] += np.random.default_rng(2).normal(0, 20, (32, 64, 1)).astype(np.float32)  # not flat: not counted
    lively = flat.copy()
    lively[32:40, :8, :] += np.tile([3.0, -3.0], 4)[:, None]
    result = found(lively, flat)
    assert len(result.flat) == 32 and np.isclose(result.flat.max(), 3) and (result.flat < 0.1).sum() == 31


def test_a_cast_of_colour(found, original):
    assert found(original + np.float32([0, -2.5, 1]), original).colour == pytest.approx(2.5, abs=1e-3)
