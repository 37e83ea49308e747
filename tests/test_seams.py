"""The boundary filter in the codec: the same as on whole pictures, in pieces, in regions, in any order of blocks."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from nlaic import seams
from nlaic.canvas import Canvas
from nlaic.codec import Codec, load
from nlaic.errors import NlaicError
from nlaic.export import save_weights, with_network
from nlaic.nets.boundary import BoundarySettings, build_boundary, filter_boundaries
from nlaic.seams import SeamFilter, blend_weight
from nlaic.tiles import Grid, intersection
from nlaic.weights import read_weights
from tests.conftest import smooth_picture


def network(kind: str = "light", seed: int = 0):
    """A filter that does something at every pixel."""
    torch.manual_seed(seed)
    net = build_boundary(BoundarySettings(kind, 8, 2))
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.5 * p[0].numel() ** -0.5 if p.ndim > 1 else 0.1)
    if kind == "light":
        net.log_gain.data += 3
    return net.requires_grad_(False)


class Filter:
    """A `BoundaryFilter` of a network; `pixels` counts what it sees."""

    def __init__(self, net):
        self.net, self.reach, self.sigma, self.pixels = net, net.reach, 22.0, 0

    def correction(self, strip, quality):
        self.pixels += strip.shape[0] * strip.shape[1]
        x = torch.tensor(np.ascontiguousarray(strip)).permute(2, 0, 1)[None].float() / 255
        return ((self.net(x, torch.tensor([quality / 1000])) - x) * 255)[0].permute(1, 2, 0).numpy()


def filtered(picture: np.ndarray, block: tuple[int, int], network, region=None, quality=450) -> np.ndarray:
    """A picture whose blocks arrive one by one."""
    grid = Grid(picture.shape[1], picture.shape[0], block)
    box = region or (0, 0, grid.width, grid.height)
    seams = SeamFilter(grid, box, network, quality)
    canvas = Canvas(grid, seams.numbers)
    for number in seams.numbers:
        left, top, right, bottom = grid.box(number)
        canvas.paste(number, picture[top:bottom, left:right])
        seams.pasted(canvas, number)
    return np.asarray(canvas.crop(box))


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.asarray(smooth_picture(width, height, seed))


@pytest.mark.parametrize("kind", ["light", "paper"])
@pytest.mark.parametrize(
    ("size", "block"), [((384, 256), (128, 128)), ((640, 384), (256, 128)), ((512, 1408), (256, 1280))]
)
def test_in_pieces_and_rows_it_is_the_filter_on_whole_pictures(kind, size, block):
    """Pieces, kept rows and 8 bits against the plain implementation that training uses."""
    net, picture = network(kind), noise(*size)
    x = torch.tensor(picture).permute(2, 0, 1)[None].float() / 255
    columns, rows = range(block[0], size[0], block[0]), range(block[1], size[1], block[1])
    whole = filter_boundaries(x, columns, rows, lambda strip: net(strip, torch.tensor([0.45])))
    expected = whole[0].permute(1, 2, 0).mul(255).round().clamp(0, 255).numpy()
    result = filtered(picture, block, Filter(net))
    assert np.abs(result - picture.astype(float)).max() > 4
    assert np.mean(result != expected) < 1e-4  # a float at one half may go either way
    assert np.abs(result - expected).max() <= 1


def test_a_transposed_picture_gives_a_transposed_result():
    picture, net = noise(330, 270), network()
    a = filtered(picture, (128, 64), Filter(net))
    b = filtered(picture.swapaxes(0, 1), (64, 128), Filter(net))
    assert np.abs(a.astype(int) - b.swapaxes(0, 1)).max() <= 1


def test_only_strips_are_touched_also_where_blocks_are_cut():
    picture = noise(321, 259)  # the last column of blocks is 1 wide, the last row 3 high
    result = filtered(picture, (320, 256), Filter(network()))
    changed = np.any(result != picture, axis=2)
    assert not changed[: 256 - 64, : 320 - 64].any()
    assert changed[:200, 320 - 20 :].mean() > 0.5 and changed[256 - 20 :, :200].mean() > 0.5
    narrow = np.any(filtered(picture, (64, 256), Filter(network())) != picture, axis=2)
    assert narrow[:100].mean() > 0.5


@pytest.mark.parametrize(
    "region",
    [
        (0, 0, 1, 1),
        (120, 5, 260, 300),
        (127, 127, 129, 129),
        (60, 60, 70, 70),
        (300, 250, 301, 330),
        (0, 100, 400, 140),
    ],
)
@pytest.mark.parametrize("block", [(128, 128), (64, 128)])
def test_a_region_is_the_crop_of_the_whole(region, block):
    net, picture = network(), noise(401, 333)
    left, top, right, bottom = region
    whole = filtered(picture, block, Filter(net))
    assert np.array_equal(filtered(picture, block, Filter(net), region), whole[top:bottom, left:right])


def test_a_region_reads_what_its_seams_need_and_no_more():
    grid, one = Grid(1280, 1280, (256, 256)), Filter(network())
    assert SeamFilter(grid, (100, 100, 150, 150), one, 450).numbers == [0]
    assert SeamFilter(grid, (600, 610, 610, 620), one, 450).numbers == [12]  # the middle of a block
    assert SeamFilter(grid, (500, 640, 505, 641), one, 450).numbers == [11, 12]  # left of a boundary
    assert SeamFilter(grid, (500, 520, 505, 521), one, 450).numbers == [6, 7, 11, 12]  # at a crossing


def test_a_region_of_many_blocks_looks_at_those_around_it(monkeypatch):
    blocks: list[tuple[int, int]] = []
    original = SeamFilter._vertical
    monkeypatch.setattr(SeamFilter, "_vertical", lambda self, *block: blocks.append(block) or original(self, *block))
    assert SeamFilter(Grid(6400, 6400, (64, 64)), (3210, 3210, 3220, 3220), Filter(network()), 450).numbers
    assert len(blocks) < 50


class Brighter:
    """A filter that costs nothing."""

    reach, sigma = 8, 22.0

    def correction(self, strip, quality):
        return np.ones(strip.shape, np.float32)


@pytest.mark.parametrize("size", [(64, 2), (2, 64)], ids=["row", "column"])
def test_work_grows_with_the_blocks_and_memory_with_a_rows_strip(size, monkeypatch):
    """Boxes that are held against others, and bytes that wait, at one length of a picture and at four times that."""
    held: list[None] = []
    monkeypatch.setattr(seams, "intersection", lambda *boxes: held.append(None) or intersection(*boxes))

    def cost(times: int) -> tuple[int, int, int]:
        width, height = (64 * side * (times if side > 2 else 1) for side in size)
        grid = Grid(width, height, (64, 64))
        one = SeamFilter(grid, (0, 0, width, height), Brighter(), 450)
        canvas = Canvas(grid, one.numbers)
        held.clear()
        tracemalloc.start()
        for number in one.numbers:
            one.pasted(canvas, number)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return len(held), peak, one.waiting

    (calls, peak, waiting), (more_calls, more_peak, more_waiting) = cost(1), cost(4)
    assert more_calls < 4.4 * calls
    assert more_peak - peak < 1.2 * (more_waiting - waiting) + 50_000


def test_what_the_filter_sees_grows_with_the_boundaries_not_with_the_picture():
    one, two = Filter(network()), Filter(network())
    filtered(noise(512, 512), (256, 512), one)
    filtered(noise(1024, 512), (512, 512), two)
    assert one.pixels == two.pixels == 128 * 512


@pytest.mark.parametrize("width", [64, 128])
def test_the_weight_is_small_at_the_edge_of_any_strip(width):
    weight = blend_weight(width)
    assert weight.max() > 0.99 and weight[0] < 0.02 and np.array_equal(weight, weight[::-1])


@pytest.fixture(scope="module")
def filtering(tiny_model, tmp_path_factory) -> Codec:
    """The tiny model with a filter."""
    settings = BoundarySettings("light", 8, 2)
    weights = with_network(
        read_weights(tiny_model), "boundary", network(), {"boundary": json.dumps(settings.to_dict())}
    )
    path = save_weights(weights, tmp_path_factory.mktemp("filter") / "filter-00000000.safetensors")
    return load(str(path), device="cpu", threads=1)


def test_the_codec_filters_and_can_be_told_not_to(filtering, tiny_model):
    picture, plain = smooth_picture(300, 200, seed=1), load(str(tiny_model), device="cpu", threads=1)
    data = filtering.compress(picture, 60, effort=1, block=(128, 128))
    assert data == plain.compress(picture, 60, effort=1, block=(128, 128))  # the decoder's choice: the file is the same
    without = np.asarray(plain.decompress(data))
    assert np.array_equal(without, np.asarray(filtering.decompress(data, boundary_filter=False)))
    assert np.array_equal(
        filtered(without, (128, 128), filtering.engine.boundary, quality=600), np.asarray(filtering.decompress(data))
    )


@pytest.mark.parametrize("region", [(100, 90, 60, 60), (250, 10, 50, 20), (3, 150, 290, 50)])
def test_the_codec_filters_regions_alike(filtering, region):
    data = filtering.compress(smooth_picture(300, 200, seed=1), 60, effort=1, block=(128, 64))
    x, y, width, height = region
    whole = filtering.decompress(data)
    assert isinstance(whole, Image.Image)
    part = np.asarray(filtering.decompress(data, region=region))
    assert np.array_equal(part, np.asarray(whole)[y : y + height, x : x + width])


def test_what_waits_for_the_row_below_counts_for_memory(filtering, monkeypatch):
    data = filtering.compress(smooth_picture(300, 200, seed=1), 60, effort=1, block=(128, 128))
    reach = filtering.engine.boundary.reach
    waiting = 3 * 128 * (64 * 12 + reach * 8)  # three columns: half a strip in floats, and rows as Pillow has them
    memory = 300 * 200 * 4 + 128 * 128 * 64 + waiting
    monkeypatch.setattr("nlaic.canvas._memory", lambda: memory)
    filtering.decompress(data)
    monkeypatch.setattr("nlaic.canvas._memory", lambda: memory - 1)
    filtering.decompress(data, boundary_filter=False)
    with pytest.raises(NlaicError, match="not enough memory for a picture of 300x200"):
        filtering.decompress(data)
