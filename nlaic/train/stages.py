"""A stage of training as a Lightning module: one loop for every objective."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nlaic.arguments import check_least
from nlaic.errors import NlaicError
from nlaic.train.data import Augmentation, Batch, Crops, Pictures, SampleNoise, shares
from nlaic.train.objectives import Objective
from nlaic.train.optimisation import Optimisation, lerp

PRETRAINED = "objective.distortion."  # prefix of what checkpoints do not hold
PICTURES_SHARE = 0.4  # of a GPU's free memory that pictures may take


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
    """What a step looks at: `batch` crops of `patch` pixels a side, drawn by `seed`.

    Crops are taken by `workers` processes beside the training one (0: by itself), or on the GPU where pictures fit.
    """

    batch: int = 8
    patch: int = 192
    seed: int = 1
    workers: int = 0

    def __post_init__(self) -> None:
        check_least(self, "sampling", 1, "batch", "patch")
        check_least(self, "sampling", 0, "seed", "workers")


class Stage(pl.LightningModule):
    """Steps, turns, the clock, the running mean of the weights; what is minimised is the objective's.

    Args:
        objective: one of `nlaic.train.objectives`, an `nn.Module`.
        pictures: to train on, with the weight of each folder.
        sampling: see there.
        optimisation: see there.
        budget: see there.
        augmentation: see there.
        identity: what tells the run from others, by names of settings; a checkpoint goes on with its own alone.
    """

    def __init__(
        self,
        objective: Objective,
        pictures: Sequence[tuple[Pictures, float]],
        sampling: Sampling,
        optimisation: Optimisation,
        budget: Budget,
        augmentation: Augmentation | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.identity = dict(identity or {})
        self.automatic_optimization = False
        self.objective = objective
        copies = {name: copy.deepcopy(module) for name, module in objective.trained.items()}
        self.mean = nn.ModuleDict(copies).requires_grad_(False)
        self.pictures, self.augmentation = pictures, augmentation
        self.sampling, self.optimisation, self.budget = sampling, optimisation, budget
        self.steps, self.seconds = 0, 0.0
        self._clock = 0.0
        self._turns: dict[str, list[int]] = {}
        self._configured: list[list[dict[str, Any]]] = []

    @property
    def progress(self) -> float:
        """The share of the run that is over, 0..1."""
        return self.budget.progress(self.seconds, self.steps)

    def on_train_start(self) -> None:
        """Start the clock of the time budget; rates are those of this start's settings, not of the checkpoint's."""
        for optimiser, settings in zip(self.trainer.optimizers, self._configured, strict=True):
            for group, own in zip(optimiser.param_groups, settings, strict=True):
                group.update(own)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out of the budget what has happened since the last step."""
        self._clock = time.monotonic()

    def training_step(self, batch: dict[str, Tensor], _: int) -> None:
        """One step, with a turn for each network that is trained; its noise is seeded by its number."""
        torch.manual_seed(hash((self.sampling.seed, self.steps)) % 2**31)
        x = (batch["x"].float() / 255).contiguous()
        work = Batch(x, batch["position"], SampleNoise(self.sampling.seed, batch["number"], x.device))
        factor = self.optimisation.factor(self.progress, self.steps, self.steps * self.sampling.batch)
        watched: dict[str, Tensor | float] = {"rate": factor}
        for turn, module in self.objective.trained.items():
            losses = self.objective.losses(turn, work)
            watched["grad_norm"] = self._turn(turn, module, losses["loss"], factor)
            for name, value in losses.items():  # what a later turn says under the same name is its own
                watched[f"{turn}_{name}" if name in watched else name] = value
        self.steps += 1
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        if self.trainer.world_size > 1:  # one clock for all: the learning rate depends on it
            self.seconds = self.trainer.strategy.broadcast(self.seconds)
        self.log_dict(watched)

    def _turn(self, turn: str, module: nn.Module, loss: Tensor, factor: float) -> Tensor:
        """Both optimisers of one network; its running mean. Returns the gradient's norm."""
        every = cast(list[Any], self.optimizers(use_pl_optimizer=True))
        every = every if isinstance(every, list) else [every]
        optimisers = [every[number] for number in self._turns[turn]]
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        norm = nn.utils.clip_grad_norm_(module.parameters(), self.optimisation.clip)
        if torch.isfinite(norm):  # one bad batch must not end a night's run; `Divergence` stops a run of them
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = group["full"] * factor
                optimiser.step()
            decay = min(self.optimisation.ema, (1 + self.steps) / (10 + self.steps))
            lerp(self.mean[turn].parameters(), module.parameters(), 1 - decay)
            for theirs, ours in zip(self.mean[turn].buffers(), module.buffers(), strict=True):
                theirs.copy_(ours)
        return norm

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Each network's own, in the order of their turns."""
        every: list[torch.optim.Optimizer] = []
        for turn, module in self.objective.trained.items():
            own = self.optimisation.optimisers(module, is_discriminator=turn == "discriminator")
            self._turns[turn] = list(range(len(every), len(every) + len(own)))
            every += own
        self._configured = [[_without_parameters(group) for group in one.param_groups] for one in every]
        return every

    def train_dataloader(self) -> DataLoader:
        """This process' crops, from the first sample that the run has not seen."""
        s = self.sampling
        world = self.trainer.world_size
        if s.batch % world:
            raise NlaicError(f"sampling.batch must be a multiple of the {world} processes, but got {s.batch}")
        numbers = shares(self.steps * s.batch, s.batch, self.trainer.global_rank, world)
        span, device = float(self.objective.anchors - 1), self._pictures_device()
        crops = Crops(self.pictures, s.patch, span, s.seed, numbers, self.augmentation, device)
        workers = s.workers if device is None else 0
        # Forked, workers share the pictures' memory map and go on with the numbers where they are.
        return DataLoader(
            crops, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None
        )

    def _pictures_device(self) -> torch.device | None:
        """The GPU, where all pictures fit into a part of its memory; else they stay in their memory map."""
        size = sum(one.pixels.nbytes for one, _ in self.pictures)
        if self.device.type != "cuda" or size > PICTURES_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            return None
        return self.device

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how far the run is; leave out the pretrained networks, which have files of their own."""
        checkpoint["nlaic"] = {"steps": self.steps, "seconds": self.seconds, "identity": self.identity}
        for name in [n for n in checkpoint["state_dict"] if n.startswith(PRETRAINED)]:
            del checkpoint["state_dict"][name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            NlaicError: if the checkpoint is of another run.
        """
        before = checkpoint["nlaic"].get("identity", {})
        for name in (name for name in self.identity if before.get(name, self.identity[name]) != self.identity[name]):
            was = "other weights than start= names" if name == "start" else f"{name}={before[name]}"
            raise NlaicError(f"the run in dir= began with {was}; choose another dir=")
        self.steps, self.seconds = checkpoint["nlaic"]["steps"], checkpoint["nlaic"]["seconds"]
        checkpoint["state_dict"] |= {n: v for n, v in self.state_dict().items() if n.startswith(PRETRAINED)}


def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
