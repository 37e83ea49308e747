"""Muon: momentum, then the nearest orthogonal matrix, for the weights of convolutions.

Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024); the scale of the update after Liu et
al., "Muon is scalable for LLM training", https://arxiv.org/abs/2502.16982, so that learning rates read like Adam's.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic whose iteration pushes all singular values towards 1
RATE_LIKE_ADAM = 0.2  # root mean square of an Adam update, about


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of a matrix [M, N] to about 1 (0.7 to 1.2).

    The polynomial is iterated on the small Gram matrix; the large matrix is multiplied once, at the end.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    gram = x @ x.T
    identity = torch.eye(len(gram), device=x.device, dtype=x.dtype)
    product: Tensor | None = None
    for last in (*(False,) * (steps - 1), True):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = factor if product is None else factor @ product
        gram = gram if last else factor @ gram @ factor
    assert product is not None
    x = product @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum; a weight [out, in, k, k] is treated as a matrix [out, k*k*in].

    Args:
        params: weights with at least two dimensions, or groups of them.
        lr: learning rate, about what Adam would take.
        momentum: of the gradient's running mean.
        every: steps for which an orthogonal matrix is kept; weights take turns with a new one.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.95, every: int = 1) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "every": every})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the weights once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for number, p in enumerate(group["params"]):
                if p.grad is not None:
                    with torch.autocast(p.device.type, enabled=False):  # the Gram iteration needs full precision
                        self._update(p, number, group)
        return loss

    def _update(self, p: Tensor, number: int, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state, momentum = self.state[p], group["momentum"]
        steps = state.setdefault("steps", 0)
        if "mean" not in state:
            state["mean"] = torch.zeros_like(p)
        mean = state["mean"].lerp_(p.grad, 1 - momentum)
        if "direction" not in state or (steps + number) % group.get("every", 1) == 0:
            rows = torch.lerp(p.grad, mean, momentum).movedim(1, -1)  # any order of columns will do: that of memory
            state["direction"] = orthogonalise(rows.flatten(1)).contiguous().view_as(rows).movedim(-1, 1)
        rate = group["lr"] * RATE_LIKE_ADAM * math.sqrt(max(len(p), p[0].numel()))
        p.add_(state["direction"], alpha=-rate)
        state["steps"] = steps + 1
