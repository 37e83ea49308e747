"""Rounding with a gradient, for levels of JPEG (Eq. 2 of the paper in `nlaic.nets.jpeg`)."""

from typing import Any

import torch
from torch import Tensor


class ThirdOrderRound(torch.autograd.Function):
    """Rounds; its gradient is that of round(x) + (x - round(x))^3: Eq. 2 with the sign that its authors' code has."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Any shape."""
        ctx.save_for_backward(x)
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Nothing at the integers, most where a level is about to change."""
        (x,) = ctx.saved_tensors
        return gradients[0] * 3 * (x - x.round()).square()


class SharpRound(torch.autograd.Function):
    """Rounds; the gradient of small numbers stands where a level changes and nowhere else, that of large ones is 1.

    It is that of 2^12 (x - round(x))^13, whose mean is 1 over an interval too. Coefficients of high frequencies crowd
    around zero: with a wide gradient they would all be felt, though none of them comes near a change.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Any shape."""
        ctx.save_for_backward(x)
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """See the class."""
        (x,) = ctx.saved_tensors
        large = largeness(x)
        return gradients[0] * (large + (1 - large) * 13 * (2 * (x - x.round())) ** 12)


def largeness(x: Tensor) -> Tensor:
    """0 for |x| up to 1, 1 from 5 on, linear between."""
    return ((x.abs() - 1) / 4).clamp(0, 1)
