"""Filters by ONNX Runtime; by torch: `nlaic.classic.torch_runner`."""

import numpy as np

from nlaic.engine import Execution
from nlaic.graphs import Graphs
from nlaic.onnx_engine import OnnxEngine
from nlaic.weights import Weights


class OnnxRunner:
    """See `nlaic.classic.restore.Runner`."""

    def __init__(self, weights: Weights, execution: Execution, graphs: Graphs) -> None:
        self._engine = OnnxEngine(weights, execution, graphs)
        self.reach, self.multiple = self._engine.said("reach"), self._engine.said("multiple")

    def run(self, block: np.ndarray, level: float) -> np.ndarray:
        """See `Runner`."""
        return self._engine.run("filter", pixels=block, level=np.full(1, level))
