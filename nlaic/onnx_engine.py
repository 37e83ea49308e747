"""The transforms by ONNX Runtime, on the processor, in float32."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import numpy as np

# ONNX Runtime's own builds would send events to their maker, and keep a number for this machine in the user's cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from nlaic.ahead import processors
from nlaic.engine import Execution
from nlaic.errors import NlaicError
from nlaic.graphs import Graphs
from nlaic.integer import QUALITIES
from nlaic.seams import BoundaryFilter
from nlaic.weights import Weights

QUIET = 4  # of its log: what is an error is raised
ENCODING = ("analysis", "pull")  # give memory back after each run: the encoder has large arrays of its own
# What ONNX Runtime raises; they have no class in common.
FAILURES = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
)


class OnnxEngine:
    """See `nlaic.engine.Engine`. A transform's graph is loaded when it is first run.

    Args:
        weights: whose tensors the graphs take.
        execution: its threads.
        graphs: that fit the weights.
    """

    name = "onnx"
    device = "cpu"
    precision = "fp32"

    def __init__(self, weights: Weights, execution: Execution, graphs: Graphs) -> None:
        self._weights, self.execution, self._graphs = weights, execution, graphs
        self._threads = min(execution.threads or processors(), processors())
        self.pulls = "pull" in self._graphs.models
        self.boundary: BoundaryFilter | None = OnnxFilter(self) if "boundary" in weights.metadata else None
        self._session = lru_cache(maxsize=None)(self._load)
        self._decoder = lru_cache(maxsize=1)(self._load_decoder)

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
        return _run(self._decoder(realism), None, y_hat=y_hat)

    def pull(self, y_hat: np.ndarray, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """See `Engine`."""
        rows, columns = (np.arange(n) < inside for n, inside in zip(pixels.shape[:2], size, strict=True))
        return self.run("pull", y_hat=y_hat, pixels=pixels, rows=rows, columns=columns)

    @contextmanager
    def beside_a_worker(self) -> Iterator[bool]:
        """See `Engine`. A session's threads are fixed, so there is one to spare only where they are not counted."""
        yield self.execution.threads is None

    def run(self, name: str, **arrays: np.ndarray) -> np.ndarray:
        """A transform of `nlaic.nets.transforms` by its name; inputs other than uint8 become float32."""
        return _run(self._session(name), _giving_back() if name in ENCODING else None, **arrays)

    def said(self, name: str) -> Any:
        """What the graphs' manifest says of a filter: `reach`, `sigma`, `multiple`."""
        return self._graphs.manifest[name]

    def _load_decoder(self, realism: float) -> onnxruntime.InferenceSession:
        """g_s, or the one between it and the second decoder: their weights mixed (the second began as the first)."""
        return self._load("synthesis", realism)

    def _load(self, name: str, realism: float = 0.0) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = QUIET
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if _shares_memory():
            options.add_session_config_entry("session.use_env_allocators", "1")
        names = self._graphs.parameters(name)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(self._parameter(n, realism)) for n in names]
        options.add_external_initializers(names, values)
        try:
            return onnxruntime.InferenceSession(self._graphs.models[name], options, providers=["CPUExecutionProvider"])
        except FAILURES as error:
            _look_for_memory(error)
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


class OnnxFilter:
    """The filter on strips by ONNX Runtime; see `nlaic.seams.BoundaryFilter`."""

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self.reach, self.sigma = engine.said("reach"), engine.said("sigma")

    def correction(self, strip: np.ndarray, quality: int) -> np.ndarray:
        """See `nlaic.seams.BoundaryFilter`."""
        return self._engine.run("boundary", strip=strip, quality=np.full(1, quality / QUALITIES))


def _run(
    session: onnxruntime.InferenceSession, options: onnxruntime.RunOptions | None, **arrays: np.ndarray
) -> np.ndarray:
    given = {
        name: np.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.float32)
        for name, array in arrays.items()
    }
    try:
        (result,) = session.run(None, given, options)
    except FAILURES as error:
        _look_for_memory(error)
        raise NlaicError(f"ONNX Runtime failed: {_first_line(error)}") from error
    return result


@cache
def _shares_memory() -> bool:
    """Have one pool of memory for all graphs in the process instead of one for each: a third less at the peak."""
    pool = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    try:
        onnxruntime.create_and_register_allocator(pool, onnxruntime.OrtArenaCfg(0, 0, -1, -1))
    except FAILURES:  # somebody else's is there
        return False
    return True


@cache
def _giving_back() -> onnxruntime.RunOptions:
    """Have the pool give back what a run needed; costs a sixth of its time."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _look_for_memory(error: Exception) -> None:
    """Tell a lack of memory as what it is; ONNX Runtime has no class for it."""
    if any(sign in str(error) for sign in ("Arena", "bad_alloc", "allocate memory", "Failed to allocate")):
        raise MemoryError from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
