"""Filters as graphs, by ONNX Runtime or OpenVINO; by torch: `nlaic.classic.torch_runner`."""

import numpy as np

from nlaic.engine import Execution
from nlaic.graph_engine import open_graphs
from nlaic.graphs import Graphs
from nlaic.weights import Weights


class GraphRunner:
    """See `nlaic.classic.restore.Runner`."""

    def __init__(self, weights: Weights, execution: Execution, graphs: Graphs) -> None:
        self._engine = open_graphs(weights, execution, graphs)
        self.reach, self.multiple = self._engine.said("reach"), self._engine.said("multiple")

    def run(self, block: np.ndarray, level: float) -> np.ndarray:
        """See `Runner`."""
        return self._engine.run("filter", pixels=block, level=np.full(1, level))
