"""Filters by torch, on the processor or a GPU."""

import numpy as np
import torch

from nlaic.classic.export import filter_network
from nlaic.classic.nets.build import InLevels, as_filter
from nlaic.engine import Execution
from nlaic.torch_engine import find_device
from nlaic.weights import Weights


class TorchRunner:
    """See `nlaic.classic.restore.Runner`. `auto` precision is fp32 here."""

    def __init__(self, weights: Weights, execution: Execution) -> None:
        self._device = find_device(execution.device)
        if execution.threads:
            torch.set_num_threads(execution.threads)
        self._reduced = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(execution.precision)
        network = filter_network(weights).to(self._device)
        self.reach, self.multiple = as_filter(network).reach, as_filter(network).multiple
        if self._device.type == "cpu":
            network.to(memory_format=torch.channels_last)
        self._network = InLevels(network)

    def run(self, block: np.ndarray, level: float) -> np.ndarray:
        """See `Runner`."""
        reduced = torch.autocast(self._device.type, self._reduced, enabled=self._reduced is not None)
        with torch.inference_mode(), reduced:
            pixels = torch.tensor(np.ascontiguousarray(block), device=self._device)
            return self._network(pixels, torch.full((1,), level, device=self._device)).contiguous().cpu().numpy()
