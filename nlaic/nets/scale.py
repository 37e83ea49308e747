"""The scale network while it learns: the float twin of `nlaic.integer`.

It maps the quantised hyper-latent z_hat to one table index (a log-spaced scale) for every symbol of y. What runs in
the codec is integers only (weights int8, activations 0..255, see `nlaic.integer`); here the same arithmetic is played
in floats with straight-through rounding, so that what is trained is what will run.

Two kinds of channels go through every layer side by side. Carried channels start as a fixed linear map (the inverse
of the DCT in `h_a`, see `light`) and sit around the level 128; learned channels are clipped ReLUs that sit at 0.
All layers work in levels: an activation of 0..255 is what the integers are.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 255  # activations are clipped to 0..LEVELS
CENTRE = 128  # the level at which carried channels sit
BIAS_UNIT = 32.0  # levels for each unit of a bias, so that one learning rate fits all


def round_through(x: Tensor) -> Tensor:
    """Round to nearest (half to even); the gradient passes as if nothing had happened."""
    return x + (x.round() - x).detach()


class _Bounded(torch.autograd.Function):
    """See `bounded`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        out = x.clamp(low, high)
        ctx.save_for_backward(x - out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (beyond,), (gradient,) = ctx.saved_tensors, gradients  # beyond: 0 between the bounds
        return gradient.masked_fill(beyond * gradient < 0, 0), None, None


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp to low..high; beyond a bound only the gradient that leads back passes.

    With all of it what lies outside drifts without end, with none of it what lies outside stays there.
    """
    return cast(Tensor, _Bounded.apply(x, low, high))


class ScaleLayer(nn.Module):
    """One integer layer: replicate-padded convolution, bias, requantisation to 0..255 (not in the last layer).

    The effective weight is `start + weight`: a fixed map and what is learned on top of it.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, carried_in: int, carried_out: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.start: Tensor
        self.centre_in: Tensor
        self.centre_out: Tensor
        self.register_buffer("start", torch.zeros(outputs, inputs, kernel, kernel))
        self.register_buffer("centre_in", _centres(inputs, carried_in), persistent=False)
        self.register_buffer("centre_out", _centres(outputs, carried_out), persistent=False)
        fan_in = inputs * kernel * kernel
        nn.init.normal_(self.weight[carried_out:], std=fan_in**-0.5)

    def quantised_weight(self) -> tuple[Tensor, Tensor]:
        """Return the int8 weights as floats [O, I, k, k] and their step [O, 1, 1, 1]: weight = step * integers."""
        weight = self.start + self.weight
        step = weight.detach().abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-6) / 127
        return round_through(weight / step), step

    def forward(self, levels: Tensor, quantise: bool = True) -> Tensor:
        """Levels [B, I, h, w] to the weighted sum plus bias [B, O, h, w], in levels, neither rounded nor clipped."""
        if quantise:
            integers, step = self.quantised_weight()
            weight = integers * step
        else:
            weight = self.start + self.weight
        x = levels - self.centre_in[:, None, None]
        if self.kernel == 3:
            x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(x, weight, BIAS_UNIT * self.bias + self.centre_out)


def _centres(channels: int, carried: int) -> Tensor:
    return torch.cat((torch.full((carried,), float(CENTRE)), torch.zeros(channels - carried)))


class ScaleNetwork(nn.Module):
    """z_hat to table indices, at most 0.5 kMAC a pixel.

    ```
    levels of z @1/64 ─ conv3 ─ 1x1 ─ shuffle 4 ─ conv3 @1/16 ─ 1x1 ─ + offset(quality) ─► index
    ```

    Args:
        latent: channels of y.
        hyper: channels of z.
        carried: maps that the start carries from z to the indices (0: all is learned).
        widths: learned channels after the first, second and third layer.
    """

    SHUFFLE = 4  # from 1/64 to 1/16

    def __init__(self, latent: int, hyper: int, carried: int = 0, widths: Sequence[int] = (96, 24, 48)) -> None:
        super().__init__()
        positions = self.SHUFFLE**2
        wide, low, high = widths
        carried_z = hyper if carried else 0
        self.carried = carried
        self.layers: Sequence[ScaleLayer] = nn.ModuleList(  # type: ignore[assignment]
            [
                ScaleLayer(hyper, carried_z + wide, 3, hyper, carried_z),
                ScaleLayer(carried_z + wide, positions * (carried + low), 1, carried_z, positions * carried),
                ScaleLayer(carried + low, carried + high, 3, carried, carried),
                ScaleLayer(carried + high, latent, 1, carried, 0),
            ]
        )
        nn.init.zeros_(self.layers[3].weight)

    def forward(self, levels: Tensor, quantise: bool = True) -> Tensor:
        """Levels of z [B, Cz, h/4, w/4] to indices without their offset [B, C, h, w] (fractions kept)."""
        x = levels
        for number, layer in enumerate(self.layers):
            x = layer(x, quantise)
            if number < 3:
                x = x.clamp(0, LEVELS)
                x = round_through(x) if quantise else x
            if number == 1:
                x = F.pixel_shuffle(x, self.SHUFFLE)
        return x
