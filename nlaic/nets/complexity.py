"""What a network costs: parameters, and multiply-adds for each pixel of the picture."""

from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nlaic.nets.vae import HyperpriorVAE

HEIGHT, WIDTH = 512, 768  # a Kodak picture; attention costs more a pixel the larger the picture
LATENT_STRIDE, HYPER_STRIDE = 16, 64  # pixels of the picture to a position of y and of z


@dataclass(frozen=True)
class Cost:
    """Parameters, and 1000 multiply-adds a pixel of the picture."""

    parameters: int = 0
    kmac: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.kmac + other.kmac)


def module_cost(
    module: nn.Module, channels: int, stride: int, height: int = HEIGHT, width: int = WIDTH, *more: torch.Tensor
) -> Cost:
    """Cost of a module that sees [1, channels, height/stride, width/stride], and `more`.

    Convolutions, matrix products and attention count, also where they are called as functions; what is done element by
    element does not. Nothing is computed: the tensors are fakes that have only a shape.
    """
    device = next(module.parameters()).device
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        module(torch.empty(1, channels, height // stride, width // stride, device=device), *more)
    parameters = sum(p.numel() for p in module.parameters())
    return Cost(parameters, counter.get_total_flops() / 2 / 1000 / (height * width))


def network_cost(net: HyperpriorVAE, height: int = HEIGHT, width: int = WIDTH) -> dict[str, Cost]:
    """Cost of each part, by the field's names, and of both directions: `encode`, `decode`.

    The encoder runs h_s, the context and the scale network too: both sides need the same mean and scale. `rates` holds
    what moves with the quality and costs nothing to run; it counts in neither direction.

    Args:
        net: on any device; it is not changed.
        height: of the picture, a multiple of 64.
        width: of the picture, a multiple of 64.
    """
    latent, hyper = net.rates.log_step.shape[1], net.rates.z_mean.shape[1]

    def cost(module: nn.Module, channels: int, stride: int) -> Cost:
        return module_cost(module, channels, stride, height, width)

    parts = {
        "g_a": cost(net.g_a, 3, 1),
        "h_a": cost(net.h_a, latent, LATENT_STRIDE),
        "scale": cost(net.scale, hyper, HYPER_STRIDE),
        "h_s": cost(net.h_s, hyper, HYPER_STRIDE),
        "context": cost(net.context, latent, LATENT_STRIDE) if net.context is not None else Cost(),
        "g_s": cost(net.g_s, latent, LATENT_STRIDE),
        "rates": Cost(sum(p.numel() for p in net.rates.parameters())),
    }
    both = parts["scale"] + parts["h_s"] + parts["context"]
    return parts | {"encode": parts["g_a"] + parts["h_a"] + both, "decode": both + parts["g_s"]}
