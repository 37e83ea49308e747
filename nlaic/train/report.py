"""A look at the run now and then: means of what is watched, held-out pictures through real files, a grid to see."""

import math
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from nlaic.codec import BLOCK, Codec
from nlaic.engine import Execution
from nlaic.integer import QUALITIES
from nlaic.nets.vae import HyperpriorVAE
from nlaic.picture import write_picture
from nlaic.tiles import MULTIPLE, pad
from nlaic.torch_engine import TorchEngine
from nlaic.train.callbacks import shown
from nlaic.train.data import Pictures
from nlaic.weights import Weights

GRID_CROP, GRID_ROWS, GRID_GAIN = 256, 3, 4  # pixels, pictures, factor on the difference
LOOKED_AT = 1024  # pixels, of the sides of held-out pictures
SHARE = 0.1  # of the time that looks may take: where one takes long, the next one is late


@dataclass(frozen=True)
class Point:
    """Means over some pictures at one quality: bits per pixel by the estimate and by files, PSNR of the decoded.

    `gain` is what the boundary filter adds to the PSNR, where that is looked at.
    """

    quality: float
    estimate: float
    bpp: float
    psnr: float
    gain: float = np.nan

    def __str__(self) -> str:
        estimate = f"{self.estimate:.3f}~" if np.isfinite(self.estimate) else ""
        gain = f"({self.gain:+.3f})" if np.isfinite(self.gain) else ""
        return f"{estimate}{self.bpp:.3f}:{self.psnr:.2f}{gain}"


class Report(pl.Callback, ABC):
    """Every few minutes a line of what is watched, the means since the last one.

    Args:
        minutes: between two lines; None: no lines.
    """

    LEFT_OUT = ("rate", "grad_norm")

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes or math.inf
        self.due, self.sums, self.count, self.since = 0.0, defaultdict[str, float](float), 0, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Add up; report when due."""
        for name, value in trainer.callback_metrics.items():
            self.sums[name] += float(value)
        self.count += 1
        if not self.due:
            self.due, self.since = module.seconds + 60 * self.minutes, module.seconds
        if module.seconds >= self.due:
            began = time.monotonic()
            if trainer.is_global_zero:
                print("  ".join(filter(None, [self.line(module), self.look(trainer, module)])), flush=True)
            module.restart_clock()  # looking is not training
            self.sums, self.count = defaultdict(float), 0
            wait = max(60 * self.minutes, (time.monotonic() - began) / SHARE)
            self.due, self.since = module.seconds + wait, module.seconds

    def line(self, module: Any) -> str:
        """How far, how fast, and the means."""
        speed = self.count * module.sampling.batch / (module.seconds - self.since)
        means = {name: total / self.count for name, total in self.sums.items() if name not in self.LEFT_OUT}
        return f"{module.seconds / 60:6.1f} min {module.steps:7d} steps {speed:5.1f} patches/s  {shown(means)}"

    @abstractmethod
    def look(self, trainer: pl.Trainer, module: Any) -> str:
        """See what has become of held-out pictures; the end of the line, empty where there are none."""


class CodecReport(Report):
    """Held-out pictures through real files, and a grid to see.

    Args:
        held_out: pictures to code.
        minutes: between two lines.
        snapshot: makes weights of what the run has learned so far.
        folder: for the grids.
        effort: of the encoder, that of training.
        seams: code in small blocks, and see what the boundary filter does.
        pictures: how many.
    """

    SMALL_BLOCK = (128, 128)  # that of the stage

    def __init__(
        self,
        held_out: Pictures,
        minutes: float | None,
        snapshot: Callable[[], Weights],
        folder: Path,
        effort: int = 1,
        *,
        seams: bool = False,
        pictures: int = 6,
    ) -> None:
        super().__init__(minutes)
        self.snapshot, self.folder, self.effort, self.seams = snapshot, folder, effort, seams
        self.block = self.SMALL_BLOCK if seams else BLOCK
        count = min(pictures, len(held_out))
        self.pictures = [whole(held_out[n]) for n in range(count)]

    def look(self, trainer: pl.Trainer, module: Any) -> str:
        """Code the held-out pictures at a few qualities, draw the grid."""
        if not self.pictures:
            return ""
        weights = self.snapshot()
        codec = Codec(weights, TorchEngine(weights, Execution("cpu")))
        realism = 1.0 if "g_s_perceptual" in module.objective.trained else 0.0
        points = self.curve(codec, dict(module.mean.items()).get("net"), realism)
        for point in points:
            curve = {f"bpp/{point.quality:g}": point.bpp, f"psnr/{point.quality:g}": point.psnr}
            for logger in trainer.loggers:
                logger.log_metrics(curve, module.steps)
        self.draw(codec, realism, trainer, module.steps)
        return " ".join(map(str, points))

    def curve(self, codec: Codec, net: HyperpriorVAE | None, realism: float) -> list[Point]:
        """Real files at six qualities; with a network also what it thinks they take."""
        points = []
        for quality in (0, 20, 40, 60, 80, 100) if len(codec.weights.tensors["rates.log_step"]) > 1 else (50,):
            sums = np.zeros(4)
            for picture in self.pictures:
                data = codec.compress(Image.fromarray(picture), quality, effort=self.effort, block=self.block)
                psnr = _psnr(codec.decompress(data, realism=realism), picture)
                plain = codec.decompress(data, realism=realism, boundary_filter=False) if self.seams else None
                gain = psnr - _psnr(plain, picture) if plain else np.nan
                estimate = estimated_bpp(net, picture, quality) if net is not None else np.nan
                sums += estimate, 8 * len(data) / (picture.shape[0] * picture.shape[1]), psnr, gain
            points.append(Point(quality, *(sums / len(self.pictures))))
        return points

    def draw(self, codec: Codec, realism: float, trainer: pl.Trainer, step: int) -> None:
        """A row a picture: the original, the decoded one at quality 50, their difference around grey."""
        rows = []
        for picture in self.pictures[:GRID_ROWS]:
            part = picture[:GRID_CROP, :GRID_CROP]
            data = codec.compress(Image.fromarray(part), 50, effort=self.effort, block=self.block)
            decoded = codec.decompress(data, realism=realism)
            difference = 128 + GRID_GAIN * (np.asarray(decoded, int) - part)
            columns = [np.asarray(column, int).clip(0, 255) for column in (part, decoded, difference)]
            space = [(0, GRID_CROP - side) for side in part.shape[:2]]
            rows.append(np.concatenate([np.pad(column, (*space, (0, 0))) for column in columns], 1))
        grid = np.concatenate(rows).astype(np.uint8)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_picture(Image.fromarray(grid), self.folder / f"{step:07d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("original, decoded, difference", grid, step, dataformats="HWC")


def _psnr(decoded: Image.Image, picture: np.ndarray) -> float:
    """In dB, of pictures of 0..255."""
    return float(-10 * np.log10(np.square(np.asarray(decoded, np.float32) - picture).mean() / 255**2))


def whole(picture: np.ndarray) -> np.ndarray:
    """The upper left part that needs no padding, of a large picture 1024x1024; all of one smaller than that."""
    height, width = (max(min(n, LOOKED_AT) // MULTIPLE, 1) * MULTIPLE for n in picture.shape[:2])
    return np.ascontiguousarray(picture[:height, :width])


@torch.no_grad()
def estimated_bpp(net: HyperpriorVAE, picture: np.ndarray, quality: float) -> float:
    """Bits per pixel by the likelihoods, padding included."""
    device, training = next(net.parameters()).device, net.training
    x = torch.from_numpy(pad(picture)).to(device).permute(2, 0, 1)[None].float() / 255
    position = torch.tensor([quality * 10 / QUALITIES * (net.rates.anchors - 1)], device=device)
    net.eval()
    bits = net(x, position)["bits"]
    net.train(training)
    return float(bits["y"] + bits["z"]) / (picture.shape[0] * picture.shape[1])
