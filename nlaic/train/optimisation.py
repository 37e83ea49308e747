"""How the weights move: which optimiser and rate each parameter takes, and how the rate changes over a run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nlaic.arguments import check_least
from nlaic.errors import NlaicError
from nlaic.train.muon import Muon

KINDS = ("muon", "adam")
SCHEDULES = ("cosine", "halving", "constant")


@dataclass(frozen=True)
class Optimisation:
    """How the weights move.

    Attributes:
        kind: `muon` (convolutions; Adam for the rest) or `adam`.
        muon: Muon's learning rate.
        muon_every: steps for which Muon keeps an orthogonal matrix (3 learn what 1 does, a step takes a sixth less).
        adam: Adam's, for all that Muon leaves.
        beta1: Adam's memory of the gradient, for a stage that has no discriminator.
        slow: factor on it for the shortcut's kernels.
        fast: factor on it for what moves with the quality (steps, densities, offsets, JPEG's tables).
        scale: factor on the rate of the scale network's kernels.
        discriminator: Adam's rate for a discriminator.
        schedule: `cosine` (after `hold`, down to `floor`), `halving` or `constant`.
        warmup: steps until the full rate.
        hold: share of the run at the full rate.
        floor: last rate over the full one.
        epoch: patches of one epoch, for `halving`.
        halve_after: epochs at the full rate.
        halve_every: epochs between one halving and the next.
        clip: largest norm of the gradient.
        ema: largest decay of the weights' running mean.
    """

    kind: str = "muon"
    muon: float = 1e-3
    muon_every: int = 3
    adam: float = 8e-4
    beta1: float = 0.9
    slow: float = 0.1
    fast: float = 4.0
    scale: float = 0.3
    discriminator: float = 1e-4
    schedule: str = "cosine"
    warmup: int = 100
    hold: float = 0.3
    floor: float = 0.01
    epoch: int = 600_000
    halve_after: int = 7
    halve_every: int = 3
    clip: float = 1.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        for name, allowed in (("kind", KINDS), ("schedule", SCHEDULES)):
            if (value := getattr(self, name)) not in allowed:
                raise NlaicError(f"optimisation.{name} must be one of {', '.join(allowed)}, but got {value!r}")
        if self.beta1 == 1:
            raise NlaicError("optimisation.beta1 must be below 1")
        for name in ("beta1", "hold", "floor", "ema"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise NlaicError(f"optimisation.{name} must be 0..1, but got {value}")
        rates = ("muon", "adam", "slow", "fast", "scale", "discriminator")
        check_least(self, "optimisation", 0, *rates, "clip", "warmup", "halve_after")
        check_least(self, "optimisation", 1, "muon_every", "epoch", "halve_every")

    def factor(self, done: float, step: int, patches: int) -> float:
        """The learning rate over the full one.

        Args:
            done: share of the run that is over, 0..1.
            step: how many are over.
            patches: how many have been seen.
        """
        fall = 1.0
        if self.schedule == "cosine" and done >= self.hold:
            fall = 0.5 + 0.5 * math.cos(math.pi * (done - self.hold) / (1 - self.hold))
        if self.schedule == "halving":
            fall = 0.5 ** max(0, (patches // self.epoch - self.halve_after) // self.halve_every)
        return max(self.floor, min(1.0, (step + 1) / max(1, self.warmup)) * fall)

    def optimisers(self, module: nn.Module, is_discriminator: bool = False) -> list[torch.optim.Optimizer]:
        """Make the optimisers of one module; each group keeps its full rate as `full`."""
        named = list(module.named_parameters())
        if is_discriminator:
            return [_adam({"plain": [p for _, p in named]}, {"plain": self.discriminator}, (0.5, 0.9))]
        rates = {"plain": self.adam, "slow": self.adam * self.slow, "fast": self.adam * self.fast}
        with_muon = self.kind == "muon"
        groups: dict[str, list[Tensor]] = {kind: [] for kind in (*rates, "matrix", "scale")}
        for name, p in named:
            groups[kind_of(name, p)].append(p)
        if with_muon:
            own = {"matrix": self.muon, "scale": self.muon * self.scale}
            some = [Muon(_groups(groups, own), every=self.muon_every)] if any(groups[kind] for kind in own) else []
            return [*some, _adam(groups, rates, (self.beta1, 0.999))]
        every = rates | {"matrix": self.adam, "scale": self.adam * self.scale}
        return [_adam(groups, every, (self.beta1, 0.999))]


def _groups(groups: dict[str, list[Tensor]], rates: dict[str, float]) -> list[dict[str, object]]:
    return [{"params": groups[kind], "lr": rate, "full": rate} for kind, rate in rates.items() if groups[kind]]


def _adam(
    groups: dict[str, list[Tensor]], rates: dict[str, float], betas: tuple[float, float]
) -> torch.optim.Optimizer:
    return torch.optim.Adam(_groups(groups, rates), betas=betas, fused=True)


def kind_of(name: str, p: Tensor) -> str:
    """Which optimiser and rate a parameter takes: `matrix`, `scale`, `plain`, `slow` or `fast`."""
    if name.startswith(("rates.", "tables.")) or name.endswith("lap.matrix"):
        return "fast"
    if name.endswith("dct"):
        return "slow"
    if p.ndim < 3:
        return "plain"
    return "scale" if name.startswith("scale.") else "matrix"


@torch.no_grad()
def lerp(theirs: Iterable[Tensor], ours: Iterable[Tensor], share: float) -> None:
    """Move some tensors a share of the way towards others, in place."""
    torch._foreach_lerp_(list(theirs), list(ours), share)
