"""The search of efforts 8 and 9, by torch: Adam on z, then on y.

z first, with y as it is: its own bits, those of y, and the error where the mean stands for a symbol that is not coded.
h_a can only guess what this finds. Then y with bits, squared error and MS-SSIM, z_hat held.

Each symbol is drawn between its two neighbours by a Gumbel softmax whose temperature falls: Yang, Bamler, Mandt,
"Improving inference for neural image compression", https://arxiv.org/abs/2006.04240 (NeurIPS 2020).
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from nlaic.export import restore
from nlaic.integer import QUALITIES
from nlaic.nets.ms_ssim import MsSsim
from nlaic.nets.scale import round_through
from nlaic.nets.transforms import picture
from nlaic.nets.vae import INDEX_STEP, SCALE_MIN, gaussian_bits, logistic_bits
from nlaic.rates import Rate
from nlaic.torch_engine import TorchEngine
from nlaic.visibility import Objective

if TYPE_CHECKING:
    from nlaic.codec import Codec, Symbols
    from nlaic.search import Block

LEARNING_RATE = 0.06  # in steps of y
SIDE_RATE = 0.03  # in steps of z
HOT, COLD = 0.5, 0.02  # temperatures of the first and the last step


def anneal_side(codec: "Codec", block: "Block", rate: Rate, steps: int, step_done: Callable[[], None]) -> np.ndarray:
    """Search z, in steps [Cz, h/4, w/4], with y fixed; returns it still to be rounded. Needs the torch engine."""
    engine = codec.engine
    assert isinstance(engine, TorchEngine)
    net = restore(codec.weights).to(engine.device).requires_grad_(False)
    position = torch.full((1,), rate.quality / QUALITIES * (net.rates.anchors - 1), device=engine.device)
    log_z_scale = net.rates.at(net.rates.log_z_scale, position)
    y, z_step, weight = (_batch(engine, array) for array in (block.y / rate.step, rate.z_step, rate.weight))
    generator = torch.Generator(engine.device).manual_seed(0)
    with torch.enable_grad():
        z = _batch(engine, codec.side(block.y, rate)).requires_grad_()
        adam = torch.optim.Adam([z], SIDE_RATE, betas=(0.9, 0.99))
        for temperature in _cooling(adam, SIDE_RATE, steps):
            z_hat = _drawn(z, temperature, generator)
            index, mean = net.index(z_hat, z_step, position), net.mean(z_hat, z_step)
            residual = y - net.refine(round_through(y - mean) + mean, mean)
            coded = index >= codec.coder.skip
            r = round_through(residual) * coded
            bits = (gaussian_bits(r, index * INDEX_STEP + math.log(SCALE_MIN)) * coded).sum()
            total = bits + logistic_bits(z_hat, log_z_scale).sum() + (weight * (r - residual).square()).sum()
            (z.grad,) = torch.autograd.grad(total, z)
            adam.step()
            step_done()
    return z.detach()[0].cpu().numpy()


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
    distortion = _Distortion(engine, block, codec.objective, rate.error_weight)
    generator = torch.Generator(engine.device).manual_seed(0)
    with torch.enable_grad():
        y = (_batch(engine, block.y) / step).requires_grad_()
        adam = torch.optim.Adam([y], LEARNING_RATE, betas=(0.9, 0.99))
        for temperature in _cooling(adam, LEARNING_RATE, steps):
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


def _cooling(adam: torch.optim.Adam, learning_rate: float, steps: int) -> Iterator[float]:
    """The temperature of each step; Adam's rate falls in the second half."""
    for k in range(steps):
        share = k / steps
        adam.param_groups[0]["lr"] = learning_rate * min(1.0, 2 * (1 - share))
        yield HOT * (COLD / HOT) ** share


def _drawn(value: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """Random mixtures of the two integers next to each value."""
    low = value.detach().floor()
    share = (value - low).clamp(1e-4, 1 - 1e-4)
    uniform = torch.rand(share.shape, generator=generator, device=share.device).clamp(1e-6, 1 - 1e-6)
    # The higher neighbour's logit (Yang et al., section 3.3) and a logistic draw, the difference of two Gumbels.
    logit = (torch.atanh(share) - torch.atanh(1 - share)) / temperature + torch.logit(uniform)
    return low + torch.sigmoid(logit)


class _Distortion:
    """A block's squared error and 1 - MS-SSIM, as an objective weighs them, in bits; padding has no error."""

    def __init__(self, engine: TorchEngine, block: "Block", objective: Objective, error_weight: float) -> None:
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
