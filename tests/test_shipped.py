"""The weights that ship: what their quality means, that sizes rise with it, that they are worth having."""

import itertools
import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_msssim import ms_ssim

import nlaic
from nlaic.errors import NlaicError


@pytest.fixture(scope="module")
def codec():
    try:
        return nlaic.load("light", device="cpu", threads=1)
    except NlaicError:
        pytest.skip("no weights ship with this checkout")


@pytest.fixture(scope="module")
def photographs():
    data = pytest.importorskip("skimage.data")
    return [Image.fromarray(picture) for picture in (data.astronaut(), data.coffee(), data.chelsea())]


def psnr(a, b) -> float:
    mse = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return -10 * math.log10(max(mse, 1e-9) / 255**2)


def test_sizes_rise_with_quality_in_steps_of_two(codec, photographs):
    for photograph in photographs:
        picture = photograph.crop((60, 40, 444, 296))  # files are multiples of four bytes apart: not a tiny one
        sizes = [len(codec.compress(picture, quality)) for quality in range(0, 101, 2)]
        assert all(a < b for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("quality", [25, 50, 75])
def test_better_than_jpeg_at_its_size(codec, photographs, quality):
    for photograph in photographs:
        data = codec.compress(photograph, quality)
        files = []
        for setting in range(1, 96):
            out = BytesIO()
            photograph.save(out, "jpeg", quality=setting, optimize=True)
            files.append(out.getvalue())
        jpeg = min(files, key=lambda file: abs(len(file) - len(data)))
        assert psnr(photograph, codec.decompress(data)) > psnr(photograph, Image.open(BytesIO(jpeg))) + 0.5


def test_more_effort_is_more_quality_for_the_bytes(codec, photographs):
    """1 - MS-SSIM in at most 9,000 bytes, mean: a twentieth less at effort 3 than at 1, less again at 4, 5 and 7."""
    lost = dict.fromkeys((1, 3, 4, 5, 7), 0.0)
    for photograph in photographs:
        original = photograph.crop((60, 40, 444, 296))
        for effort in lost:
            data = codec.compress(original, max_bytes=9000, effort=effort)
            pair = [
                torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
                for picture in (codec.decompress(data, realism=0), original)
            ]
            lost[effort] += (1 - float(ms_ssim(*pair, data_range=255))) / len(photographs)
    assert lost[3] < 0.95 * lost[1] and lost[4] < 0.985 * lost[3]
    assert lost[5] < 0.995 * lost[4] and lost[7] < 0.995 * lost[5]


@pytest.mark.parametrize("package", [False, True], ids=["codec", "package"])
def test_most_of_the_way_to_the_second_decoder_is_the_default(codec, photographs, package):
    decompress = nlaic.decompress if package else codec.decompress
    data = codec.compress(photographs[0].crop((60, 40, 316, 232)), 40)
    given, asked, faithful = (np.asarray(decompress(data, **how)) for how in ({}, {"realism": 0.95}, {"realism": 0}))
    np.testing.assert_array_equal(given, asked)
    assert codec.realism == 0.95 and (asked != faithful).mean() > 0.5


@pytest.mark.parametrize("quality", [15, 40, 75])
def test_the_boundary_filter_mends_seams(codec, photographs, quality):
    """PSNR rises, and jumps across boundaries come near those elsewhere."""
    for photograph in photographs:
        original = np.asarray(photograph, float)
        data = codec.compress(photograph, quality, effort=1, block=(128, 128))
        plain = np.asarray(codec.decompress(data, boundary_filter=False), float)
        filtered = np.asarray(codec.decompress(data), float)
        assert psnr(original, filtered) > psnr(original, plain)
        before, after, there = (step(picture) for picture in (plain, filtered, original))
        assert abs(after / there - 1) < 0.5 * (before / there - 1)


def step(pixels: np.ndarray) -> float:
    """Mean jump across boundaries of blocks of 128 over the mean jump elsewhere."""
    here, there = [], []
    for axis in (0, 1):
        jumps = np.abs(np.diff(pixels, axis=axis))
        at = np.arange(1, pixels.shape[axis]) % 128 == 0
        here.append(jumps.compress(at, axis).ravel())
        there.append(jumps.compress(~at, axis).ravel())
    return float(np.concatenate(here).mean() / np.concatenate(there).mean())


def test_quality_means_a_rate(codec, kodak):
    """0 at most 0.05 bits per pixel, 50 about 0.25, 100 at least 1.2: means over the Kodak pictures."""
    pictures = [Image.open(path).convert("RGB") for path in kodak]

    def mean(quality: float) -> float:
        return float(np.mean([8 * len(codec.compress(p, quality)) / (p.width * p.height) for p in pictures]))

    assert mean(0) <= 0.05
    assert 0.2 <= mean(50) <= 0.3
    assert mean(100) >= 1.2
