"""What an engine runs: each transform of a codec from its input array to its output array, without a batch dimension.

The torch engine calls these modules, and `nlaic.onnx_export` writes each as a graph, so that both engines do the same.
Parameters keep the names that they have in a weights file (`g_s.branch.0.weight`).
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from nlaic.integer import IntegerScaleNetwork
from nlaic.nets.side import SideGradient
from nlaic.nets.vae import HyperpriorVAE, refined


class Analysis(nn.Module):
    """g_a: pixels uint8 [H, W, 3] to y float32 [C, H/16, W/16]."""

    def __init__(self, g_a: nn.Module) -> None:
        super().__init__()
        self.g_a = g_a

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return self.g_a(picture(pixels)).float()[0]


class HyperAnalysis(nn.Module):
    """h_a: y [C, h, w] to z [Cz, h/4, w/4]."""

    def __init__(self, h_a: nn.Module) -> None:
        super().__init__()
        self.h_a = h_a

    def forward(self, y: Tensor) -> Tensor:
        """See the class."""
        return self.h_a(y[None])[0]


class Mean(nn.Module):
    """h_s: z_hat [Cz, h/4, w/4] to the first mean [C, h, w]."""

    def __init__(self, h_s: nn.Module) -> None:
        super().__init__()
        self.h_s = h_s

    def forward(self, z_hat: Tensor) -> Tensor:
        """See the class."""
        return self.h_s(z_hat[None])[0]


class Refine(nn.Module):
    """The context: y_hat and the first mean [C, h, w] to the second mean."""

    def __init__(self, context: nn.Module) -> None:
        super().__init__()
        self.context = context

    def forward(self, y_hat: Tensor, mean: Tensor) -> Tensor:
        """See the class."""
        return refined(self.context, y_hat[None], mean[None])[0]


class Synthesis(nn.Module):
    """g_s: y_hat [C, h, w] to pixels uint8 [H, W, 3]."""

    def __init__(self, g_s: nn.Module) -> None:
        super().__init__()
        self.g_s = g_s

    def forward(self, y_hat: Tensor) -> Tensor:
        """See the class."""
        x_hat = self.g_s(y_hat[None]).float()[0]
        return (x_hat * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


class Pull(nn.Module):
    """Half the gradient of the squared error to y_hat, for a g_s with a linear shortcut: by the shortcut's transpose.

    y_hat [C, h, w], the picture that was meant uint8 [H, W, 3] and which of its rows [H] and columns [W] count, as 0
    and 1 in float32, to [C, h, w].
    """

    def __init__(self, g_s: nn.Module) -> None:
        super().__init__()
        self.g_s = g_s

    def forward(self, y_hat: Tensor, pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """See the class."""
        error = self.g_s(y_hat[None]).float() - picture(pixels)
        error = error * rows[:, None] * columns
        transposed = cast(Callable[[Tensor], Tensor], self.g_s.shortcut_transposed)
        return transposed(error).float()[0]


class Boundary(nn.Module):
    """The filter's correction: a strip uint8 [n, w, 3], the quality 0..1 as [1], to levels of 0..255 [n, w, 3]."""

    def __init__(self, boundary: nn.Module) -> None:
        super().__init__()
        self.boundary = boundary

    def forward(self, strip: Tensor, quality: Tensor) -> Tensor:
        """See the class."""
        x = picture(strip)
        return ((self.boundary(x, quality).float() - x) * 255)[0].permute(1, 2, 0)


def transforms(net: HyperpriorVAE, scale: IntegerScaleNetwork) -> dict[str, nn.Module]:
    """Those of a codec by name, without the boundary filter.

    `pull` only where g_s has a linear shortcut, `side_gradient` only where h_s and the context are `reversible`.
    """
    found: dict[str, nn.Module] = {
        "analysis": Analysis(net.g_a),
        "hyper_analysis": HyperAnalysis(net.h_a),
        "mean": Mean(net.h_s),
        "synthesis": Synthesis(net.g_s),
    }
    if net.context is not None:
        found["refine"] = Refine(net.context)
    if hasattr(net.g_s, "shortcut_transposed"):
        found["pull"] = Pull(net.g_s)
    if hasattr(net.h_s, "reversible") and net.context is not None:
        found["side_gradient"] = SideGradient(net.h_s, net.context, scale)
    return found


def picture(pixels: Tensor) -> Tensor:
    """uint8 [H, W, 3] to [1, 3, H, W] in 0..1."""
    return pixels.permute(2, 0, 1)[None].float() / 255
