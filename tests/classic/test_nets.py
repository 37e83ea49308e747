"""The filters against the papers' figures of parameters and multiply-adds, and what they promise of pixels."""

import numpy as np
import pytest
import torch

from nlaic.classic.nets.build import build_filter
from nlaic.classic.nets.light import ANCHORS, start_restore
from nlaic.errors import NlaicError
from nlaic.nets.complexity import module_cost
from tests.conftest import batch, smooth_picture

SMALL = {
    "mvgl-a": {"blocks": 2, "channels": 8},
    "colorblust": {"blocks": 2, "channels": 16},
    "svac2": {},
    "restore-light": {"channels": 16, "blocks": 1, "fine": 4},
}


def cost(name, **settings):
    return module_cost(build_filter(name, settings), 3, 1, 64, 64, torch.zeros(1))


@pytest.mark.parametrize(
    ("name", "parameters", "kmac"),
    [("mvgl-a", 5_402_883, 5396), ("mvgl-b", 1_416_963, 1415), ("mvgl-c", 1_353_603, 1350)],
)
def test_mvgl_has_the_parameters_of_its_table(name, parameters, kmac):
    found = cost(name)
    assert found.parameters == parameters
    assert found.kmac == pytest.approx(kmac, rel=0.001)
    assert build_filter(name, {}).reach == (19 if name == "mvgl-b" else 67)


def test_svac2_has_eleven_layers_and_the_parameters_that_follow_from_them():
    found, net = cost("svac2"), build_filter("svac2", {})
    assert found.parameters == 10_597
    assert found.kmac == pytest.approx(10.48, abs=0.01)  # luma by itself is three more, not counted as a convolution
    assert sum(isinstance(module, torch.nn.Conv2d) for module in net.modules()) == 11


def test_colorblust_has_thirty_blocks():
    found, narrow = cost("colorblust"), cost("colorblust-narrow")
    assert found.parameters == pytest.approx(2.28e6, rel=0.002)
    assert found.kmac == pytest.approx(2255, rel=0.001)
    assert narrow.kmac == pytest.approx(found.kmac / 16, rel=0.05)


def test_restore_light_stays_within_its_budget():
    assert 0 < cost("restore-light").kmac < cost("restore-light", fine=16).kmac <= 60


@pytest.mark.parametrize("name", SMALL)
def test_a_pixel_depends_on_no_more_than_the_reach(name):
    torch.manual_seed(0)
    net = build_filter(name, SMALL[name]).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    x = torch.rand(1, 3, 160, 160)
    changed = x.clone()
    changed[..., 80:96, 80:96] = 1 - changed[..., 80:96, 80:96]
    with torch.no_grad():
        different = (net(x, torch.tensor([0.5])) - net(changed, torch.tensor([0.5]))).abs().amax((0, 1)) > 1e-7
    rows = torch.nonzero(different.any(1)).flatten()
    if name != "colorblust":  # its channel attention sees everything
        assert 80 - net.reach <= rows.min() and rows.max() < 96 + net.reach
    assert rows.min() < 80 and rows.max() > 95


def test_svac2_leaves_chroma_alone():
    torch.manual_seed(0)
    x, net = batch(smooth_picture(64, 48)), build_filter("svac2", {})
    with torch.no_grad():
        net.last.weight.fill_(0.1)
        delta = net(x, torch.zeros(1)) - x
    assert delta.abs().max() > 1e-4
    assert torch.allclose(delta[:, 0], delta[:, 1], atol=1e-6) and torch.allclose(delta[:, 0], delta[:, 2], atol=1e-6)


def test_mvgl_adds_a_tenth_of_what_it_says():
    net, x = build_filter("mvgl-a", SMALL["mvgl-a"]), batch(smooth_picture(32, 32))
    with torch.no_grad():
        features = net.head(x - 0.5)
        said = net.tail(features + net.body(features))
        assert torch.allclose(net(x, torch.zeros(1)), x + 0.1 * said, atol=1e-6)


def test_restore_light_begins_by_changing_nothing_and_knows_the_usual_error():
    net, x = build_filter("restore-light", SMALL["restore-light"]), batch(smooth_picture(64, 64))
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 3, 64, 64)).astype(np.float32))
    start_restore(net, [(x + 0.01 * 4**level * noise, x, level) for level in (0.0, 0.5, 1.0)])
    assert torch.equal(net(x, torch.tensor([0.3])), x)
    error = net.log_error.exp().detach().flatten()
    assert torch.allclose(error, 0.01 * 4 ** torch.linspace(0, 1, ANCHORS), rtol=0.02)


def test_what_is_not_known_is_refused():
    with pytest.raises(NlaicError, match="filter must be one of mvgl-a"):
        build_filter("edsr", {})
    with pytest.raises(NlaicError, match="settings of mvgl-a"):
        build_filter("mvgl-a", {"blocks": 1, "width": 3})
