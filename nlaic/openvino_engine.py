"""The transforms by OpenVINO, on the processor, in bf16 where it has instructions for that."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache

import numpy as np
import onnx

from nlaic.engine import Execution
from nlaic.errors import NlaicError
from nlaic.graph_engine import FULL, GraphEngine, Transform
from nlaic.graphs import Graphs
from nlaic.weights import Weights

# OpenVINO tells its maker of every import, and keeps a number for this machine in the user's home; not where the
# package that does so is missing, as it is here for a moment.
if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino

if sys.modules.get("openvino_telemetry", sys) is None:
    del sys.modules["openvino_telemetry"]

PLACE = b"\n\x08location"  # in the bytes of a graph, with a tensor whose values are in a file
NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class OpenVinoEngine(GraphEngine):
    """See `GraphEngine`.

    Raises:
        NlaicError: if the processor has no instructions for the precision asked for.
    """

    name, library = "openvino", "OpenVINO"
    failures = (RuntimeError,)

    def __init__(self, weights: Weights, execution: Execution, graphs: Graphs) -> None:
        super().__init__(weights, execution, graphs)
        fastest = _core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
        self.precision = execution.precision if execution.precision != "auto" else NAMES[fastest]
        if self.precision not in ("fp32", NAMES[fastest]):
            raise NlaicError(f"precision {self.precision}: this processor has no instructions for it; use fp32")

    def open(self, name: str, model: bytes, parameters: Mapping[str, np.ndarray]) -> Transform:
        """See `GraphEngine`."""
        kinds = {ours: theirs for theirs, ours in NAMES.items()}
        settings = {
            "INFERENCE_PRECISION_HINT": "f32" if name in FULL else kinds[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,  # several processes would have the same processors
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = _core().compile_model(_core().read_model(_filled(model, parameters)), "CPU", settings)
        asked = {name for port in compiled.inputs for name in port.get_names()}  # a graph may not look at the level

        def run(given: Mapping[str, np.ndarray]) -> np.ndarray:
            request = compiled.create_infer_request()
            request.infer({name: array for name, array in given.items() if name in asked})
            result = np.array(request.get_output_tensor().data)
            del request
            with suppress(RuntimeError):  # another thread is at work with it
                compiled.release_memory()
            return result

        return run


@cache
def _core() -> openvino.Core:
    """One for the process: it gives its thread a signal stack, and a second one puts that back when it is gone."""
    return openvino.Core()


def _filled(model: bytes, parameters: Mapping[str, np.ndarray]) -> bytes:
    """The graph with its parameters inside: OpenVINO takes them from files alone, and is to look at none."""
    graph = onnx.load_model_from_string(model)
    for tensor in graph.graph.initializer:
        if tensor.name in parameters:
            tensor.CopyFrom(onnx.numpy_helper.from_array(parameters[tensor.name], tensor.name))
    filled = graph.SerializeToString()
    if PLACE in filled:
        raise RuntimeError("it wants values of a file that are no parameters")
    return filled
