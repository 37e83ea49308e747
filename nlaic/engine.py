"""What runs the float networks: arrays in, arrays out. Here what engines have in common, and the choice between them.

Nothing here decides how a symbol is decoded: a difference between engines, devices or precisions moves a pixel a
little and no more (`nlaic.integer` says why).
"""

import importlib.util
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nlaic.arguments import whole
from nlaic.errors import NlaicError
from nlaic.seams import BoundaryFilter
from nlaic.weights import Weights

if TYPE_CHECKING:
    from nlaic.graphs import Graphs

EFFORT_TORCH = 8  # from this effort on y is annealed (`nlaic.anneal`), which needs torch
ENGINES = ("auto", "onnx", "openvino", "torch")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda")
PACKAGES = {"onnx": ("onnxruntime",), "openvino": ("openvino", "onnx"), "torch": ("torch",)}
FOR = {
    "onnx": "which needs no torch",
    "openvino": "which is the fastest on processors",
    "torch": "which GPUs, fp16 and efforts 8 and 9 need",
}
INSTALL = {
    "onnx": "pip install onnxruntime",
    "openvino": "pip install 'nlaic[fast]'",
    "torch": "pip install 'nlaic[torch]'",
}


class Engine(Protocol):
    """The transforms of one codec. y and mean are float32 [C, h, w] in steps where not said otherwise."""

    name: str  # one of ENGINES
    execution: "Execution"
    device: Any  # as its library names it
    precision: str  # of the transforms: fp32, bf16 or fp16
    boundary: BoundaryFilter | None  # where the weights hold one
    pulls: bool  # whether it has `pull`
    searches_side: bool  # whether it has `side_gradient`

    def analysis(self, pixels: np.ndarray) -> np.ndarray:
        """g_a: a block uint8 [H, W, 3], both sides multiples of 64, to y in its own units [C, H/16, W/16]."""

    def hyper_analysis(self, y: np.ndarray) -> np.ndarray:
        """h_a: y to z [Cz, h/4, w/4]."""

    def mean(self, z_hat: np.ndarray) -> np.ndarray:
        """h_s: dequantised z [Cz, h/4, w/4] to the first mean, always in full precision."""

    def refine(self, y_hat: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """The context: the second mean from the decoded positions of the first pass, always in full precision."""

    def synthesis(self, y_hat: np.ndarray, realism: float = 0.0) -> np.ndarray:
        """g_s: y_hat in its own units to a block uint8 [H, W, 3]; realism 0..1 leads to the second decoder."""

    def pull(self, y_hat: np.ndarray, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Half the gradient of the squared error (of values 0..1, summed) to y_hat in its own units [C, h, w].

        Args:
            y_hat: what would be decoded.
            pixels: the block that was meant, uint8 [H, W, 3].
            size: (height, width) of what is not padding: errors elsewhere do not count.
        """

    def side_gradient(self, z_hat: np.ndarray, y: np.ndarray, weight: np.ndarray, **side: np.ndarray) -> np.ndarray:
        """The gradient by z_hat of what a block costs in bits, y as it is; see `nlaic.nets.side`.

        Args:
            z_hat: in steps, fractions too [Cz, h/4, w/4].
            y: in steps [C, h, w].
            weight: bits that a squared error of one step in y is worth [C, h, w].
            side: of each channel `z_step`, `z_index` (its table) [Cz, 1, 1], `offset` of y's tables [C, 1, 1];
                `skip`, the index below which symbols are not coded [1].
        """

    def beside_a_worker(self) -> AbstractContextManager[bool]:
        """Leave one of the threads allowed to somebody else meanwhile; gives False where there is none to spare."""


@dataclass(frozen=True)
class Execution:
    """How the transforms are run.

    Attributes:
        device: `auto`, `cpu` or `cuda`.
        threads: of the processor, in all, and never more than it has; None: as many as the engine thinks right, and a
            worker beside them.
        precision: `fp32`, `bf16` or `fp16`, of g_a, g_s and the boundary filter; `auto`: bf16 where it is faster
            (torch and OpenVINO).
        channels_last: memory format of torch's convolutions; None: where bf16 or fp16 is used.
        engine: `onnx` (ONNX Runtime) and `openvino`, on the processor, `torch`, or `auto`: torch for a GPU, for a
            precision but fp32 or a format that is asked for, and where neither of the others is installed or the
            weights have no graphs; else `onnx`, which starts faster than `openvino` and runs slower.
    """

    device: str = "auto"
    threads: int | None = None
    precision: str = "auto"
    channels_last: bool | None = None
    engine: str = "auto"

    def __post_init__(self) -> None:
        for name, allowed in (("device", DEVICES), ("precision", PRECISIONS), ("engine", ENGINES)):
            if getattr(self, name) not in allowed:
                raise NlaicError(f"{name} must be one of {', '.join(allowed)}, but got {getattr(self, name)!r}")
        if self.threads is not None and whole("threads", self.threads) < 1:
            raise NlaicError(f"threads must be 1 or more, but got {self.threads}")
        beyond = self.device == "cuda" or self.channels_last is not None
        if self.engine == "onnx" and (beyond or self.precision not in ("auto", "fp32")):
            raise NlaicError("the onnx engine runs on the processor in fp32; use torch")
        if self.engine == "openvino" and beyond:
            raise NlaicError("the openvino engine runs on the processor; use torch")

    def chosen(self) -> str:
        """The engine: `onnx`, `openvino` or `torch`."""
        if self.engine != "auto":
            return self.engine
        if self.device == "auto" and _has_gpu():
            return "torch"
        if self.device == "cuda" or self.channels_last is not None or self.precision not in ("auto", "fp32"):
            return "torch"
        return next((engine for engine in ("onnx", "openvino") if is_installed(engine)), "torch")


def _has_gpu() -> bool:
    """Whether torch is installed and has one; it is asked, which takes seconds, only where a driver's program is."""
    if not is_installed("torch") or shutil.which("nvidia-smi") is None:
        return False
    import torch

    return torch.cuda.is_available()


def engine_for(effort: int) -> str:
    """What to ask for where nothing is asked for: torch for the efforts that it alone has."""
    return "torch" if isinstance(effort, Integral) and effort >= EFFORT_TORCH else "auto"


def is_installed(engine: str) -> bool:
    """Whether the packages of an engine are there; they are not imported."""
    return all(importlib.util.find_spec(package) is not None for package in PACKAGES[engine])


def open_engine(weights: Weights, execution: Execution | None = None) -> Engine:
    """The engine for some weights.

    Raises:
        NlaicError: if it is not installed, or the weights are not what it needs.
    """
    weights.check_codec()
    weights.check_networks()
    execution = execution or Execution()
    graphs = choose_graphs(weights, execution)
    if graphs:
        from nlaic.graph_engine import open_graphs

        return open_graphs(weights, execution, graphs)
    from nlaic.torch_engine import TorchEngine

    return TorchEngine(weights, execution)


def choose_graphs(weights: Weights, execution: Execution) -> "Graphs | None":
    """The graphs of some weights where `nlaic.graph_engine` is to run them; None for torch.

    Raises:
        NlaicError: if what is asked for is not installed, or needs graphs and there are none.
    """
    from nlaic.graphs import find_graphs

    engine = execution.chosen()
    if not is_installed(engine):
        raise NlaicError(f"the {engine} engine is not installed, {FOR[engine]}: {INSTALL[engine]}")
    graphs = find_graphs(weights) if engine != "torch" else None
    if engine != "torch" and not graphs and (execution.engine != "auto" or not is_installed("torch")):
        where = weights.path or "FILE"
        raise NlaicError(f"no ONNX graphs for weights {where}: run nlaic-export {where}, or {INSTALL['torch']}")
    return graphs
