"""The scale network while it learns: it plays the integers, and nothing drifts beyond its bounds."""

import pytest
import torch
from torch import Tensor

from nlaic.nets.light import build_light
from nlaic.nets.scale import CENTRE, LEVELS, ScaleNetwork, bounded


def scale_networks() -> list[ScaleNetwork]:
    torch.manual_seed(0)
    light = build_light().scale
    networks = [light, ScaleNetwork(24, 8)]
    with torch.no_grad():  # the last layer starts at zero and would keep the gradient from the layers before it
        for net in networks:
            torch.nn.init.normal_(net.layers[3].weight, std=0.05)
    return networks


@pytest.mark.parametrize("network", [0, 1], ids=["carried", "learned"])
def test_scale_network_plays_integers(network):
    net = scale_networks()[network]
    seen: list[Tensor] = []
    for layer in net.layers[1:]:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    levels = (CENTRE + 40 * torch.randn(2, net.layers[0].weight.shape[1], 3, 2)).round().clamp(0, LEVELS)
    out = net(levels)
    assert out.shape == (2, net.layers[3].weight.shape[0], 12, 8)
    assert len(seen) == 3
    for activation in seen:
        assert torch.equal(activation, activation.round())
        assert activation.min() >= 0 and activation.max() <= LEVELS and activation.unique().numel() > 20
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("network", [0, 1], ids=["carried", "learned"])
def test_scale_network_weights_are_int8(network):
    for layer in scale_networks()[network].layers:
        integers, step = layer.quantised_weight()
        torch.testing.assert_close(integers, integers.round(), atol=1e-5, rtol=0)
        assert integers.abs().max() <= 127.001
        weight = layer.start + layer.weight
        assert ((integers * step - weight).abs() <= 0.5001 * step).all()


def test_quantisation_changes_indices_little():
    net = scale_networks()[0]
    levels = (CENTRE + 20 * torch.randn(1, 128, 4, 4)).round().clamp(0, LEVELS)
    with torch.no_grad():
        difference = net(levels) - net(levels, quantise=False)
    assert difference.abs().mean() < 1  # of 64 indices


def test_beyond_a_bound_only_the_way_back_is_open():
    x = torch.tensor([-3.0, -3.0, 0.5, 0.5, 9.0, 9.0], requires_grad=True)
    towards = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])  # the gradient; descent goes the other way
    out = bounded(x, 0, 1)
    assert out.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    out.backward(towards)
    assert x.grad.tolist() == [0, -1, 1, -1, 1, 0]


def test_an_index_far_below_its_range_comes_back():
    x = torch.full((4,), -50.0, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad((bounded(x, 0, 63) - 10).square().sum(), x)
        x = (x - 0.1 * gradient).detach().requires_grad_()
    torch.testing.assert_close(x.detach(), torch.full((4,), 10.0))


def test_what_wants_to_be_smaller_than_the_bound_stays_near_it():
    x = torch.tensor([5.0], requires_grad=True)
    for _ in range(1000):
        (gradient,) = torch.autograd.grad(bounded(x, 0, 63).sum(), x)
        x = (x - 0.1 * gradient).detach().requires_grad_()
    assert -0.2 < x.item() <= 0
