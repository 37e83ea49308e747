"""What happens beside the steps: the end of the budget, checkpoints, a line of numbers now and then."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from nlaic.errors import NlaicError
from nlaic.train.data import Pictures


class Checkpoint(pl.Callback):
    """Write `last.ckpt` every few minutes and at the end, to a temporary name first."""

    def __init__(self, folder: Path, minutes: float) -> None:
        self.path, self.minutes, self.due = folder / "last.ckpt", minutes, 0.0

    def save(self, trainer: pl.Trainer) -> None:
        """Write it now."""
        part = self.path.with_suffix(".part")
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            part.replace(self.path)

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


class StopAtBudget(pl.Callback):
    """End the run cleanly when its minutes or steps are over, or when its loss is no number any more."""

    PATIENCE = 20

    def __init__(self) -> None:
        self.bad = 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Look at the clock and at the loss."""
        loss = trainer.callback_metrics.get("loss")
        self.bad = 0 if loss is None or torch.isfinite(loss) else self.bad + 1
        if self.bad >= self.PATIENCE:
            raise NlaicError(f"training diverged: {self.PATIENCE} losses in a row are no number; lower the rate")
        if module.budget.progress(module.seconds, module.steps) >= 1:
            trainer.should_stop = True


class Report(pl.Callback):
    """Print means of what is watched every few minutes, and of a codec the curve on held-out pictures."""

    LEFT_OUT = ("rate", "grad_norm")

    def __init__(self, held_out: Pictures, minutes: float, pictures: int = 6) -> None:
        self.held_out, self.minutes, self.pictures = held_out, minutes, pictures
        self.due, self.sums, self.count, self.since = 0.0, defaultdict[str, float](float), 0, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Add up; print when due."""
        for name, value in trainer.callback_metrics.items():
            self.sums[name] += float(value)
        self.count += 1
        if not self.due:
            self.due, self.since = module.seconds + 60 * self.minutes, module.seconds
        if module.seconds >= self.due:
            if trainer.is_global_zero:
                print(self.line(module), flush=True)
            module.restart_clock()  # looking is not training
            self.sums, self.count = defaultdict(float), 0
            self.due, self.since = module.seconds + 60 * self.minutes, module.seconds

    def line(self, module: Any) -> str:
        """What is printed."""
        speed = self.count * module.sampling.batch / (module.seconds - self.since)
        words = [f"{module.seconds / 60:6.1f} min {module.steps:7d} steps {speed:5.1f} patches/s "]
        for name, total in self.sums.items():
            mean = total / self.count
            if name == "mse":
                words.append(f"PSNR {-10 * math.log10(max(mean, 1e-9)):.2f}")
            elif name not in self.LEFT_OUT:
                words.append(f"{name} {mean:.4f}")
        if "net" in module.mean and len(self.held_out):
            points = curve(module.mean["net"], self.held_out, self.pictures)
            words += ["", *(f"{bpp:.3f}:{psnr:.2f}" for bpp, psnr in points)]
        return " ".join(words)


@torch.no_grad()
def curve(net: Any, pictures: Pictures, count: int, positions: int = 6) -> list[tuple[float, float]]:
    """Estimated bits per pixel and PSNR of `net` at qualities spread evenly, means over the first pictures."""
    device = next(net.parameters()).device
    training, points = net.training, []
    net.eval()
    for position in torch.linspace(0, net.rates.anchors - 1, positions, device=device):
        sums = np.zeros(2)
        for number in range(min(count, len(pictures))):
            picture = pictures[number]
            h, w = (n // 64 * 64 for n in picture.shape[:2])
            x = torch.from_numpy(picture[:h, :w].copy()).to(device).permute(2, 0, 1)[None].float() / 255
            out = net(x, position[None])
            mse = ((out["x_hat"].clamp(0, 1) * 255).round() / 255 - x).square().mean()
            sums += [float(out["bits"]["y"] + out["bits"]["z"]) / (h * w), -10 * math.log10(float(mse))]
        points.append(tuple(sums / min(count, len(pictures))))
    net.train(training)
    return points
