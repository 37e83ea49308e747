"""The encoder thinks: symbols chosen by the gradient of the picture's error. The decoder does not know. Needs torch.

Two ways, both with z_hat held at what the plain encoder chose, so that every symbol's table stays:

- **Rounds** (efforts 3 to 7). The gradient of the squared error at the decoded y_hat says where y should have been:
  y_hat - gradient / (2 gain), the gain being the squared norm of g_s' Jacobian for a channel. The value aimed at moves
  a share of the way there and is rounded again by what the symbols cost. Where g_s has a linear shortcut, its
  transpose stands for the Jacobian's: half the time, and measured to be no worse.
- **Annealing** (efforts 8 and 9). Adam on y with the codec's own loss; each symbol is drawn between its two neighbours
  by a Gumbel softmax whose temperature falls: Yang, Bamler, Mandt, "Improving inference for neural image compression",
  https://arxiv.org/abs/2006.04240 (NeurIPS 2020).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nlaic.engine import TorchEngine
from nlaic.errors import NlaicError
from nlaic.rates import Rate
from nlaic.rounding import RateDistortionRounding

if TYPE_CHECKING:
    import torch

    from nlaic.codec import Codec, Symbols

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Plan:
    """What an effort does.

    Attributes:
        steps: of the annealed search.
        rounds: of rounding by the gradient.
    """

    steps: int
    rounds: int


PLANS = {
    3: Plan(0, 1),
    4: Plan(0, 2),
    5: Plan(0, 4),
    6: Plan(0, 8),
    7: Plan(0, 16),
    8: Plan(60, 0),
    9: Plan(200, 0),
}
LEARNING_RATE = 0.06  # in steps of y
HOT, COLD = 0.5, 0.02  # temperatures of the first and the last step
SHARE, LAST_SHARE = 0.5, 0.1  # of the way to where the gradient points, in the first and the last round
STRENGTH = 0.7  # of the bits in the first round; 1 after the last


@dataclass(frozen=True)
class Block:
    """What a search works on.

    Attributes:
        pixels: the padded block, uint8 [H, W, 3].
        size: (height, width) of what is not padding: errors elsewhere do not count.
        y: its analysis, in its own units, float32 [C, H/16, W/16].
    """

    pixels: np.ndarray
    size: tuple[int, int]
    y: np.ndarray


def search(codec: "Codec", block: Block, rate: Rate, plan: Plan, progress: Progress | None = None) -> "Symbols":
    """Choose a block's symbols.

    Args:
        codec: with the torch engine.
        block: the picture and its y.
        rate: at the quality wanted.
        plan: how long to think, from `PLANS`.
        progress: called with the share that is done, 0..1.

    Raises:
        NlaicError: if the engine has no gradients.
    """
    objective = Objective(codec, block, rate)
    count, done = plan.steps + plan.rounds, 0

    def step_done() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done / count)

    rounding = RateDistortionRounding.of(codec.coder.y, STRENGTH, outward=0.0)
    chosen, aim = codec.symbols(block.y, rate, rounding), block.y
    if plan.steps:
        aim = _anneal(objective, chosen, plan.steps, step_done)
        chosen = codec.residuals(aim, chosen, rate)
    for k in range(plan.rounds):
        done_share = k / plan.rounds
        aim = aim + SHARE * (LAST_SHARE / SHARE) ** done_share * (objective.ideal(chosen) - aim)
        rounding = replace(rounding, strength=STRENGTH + (1 - STRENGTH) * done_share)
        chosen = codec.residuals(aim, chosen, rate, rounding)
        step_done()
    return chosen


class Objective:
    """The loss of one block in bits, lambda * 255^2 * MSE times pixels + bits, and its derivatives."""

    def __init__(self, codec: "Codec", block: Block, rate: Rate) -> None:
        import torch

        if not isinstance(codec.engine, TorchEngine):
            raise NlaicError("a search by gradients (effort 8 and 9) needs the torch engine; use an effort of 1 to 7")
        self.codec, self.engine, self.block, self.rate = codec, codec.engine, block, rate
        height, width = block.size
        pixels = torch.from_numpy(np.ascontiguousarray(block.pixels[:height, :width])).to(self.engine.device)
        self.x = pixels.permute(2, 0, 1)[None].float() / 255
        self.gain = codec.weights.tensors["encoder.gain"].astype(np.float32)[:, None, None]

    def squared_error(self, y_hat: "torch.Tensor") -> "torch.Tensor":
        """Sum over the picture, from y_hat in its own units [1, C, h, w]."""
        return self._error(y_hat).square().sum()

    def ideal(self, chosen: "Symbols") -> np.ndarray:
        """Where y_hat would have the least error if every symbol acted for itself, in y's own units [C, h, w]."""
        import torch
        from torch.nn import functional as F

        y_hat = self.codec.decoded(chosen, self.rate)
        at, shortcut = self.tensor(y_hat), getattr(self.engine.net.g_s, "dct", None)
        if shortcut is not None:
            (height, width), (padded_height, padded_width) = self.block.size, self.block.pixels.shape[:2]
            with torch.inference_mode(), self.engine.reduced():
                error = F.pad(self._error(at), (0, padded_width - width, 0, padded_height - height))
                half_gradient = F.conv2d(error, shortcut, stride=shortcut.shape[-1]).float()
        else:
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(self.squared_error(at.requires_grad_()), at)
            half_gradient = gradient / 2
        return y_hat - half_gradient[0].cpu().numpy() / self.gain

    def _error(self, y_hat: "torch.Tensor") -> "torch.Tensor":
        """x_hat - x without the padding, [1, 3, height, width]."""

        height, width = self.block.size
        with self.engine.reduced():
            x_hat = self.engine.net.g_s(y_hat).float()
        return x_hat[:, :, :height, :width] - self.x

    def loss(self, chosen: "Symbols") -> float:
        """The loss of symbols, with the bits of the tables."""
        import torch

        coder, limit = self.codec.coder, 64
        coded = chosen.index >= coder.skip
        spent = coder.y.bits(limit)[chosen.index[coded], np.clip(chosen.r[coded], -limit, limit) + limit].sum()
        z_index = np.broadcast_to(self.rate.z_index[:, None, None], chosen.z_hat.shape)
        spent += coder.z.bits(limit)[z_index, np.clip(chosen.z_hat, -limit, limit) + limit].sum()
        with torch.inference_mode():
            error = self.squared_error(self.tensor(self.codec.decoded(chosen, self.rate)))
        return float(spent) + self.error_weight * float(error)

    def tensor(self, array: np.ndarray) -> "torch.Tensor":
        """An array as float32 with a batch dimension, where the engine's networks are."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.engine.device)[None]

    @property
    def error_weight(self) -> float:
        """Bits that a squared error of 1, in a picture of 0..1, is worth."""
        return self.rate.lambda_ * 255**2 / 3


def _anneal(objective: Objective, start: "Symbols", steps: int, step_done: Callable[[], None]) -> np.ndarray:
    """Search y with z_hat fixed; returns it in its own units [C, h, w], still to be rounded."""
    import torch

    from nlaic.nets.vae import INDEX_STEP, SCALE_MIN, gaussian_bits

    engine, rate, net = objective.engine, objective.rate, objective.engine.net
    log_scale = objective.tensor(start.index) * INDEX_STEP + math.log(SCALE_MIN)
    coded = objective.tensor(start.index) >= objective.codec.coder.skip
    mean = objective.tensor(engine.mean(start.z_hat * rate.z_step))
    step = objective.tensor(rate.step)
    draw = _Annealed(coded, torch.Generator(engine.device).manual_seed(0))
    with torch.enable_grad():
        y = (objective.tensor(objective.block.y) / step).requires_grad_()
        adam = torch.optim.Adam([y], LEARNING_RATE, betas=(0.9, 0.99))
        for k in range(steps):
            share = k / steps
            adam.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, 2 * (1 - share))
            temperature = HOT * (COLD / HOT) ** share
            first = draw(y - mean, temperature)
            second_mean = net.refine(first + mean, mean)
            r = draw(y - second_mean, temperature)
            bits = (gaussian_bits(r, log_scale) * coded).sum()
            loss = bits + objective.error_weight * objective.squared_error((r + second_mean) * step)
            (y.grad,) = torch.autograd.grad(loss, y)
            adam.step()
            step_done()
    return (y.detach() * step)[0].cpu().numpy()


@dataclass(frozen=True)
class _Annealed:
    """Residuals [1, C, h, w] to random mixtures of their two neighbours; 0 where nothing is coded."""

    coded: "torch.Tensor"
    generator: Any

    def __call__(self, residual: "torch.Tensor", temperature: float) -> "torch.Tensor":
        import torch

        low = residual.detach().floor()
        share = (residual - low).clamp(1e-4, 1 - 1e-4)
        uniform = torch.rand(share.shape, generator=self.generator, device=share.device).clamp(1e-6, 1 - 1e-6)
        # The higher neighbour's logit (Yang et al., section 3.3) and a logistic draw, the difference of two Gumbels.
        logit = (torch.atanh(share) - torch.atanh(1 - share)) / temperature + torch.logit(uniform)
        return torch.where(self.coded, low + torch.sigmoid(logit), 0.0)
