"""The transforms by ONNX Runtime, on the processor, in float32."""

import os
from collections.abc import Mapping
from functools import cache

import numpy as np

# ONNX Runtime's own builds would send events to their maker, and keep a number for this machine in the user's cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from nlaic.graph_engine import GraphEngine, Transform

QUIET = 4  # of its log: what is an error is raised
# Where a graph's data are that are not among the parameters: nowhere. Without it, in the working folder.
PLACE = "session.model_external_initializers_file_folder_path", os.devnull
ENCODING = ("analysis", "pull")  # give memory back after each run: the encoder has large arrays of its own


class OnnxEngine(GraphEngine):
    """See `GraphEngine`."""

    name, library = "onnx", "ONNX Runtime"
    failures = (  # they have no class in common
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
        ValueError,  # inputs or outputs of other names or number
    )

    def open(self, name: str, model: bytes, parameters: Mapping[str, np.ndarray]) -> Transform:
        """See `GraphEngine`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = QUIET
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(*PLACE)
        if _shares_memory():
            options.add_session_config_entry("session.use_env_allocators", "1")
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in parameters.values()]
        options.add_external_initializers(list(parameters), values)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        how = _giving_back() if name in ENCODING else None

        def run(given: Mapping[str, np.ndarray]) -> np.ndarray:
            (result,) = session.run(None, given, how)
            return result

        return run


@cache
def _shares_memory() -> bool:
    """Have one pool of memory for all graphs in the process instead of one for each: a third less at the peak."""
    pool = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    try:
        onnxruntime.create_and_register_allocator(pool, onnxruntime.OrtArenaCfg(0, 0, -1, -1))
    except OnnxEngine.failures:  # somebody else's is there
        return False
    return True


@cache
def _giving_back() -> onnxruntime.RunOptions:
    """Have the pool give back what a run needed; costs a sixth of its time."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
