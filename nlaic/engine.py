"""What runs the float networks: arrays in, arrays out. torch is imported here and nowhere else in the codec.

Nothing here decides how a symbol is decoded: a difference between engines, devices or precisions moves a pixel a
little and no more (`nlaic.integer` says why).
"""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nlaic.ahead import processors
from nlaic.errors import NlaicError
from nlaic.integer import QUALITIES
from nlaic.seams import MULTIPLE, BoundaryFilter
from nlaic.weights import Weights

if TYPE_CHECKING:
    import torch


PRECISIONS = ("auto", "fp32", "bf16", "fp16")


class Engine(Protocol):
    """The transforms of one codec. y and mean are float32 [C, h, w] in steps where not said otherwise."""

    device: Any  # as its library names it
    precision: str  # of the transforms: fp32, bf16 or fp16
    boundary: BoundaryFilter | None  # where the weights hold one

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

    def beside_a_worker(self) -> AbstractContextManager[bool]:
        """Leave one of the threads allowed to somebody else meanwhile; gives False where there is none to spare."""


@dataclass(frozen=True)
class Execution:
    """How torch runs the transforms.

    Attributes:
        device: `auto`, `cpu` or `cuda`.
        threads: of the processor, in all, and never more than it has; None: as many as torch thinks right, and a
            worker beside them.
        precision: `fp32`, `bf16` or `fp16`, of g_a, g_s and the boundary filter; `auto`: bf16 where it is faster.
        channels_last: memory format of their convolutions; None: where bf16 or fp16 is used.
    """

    device: str = "auto"
    threads: int | None = None
    precision: str = "auto"
    channels_last: bool | None = None


class TorchEngine:
    """The transforms by torch, on the processor or a GPU."""

    def __init__(self, weights: Weights, execution: Execution | None = None) -> None:
        import torch

        from nlaic.nets.build import build, make_settings

        self.execution = execution or Execution()
        self._encodes, self._path = weights.encodes, weights.path
        self.device = _device(self.execution.device)
        self._threads = min(self.execution.threads or torch.get_num_threads(), processors())
        if self.execution.threads:
            torch.set_num_threads(self._threads)
        net = build(make_settings(weights.architecture, weights.settings))
        state = {
            name: torch.from_numpy(np.asarray(tensor, np.float32))
            for name, tensor in weights.tensors.items()
            if name.partition(".")[0] in ("g_a", "h_a", "h_s", "context", "g_s")
        }
        elsewhere = ("scale.", "rates.") if weights.encodes else ("scale.", "rates.", "g_a.", "h_a.")
        missing = [n for n in net.state_dict() if n not in state and not n.startswith(elsewhere)]
        if missing:
            raise NlaicError(f"weights {weights.path}: {weights.architecture} needs {missing[0]} ({len(missing)} lack)")
        net.load_state_dict(state, strict=False)
        net.requires_grad_(False).eval().to(self.device)
        self.precision = self._precision()
        last = self.precision != "fp32" if self.execution.channels_last is None else self.execution.channels_last
        self.memory_format = torch.channels_last if last else torch.contiguous_format
        for transform in (net.g_a, net.g_s):
            transform.to(memory_format=self.memory_format)
        self.net = net
        perceptual = {
            name.partition(".")[2]: torch.from_numpy(np.asarray(tensor, np.float32)).to(self.device)
            for name, tensor in weights.tensors.items()
            if name.startswith("g_s_perceptual.")
        }
        self._perceptual, self._mixed = perceptual, (0.0, self.net.g_s)
        self.boundary: BoundaryFilter | None = TorchFilter(weights, self) if "boundary" in weights.metadata else None

    def analysis(self, pixels: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        import torch

        if not self._encodes:
            raise NlaicError(f"weights {self._path}: the decoding half alone, which cannot compress")

        def run() -> "torch.Tensor":
            x = torch.tensor(pixels, device=self.device).permute(2, 0, 1)[None].float() / 255
            with self.reduced():
                return self.net.g_a(x).float()

        return self._array(run)

    def hyper_analysis(self, y: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._array(lambda: self.net.h_a(self._tensor(y)))

    def mean(self, z_hat: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._array(lambda: self.net.h_s(self._tensor(z_hat)))

    def refine(self, y_hat: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._array(lambda: self.net.refine(self._tensor(y_hat), self._tensor(mean)))

    def synthesis(self, y_hat: np.ndarray, realism: float = 0.0) -> np.ndarray:
        """See `Engine`."""
        import torch

        with torch.inference_mode(), self.reduced():
            x_hat = self._decoder(realism)(self._tensor(y_hat)).float()
            pixels = x_hat[0].mul_(255).round_().clamp_(0, 255).to(torch.uint8)
            return pixels.permute(1, 2, 0).contiguous().cpu().numpy()

    @contextmanager
    def beside_a_worker(self) -> Iterator[bool]:
        """See `Engine`. Two threads are worth more to the transforms, which take far longer than entropy decoding."""
        import torch

        if self.execution.threads is None or self.device.type != "cpu":
            yield True
        elif self._threads < 3:
            yield False
        else:
            torch.set_num_threads(self._threads - 1)
            try:
                yield True
            finally:
                torch.set_num_threads(self._threads)

    def _decoder(self, realism: float) -> "torch.nn.Module":
        """g_s, or the one between it and the second decoder: their weights mixed (the second began as the first)."""
        if not realism or not self._perceptual:
            return self.net.g_s
        if self._mixed[0] != realism:
            mixed = copy.deepcopy(self.net.g_s)
            for name, value in mixed.state_dict().items():
                value.lerp_(self._perceptual[name], realism)
            self._mixed = (realism, mixed)
        return self._mixed[1]

    def _tensor(self, array: np.ndarray) -> "torch.Tensor":
        import torch

        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)[None]

    def _array(self, run: Callable[[], "torch.Tensor"]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return run()[0].contiguous().cpu().numpy()

    def reduced(self) -> AbstractContextManager[Any]:
        """What the transforms run in: their precision."""
        import torch

        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return torch.autocast(self.device.type, kinds.get(self.precision), enabled=self.precision in kinds)

    def _precision(self) -> str:
        from nlaic.nets.precision import bf16_is_faster

        precision = self.execution.precision
        if precision not in PRECISIONS:
            raise NlaicError(f"precision must be one of {', '.join(PRECISIONS)}, but got {precision!r}")
        if precision == "auto":
            return "bf16" if bf16_is_faster(self.device.type) else "fp32"
        return precision


class TorchFilter:
    """The filter on strips by torch; see `nlaic.seams.BoundaryFilter`."""

    def __init__(self, weights: Weights, engine: TorchEngine) -> None:
        from nlaic.export import network_state
        from nlaic.nets.boundary import BoundarySettings, build_boundary

        settings = BoundarySettings(**json.loads(weights.metadata["boundary"]))
        network = build_boundary(settings)
        network.load_state_dict(network_state(weights, "boundary"))
        self.reach, self.sigma, self._engine = network.reach, settings.sigma, engine
        self._network = network.requires_grad_(False).eval().to(engine.device).to(memory_format=engine.memory_format)
        if self.reach > MULTIPLE:
            raise NlaicError(
                f"weights {weights.path}: the boundary filter reaches {self.reach} pixels, allowed: {MULTIPLE}"
            )

    def correction(self, strip: np.ndarray, quality: int) -> np.ndarray:
        """See `nlaic.seams.BoundaryFilter`."""
        import torch

        with torch.inference_mode(), self._engine.reduced():
            x = (
                torch.tensor(np.ascontiguousarray(strip), device=self._engine.device).permute(2, 0, 1)[None].float()
                / 255
            )
            delta = (self._network(x, torch.full((1,), quality / QUALITIES, device=x.device)).float() - x) * 255
            return delta[0].permute(1, 2, 0).contiguous().cpu().numpy()


def _device(name: str) -> "torch.device":
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise NlaicError(f"device must be auto, cpu or cuda, but got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise NlaicError("device cuda: torch sees no GPU here; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
