"""What the networks cost: the budget of `light`, and `nlaic` against the layer lists of the paper's code."""

import importlib.util
from pathlib import Path

import pytest
from torch import nn

from nlaic.nets.complexity import Cost, module_cost, network_cost
from nlaic.nets.light import build_light
from nlaic.nets.paper import MeanSynthesis, NonLocal, build_paper


@pytest.fixture(scope="module")
def light():
    return network_cost(build_light())


@pytest.fixture(scope="module")
def paper_net():
    return build_paper()


@pytest.fixture(scope="module")
def paper(paper_net):
    return network_cost(paper_net)


@pytest.mark.parametrize(
    ("parts", "limit"),
    [
        (("g_a",), 12),
        (("h_a",), 1),
        (("scale",), 0.5),
        (("h_s", "context"), 2.5),
        (("g_s",), 10.5),
    ],
)
def test_light_stays_within_its_budget(light, parts, limit):
    kmac = sum(light[part].kmac for part in parts)
    assert 0 < kmac <= limit


def test_light_with_both_decoders_is_small(light):
    parts = ("g_a", "h_a", "scale", "h_s", "context", "g_s", "rates")
    total = sum(light[part].parameters for part in parts) + light["g_s"].parameters
    assert total <= 9_500_000


@pytest.mark.parametrize(
    ("part", "parameters", "kmac"),
    [("g_a", 13_636_128, 1200.1), ("h_a", 8_815_520, 8.7), ("g_s", 13_802_019, 1366.0)],
)
def test_paper_transforms_agree_with_the_released_code(paper, part, parameters, kmac):
    # 13,636,128 is the sum of the called layers: the mask branch never called (2,103,072) is not in it.
    assert paper[part].parameters == parameters
    assert paper[part].kmac == pytest.approx(kmac, rel=0.01)


def test_paper_hyper_synthesis_agrees_with_the_released_code(paper_net, paper):
    h_s = paper_net.h_s
    assert isinstance(h_s, MeanSynthesis)
    synthesis = module_cost(h_s.synthesis, 128, 64)
    assert synthesis.parameters == 8_815_584
    assert synthesis.kmac == pytest.approx(3.8, rel=0.01)
    blocks, last = module_cost(h_s.p_model[:3], 192, 16), module_cost(h_s.p_model[3], 192, 16)
    # The released last layer has twice our channels: it makes the mean and a scale, ours the mean alone.
    assert last.parameters == 192 * (9 * 192 + 1)
    assert blocks.parameters == 2_655_744 - 2 * last.parameters == 1_991_808
    assert blocks.kmac + 2 * last.kmac == pytest.approx(10.4, rel=0.01)
    assert paper["h_s"].parameters == synthesis.parameters + blocks.parameters + last.parameters


def test_both_directions_are_sums_of_parts(light, paper):
    for cost in (light, paper):
        shared = cost["scale"] + cost["h_s"] + cost["context"]
        assert cost["encode"] == cost["g_a"] + cost["h_a"] + shared
        assert cost["decode"].parameters == (shared + cost["g_s"]).parameters
    assert paper["context"] == Cost()
    assert paper["encode"].kmac == pytest.approx(1222.9, rel=0.01)
    assert paper["decode"].kmac == pytest.approx(1380.2, rel=0.01)


def test_counts_agree_with_hand_counts():
    conv = nn.Conv2d(3, 8, 5, stride=2, padding=2)
    assert module_cost(conv, 3, 1, 64, 64).kmac == pytest.approx(25 * 3 * 8 / 4 / 1000)
    up = nn.ConvTranspose2d(8, 3, 5, stride=2, padding=2, output_padding=1)
    assert module_cost(up, 8, 2, 64, 64).kmac == pytest.approx(25 * 3 * 8 / 4 / 1000)
    tokens, pixels = 4 * 4, 64 * 64
    linear, attention = 4 * 32 * 16 * tokens, 2 * 16 * tokens**2
    assert module_cost(NonLocal(32), 32, 16, 64, 64).kmac == pytest.approx((linear + attention) / pixels / 1000)


def test_counting_leaves_the_network_alone(paper_net):
    assert {p.device.type for p in paper_net.parameters()} == {"cpu"}
    assert type(next(paper_net.g_a.parameters())) is nn.Parameter
    assert paper_net.training


@pytest.fixture
def tool(monkeypatch):
    """tools/complexity.py as a module."""
    folder = Path(__file__).parent.parent / "tools"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("complexity_tool", folder / "complexity.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_prints_every_part(tool, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["complexity.py", "--height", "64", "--width", "64"])
    tool.main()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("g_a", "h_a", "scale", "h_s", "context", "g_s", "encode", "decode"))
    assert "13,636,128" in printed
    monkeypatch.setattr("sys.argv", ["complexity.py", "--height", "100"])
    with pytest.raises(SystemExit):
        tool.main()


@pytest.mark.parametrize(("name", "most"), [("light", 20), ("paper", 1600)])
def test_the_strips_cost_a_tenth_of_the_picture(tool, name, most):
    """The paper's Table 2: 15694 G on all of 2048x1363, 1473.84 G on the strip; ours at most 40 GFLOP."""
    full, partial = (tool.giga_macs(tool.FILTERS[name], whole) for whole in (True, False))
    assert full / partial >= 10
    assert partial <= most
    assert name != "paper" or full == pytest.approx(15694, rel=0.002)
