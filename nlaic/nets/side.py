"""The gradient by z_hat of what a block costs, written out, so that engines without autograd have it too."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.integer import SHIFT, IntegerLayer, IntegerScaleNetwork
from nlaic.nets.layers import Back, reversible, turned
from nlaic.nets.scale import CENTRE, LEVELS, ScaleNetwork
from nlaic.nets.vae import INDEX_STEP, LEVELS_PER_UNIT, MEAN_LIMIT, SCALE_MIN, SCALES, Z_SCALE_MIN, first_pass

SIDE = ("z_step", "z_index", "offset", "skip")  # what belongs to a quality and to the weights
REACH, Z_REACH = 4, 12  # scales from 0 beyond which a symbol pulls as it does there: float32 ends
MASS_MIN = 1e-6


class SideGradient(nn.Module):
    """The gradient by z_hat of the bits of z and of y, and of the error of symbols that are not coded; y is held.

    Arguments:
        z_hat, in steps, fractions too [Cz, h/4, w/4];
        y, in steps [C, h, w];
        the bits that a squared error of one step in y is worth [C, h, w];
        of each channel z's step, z's table [Cz, 1, 1], and the offset of y's table indices [C, 1, 1];
        the index below which symbols are not coded [1].

    Rounding passes gradients as if nothing had happened. The scale network is played in float32, unrounded.
    """

    def __init__(self, h_s: nn.Module, context: nn.Module, scale: IntegerScaleNetwork) -> None:
        super().__init__()
        self.h_s, self.context = h_s, context
        self.scale = nn.ModuleList(_Layer(layer) for layer in scale.layers)

    def forward(
        self,
        z_hat: Tensor,
        y: Tensor,
        weight: Tensor,
        z_step: Tensor,
        z_index: Tensor,
        offset: Tensor,
        skip: Tensor,
    ) -> Tensor:
        """See the class: to [Cz, h/4, w/4]."""
        z, y = (z_hat * z_step)[None], y[None]
        index, index_back = reversible(self._scale_network(offset), z * LEVELS_PER_UNIT + CENTRE)
        mean, mean_back = reversible([self.h_s], z)
        first = first_pass(mean)
        seen = torch.where(first, (y - mean).round() + mean, mean)
        more, more_back = reversible([_Clip(-MEAN_LIMIT, MEAN_LIMIT), self.context], seen)
        residual = y - torch.where(first, mean, mean + more)
        by_residual, by_index = _by_symbols(residual, index, weight, skip)
        by_seen = more_back(torch.where(first, 0.0, -by_residual))
        by_z = mean_back(torch.where(first, 0.0, by_seen) - by_residual) + LEVELS_PER_UNIT * index_back(by_index)
        return by_z[0] * z_step + _by_side(z_hat, torch.exp(z_index * INDEX_STEP + math.log(Z_SCALE_MIN)))

    def _scale_network(self, offset: Tensor) -> list[nn.Module]:
        """From levels of z to table indices, fractions."""
        clip = _Clip(0, LEVELS)
        first, second, third, last = self.scale
        shuffle = nn.PixelShuffle(ScaleNetwork.SHUFFLE)
        return [clip, first, clip, second, clip, shuffle, third, clip, last, _Plus(offset), _Clip(0, SCALES - 1)]


class _Clip(nn.Module):
    """Values outside are held, and get no gradient."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def reversible(self, x: Tensor) -> tuple[Tensor, Back]:
        """See `nlaic.nets.layers.reversible`."""
        held = x.clamp(self.low, self.high)
        return held, lambda gradient: torch.where(held == x, gradient, 0.0)


class _Plus(nn.Module):
    """Adds [C, 1, 1]."""

    def __init__(self, offset: Tensor) -> None:
        super().__init__()
        self.offset = offset

    def reversible(self, x: Tensor) -> tuple[Tensor, Back]:
        """See `nlaic.nets.layers.reversible`."""
        return x + self.offset, lambda gradient: gradient


class _Layer(nn.Module):
    """A layer of the integer network in floats, neither rounded nor clipped; its parameters are the integers."""

    def __init__(self, layer: IntegerLayer) -> None:
        super().__init__()
        for name in ("weight", "bias", "multiplier"):
            integers = torch.from_numpy(getattr(layer, name))
            self.register_parameter(name, nn.Parameter(integers, requires_grad=False))

    def reversible(self, x: Tensor) -> tuple[Tensor, Back]:
        """See `nlaic.nets.layers.reversible`."""
        step = self.multiplier.float() / 2**SHIFT
        weight, bias = self.weight.float() * step[:, None, None, None], self.bias.float() * step
        if weight.shape[-1] == 1:
            return F.conv2d(x, weight, bias), lambda gradient: F.conv2d(gradient, turned(weight))
        edged = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(edged, weight, bias), lambda gradient: _unedged(F.conv2d(gradient, turned(weight), padding=2))


def _unedged(gradient: Tensor) -> Tensor:
    """The gradient by what was padded: what a border of 1 has is added to the edge that it repeats."""
    height, width = gradient.shape[-2] - 2, gradient.shape[-1] - 2
    rows = gradient[..., 1:-1, :] + F.pad(gradient[..., :1, :], (0, 0, 0, height - 1))
    rows = rows + F.pad(gradient[..., -1:, :], (0, 0, height - 1, 0))
    columns = rows[..., 1:-1] + F.pad(rows[..., :1], (0, width - 1))
    return columns + F.pad(rows[..., -1:], (width - 1, 0))


def _by_symbols(residual: Tensor, index: Tensor, weight: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients by y's distance from its mean and by the table index, all [1, C, h, w].

    Of the bits, -log2 of a Gaussian's mass (Eq. 3 of the paper, `nlaic.nets.vae.gaussian_bits`), where a symbol is
    coded; elsewhere of the error.
    """
    scale = torch.exp(index * INDEX_STEP + math.log(SCALE_MIN))
    symbol = residual.round()
    magnitude = torch.minimum(symbol.abs(), 0.5 + REACH * scale)
    high, low = (magnitude + 0.5) / scale, (magnitude - 0.5) / scale
    mass = 0.5 * (torch.erf(high * math.sqrt(0.5)) - torch.erf(low * math.sqrt(0.5)))
    nats = math.log(2) * mass.clamp_min(MASS_MIN)
    at_high, at_low = (torch.exp(-0.5 * t * t) / math.sqrt(2 * math.pi) for t in (high, low))
    by_symbol = symbol.sign() * (at_low - at_high) / (scale * nats)
    by_index = INDEX_STEP * (high * at_high - low * at_low) / nats
    coded = index >= skip
    return torch.where(coded, by_symbol, 2 * weight * residual), torch.where(coded, by_index, 0.0)


def _by_side(z_hat: Tensor, scale: Tensor) -> Tensor:
    """The gradient of z's own bits [Cz, h/4, w/4]: -log2 of a logistic density's mass (Eq. 4; `logistic_bits`)."""
    magnitude = torch.minimum(z_hat.abs(), 0.5 + Z_REACH * scale)
    high, low = (torch.sigmoid(-(magnitude + half) / scale) for half in (0.5, -0.5))
    mass = (low - high).clamp_min(MASS_MIN)
    return z_hat.sign() * (low * (1 - low) - high * (1 - high)) / (scale * math.log(2) * mass)
