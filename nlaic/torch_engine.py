"""The transforms by torch, on the processor or a GPU."""

import copy
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from nlaic.ahead import processors
from nlaic.engine import Execution
from nlaic.errors import NlaicError
from nlaic.export import NETWORKS, fill, network_state
from nlaic.integer import QUALITIES
from nlaic.nets.boundary import BoundarySettings, LightFilter, PaperFilter, build_boundary
from nlaic.nets.build import build, make_settings
from nlaic.nets.precision import bf16_is_faster
from nlaic.nets.side import SIDE
from nlaic.nets.transforms import Boundary, Synthesis, picture, transforms
from nlaic.nets.vae import HyperpriorVAE
from nlaic.seams import BoundaryFilter
from nlaic.tiles import MULTIPLE
from nlaic.weights import Weights

FULL = ("hyper_analysis", "mean", "refine", "side_gradient")  # never in a reduced precision


class TorchEngine:
    """See `nlaic.engine.Engine`. `net` holds the networks."""

    name = "torch"

    def __init__(self, weights: Weights, execution: Execution | None = None) -> None:
        self.execution = execution or Execution()
        self._encodes, self._path = weights.encodes, weights.path
        self.device = find_device(self.execution.device)
        self._threads = min(self.execution.threads or torch.get_num_threads(), processors())
        if self.execution.threads:
            torch.set_num_threads(self._threads)
        self.net = load_network(weights).to(self.device)
        self.precision = find_precision(self.execution.precision, self.device)
        last = self.precision != "fp32" if self.execution.channels_last is None else self.execution.channels_last
        self.memory_format = torch.channels_last if last else torch.contiguous_format
        for network in (self.net.g_a, self.net.g_s):
            network.to(memory_format=self.memory_format)
        modules = transforms(self.net, weights.scale_network())
        self._transforms = {name: module.to(self.device) for name, module in modules.items()}
        perceptual = network_state(weights, "g_s_perceptual")
        self._perceptual = {name: tensor.to(self.device) for name, tensor in perceptual.items()}
        self._mixed = (0.0, self._transforms["synthesis"])
        self.boundary: BoundaryFilter | None = TorchFilter(weights, self) if "boundary" in weights.metadata else None
        self.pulls, self.searches_side = True, "side_gradient" in self._transforms

    def analysis(self, pixels: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        if not self._encodes:
            raise NlaicError(f"weights {self._path}: the decoding half alone, which cannot compress")
        return self._run("analysis", pixels)

    def hyper_analysis(self, y: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._run("hyper_analysis", y)

    def mean(self, z_hat: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._run("mean", z_hat)

    def refine(self, y_hat: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._run("refine", y_hat, mean) if "refine" in self._transforms else mean

    def synthesis(self, y_hat: np.ndarray, realism: float = 0.0) -> np.ndarray:
        """See `Engine`."""
        return self.run(self._decoder(realism), y_hat)

    def pull(self, y_hat: np.ndarray, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """See `Engine`."""
        if "pull" in self._transforms:
            rows, columns = (np.arange(n) < inside for n, inside in zip(pixels.shape[:2], size, strict=True))
            return self._run("pull", y_hat, pixels, rows, columns)
        with torch.enable_grad():
            at = self.tensor(y_hat)[None].requires_grad_()
            error = self.error(at, picture(self.tensor(pixels)), size)
            (gradient,) = torch.autograd.grad(error.square().sum(), at)
        return gradient[0].cpu().numpy() / 2

    def side_gradient(self, z_hat: np.ndarray, y: np.ndarray, weight: np.ndarray, **side: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._run("side_gradient", z_hat, y, weight, *(side[name] for name in SIDE))

    def error(self, y_hat: torch.Tensor, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Of each pixel of x [1, 3, H, W] in 0..1, 0 outside `size`; y_hat in its own units [1, C, h, w]."""
        height, width = size
        with self.reduced():
            x_hat = self.net.g_s(y_hat).float()
        inside = torch.zeros_like(x[:, :1])
        inside[..., :height, :width] = 1
        return (x_hat - x) * inside

    @contextmanager
    def beside_a_worker(self) -> Iterator[bool]:
        """See `Engine`. Two threads are worth more to the transforms, which take far longer than entropy decoding."""
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

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """An array as float32 where the networks are."""
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    def reduced(self) -> AbstractContextManager[Any]:
        """What the transforms run in: their precision."""
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return torch.autocast(self.device.type, kinds.get(self.precision), enabled=self.precision in kinds)

    def run(self, transform: nn.Module, *arrays: np.ndarray, full: bool = False) -> np.ndarray:
        """A transform of `nlaic.nets.transforms`, in full precision or in the engine's; uint8 stays uint8."""
        given = [
            torch.tensor(array, device=self.device) if array.dtype == np.uint8 else self.tensor(array)
            for array in arrays
        ]
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False) if full else self.reduced():
            return transform(*given).contiguous().cpu().numpy()

    def _run(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        return self.run(self._transforms[name], *arrays, full=name in FULL)

    def _decoder(self, realism: float) -> nn.Module:
        """g_s, or the one between it and the second decoder: their weights mixed (the second began as the first)."""
        if not realism or not self._perceptual:
            return self._transforms["synthesis"]
        known, decoder = self._mixed  # looked at once: another thread may put another there
        if known != realism:
            mixed = copy.deepcopy(self.net.g_s)
            for name, value in mixed.state_dict().items():
                value.copy_(value.lerp(self._perceptual[name], realism).half())  # as stored weights are
            decoder = Synthesis(mixed)
            self._mixed = (realism, decoder)
        return decoder


def find_precision(precision: str, device: torch.device) -> str:
    """`auto` as fp32 or bf16, whichever is faster on a device now: near a draw it may be another one the next time."""
    if precision == "auto":
        return "bf16" if bf16_is_faster(device.type) else "fp32"
    return precision


class TorchFilter:
    """The filter on strips by torch; see `nlaic.seams.BoundaryFilter`."""

    def __init__(self, weights: Weights, engine: TorchEngine) -> None:
        network, sigma = load_filter(weights)
        self.reach, self.sigma, self._engine = network.reach, sigma, engine
        self._network = Boundary(network.to(engine.device).to(memory_format=engine.memory_format))

    def correction(self, strip: np.ndarray, quality: int) -> np.ndarray:
        """See `nlaic.seams.BoundaryFilter`."""
        return self._engine.run(self._network, strip, np.full(1, quality / QUALITIES))


def load_network(weights: Weights) -> HyperpriorVAE:
    """The networks of a weights file, in float32, on the processor, without gradients."""
    net = build(make_settings(weights.architecture, weights.settings))
    state = {f"{part}.{name}": tensor for part in NETWORKS for name, tensor in network_state(weights, part).items()}
    elsewhere = ("scale.", "rates.") if weights.encodes else ("scale.", "rates.", "g_a.", "h_a.")
    missing = [n for n in net.state_dict() if n not in state and not n.startswith(elsewhere)]
    if missing:
        raise NlaicError(f"weights {weights.path}: {weights.architecture} needs {missing[0]} ({len(missing)} lack)")
    fill(net, state, weights.path, strict=False)
    return net.requires_grad_(False).eval()


def load_filter(weights: Weights) -> tuple[LightFilter | PaperFilter, float]:
    """The boundary filter of a weights file that holds one, and its sigma."""
    settings = BoundarySettings(**json.loads(weights.metadata["boundary"]))
    network = build_boundary(settings)
    fill(network, network_state(weights, "boundary"), weights.path)
    if network.reach > MULTIPLE:
        raise NlaicError(
            f"weights {weights.path}: the boundary filter reaches {network.reach} pixels, allowed: {MULTIPLE}"
        )
    return network.requires_grad_(False).eval(), settings.sigma


def find_device(name: str) -> torch.device:
    """`cpu`, `cuda`, or `auto`: a GPU where torch sees one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise NlaicError("device cuda: torch sees no GPU here; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
