"""What the stages of training a codec minimise. Each knows its networks and nothing of steps, clocks and files."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from nlaic.nets.boundary import cut, filter_boundaries, splice
from nlaic.nets.discriminator import Discriminator, discriminator_loss, generator_loss
from nlaic.nets.vae import HyperpriorVAE
from nlaic.seams import SIGMA, WIDTH
from nlaic.train.data import Batch
from nlaic.train.encoder import Encoder
from nlaic.train.losses import SMALL, Distortion

Losses = dict[str, Tensor]

LAMBDA_MIDDLE, LAMBDA_POWER = 0.006, -0.35  # losses of all qualities about equally large


class Objective(Protocol):
    """What a stage trains and by which loss."""

    anchors: int  # qualities are 0..anchors - 1

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """What is trained, in the order of their turns within a step."""

    def losses(self, turn: str, batch: Batch) -> Losses:
        """`loss` to minimise for one trained network, and means to look at.

        Args:
            turn: name of the network, from `trained`.
            batch: pictures and their qualities.
        """


class RateDistortion(nn.Module):
    """Stage one, Eq. 1-4: lambda * d(x, x_hat) + bits per pixel, with a random quality for every sample.

    Args:
        net: the codec to train.
        distortion: see `losses.Distortion`.
        lambdas: weight on the distortion at the lowest and the highest quality; log-linear between.
    """

    def __init__(self, net: HyperpriorVAE, distortion: Distortion, lambdas: tuple[float, float]) -> None:
        super().__init__()
        self.net, self.distortion, self.lambdas, self.anchors = net, distortion, lambdas, net.rates.anchors

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """The codec."""
        return {"net": self.net}

    def losses(self, turn: str, batch: Batch) -> Losses:
        """See `Objective`."""
        x = batch.x
        out = self.net(x, batch.position, noise=batch.noise)
        bpp = _bpp(out["bits"], x)
        distortion, distances = self.distortion(out["x_hat"], x)
        weight = lambda_at(batch.position, self.anchors, self.lambdas)
        loss = (weight * distortion + bpp) * _balance(weight)
        return {"loss": loss.mean(), "bpp": bpp.mean().detach(), **_watched(out["x_hat"], x, distances)}


class Frozen(nn.Module):
    """A trained codec that stays as it is: out of every optimiser, and in evaluation mode whatever is asked for.

    Attributes:
        encoder: chooses the symbols; None: y is rounded.
    """

    def __init__(self, net: HyperpriorVAE) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.encoder: Encoder | None = None
        self._last: tuple[Tensor, Tensor, tuple[Tensor, Tensor]] | None = None

    def train(self, mode: bool = True) -> "Frozen":
        """Nothing happens."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures to y_hat as a decoder sees it [B, C, H/16, W/16], and bits per pixel [B].

        The turns of a step look at the same tensors, which are coded once.
        """
        if self._last is None or self._last[0] is not x or self._last[1] is not position:
            self._last = x, position, self._coded(x, position)
        return self._last[2]

    def _coded(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        if self.encoder:
            return self.encoder(x, position, self.net.rates.anchors)
        y_hat, bits = self.net.latents(x, position)
        return y_hat, _bpp(bits, x)


class Redecode(nn.Module):
    """g_s again, for another distortion, where the rest stays: every file too, for y_hat does not depend on it.

    Args:
        net: the codec; its decoder is where the new one starts.
        distortion: see `losses.Distortion`.
        log_lambda: logarithm of lambda at each anchor, as in the weights: qualities are weighed as they were there.
    """

    def __init__(self, net: HyperpriorVAE, distortion: Distortion, log_lambda: Tensor) -> None:
        super().__init__()
        self.decoder = copy.deepcopy(net.g_s).requires_grad_(True)
        self.codec, self.distortion, self.anchors = Frozen(net), distortion, net.rates.anchors
        self.log_lambda = nn.Buffer(log_lambda.float(), persistent=False)

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """The decoder."""
        return {"g_s": self.decoder}

    def losses(self, turn: str, batch: Batch) -> Losses:
        """See `Objective`."""
        y_hat, bpp = self.codec(batch.x, batch.position)
        x_hat = self.decoder(y_hat).float()
        distortion, distances = self.distortion(x_hat, batch.x)
        below = batch.position.floor().long().clamp(max=max(self.anchors - 2, 0))
        above = (below + 1).clamp(max=self.anchors - 1)
        weight = torch.lerp(self.log_lambda[below], self.log_lambda[above], batch.position.float() - below).exp()
        loss = (weight * distortion * _balance(weight)).mean()
        return {"loss": loss, "bpp": bpp.mean(), **_watched(x_hat, batch.x, distances)}


class Discriminate(nn.Module):
    """Stage two, Eq. 5: the conditional discriminator against the decoder of stage one, which stays as it is.

    Args:
        net: the codec.
        discriminator: to train.
        window: side of the random window of each patch that it looks at, a multiple of 16; None: all of the patch.
    """

    def __init__(self, net: HyperpriorVAE, discriminator: Discriminator, window: int | None = None) -> None:
        super().__init__()
        self.codec, self.discriminator, self.anchors = Frozen(net), discriminator, net.rates.anchors
        self.window = window

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """The discriminator."""
        return {"discriminator": self.discriminator}

    def losses(self, turn: str, batch: Batch) -> Losses:
        """See `Objective`."""
        x = batch.x
        y_hat, bpp = self.codec(x, batch.position)
        with torch.no_grad():
            x_hat = self.codec.net.g_s(y_hat).float()
        judged = _judge(self.discriminator, *_windowed(self.window, y_hat, x, x_hat))
        return judged | {"bpp": bpp.mean(), **_watched(x_hat, x, {})}


@dataclass(frozen=True)
class AdversarialSettings:
    """How the decoder is tuned.

    Attributes:
        weight: w2 of Eq. 6, on the adversarial term (natural logarithm).
        alternate: train the discriminator too, a step each in turn, as public code does; the paper keeps it fixed.
        window: side of the random window of each patch that the discriminator looks at, a multiple of 16; None: all of
            the patch.
    """

    weight: float = 1.0
    alternate: bool = False
    window: int | None = None


class Adversarial(nn.Module):
    """Stage three, Eq. 6: the decoder alone, for what the discriminator and the eye take for real.

    Args:
        net: the codec of stage one.
        discriminator: of stage two.
        distortion: what else holds the decoder, DISTS in the paper.
        settings: see there.
        decoder: where the tuned one starts; None: the codec's.
    """

    def __init__(
        self,
        net: HyperpriorVAE,
        discriminator: Discriminator,
        distortion: Distortion,
        settings: AdversarialSettings,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.decoder = copy.deepcopy(decoder or net.g_s).requires_grad_(True)
        self.codec, self.discriminator = Frozen(net), discriminator.requires_grad_(settings.alternate)
        self.distortion, self.settings, self.anchors = distortion, settings, net.rates.anchors

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """The decoder, and the discriminator where they alternate."""
        own = {"g_s_perceptual": self.decoder}
        return own | {"discriminator": self.discriminator} if self.settings.alternate else own

    def train(self, mode: bool = True) -> "Adversarial":
        """A fixed discriminator stays in evaluation mode: its spectral norms move in the other."""
        super().train(mode)
        self.discriminator.train(mode and self.settings.alternate)
        return self

    def losses(self, turn: str, batch: Batch) -> Losses:
        """See `Objective`."""
        x = batch.x
        y_hat, bpp = self.codec(x, batch.position)
        self.discriminator.requires_grad_(turn == "discriminator")
        if turn == "discriminator":
            with torch.no_grad():
                x_hat = self.decoder(y_hat).float()
            return _judge(self.discriminator, *_windowed(self.settings.window, y_hat, x, x_hat))
        x_hat = self.decoder(y_hat).float()
        seen_y_hat, seen = _windowed(self.settings.window, y_hat, x_hat)
        judgement = self.discriminator(seen, seen_y_hat)
        distortion, distances = self.distortion(x_hat, x)
        adversarial = generator_loss(judgement)
        loss = distortion.mean() + self.settings.weight * adversarial
        fake = torch.sigmoid(judgement.detach()).mean()
        watched = {"adversarial": adversarial.detach(), "d_fake": fake, "bpp": bpp.mean()}
        return {"loss": loss, **watched, **_watched(x_hat, x, distances)}


class Boundary(nn.Module):
    """The filter on strips: four blocks coded on their own and spliced, as in section 3.1 of the paper.

    Args:
        net: the codec.
        decoders: every decoder that the filter has to be good for; one is drawn for each step.
        network: the filter.
        distortion: of the whole filtered picture; 1 - MS-SSIM in the paper.
        sigma: of the blending weight.
        relative: divide each picture's distortion by what it was before the filter, so that every quality counts alike.
        step: weight on the error of the jumps across boundaries, divided likewise: what the eye sees of a seam.
    """

    def __init__(
        self,
        net: HyperpriorVAE,
        decoders: list[nn.Module],
        network: nn.Module,
        distortion: Distortion,
        sigma: float = SIGMA,
        *,
        relative: bool = False,
        step: float = 0.0,
    ) -> None:
        super().__init__()
        self.sigma, self.relative, self.step = sigma, relative, step
        self.codec, self.network, self.distortion, self.anchors = Frozen(net), network, distortion, net.rates.anchors
        self.decoders = nn.ModuleList(decoders).requires_grad_(False).eval()

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """The filter."""
        return {"boundary": self.network}

    def losses(self, turn: str, batch: Batch) -> Losses:
        """See `Objective`; sides of the pictures are multiples of 128."""
        x = batch.x
        y_hat, bpp = self.codec(cut(x), batch.position.repeat_interleave(4))
        decoder = self.decoders[int(torch.randint(len(self.decoders), ()))]
        with torch.no_grad():
            coded = splice(decoder(y_hat).float()).clamp(0, 1)
        height, width = x.shape[-2:]
        strip = min(WIDTH, height // 2, width // 2)
        quality = batch.position / max(self.anchors - 1, 1)
        filtered = filter_boundaries(
            coded, [width // 2], [height // 2], lambda s: self.network(s, quality), strip, self.sigma
        )
        if self.relative:
            distortion, distances = self.distortion.relative(filtered, x, coded)
        else:
            distortion, distances = self.distortion(filtered, x)
        if self.step:
            distortion = distortion + self.step * _jumps(filtered - x) / (_jumps(coded - x) + SMALL)
        gain = 10 * torch.log10((coded - x).square().mean() / (filtered.detach() - x).square().mean())
        return {
            "loss": distortion.mean(),
            "bpp": bpp.mean(),
            "gain_db": gain,
            **_watched(filtered, x, distances),
        }


def _jumps(pictures: Tensor) -> Tensor:
    """The mean jump across the boundaries of spliced blocks [B, 3, H, W]: [B]."""
    height, width = pictures.shape[-2:]
    columns, rows = pictures[..., width // 2 - 1 : width // 2 + 1], pictures[..., height // 2 - 1 : height // 2 + 1, :]
    return torch.cat((columns.diff(dim=-1).flatten(1), rows.diff(dim=-2).flatten(1)), dim=1).abs().mean(1)


def _windowed(side: int | None, y_hat: Tensor, *pictures: Tensor) -> list[Tensor]:
    """A random window of a batch's latents and of its pictures, all at the same place."""
    every = [y_hat, *pictures]
    sides = pictures[0].shape[-2:]
    if side is None or side >= min(sides):
        return every
    stride = sides[0] // y_hat.shape[-2]
    top, left = (stride * int(torch.randint((n - side) // stride + 1, ())) for n in sides)
    parts = []
    for x in every:
        shrunk = sides[0] // x.shape[-2]
        rows, columns = (slice(n // shrunk, (n + side) // shrunk) for n in (top, left))
        parts.append(x[..., rows, columns])
    return parts


def _judge(discriminator: Discriminator, y_hat: Tensor, x: Tensor, x_hat: Tensor) -> Losses:
    """One pass over real and decoded pictures, each with its own y_hat."""
    real, fake = discriminator(torch.cat((x, x_hat)), torch.cat((y_hat, y_hat))).chunk(2)
    means = {"d_real": torch.sigmoid(real).mean().detach(), "d_fake": torch.sigmoid(fake).mean().detach()}
    return {"loss": discriminator_loss(real, fake), **means}


def lambda_at(position: Tensor, anchors: int, lambdas: tuple[float, float]) -> Tensor:
    """Lambda of each sample [B] from its position between the anchors."""
    low, high = map(math.log, lambdas)
    return torch.exp(low + (high - low) * position / max(1, anchors - 1))


def _balance(weight: Tensor) -> Tensor:
    """What makes the losses of all lambdas about equally large."""
    return (weight / LAMBDA_MIDDLE) ** LAMBDA_POWER


def _bpp(bits: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return (bits["y"] + bits["z"]) / (x.shape[-2] * x.shape[-1])


def _watched(x_hat: Tensor, x: Tensor, distances: Losses) -> Losses:
    """Distances to look at, the squared error always among them."""
    return {"mse": (x_hat.detach() - x).square().mean()} | distances if "mse" not in distances else distances
