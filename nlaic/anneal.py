"""The search of efforts 8 and 9: Adam on y with the codec's own loss, by torch.

Each symbol is drawn between its two neighbours by a Gumbel softmax whose temperature falls: Yang, Bamler, Mandt,
"Improving inference for neural image compression", https://arxiv.org/abs/2006.04240 (NeurIPS 2020).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from nlaic.nets.vae import INDEX_STEP, SCALE_MIN, gaussian_bits
from nlaic.rates import Rate
from nlaic.torch_engine import TorchEngine

if TYPE_CHECKING:
    from nlaic.codec import Codec, Symbols
    from nlaic.search import Block

LEARNING_RATE = 0.06  # in steps of y
HOT, COLD = 0.5, 0.02  # temperatures of the first and the last step


def anneal(
    codec: "Codec", block: "Block", rate: Rate, start: "Symbols", steps: int, step_done: Callable[[], None]
) -> np.ndarray:
    """Search y with z_hat fixed; returns it in its own units [C, h, w], still to be rounded. Needs the torch engine."""
    engine = codec.engine
    assert isinstance(engine, TorchEngine)
    log_scale = _batch(engine, start.index) * INDEX_STEP + math.log(SCALE_MIN)
    coded = _batch(engine, start.index) >= codec.coder.skip
    mean = _batch(engine, engine.mean(start.z_hat * rate.z_step))
    step = _batch(engine, rate.step)
    maps = engine.tensor(block.visibility.maps) if block.visibility else None
    draw = _Annealed(coded, torch.Generator(engine.device).manual_seed(0))
    with torch.enable_grad():
        y = (_batch(engine, block.y) / step).requires_grad_()
        adam = torch.optim.Adam([y], LEARNING_RATE, betas=(0.9, 0.99))
        for k in range(steps):
            share = k / steps
            adam.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, 2 * (1 - share))
            temperature = HOT * (COLD / HOT) ** share
            first = draw(y - mean, temperature)
            second_mean = engine.net.refine(first + mean, mean)
            r = draw(y - second_mean, temperature)
            bits = (gaussian_bits(r, log_scale) * coded).sum()
            error = visible(engine.error((r + second_mean) * step, block.pixels, block.size), maps)
            (y.grad,) = torch.autograd.grad(bits + rate.error_weight * error, y)
            adam.step()
            step_done()
    return (y.detach() * step)[0].cpu().numpy()


def visible(error: torch.Tensor, maps: torch.Tensor | None) -> torch.Tensor:
    """What an error [1, 3, H, W] weighs: `Visibility.maps`, or its squares alone."""
    if maps is None:
        return error.square().sum()
    total = torch.zeros((), device=error.device)
    for weights in maps:
        times = error.shape[-1] // weights.shape[-1]  # pixels of this scale along a cell
        cells = F.avg_pool2d(error.square().sum(1), times) * times**2
        total = total + (cells * weights).sum()
        error = F.avg_pool2d(error, 2)
    return total


def _batch(engine: TorchEngine, array: np.ndarray) -> torch.Tensor:
    return engine.tensor(array)[None]


@dataclass(frozen=True)
class _Annealed:
    """Residuals [1, C, h, w] to random mixtures of their two neighbours; 0 where nothing is coded."""

    coded: torch.Tensor
    generator: Any

    def __call__(self, residual: torch.Tensor, temperature: float) -> torch.Tensor:
        low = residual.detach().floor()
        share = (residual - low).clamp(1e-4, 1 - 1e-4)
        uniform = torch.rand(share.shape, generator=self.generator, device=share.device).clamp(1e-6, 1 - 1e-6)
        # The higher neighbour's logit (Yang et al., section 3.3) and a logistic draw, the difference of two Gumbels.
        logit = (torch.atanh(share) - torch.atanh(1 - share)) / temperature + torch.logit(uniform)
        return torch.where(self.coded, low + torch.sigmoid(logit), 0.0)
