"""The strips around block boundaries: where they are changed, by how much, and at what cost."""

import math

import pytest
import torch
from torch import nn

from nlaic.errors import NlaicError
from nlaic.nets.boundary import (
    BoundarySettings,
    blend_weight,
    build_boundary,
    cut,
    filter_boundaries,
    splice,
)
from nlaic.nets.complexity import module_cost

PAPER = BoundarySettings("paper", 128, 19)


def shift(strip):
    return strip + 1


def test_weight_is_the_papers_and_small_at_the_edge():
    weight = blend_weight(128)
    assert weight[63] == weight[64] == weight.max() > 0.999
    assert weight[0] < 0.02
    assert weight[20] == pytest.approx(math.exp(-((20.5 - 64) ** 2) / (2 * 22**2)))


@pytest.mark.parametrize("sigma", [0, -22.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(sigma):
    with pytest.raises(NlaicError, match=r"sigma must be above 0"):
        BoundarySettings(sigma=sigma)


def test_only_strips_change_and_by_the_weight():
    picture = torch.rand(1, 3, 256, 320)
    change = filter_boundaries(picture, [128], [], shift) - picture
    torch.testing.assert_close(change[0, 0, 7, 64:192], blend_weight(128), atol=1e-6, rtol=1e-4)
    assert not change[..., :64].any() and not change[..., 192:].any()


def test_a_crossing_is_symmetric_and_counts_once():
    picture = torch.rand(1, 3, 256, 256)
    change = filter_boundaries(picture, [128], [128], shift) - picture
    torch.testing.assert_close(change, change.mT, atol=1e-6, rtol=0)
    assert change.max() <= 1 + 1e-6
    assert change[0, 0, 127, 127] == pytest.approx(1, abs=1e-3)


def test_a_picture_and_its_transpose_give_transposed_results():
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1)
    picture = torch.rand(1, 3, 256, 384)
    with torch.no_grad():
        a = filter_boundaries(picture, [128, 256], [128], network)
        b = filter_boundaries(picture.mT, [128], [128, 256], network)
    torch.testing.assert_close(a, b.mT, atol=1e-6, rtol=0)


def test_splice_and_cut_undo_each_other():
    pictures = torch.rand(3, 3, 64, 128)
    blocks = cut(pictures)
    torch.testing.assert_close(blocks[1], pictures[0, :, :32, 64:])
    torch.testing.assert_close(splice(blocks), pictures)


@pytest.mark.parametrize("settings", [BoundarySettings(), BoundarySettings("paper", 8, 2)], ids=["light", "paper"])
def test_an_untrained_filter_changes_nothing_and_learns(settings):
    network, strip, quality = build_boundary(settings), torch.rand(2, 3, 64, 128), torch.tensor([0.0, 1.0])
    assert torch.equal(network(strip, quality), strip)
    network(strip, quality).square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize(("settings", "most"), [(BoundarySettings(), 25.0), (PAPER, 5622.253 * 1.001)])
def test_costs(settings, most):
    """At most 25 kMAC for each pixel of a strip; the paper's 5.62 MMAC."""
    with torch.device("meta"):
        network, quality = build_boundary(settings), torch.zeros(1)
    assert 0.4 * most < module_cost(network, 3, 1, 256, 128, quality).kmac <= most


def test_the_quality_moves_the_filter():
    network = build_boundary(BoundarySettings(channels=8, blocks=1))
    torch.nn.init.normal_(network.last.weight, std=0.1)
    torch.nn.init.normal_(network.shift)
    strip = torch.rand(1, 3, 16, 128).expand(3, -1, -1, -1)
    with torch.no_grad():
        low, middle, high = network(strip, torch.tensor([0.0, 0.05, 0.1]))
        network.shift[0], network.shift[1] = network.shift[0] * 0.5 + network.shift[1] * 0.5, 0
        between = network(strip[:1], torch.tensor([0.0]))[0]
    assert not torch.equal(low, high)
    torch.testing.assert_close(middle, between)
