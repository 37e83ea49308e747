"""Filters after a decoder, run: pictures in, better ones out."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nlaic.classic.base import base_named
from nlaic.classic.blocks import overlap_save, padded_to
from nlaic.classic.nets.build import as_filter
from nlaic.classic.weights import filter_network
from nlaic.engine import Execution
from nlaic.errors import NlaicError
from nlaic.torch_engine import _device as find_device
from nlaic.weights import Weights

BLOCK = (512, 512)
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Running:
    """How a filter is run.

    Attributes:
        block: (width, height) in pixels; memory grows with it, the picture stays the same.
        rotations: the mean over the picture turned by 0, 90, 180 and 270 degrees; four times as long.
    """

    block: tuple[int, int] = BLOCK
    rotations: bool = False


class Restorer:
    """One filter, ready to work.

    Args:
        weights: of the filter.
        execution: `auto` precision is fp32 here.
    """

    def __init__(self, weights: Weights, execution: Execution | None = None) -> None:
        execution = execution or Execution()
        self.weights, self.device = weights, find_device(execution.device)
        if execution.threads:
            torch.set_num_threads(execution.threads)
        self._reduced = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(execution.precision)
        self._network = filter_network(weights).to(self.device)
        self._filter = as_filter(self._network)
        if self.device.type == "cpu":
            self._network.to(memory_format=torch.channels_last)

    @property
    def name(self) -> str:
        """Of the weights."""
        return self.weights.path.stem if self.weights.path else self.weights.architecture

    @property
    def source(self) -> str:
        """Name of the base codec that it was trained behind."""
        return str(self.weights.metadata["source"])

    @property
    def levels(self) -> tuple[float, float]:
        """The finest and the coarsest level that it was trained at."""
        base = base_named(self.source)
        low, high = sorted(base.level(quality) for quality in json.loads(self.weights.metadata["qualities"]))
        return low, high

    def restore(self, pixels: np.ndarray, level: float, running: Running | None = None) -> np.ndarray:
        """A decoded picture uint8 [H, W, 3], coded at a level 0 (the finest) .. 1, to a better one of the same shape.

        A level outside of those that the filter was trained at is taken for the nearest of them.

        Raises:
            NlaicError: if blocks are not on the filter's grid.
        """
        running, multiple = running or Running(), self._filter.multiple
        level = min(max(level, self.levels[0]), self.levels[1])
        if any(side % multiple for side in running.block):
            raise NlaicError(f"block must be two multiples of {multiple}, but got {running.block}")
        height, width = pixels.shape[:2]
        whole = padded_to(pixels, multiple)

        def run(block: np.ndarray) -> np.ndarray:
            return self._turned(block, level) if running.rotations else _rounded(self._run(block, level))

        return overlap_save(whole, run, running.block, self._filter.reach, multiple)[:height, :width]

    def _turned(self, block: np.ndarray, level: float) -> np.ndarray:
        """The mean over four rotations."""
        turned = (np.rot90(self._run(np.rot90(block, k), level), -k) for k in range(4))
        return _rounded(np.mean(list(turned), axis=0))

    def _run(self, block: np.ndarray, level: float) -> np.ndarray:
        """uint8 [h, w, 3] to float32 [h, w, 3] in levels of 0..255."""
        reduced = torch.autocast(self.device.type, self._reduced, enabled=self._reduced is not None)
        with torch.inference_mode(), reduced:
            x = torch.tensor(np.ascontiguousarray(block), device=self.device).permute(2, 0, 1)[None].float() / 255
            y = self._filter(x, torch.full((1,), level, device=self.device))
            return (y[0].float() * 255).permute(1, 2, 0).cpu().numpy()


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
