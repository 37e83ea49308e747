"""Coefficients, symbols and files of JPEG against libjpeg, ffmpeg, brute force."""

import itertools
import subprocess
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from scipy.fft import dctn

from nlaic.classic.jpeg import files
from nlaic.classic.jpeg.blocks import DCT, ZIGZAG, Planes, analyse, dequantised, synthesise
from nlaic.classic.jpeg.files import Levels, read_levels, write
from nlaic.classic.jpeg.rounding import _choose, nearest, thoughtful
from nlaic.classic.jpeg.symbols import count, in_zigzag, sizes_of
from nlaic.classic.jpeg.tables import family
from tests.conftest import smooth_picture

TABLES = family(20, 0.3, 0.9)
SIZES = [(1, 1), (7, 9), (8, 8), (16, 17), (33, 15), (64, 48), (100, 75), (131, 97), (17, 160), (250, 3)]


def pixels(width=131, height=97, seed=0):
    return np.asarray(smooth_picture(width, height, seed))


def same_levels(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def decoded(data):
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"), float)


def test_the_transform_is_scipys():
    block = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert np.allclose(DCT @ block @ DCT.T, dctn(block, norm="ortho"), atol=1e-5)


def test_the_zigzag_is_pillows():
    assert [ZIGZAG[n] for n in JpegImagePlugin.zigzag_index] == list(range(64))


@pytest.mark.parametrize("subsampling", ["420", "444"])
def test_levels_are_those_of_libjpeg(subsampling):
    """Which works in integers: now and then it rounds another way."""
    picture, out = smooth_picture(144, 96), BytesIO()
    ones = [[8] * 64] * 2
    picture.save(out, "JPEG", qtables=ones, subsampling=":".join(subsampling))
    ours = nearest(analyse(np.asarray(picture), subsampling), np.full((2, 8, 8), 8))
    for mine, theirs in zip(ours, read_levels(out.getvalue()).planes, strict=True):
        assert np.abs(mine - theirs).max() <= 1
        assert np.mean(mine != theirs) < 0.02


@pytest.mark.parametrize("subsampling", ["420", "444"])
def test_the_decoder_shows_what_is_expected(subsampling):
    planes = analyse(pixels(), subsampling)
    levels = nearest(planes, TABLES)
    expected = synthesise(dequantised(planes, levels, TABLES))
    data = write(planes, Levels(tuple(levels), TABLES))
    assert np.abs(np.clip(expected, 0, 255) - decoded(data)).mean() < 0.6


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("subsampling", ["420", "444"])
def test_weights_of_planes_are_errors_of_rgb(subsampling, number):
    """An error of one in every sample of a plane; a sample of chroma stands for four pixels in 4:2:0."""
    chroma = 2 if subsampling == "420" else 4
    parts = [np.zeros((side, side, 8, 8), np.float32) for side in (4, chroma, chroma)]
    planes = Planes(32, 32, subsampling, tuple(parts))
    before = synthesise(planes)
    parts[number][..., 0, 0] = 8
    found = np.square(synthesise(planes) - before).sum()
    assert found == pytest.approx(planes.weights[number] * np.square(parts[number]).sum(), rel=1e-4)


@pytest.mark.parametrize("coding", files.CODINGS)
@pytest.mark.parametrize("subsampling", ["420", "444"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_is_written_is_what_was_quantised(size, subsampling, coding):
    planes = analyse(pixels(*size), subsampling)
    levels = thoughtful(planes, TABLES, 40.0)
    data = write(planes, Levels(tuple(levels), TABLES), coding)
    back = read_levels(data)
    assert same_levels(back.planes, levels) and np.array_equal(back.tables, TABLES)
    assert Image.open(BytesIO(data)).size == size


def test_grey():
    planes = analyse(np.asarray(smooth_picture(50, 41).convert("L")))
    levels = nearest(planes, TABLES)
    data = write(planes, Levels(tuple(levels), TABLES))
    assert Image.open(BytesIO(data)).mode == "L" and same_levels(read_levels(data).planes, levels)


@pytest.mark.parametrize(("subsampling", "size"), list(itertools.product(["420", "444"], SIZES[1:6])), ids=str)
def test_ffmpeg_shows_the_same(subsampling, size):
    """A decoder of its own, with its own way to enlarge colours."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    planes = analyse(pixels(*size), subsampling)
    data = write(planes, Levels(tuple(thoughtful(planes, TABLES, 40.0)), TABLES))
    command = [ffmpeg, "-v", "error", "-f", "mjpeg", "-i", "-", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    shown = np.frombuffer(done.stdout, np.uint8).reshape(size[1], size[0]).astype(float)
    assert not done.stderr
    grey = decoded(data) @ (0.299, 0.587, 0.114)
    assert np.abs(shown - grey).mean() < 3


def test_counted_bits_are_those_of_a_file():
    planes = analyse(pixels(400, 300))
    levels = nearest(planes, TABLES)
    zigzag = [in_zigzag(q) for q in levels]
    bits = count(zigzag[:1]).bits() + count(zigzag[1:]).bits()
    data = write(planes, Levels(tuple(levels), TABLES), "optimised")
    scan = len(data) - data.rindex(b"\xff\xda")
    assert 0.93 * scan < bits / 8 < scan


def symbols_by_hand(block):
    """(run, size) of a block of 64 in zigzag order, one at a time."""
    found, run = [], 0
    for value in block[1:]:
        if value == 0:
            run += 1
            continue
        while run > 15:
            found.append((15, 0))
            run -= 16
        found.append((run, abs(int(value)).bit_length()))
        run = 0
    return found + ([(0, 0)] if run else [])


def sparse_blocks(count_, used, seed):
    rng = np.random.default_rng(seed)
    blocks = np.zeros((count_, 64), np.int16)
    for block in blocks:
        block[rng.choice(np.arange(1, 64), used, replace=False)] = rng.choice([-3, -2, -1, 1, 2, 3], used)
    return blocks


def test_symbols_are_those_counted_by_hand():
    blocks = np.concatenate([sparse_blocks(30, used, used) for used in (0, 1, 3, 20, 63)])
    expected = np.zeros((16, 12))
    for block in blocks:
        for run, size in symbols_by_hand(block):
            expected[run, size] += 1
    assert np.array_equal(count([blocks]).ac, expected)
    assert sizes_of(np.array([0, 1, -1, 2, 3, 4, -1023, 1024])).tolist() == [0, 1, 1, 2, 2, 3, 10, 11]


@pytest.mark.parametrize("used", [1, 2, 5])
def test_thoughtful_levels_are_the_best_of_all(used):
    """Every choice for a block of few levels, one by one."""
    rng = np.random.default_rng(used)
    levels = sparse_blocks(12, used, 7)
    wanted = np.abs(levels * 10 + rng.uniform(-4.9, 4.9, levels.shape)).astype(np.float32)
    table = np.full(64, 10, np.float32)
    counts = count([sparse_blocks(400, 5, 8)])
    costs = counts.ac_costs()

    def price_of(block, target):
        bits, runs = 0.0, np.flatnonzero(np.append(1, block[1:]))
        for before, place in itertools.pairwise(runs):
            bits += costs[place - before - 1, sizes_of(block[place])]
        bits += costs[0, 0] if block[63] == 0 else 0
        return np.square(target[1:] - np.abs(block[1:]) * 10).sum() + 9.0 * bits

    chosen = _choose(levels, wanted, table, 9.0, counts)
    for block, target, best in zip(levels, wanted, chosen, strict=True):
        places = np.flatnonzero(block)
        ways = [{int(v), int(v - np.sign(v)), 0} for v in block[places]]
        found = []
        for values in itertools.product(*ways):
            one = np.zeros_like(block)
            one[places] = values
            found.append(price_of(one, target))
        assert price_of(best, target) == pytest.approx(min(found), rel=1e-4)


def test_bits_that_cost_nothing_change_nothing():
    planes = analyse(pixels())
    assert same_levels(thoughtful(planes, TABLES, 0.0), nearest(planes, TABLES))


def test_dear_bits_leave_few():
    planes = analyse(pixels())
    used = [sum(np.count_nonzero(q) for q in thoughtful(planes, TABLES, price)) for price in (0.0, 30.0, 100.0, 3000.0)]
    assert used == sorted(used, reverse=True) and used[0] > 2 * used[-1]


def test_without_the_packages_pillow_writes(monkeypatch):
    monkeypatch.setattr(files, "can_write_levels", lambda: False)
    planes = analyse(pixels(120, 80))
    levels = thoughtful(planes, TABLES, 40.0)
    notes = []
    data = write(planes, Levels(tuple(levels), TABLES), warn=notes.append)
    monkeypatch.undo()
    assert notes == [files.WITHOUT]
    exact = write(planes, Levels(tuple(levels), TABLES))
    assert np.abs(decoded(data) - decoded(exact)).mean() < 1
    back = read_levels(data)
    assert np.array_equal(back.tables, TABLES)
    assert np.mean(back.planes[0] != levels[0]) < 0.01


def test_metadata_stands_where_decoders_look():
    planes = analyse(pixels(20, 20))
    data = write(planes, Levels(tuple(nearest(planes, TABLES)), TABLES))
    exif = Image.Exif()
    exif[0x010E] = "a title"
    profile = bytes(range(256)) * 600  # three segments
    kept = {"exif": exif.tobytes(), "xmp": b"<x:xmpmeta/>", "icc_profile": profile}
    image = Image.open(BytesIO(files.with_metadata(data, kept)))
    assert image.getexif()[0x010E] == "a title"
    assert image.info["icc_profile"] == profile and image.info["xmp"] == b"<x:xmpmeta/>"
    assert np.array_equal(np.asarray(image.convert("RGB"), float), decoded(data))
