"""Big pictures: memory beside the raster is bounded, a region is the crop of the whole, one thread works ahead."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import nlaic
from nlaic.ahead import ahead
from nlaic.canvas import Canvas
from nlaic.codec import load
from nlaic.tiles import Grid
from tests.conftest import smooth_picture

MEMORY = """
import sys
from pathlib import Path
import numpy as np, torch
from PIL import Image
import nlaic
codec = nlaic.load(sys.argv[1], device="cpu", threads=1)
def run(width, height, block):
    row = np.random.default_rng(0).integers(0, 256, (1, width, 3), dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(row, (height, width, 3)).copy())
    return codec.decompress(codec.compress(image, 10, effort=1, block=block)).size
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
run(512, 256, (256, 256))
small = peak()
width, height = 3072, 2560
run(width, height, (256, 256))
print((peak() - small) / (width * height))
"""


@pytest.fixture(scope="module")
def coded(codec):
    """A picture of 3 x 4 blocks, some of them cut, and what it decodes to."""
    data = codec.compress(smooth_picture(300, 390, seed=3), 60, effort=1, block=(128, 128))
    return data, np.asarray(codec.decompress(data))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_grows_by_the_raster_alone(tiny_model):
    """Two rasters of 4 bytes a pixel, the picture's and the decoder's, and a little; floats of all blocks would be 12
    bytes a pixel more, y of all blocks 5."""
    command = [sys.executable, "-c", MEMORY, str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 10.5


@pytest.mark.parametrize(
    "region",
    [(0, 0, 300, 390), (0, 0, 1, 1), (299, 389, 1, 1), (100, 120, 60, 20), (130, 0, 120, 390), (5, 250, 290, 9)],
)
def test_a_region_is_the_crop_of_the_whole(codec, coded, region):
    data, whole = coded
    x, y, width, height = region
    part = np.asarray(codec.decompress(data, region=region))
    assert np.array_equal(part, whole[y : y + height, x : x + width])


def test_a_region_reads_only_the_blocks_it_needs(codec, coded, monkeypatch):
    read = []
    decode_symbols = codec.decode_symbols
    monkeypatch.setattr(codec, "decode_symbols", lambda *a: read.append(a) or decode_symbols(*a))
    codec.decompress(coded[0], region=(40, 190, 8, 8))
    assert len(read) == 1


@pytest.mark.parametrize(
    "region", [(0, 0, 301, 1), (-1, 0, 5, 5), (0, 0, 0, 5), (300, 0, 1, 1), (0, 0, 5), (0, 390, 1, 1)]
)
def test_a_region_outside_the_picture_is_refused(codec, coded, region):
    with pytest.raises(nlaic.NlaicError, match="region"):
        codec.decompress(coded[0], region=region)


def test_threads_give_the_same_picture(tiny_model, coded):
    for threads in (3, None):
        other = load(str(tiny_model), device="cpu", threads=threads)
        difference = np.abs(np.asarray(other.decompress(coded[0])).astype(int) - coded[1])
        assert difference.max() <= 1


def test_a_damaged_block_is_told_from_the_other_thread_too(tiny_model, coded):
    data = bytearray(coded[0])
    data[-8] ^= 1
    with pytest.raises(nlaic.FormatError, match="block 11"):
        load(str(tiny_model), device="cpu").decompress(bytes(data))


def test_working_ahead_is_one_item_ahead_in_one_other_thread():
    begun, threads = [], set()

    def work(item: int) -> int:
        begun.append(item)
        threads.add(threading.get_ident())
        return item * item

    for number, result in enumerate(ahead(work, range(6))):
        assert result == number**2
        assert len(begun) <= number + 2
    assert len(threads) == 1 and threading.get_ident() not in threads
    threads.clear()
    assert list(ahead(work, range(3), enabled=False)) == [0, 1, 4]
    assert threads == {threading.get_ident()}


@pytest.mark.filterwarnings("error")
def test_pillows_limit_of_pixels_is_no_limit_here(codec, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    picture = smooth_picture(200, 130)
    data = codec.compress(picture, 50, effort=1, block=(192, 128))
    assert codec.decompress(data).size == (200, 130)
    assert codec.decompress(data, region=(3, 3, 150, 120)).size == (150, 120)


def test_the_memory_of_a_container_counts(monkeypatch, tmp_path):
    limit, none = tmp_path / "limit", tmp_path / "none"
    limit.write_text("1000000000\n")
    none.write_text("max\n")
    monkeypatch.setattr("nlaic.canvas.CONTAINER_LIMITS", (tmp_path / "absent", none))
    Canvas(Grid(20000, 15000, (1024, 1024)), range(20 * 15))
    monkeypatch.setattr("nlaic.canvas.CONTAINER_LIMITS", (none, limit))
    with pytest.raises(nlaic.NlaicError, match="not enough memory for a picture of 20000x15000"):
        Canvas(Grid(20000, 15000, (1024, 1024)), range(20 * 15))


def refuse(*_):
    raise MemoryError


@pytest.mark.parametrize(("what", "by"), [("PIL.Image.new", refuse), ("nlaic.canvas._memory", lambda: 1e9)])
def test_no_memory_for_the_picture_is_one_clear_line(monkeypatch, what, by):
    monkeypatch.setattr(what, by)
    with pytest.raises(nlaic.NlaicError, match="not enough memory for a picture of 30000x20000"):
        Canvas(Grid(30000, 20000, (1024, 1024)), range(30 * 20)).paste(0, np.zeros((1024, 1024, 3), np.uint8))
