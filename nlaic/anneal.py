"""The search for y of efforts 8 and 9, by torch: Adam on bits, squared error and MS-SSIM, z_hat held.

Symbols are drawn as in `nlaic.side`.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from nlaic.block import Block, BlockCodec, Symbols
from nlaic.nets.ms_ssim import MsSsim
from nlaic.nets.transforms import picture
from nlaic.nets.vae import INDEX_STEP, SCALE_MIN, gaussian_bits
from nlaic.rates import Rate
from nlaic.side import cooling
from nlaic.torch_engine import TorchEngine
from nlaic.visibility import Objective

LEARNING_RATE = 0.06  # in steps of y


def anneal(
    codec: BlockCodec, block: Block, rate: Rate, start: Symbols, steps: int, step_done: Callable[[], None]
) -> np.ndarray:
    """Search y with z_hat fixed; returns it in its own units [C, h, w], still to be rounded. Needs the torch engine."""
    engine = codec.engine
    assert isinstance(engine, TorchEngine)
    log_scale = _batch(engine, start.index) * INDEX_STEP + math.log(SCALE_MIN)
    coded = _batch(engine, start.index) >= codec.coder.skip
    mean = _batch(engine, engine.mean(start.z_hat * rate.z_step))
    step = _batch(engine, rate.step)
    distortion = _Distortion(engine, block, codec.objective, rate.error_weight)
    generator = torch.Generator(engine.device).manual_seed(0)
    with torch.enable_grad():
        y = (_batch(engine, block.y) / step).requires_grad_()
        adam = torch.optim.Adam([y], LEARNING_RATE, betas=(0.9, 0.99))
        for temperature, adam.param_groups[0]["lr"] in cooling(steps, LEARNING_RATE):
            first = _drawn(y - mean, temperature, generator) * coded
            second_mean = engine.net.refine(first + mean, mean)
            r = _drawn(y - second_mean, temperature, generator) * coded
            bits = (gaussian_bits(r, log_scale) * coded).sum()
            (y.grad,) = torch.autograd.grad(bits + distortion((r + second_mean) * step), y)
            adam.step()
            step_done()
    return (y.detach() * step)[0].cpu().numpy()


def _batch(engine: TorchEngine, array: np.ndarray) -> torch.Tensor:
    return engine.tensor(array)[None]


def _drawn(value: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """Random mixtures of the two integers next to each value."""
    low = value.detach().floor()
    share = (value - low).clamp(1e-4, 1 - 1e-4)
    uniform = torch.rand(share.shape, generator=generator, device=share.device).clamp(1e-6, 1 - 1e-6)
    logit = (torch.atanh(share) - torch.atanh(1 - share)) / temperature + torch.logit(uniform)
    return low + torch.sigmoid(logit)


class _Distortion:
    """A block's squared error and 1 - MS-SSIM, as an objective weighs them, in bits; padding has no error."""

    def __init__(self, engine: TorchEngine, block: Block, objective: Objective, error_weight: float) -> None:
        self._engine, self._block, self._objective = engine, block, objective
        self._worth = error_weight * block.pixels.size
        self._x = picture(engine.tensor(block.pixels))
        self._ms_ssim = MsSsim(edges=True)

    def __call__(self, y_hat: torch.Tensor) -> torch.Tensor:
        """Of y_hat in its own units [1, C, h, w]."""
        error = self._engine.error(y_hat, self._x, self._block.size)
        total = self._objective.squared * error.square().mean()
        if self._objective.structure:
            total = total + self._objective.structure * self._ms_ssim(self._x + error, self._x)[0]
        return self._worth * total
