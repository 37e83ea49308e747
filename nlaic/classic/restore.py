"""Filters after a decoder, run: pictures in, better ones out."""

import json
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nlaic.classic.base import base_named
from nlaic.classic.blocks import overlap_save, padded_to
from nlaic.classic.weights import check_filter
from nlaic.engine import Execution, choose_graphs
from nlaic.errors import NlaicError
from nlaic.weights import Weights, damage_told

BLOCK = (512, 512)


@dataclass(frozen=True)
class Running:
    """How a filter is run.

    Attributes:
        block: (width, height) in pixels; memory grows with it, the picture stays the same.
        rotations: the mean over the picture turned by 0, 90, 180 and 270 degrees; four times as long.
    """

    block: tuple[int, int] = BLOCK
    rotations: bool = False


class Runner(Protocol):
    """A filter's network as an engine runs it."""

    reach: int  # pixels that a pixel of the output depends on, each way
    multiple: int  # what the sides of a block must be multiples of

    def run(self, block: np.ndarray, level: float) -> np.ndarray:
        """uint8 [h, w, 3], coded at a level, to float32 [h, w, 3] in levels of 0..255."""


def open_runner(weights: Weights, execution: Execution) -> Runner:
    """The engine for a filter, as `nlaic.engine` chooses; an NlaicError for weights of a codec."""
    check_filter(weights)
    weights.check_networks()
    graphs = choose_graphs(weights, execution)
    if graphs:
        from nlaic.classic.graph_runner import GraphRunner

        return GraphRunner(weights, execution, graphs)
    from nlaic.classic.torch_runner import TorchRunner

    return TorchRunner(weights, execution)


class Restorer:
    """One filter, ready to work.

    Args:
        weights: of the filter.
        execution: `auto` precision is fp32 here.
    """

    def __init__(self, weights: Weights, execution: Execution | None = None) -> None:
        self.weights = weights
        with damage_told(weights.path):
            self._runner, _ = open_runner(weights, execution or Execution()), self.levels

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
        running, multiple = running or Running(), self._runner.multiple
        level = min(max(level, self.levels[0]), self.levels[1])
        if any(side % multiple for side in running.block):
            raise NlaicError(f"block must be two multiples of {multiple}, but got {running.block}")
        height, width = pixels.shape[:2]
        whole = padded_to(pixels, multiple)

        def run(block: np.ndarray) -> np.ndarray:
            return self._turned(block, level) if running.rotations else _rounded(self._runner.run(block, level))

        return overlap_save(whole, run, running.block, self._runner.reach, multiple)[:height, :width]

    def _turned(self, block: np.ndarray, level: float) -> np.ndarray:
        """The mean over four rotations."""
        turned = (np.rot90(self._runner.run(np.rot90(block, k), level), -k) for k in range(4))
        return _rounded(np.mean(list(turned), axis=0))


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
