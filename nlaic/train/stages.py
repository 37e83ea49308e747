"""The stages of training as Lightning modules. Stage one, rate and distortion, is here (Eq. 1-4 of the paper)."""

import copy
import math
import time
from dataclasses import dataclass
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nlaic.nets.vae import HyperpriorVAE
from nlaic.train.data import Crops, Pictures
from nlaic.train.muon import Muon


@dataclass(frozen=True)
class Optimisation:
    """How the weights move.

    Attributes:
        kind: `muon` (convolutions; Adam for the rest) or `adam`.
        muon: Muon's learning rate.
        adam: Adam's, for all that Muon leaves.
        slow: factor on it for the shortcut's kernels.
        fast: factor on it for what moves with the quality (steps, densities, offsets).
        scale: factor on the rate of the scale network's kernels.
        warmup: steps until the full rate.
        hold: share of the run at the full rate; then a cosine to `floor`.
        floor: last rate over the full one.
        clip: largest norm of the gradient.
        ema: largest decay of the weights' running mean.
    """

    kind: str = "muon"
    muon: float = 1e-3
    adam: float = 8e-4
    slow: float = 0.1
    fast: float = 4.0
    scale: float = 0.3
    warmup: int = 100
    hold: float = 0.3
    floor: float = 0.01
    clip: float = 1.0
    ema: float = 0.999


@dataclass(frozen=True)
class Budget:
    """When a run is over: after so many minutes or steps, whichever comes first; None is no limit."""

    minutes: float | None = None
    steps: int | None = None

    def progress(self, seconds: float, step: int) -> float:
        """The share of the run that is over, 0..1."""
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        by_step = step / self.steps if self.steps else 0.0
        return min(1.0, max(by_time, by_step))


@dataclass(frozen=True)
class Sampling:
    """What a step looks at: `batch` crops of `patch` pixels a side, drawn by `seed`."""

    batch: int = 8
    patch: int = 192
    seed: int = 1
    workers: int = 0


class RateDistortion(pl.LightningModule):
    """Stage one: lambda * d(x, x_hat) + bits per pixel, with a random quality for every sample.

    Args:
        net: the codec to train.
        distortion: see `losses.Distortion`.
        pictures: to train on.
        lambdas: weight on 255^2 MSE at the lowest and the highest quality; log-linear between.
        sampling: see there.
        optimisation: see there.
        budget: see there.
    """

    LAMBDA_MIDDLE, LAMBDA_POWER = 0.006, -0.35  # losses of all qualities about equally large

    def __init__(
        self,
        net: HyperpriorVAE,
        distortion: nn.Module,
        pictures: Pictures,
        lambdas: tuple[float, float],
        sampling: Sampling,
        optimisation: Optimisation,
        budget: Budget,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net, self.distortion, self.pictures = net, distortion, pictures
        self.mean_net = copy.deepcopy(net).requires_grad_(False)
        self.lambdas, self.sampling, self.optimisation, self.budget = lambdas, sampling, optimisation, budget
        self.steps, self.seconds = 0, 0.0
        self._clock = 0.0

    def lambda_at(self, position: Tensor) -> Tensor:
        """Lambda of each sample, [B], from its position between the anchors."""
        low, high = math.log(self.lambdas[0]), math.log(self.lambdas[1])
        return torch.exp(low + (high - low) * position / max(1, self.net.rates.anchors - 1))

    def losses(self, x: Tensor, position: Tensor) -> dict[str, Tensor]:
        """Losses of a batch: `loss` to minimise, `bpp`, `mse` and each distance (means) to look at."""
        out = self.net(x, position)
        bpp = (out["bits"]["y"] + out["bits"]["z"]) / (x.shape[-2] * x.shape[-1])
        distortion, distances = self.distortion(out["x_hat"], x)
        weight = self.lambda_at(position)
        loss = (weight * distortion + bpp) * (weight / self.LAMBDA_MIDDLE) ** self.LAMBDA_POWER
        mse = (out["x_hat"].detach() - x).square().mean()
        return {"loss": loss.mean(), "bpp": bpp.mean().detach(), "mse": mse, **distances}

    def on_train_start(self) -> None:
        """Start the clock of the time budget."""
        self._clock = time.monotonic()

    def training_step(self, batch: dict[str, Tensor], _: int) -> None:
        """One step: noise seeded by its number, both optimisers, the running mean of the weights."""
        torch.manual_seed(hash((self.sampling.seed, self.steps)) % 2**31)
        x = (batch["x"].float() / 255).contiguous(memory_format=torch.channels_last)
        losses = self.losses(x, batch["position"])
        optimisers = cast(list[Any], self.optimizers())
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        self.manual_backward(losses["loss"])
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.optimisation.clip)
        if torch.isfinite(norm):  # one bad batch must not end a night's run; `Watch` stops a run of them
            factor = self.rate_factor()
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = group["full"] * factor
                optimiser.step()
            self._average()
        self.steps += 1
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        self.log_dict({**losses, "grad_norm": norm, "rate": factor if torch.isfinite(norm) else 0.0})

    def rate_factor(self) -> float:
        """The learning rate over the full one, by what is over of the run."""
        o, done = self.optimisation, self.budget.progress(self.seconds, self.steps)
        fall = 1.0 if done < o.hold else 0.5 + 0.5 * math.cos(math.pi * (done - o.hold) / (1 - o.hold))
        return max(o.floor, min(1.0, (self.steps + 1) / o.warmup) * fall)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.optimisation.ema, (1 + self.steps) / (10 + self.steps))
        theirs: list[Tensor] = list(self.mean_net.parameters())
        ours: list[Tensor] = list(self.net.parameters())
        torch._foreach_lerp_(theirs, ours, 1 - decay)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for convolutions (where asked for), Adam with three rates for the rest."""
        o = self.optimisation
        rates = {"plain": o.adam, "slow": o.adam * o.slow, "fast": o.adam * o.fast, "scale": o.adam * o.scale}
        muon_rates = {"matrix": o.muon, "scale": o.muon * o.scale} if o.kind == "muon" else {}
        groups: dict[str, list[Tensor]] = {kind: [] for kind in (*rates, "matrix")}
        for name, p in self.net.named_parameters():
            groups[kind_of(name, p)].append(p)
        if not muon_rates:
            groups["plain"] += groups.pop("matrix")
        rates = {kind: rate for kind, rate in rates.items() if kind not in muon_rates}
        adam = torch.optim.Adam([{"params": groups[k], "lr": r, "full": r} for k, r in rates.items()], fused=True)
        if not muon_rates:
            return [adam]
        return [Muon([{"params": groups[k], "lr": r, "full": r} for k, r in muon_rates.items()]), adam]

    def train_dataloader(self) -> DataLoader:
        """Crops from the first sample that this run has not seen."""
        s = self.sampling
        span = float(self.net.rates.anchors - 1)
        crops = Crops(self.pictures, s.patch, span, s.seed, first=self.steps * s.batch)
        return DataLoader(crops, batch_size=s.batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how far the run is."""
        checkpoint["nlaic"] = {"steps": self.steps, "seconds": self.seconds}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        self.steps, self.seconds = checkpoint["nlaic"]["steps"], checkpoint["nlaic"]["seconds"]


def kind_of(name: str, p: Tensor) -> str:
    """Which optimiser and rate a parameter of a codec takes: `matrix`, `scale`, `plain`, `slow` or `fast`."""
    if name.startswith("rates."):
        return "fast"
    if name.endswith(".dct"):
        return "slow"
    if p.ndim != 4:
        return "plain"
    return "scale" if name.startswith("scale.") else "matrix"
