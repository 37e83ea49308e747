"""The conditional discriminator: what it sees, what it costs, what its losses are."""

import pytest
import torch
from torch.nn import functional as F

from nlaic.nets.discriminator import Discriminator, discriminator_loss, generator_loss


@pytest.fixture(scope="module")
def net() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(24).eval()


def test_a_logit_for_every_patch(net):
    x, y_hat = torch.rand(2, 3, 128, 192), torch.randn(2, 24, 8, 12)
    assert net(x, y_hat).shape == (2, 1, 8, 12)
    assert Discriminator(24, (2, 2, 2, 1))(x, y_hat).shape[2] in (15, 16)


def test_parameters_are_the_known_ports():
    """2.79 million with 192 channels of y, as in the public ports."""
    assert sum(p.numel() for p in Discriminator(192).parameters()) == pytest.approx(2.790e6, rel=0.002)


def test_each_picture_is_judged_with_its_own_latents(net):
    x, y_hat = torch.rand(2, 3, 64, 64), torch.randn(2, 24, 4, 4)
    together = net(x, y_hat)
    torch.testing.assert_close(together[1:], net(x[1:], y_hat[1:]), atol=1e-5, rtol=1e-4)
    assert (together - net(x, y_hat.flip(0))).abs().max() > 1e-4


def test_the_gradient_stops_at_the_latents(net):
    x, y_hat = torch.rand(1, 3, 64, 64, requires_grad=True), torch.randn(1, 24, 4, 4, requires_grad=True)
    net(x, y_hat).sum().backward()
    assert y_hat.grad is None and x.grad.any()


def test_losses_are_cross_entropies():
    real, fake = torch.randn(2, 5, 1, 4, 4)
    entropy = F.binary_cross_entropy_with_logits
    expected = entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake))
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), entropy(fake, torch.ones_like(fake)))
