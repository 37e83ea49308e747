"""What happens beside the steps: the end of the budget, checkpoints, a bar on a terminal."""

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from nlaic.errors import NlaicError
from nlaic.train.losses import TERMS
from nlaic.whole import replacing


class Checkpoint(pl.Callback):
    """Write `last.ckpt` every few minutes and at the end, whole or not at all; not while `divergence` is in doubt."""

    def __init__(self, folder: Path, minutes: float | None, divergence: "Divergence") -> None:
        self.path, self.minutes, self.due = folder / "last.ckpt", minutes or math.inf, 0.0
        self.divergence = divergence

    def save(self, trainer: pl.Trainer) -> None:
        """Write it now."""
        if self.divergence.in_doubt:
            return
        with replacing(self.path) as part:  # which the first process writes, and no other
            trainer.save_checkpoint(part)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Save when due."""
        if not self.due:
            self.due = module.seconds + 60 * self.minutes
        if module.seconds >= self.due:
            self.save(trainer)
            self.due = module.seconds + 60 * self.minutes

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save at the end."""
        self.save(trainer)


class Divergence(pl.Callback):
    """Stop a run whose loss is no number any more, or far above what it was already."""

    PATIENCE = 20  # losses in a row that are no number
    MEMORY = 50  # steps of the running mean
    DOUBT, LIMIT = 5, 20  # running mean over the lowest it was
    FLOOR = 0.01  # of the first mean: nothing below that is called the lowest, since a discriminator's loss may touch 0

    def __init__(self) -> None:
        self.missing, self.steps, self.mean, self.lowest, self.first = 0, 0, 0.0, math.inf, 0.0

    @property
    def in_doubt(self) -> bool:
        """Whether a checkpoint of now may be of a run that is lost; a single step without a number was left out."""
        return self.missing > 1 or self.mean > self.DOUBT * self.lowest

    def note(self, loss: float) -> bool:
        """Take a step's loss; whether the run is lost."""
        if not math.isfinite(loss):
            self.missing += 1
            return self.missing >= self.PATIENCE
        self.missing = 0
        self.steps += 1
        self.mean += (loss - self.mean) / min(self.steps, self.MEMORY)
        if self.steps == self.MEMORY:
            self.first = self.mean
        if self.steps >= self.MEMORY and self.mean > 0:
            self.lowest = min(self.lowest, max(self.mean, self.FLOOR * self.first))
        return self.mean > self.LIMIT * self.lowest

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Look at the mean over all processes, so that they do the same."""
        loss = trainer.callback_metrics.get("loss")
        if loss is not None and self.note(float(trainer.strategy.reduce(loss.clone(), reduce_op="mean"))):
            rise = f"its loss is {self.mean:.3g}, was {self.lowest:.3g}"
            why = f"{self.missing} losses in a row are no number" if self.missing else rise
            raise NlaicError(f"training diverged, {why}; lower the learning rates")


class StopAtBudget(pl.Callback):
    """End the run cleanly when its minutes or steps are over, or on Ctrl-C.

    Args:
        leg_minutes: of training in this start; the run goes on in the next.
    """

    def __init__(self, leg_minutes: float | None = None) -> None:
        self.leg, self.end = 60 * (leg_minutes or math.inf), math.inf
        self.interrupted, self._handling = False, False

    @contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Inside, the first Ctrl-C or SIGTERM ends the run after its step; a second Ctrl-C at once."""
        if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        self._handling = True
        try:
            yield
        finally:
            self._handling = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """A run that was over stays as it is."""
        if self._handling:  # Lightning has put a handler of its own around ours, which ends a run without a checkpoint
            signal.signal(signal.SIGTERM, self._note)
        self.end = module.seconds + self.leg
        trainer.should_stop = module.progress >= 1

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Look at the clock."""
        interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if interrupted or module.progress >= 1 or module.seconds >= self.end:
            trainer.should_stop = True


class Progress(pl.Callback):
    """A bar on a terminal: share of the budget, time left, and what is watched."""

    SHOWN = ("loss", "bpp", *TERMS, "d_real", "d_fake", "adversarial", "gain_db")
    EVERY = 0.5  # seconds between two looks at the numbers

    def __init__(self, console: Console | None = None) -> None:
        columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self.bar = RichProgress(*columns, console=console)
        self.task: TaskID | None = None
        self.last, self.steps = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Draw it."""
        if trainer.is_global_zero and self.bar.console.is_terminal:
            self.task = self.bar.add_task("", total=1.0)
            self.last, self.steps = time.monotonic(), module.steps
            self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Move it."""
        now = time.monotonic()
        if self.task is None or now - self.last < self.EVERY:
            return
        speed = (module.steps - self.steps) * module.sampling.batch / (now - self.last)
        self.last, self.steps = now, module.steps
        words = shown({k: float(v) for k, v in trainer.callback_metrics.items() if k in self.SHOWN})
        self.bar.update(self.task, completed=module.progress, description=f"{words} {speed:.1f} patches/s")

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Leave it as it is."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self.bar.stop()


def shown(means: Mapping[str, float]) -> str:
    """Numbers by name, squared errors as PSNR."""
    words = []
    for name, value in means.items():
        if name.removeprefix("discriminator_") == "mse":
            words.append(f"PSNR {-10 * math.log10(max(value, 1e-9)):.2f}")
        else:
            words.append(f"{name} {value:.4f}")
    return " ".join(words)
