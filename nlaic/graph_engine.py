"""What engines that run ONNX graphs have in common (`nlaic.graphs`): everything but the library that runs them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from nlaic.ahead import processors
from nlaic.engine import Execution
from nlaic.errors import NlaicError, lacks_memory
from nlaic.graphs import Graphs
from nlaic.integer import QUALITIES
from nlaic.seams import BoundaryFilter
from nlaic.weights import Weights

FULL = ("hyper_analysis", "mean", "refine", "side_gradient", "filter")  # never in a reduced precision
Transform = Callable[[Mapping[str, np.ndarray]], np.ndarray]


class GraphEngine(ABC):
    """See `nlaic.engine.Engine`. A transform's graph is loaded when it is first run.

    Args:
        weights: whose tensors the graphs take.
        execution: its threads and precision.
        graphs: that fit the weights.
    """

    name: str
    library: str
    failures: tuple[type[Exception], ...]  # that the library raises
    device = "cpu"
    precision = "fp32"

    def __init__(self, weights: Weights, execution: Execution, graphs: Graphs) -> None:
        self._weights, self.execution, self._graphs = weights, execution, graphs
        self.threads = min(execution.threads or processors(), processors())
        self.pulls, self.searches_side = (name in self._graphs.models for name in ("pull", "side_gradient"))
        self.boundary: BoundaryFilter | None = GraphFilter(self) if "boundary" in weights.metadata else None
        self._transform = lru_cache(maxsize=None)(self._load)
        self._decoder = lru_cache(maxsize=1)(self._load_decoder)

    @abstractmethod
    def open(self, name: str, model: bytes, parameters: Mapping[str, np.ndarray]) -> Transform:
        """Make a graph ready: arrays by the names of its inputs in, its one output out."""

    def analysis(self, pixels: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        if not self._weights.encodes:
            raise NlaicError(f"weights {self._weights.path}: the decoding half alone, which cannot compress")
        return self.run("analysis", pixels=pixels)

    def hyper_analysis(self, y: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self.run("hyper_analysis", y=y)

    def mean(self, z_hat: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self.run("mean", z_hat=z_hat)

    def refine(self, y_hat: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self.run("refine", y_hat=y_hat, mean=mean) if "refine" in self._graphs.models else mean

    def synthesis(self, y_hat: np.ndarray, realism: float = 0.0) -> np.ndarray:
        """See `Engine`."""
        return self._run(self._decoder(realism), {"y_hat": y_hat})

    def pull(self, y_hat: np.ndarray, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """See `Engine`."""
        rows, columns = (np.arange(n) < inside for n, inside in zip(pixels.shape[:2], size, strict=True))
        return self.run("pull", y_hat=y_hat, pixels=pixels, rows=rows, columns=columns)

    def side_gradient(self, z_hat: np.ndarray, y: np.ndarray, weight: np.ndarray, **side: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self.run("side_gradient", z_hat=z_hat, y=y, weight=weight, **side)

    @contextmanager
    def beside_a_worker(self) -> Iterator[bool]:
        """See `Engine`. A graph's threads are fixed, so there is one to spare only where they are not counted."""
        yield self.execution.threads is None

    def run(self, name: str, **arrays: np.ndarray) -> np.ndarray:
        """A transform of `nlaic.nets.transforms` by its name; inputs other than uint8 become float32."""
        return self._run(self._transform(name), arrays)

    def said(self, name: str) -> Any:
        """What the graphs' manifest says of a filter: `reach`, `sigma`, `multiple`."""
        return self._graphs.manifest[name]

    def _run(self, transform: Transform, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        given = {
            name: np.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.float32)
            for name, array in arrays.items()
        }
        try:
            return transform(given)
        except self.failures as error:
            if lacks_memory(error):
                raise MemoryError from error
            raise NlaicError(f"{self.library} failed: {_first_line(error)}") from error

    def _load_decoder(self, realism: float) -> Transform:
        """g_s, or the one between it and the second decoder: their weights mixed (the second began as the first)."""
        return self._load("synthesis", realism)

    def _load(self, name: str, realism: float = 0.0) -> Transform:
        parameters = {n: self._parameter(n, realism) for n in self._graphs.parameters(name)}
        try:
            return self.open(name, self._graphs.models[name], parameters)
        except self.failures as error:
            if lacks_memory(error):
                raise MemoryError from error
            where = f"graph {name} of {self._graphs.path}"
            raise NlaicError(f"{where} does not run on weights {self._weights.path}: {_first_line(error)}") from error

    def _parameter(self, name: str, realism: float) -> np.ndarray:
        tensors = self._weights.tensors
        if name not in tensors:
            raise NlaicError(f"weights {self._weights.path}: {self._weights.architecture} needs {name}")
        value = np.ascontiguousarray(tensors[name])
        second = tensors.get(name.replace("g_s.", "g_s_perceptual.", 1)) if realism else None
        if second is None:
            return value
        return (value + realism * (second.astype(np.float32) - value)).astype(value.dtype)


class GraphFilter:
    """The filter on strips as a graph; see `nlaic.seams.BoundaryFilter`."""

    def __init__(self, engine: GraphEngine) -> None:
        self._engine = engine
        self.reach, self.sigma = engine.said("reach"), engine.said("sigma")

    def correction(self, strip: np.ndarray, quality: int) -> np.ndarray:
        """See `nlaic.seams.BoundaryFilter`."""
        return self._engine.run("boundary", strip=strip, quality=np.full(1, quality / QUALITIES))


def open_graphs(weights: Weights, execution: Execution, graphs: Graphs) -> GraphEngine:
    """The engine for weights and their graphs: the one that `execution` chooses."""
    if execution.chosen() == "openvino":
        from nlaic.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(weights, execution, graphs)
    from nlaic.onnx_engine import OnnxEngine

    return OnnxEngine(weights, execution, graphs)


def _first_line(error: Exception) -> str:
    """Of what a library says, without the places in its source that OpenVINO puts before it."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[0].strip() if lines else repr(error)
