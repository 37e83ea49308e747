"""The hyperprior VAE: one forward pass for every transform, and the parameters that move with the quality.

```
x ─ g_a ─► y ─ /step ─► y/step ─ h_a ─► z ─ /z_step, round ─► z_hat ─┬─ scale network ─► index, a log-spaced scale
                                                                   └─ h_s ─► mean ─ context ─► mean
r = round(y/step - mean)      y_hat = (r + mean) * step      y_hat ─ g_s ─► x_hat
```

Ballé et al., "Variational image compression with a scale hyperprior", https://arxiv.org/abs/1802.01436 (ICLR 2018);
Minnen et al., "Joint autoregressive and hierarchical priors", https://arxiv.org/abs/1809.02736 (NeurIPS 2018).
Symbols are residuals to the mean and their scale comes from integers alone, so that float arithmetic never decides
how a symbol is decoded (`nlaic.integer`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.nets.scale import CENTRE, LEVELS, ScaleNetwork, bounded, round_through

SCALES = 64  # table indices
SCALE_MIN, SCALE_MAX = 0.1, 100.0  # scales of r at index 0 and 63; below 0.1 a symbol other than 0 does not happen
INDEX_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALES - 1)  # natural log between neighbouring scales
Z_SCALE_MIN = 0.04  # of z's tables, log-spaced as y's
LEVELS_PER_UNIT = 8  # levels of the scale network's input for each unit of z
SKIP = 5  # symbols of an index below this are not coded: at a scale below 0.17 they are other than 0 once in 300
MEAN_LIMIT = 30.0  # what the context sees of a latent is clipped to this many steps


@dataclass(frozen=True)
class Parts:
    """The transforms of one codec; `g_a` and `g_s` see y in its own units, the others y/step. No context: None."""

    g_a: nn.Module
    g_s: nn.Module
    h_a: nn.Module
    h_s: nn.Module
    context: nn.Module | None
    scale: ScaleNetwork


class Rates(nn.Module):
    """Everything that moves with the quality: piecewise linear between `anchors` equally spaced qualities.

    Args:
        latent: channels of y.
        hyper: channels of z.
        anchors: how many qualities own parameters; 1 for a codec of one rate.
    """

    def __init__(self, latent: int, hyper: int, anchors: int) -> None:
        super().__init__()
        self.anchors = anchors
        self.log_step = nn.Parameter(torch.zeros(anchors, latent))
        self.log_scale = nn.Parameter(torch.zeros(anchors, latent))
        self.z_mean = nn.Parameter(torch.zeros(anchors, hyper))
        self.log_z_step = nn.Parameter(torch.zeros(anchors, hyper))
        self.log_z_scale = nn.Parameter(torch.zeros(anchors, hyper))

    def at(self, table: Tensor, position: Tensor) -> Tensor:
        """Interpolate [K, C] at positions [B] in 0..K-1: [B, C, 1, 1]."""
        low = position.floor().clamp(max=max(self.anchors - 2, 0)).long()
        high = (low + 1).clamp(max=self.anchors - 1)
        return torch.lerp(table[low], table[high], (position - low)[:, None])[:, :, None, None]


class HyperpriorVAE(nn.Module):
    """A codec in floats, for training and for the encoder's search."""

    def __init__(self, parts: Parts, rates: Rates) -> None:
        super().__init__()
        self.g_a, self.g_s, self.h_a, self.h_s = parts.g_a, parts.g_s, parts.h_a, parts.h_s
        self.context, self.scale, self.rates = parts.context, parts.scale, rates

    def hyper(self, y: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """y/step [B, C, h, w] to (unrounded z [B, Cz, h/4, w/4] in steps around its mean, z's step)."""
        rates = self.rates
        step = rates.at(rates.log_z_step, position).exp()
        return (self.h_a(y) - rates.at(rates.z_mean, position)) / step, step

    def index(self, z_hat: Tensor, z_step: Tensor, position: Tensor, quantise: bool = True) -> Tensor:
        """z_hat to the index of every symbol's scale [B, C, h, w], a fraction in 0..63."""
        levels = bounded(z_hat * z_step * LEVELS_PER_UNIT + CENTRE, 0, LEVELS)
        levels = round_through(levels) if quantise else levels
        offset = (self.rates.at(self.rates.log_scale, position) - math.log(SCALE_MIN)) / INDEX_STEP
        with torch.autocast(levels.device.type, enabled=False):  # these integers need more than eight bits
            return bounded(self.scale(levels, quantise) + offset, 0, SCALES - 1)

    def mean(self, z_hat: Tensor, z_step: Tensor) -> Tensor:
        """The first mean of y/step [B, C, h, w], from z_hat alone."""
        return self.h_s(z_hat * z_step)

    def refine(self, y_hat: Tensor, mean: Tensor) -> Tensor:
        """The second mean; see `refined`."""
        return refined(self.context, y_hat, mean) if self.context else mean

    def forward(
        self, x: Tensor, position: Tensor, quantise: bool = True, noise: "Noise | None" = None
    ) -> dict[str, Tensor | dict[str, Tensor]]:
        """Train: noise for the rate, straight-through rounding for what is decoded. Evaluate: rounding for both.

        Args:
            x: pictures [B, 3, H, W] in 0..1, H and W multiples of 64.
            position: where between the anchors each picture is coded, [B] in 0..K-1.
            quantise: play the integer arithmetic of the scale network; False for a float one of the same shape.
            noise: what is added in training instead of rounding, from a tensor of that shape; uniform by default.

        Returns:
            x_hat [B, 3, H, W], not clipped, and bits [B] of y and of z for each picture.
        """
        y_hat, bits = self.latents(x, position, quantise, noise)
        return {"x_hat": self.g_s(y_hat).float(), "bits": bits}

    def latents(
        self, x: Tensor, position: Tensor, quantise: bool = True, noise: "Noise | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """y_hat [B, C, H/16, W/16] in its own units and the bits it costs; arguments as of `forward`."""
        return self._code(self.g_a(x).float(), position, quantise, noise or uniform_noise)

    def _code(self, y: Tensor, position: Tensor, quantise: bool, noise: "Noise") -> tuple[Tensor, dict[str, Tensor]]:
        step = self.rates.at(self.rates.log_step, position).exp()
        y = y / step
        z, z_step = self.hyper(y, position)
        z_hat = round_through(z)
        index = self.index(z_hat, z_step, position, quantise)
        mean = self.mean(z_hat, z_step)
        mean = self.refine(round_through(y - mean) + mean, mean)
        residual = y - mean
        coded = index >= SKIP  # what is not coded is decoded as its mean
        y_bits = gaussian_bits(self._coded(residual, noise), index * INDEX_STEP + math.log(SCALE_MIN))
        z_bits = logistic_bits(self._coded(z, noise), self.rates.at(self.rates.log_z_scale, position))
        bits = {"y": y_bits.flatten(1).sum(1), "z": z_bits.flatten(1).sum(1)}
        return (round_through(residual) * coded + mean) * step, bits

    def _coded(self, value: Tensor, noise: "Noise") -> Tensor:
        return value + noise(value) if self.training else value.round()


Noise = Callable[[Tensor], Tensor]


def uniform_noise(like: Tensor) -> Tensor:
    """Uniform in -1/2..1/2, of the same shape."""
    return torch.rand_like(like) - 0.5


def refined(context: nn.Module, y_hat: Tensor, mean: Tensor) -> Tensor:
    """The second mean: at every second position (a checkerboard) it knows the decoded neighbours.

    Args:
        context: the network.
        y_hat: decoded y/step [B, C, h, w]; only its first pass, the positions of `first_pass`, is looked at.
        mean: the first mean [B, C, h, w].
    """
    first = first_pass(mean)
    seen = torch.where(first, y_hat, mean).clamp(-MEAN_LIMIT, MEAN_LIMIT)
    return torch.where(first, mean, mean + context(seen))


def first_pass(y: Tensor) -> Tensor:
    """The positions decoded first, [1, 1, h, w] of bool: row plus column even."""
    h, w = y.shape[-2:]
    rows, columns = torch.arange(h, device=y.device)[:, None], torch.arange(w, device=y.device)
    return ((rows + columns) % 2 == 0)[None, None]


def gaussian_bits(r: Tensor, log_scale: Tensor) -> Tensor:
    """-log2 of the mass that a zero-mean Gaussian gives to r-1/2 .. r+1/2 (Eq. 3 of the paper), elementwise."""
    scale = torch.exp(log_scale)
    magnitude = _held(r.abs(), 0.5 + 6 * scale)
    per_scale = math.sqrt(0.5) / scale
    return 1 - torch.log2(torch.erfc((magnitude - 0.5) * per_scale) - torch.erfc((magnitude + 0.5) * per_scale))


def logistic_bits(z: Tensor, log_scale: Tensor) -> Tensor:
    """-log2 of the mass that a zero-mean logistic density gives to z-1/2 .. z+1/2 (Eq. 4), elementwise."""
    scale = torch.exp(log_scale)
    magnitude = _held(z.abs(), 0.5 + 20 * scale)
    near = F.logsigmoid((0.5 - magnitude) / scale)
    far = F.logsigmoid((-0.5 - magnitude) / scale)
    return -(near + torch.log1p(-torch.exp((far - near).clamp(max=-1e-6)))) / math.log(2)


def _held(magnitude: Tensor, reach: Tensor) -> Tensor:
    """The value held at `reach` but not its gradient: a symbol far outside its scale costs about 30 bits, and still
    says so where it comes from and to its scale.
    """
    return magnitude + (torch.minimum(magnitude, reach) - magnitude).detach()
