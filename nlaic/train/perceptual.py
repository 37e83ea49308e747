"""Perceptual distances: LPIPS and DISTS over a pretrained network that comes from a file, nothing else needed.

The packages `lpips` and `piq` would download their networks, and a training machine without a network connection has
neither; tests hold both distances against theirs. The reference picture's features never enter the graph.
"""

import importlib.util
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.errors import NlaicError

ENVIRONMENT = "NLAIC_NETWORKS"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DISTS_SIDE = 256  # DISTS looks at pictures whose smaller side is larger than this after a reduction to it, as piq does


@dataclass(frozen=True)
class Pretrained:
    """A file of a pretrained network: its name in a folder of ours, or another place where it may be."""

    file: str
    other: Path


def _hub(file: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / file


CONVOLUTIONS = {  # and the files that torchvision downloads
    "alex": Pretrained("alexnet_features.safetensors", _hub("alexnet-owt-7be5be79.pth")),
    "squeeze": Pretrained("squeezenet1_1_features.safetensors", _hub("squeezenet1_1-b8a52dc0.pth")),
    "vgg": Pretrained("vgg16_features.safetensors", _hub("vgg16-397923af.pth")),
    "vgg_2": Pretrained("vgg16_stage12.safetensors", _hub("vgg16-397923af.pth")),
}


class Fire(nn.Module):
    """SqueezeNet's block: 1x1 to `squeeze` channels, then 1x1 and 3x3 side by side, `expand` channels each."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, 2 * expand, H, W]."""
        x = F.relu(self.squeeze(x))
        return torch.cat((F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))), 1)


class L2Pool(nn.Module):
    """Root of the squares under a 3x3 Hann window, stride 2: DISTS' pooling, without aliasing."""

    def __init__(self) -> None:
        super().__init__()
        window = torch.tensor([0.25, 0.5, 0.25])
        self.kernel: Tensor
        self.register_buffer("kernel", torch.outer(window, window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, ceil(H/2), ceil(W/2)]."""
        kernel = self.kernel.expand(x.shape[1], 1, 3, 3)
        return torch.sqrt(F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12)


def alexnet() -> tuple[list[nn.Module], list[int]]:
    """The layers of AlexNet's `features` (Krizhevsky 2014) and LPIPS' taps among them."""
    c, pool = nn.Conv2d, lambda: nn.MaxPool2d(3, 2)
    layers: list[nn.Module] = [c(3, 64, 11, 4, 2), nn.ReLU(), pool(), c(64, 192, 5, padding=2), nn.ReLU(), pool()]
    for inputs, outputs in ((192, 384), (384, 256), (256, 256)):
        layers += [c(inputs, outputs, 3, padding=1), nn.ReLU()]
    return layers, [1, 4, 7, 9, 11]


def squeezenet() -> tuple[list[nn.Module], list[int]]:
    """The layers of SqueezeNet 1.1's `features` (Iandola et al., arXiv 1602.07360) and LPIPS' taps."""
    pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)  # noqa: E731
    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), pool()]
    layers += [Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
    return layers, [1, 4, 7, 9, 10, 11, 12]


def vgg16(stages: int = 5, pool: type[nn.Module] | None = None) -> tuple[list[nn.Module], list[int]]:
    """The layers of VGG16's `features` (Simonyan and Zisserman, arXiv 1409.1556) and the last ReLU of each stage.

    Args:
        stages: how many of its five.
        pool: instead of its max pooling.
    """
    layers: list[nn.Module] = []
    taps, inputs = [], 3
    for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))[:stages]:
        if layers:
            layers.append(pool() if pool else nn.MaxPool2d(2))
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        taps.append(len(layers) - 1)
    return layers, taps


class Trunk(nn.Module):
    """A frozen network and the layers whose outputs are looked at.

    Args:
        layers: named as in torchvision's `features`, by their number.
        taps: numbers of those looked at.
        mean: subtracted from pictures in 0..1.
        std: and what they are divided by then.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        taps: Sequence[int],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.features, self.taps = nn.Sequential(*layers), set(taps)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pictures [B, 3, H, W] in 0..1 to the tapped features, float32 also where the layers run in less."""
        x, out = (x - self.mean) / self.std, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                out.append(x.float())
        return out


class Lpips(nn.Module):
    """LPIPS 0.1: weighted squared difference of features of unit length.

    Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric",
    https://arxiv.org/abs/1801.03924 (CVPR 2018), Eq. 1.

    Args:
        trunk: `alex`, `squeeze` or `vgg` at its taps.
        heads: one weight a channel for each tap, [C] >= 0.
    """

    def __init__(self, trunk: Trunk, heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.trunk = trunk
        for number, head in enumerate(heads):
            self.register_buffer(f"head{number}", head.reshape(-1, 1, 1).clone())
        self.taps = len(heads)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] in 0..1 to their distance [B]."""
        with torch.no_grad():
            reference = [_unit(f) for f in self.trunk(x)]
        total = torch.zeros(len(x), device=x.device)
        for number, (ours, theirs) in enumerate(zip(self.trunk(x_hat), reference, strict=True)):
            difference = (_unit(ours) - theirs).square() * self.get_buffer(f"head{number}")
            total = total + difference.sum(1).mean((1, 2))
        return total


def _unit(features: Tensor) -> Tensor:
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)


class Dists(nn.Module):
    """DISTS, or `dists_k`: the same over the first k stages of VGG16, its weights renormalised over these.

    Ding et al., "Image quality assessment: unifying structure and texture similarity",
    https://arxiv.org/abs/2004.07728 (TPAMI 2020), Eq. 7.

    Args:
        trunk: VGG16 with `L2Pool`, the last ReLU of each stage tapped.
        alpha: weights of the means' similarity, [C] over the picture and all taps.
        beta: weights of the structures' similarity, [C].
    """

    def __init__(self, trunk: Trunk, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.trunk = trunk
        total = alpha.sum() + beta.sum()
        self.alpha: Tensor
        self.beta: Tensor
        self.register_buffer("alpha", alpha.reshape(-1) / total)
        self.register_buffer("beta", beta.reshape(-1) / total)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] in 0..1 to their distance [B] in 0..1."""
        if min(x.shape[-2:]) > DISTS_SIDE:
            factor = DISTS_SIDE / min(x.shape[-2:])
            x, x_hat = (F.interpolate(v, scale_factor=factor, mode="bilinear") for v in (x, x_hat))
        with torch.no_grad():
            reference = (x, *self.trunk(x))
        features = (x_hat, *self.trunk(x_hat))
        with torch.autocast(x.device.type, enabled=False):  # only the network may run in less than full precision
            return 1 - self._similarity(features, reference)

    def _similarity(self, features: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
        similarity, first = torch.zeros(len(features[0]), device=features[0].device), 0
        for ours, theirs in zip(features, reference, strict=True):
            (mean_x, var_x), (mean_y, var_y) = _moments(ours), _moments(theirs)
            covariance = (ours * theirs).mean((2, 3)) - mean_x * mean_y
            means = (2 * mean_x * mean_y + 1e-6) / (mean_x.square() + mean_y.square() + 1e-6)
            structures = (2 * covariance + 1e-6) / (var_x + var_y + 1e-6)
            part = slice(first, first := first + ours.shape[1])
            similarity = similarity + means @ self.alpha[part] + structures @ self.beta[part]
        return similarity


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances over space [B, C]."""
    mean = features.mean((2, 3))
    return mean, (features - mean[:, :, None, None]).square().mean((2, 3))


def load_lpips(network: str, folder: str | None = None) -> Lpips:
    """LPIPS on `alex`, `squeeze` or `vgg`; `folder` holds the network's file and the heads (see `find`)."""
    makers = {"alex": alexnet, "squeeze": squeezenet, "vgg": vgg16}
    if network not in makers:
        raise NlaicError(f"loss: LPIPS is on {', '.join(makers)}, but got {network!r}")
    layers, taps = makers[network]()
    convolutions, own = lpips_files(network)
    trunk = _filled(Trunk(layers, taps), find(convolutions, folder), network)
    heads = [v for name, v in sorted(read(find(own, folder)).items()) if name.startswith("lin")]
    return Lpips(trunk, heads)


def load_dists(stages: int = 5, folder: str | None = None) -> Dists:
    """DISTS over so many stages of VGG16; 5 is DISTS itself."""
    layers, taps = vgg16(stages, L2Pool)
    convolutions, own = dists_files(stages)
    trunk = _filled(Trunk(layers, taps), find(convolutions, folder), "vgg")
    weights = read(find(own, folder))
    count = 3 + sum((64, 128, 256, 512, 512)[:stages])
    return Dists(trunk, weights["alpha"].flatten()[:count], weights["beta"].flatten()[:count])


def lpips_files(network: str) -> tuple[Pretrained, Pretrained]:
    """What LPIPS reads: the network's convolutions, and its own heads, which the package `lpips` brings."""
    spec = importlib.util.find_spec("lpips")
    root = Path(spec.origin).parent if spec and spec.origin else Path("lpips")
    heads = root / "weights" / "v0.1" / f"{network}.pth"
    return CONVOLUTIONS[network], Pretrained(f"lpips_lin_{network}.safetensors", heads)


def dists_files(stages: int) -> tuple[Pretrained, Pretrained]:
    """What DISTS reads: VGG16's convolutions, and its own weights as piq downloads them."""
    return CONVOLUTIONS["vgg" if stages > 2 else "vgg_2"], Pretrained("dists.safetensors", _hub("dists_weights.pt"))


def find(wanted: Pretrained, folder: str | None) -> Path:
    """The first that exists: in the folder given, in $NLAIC_NETWORKS, where other packages keep it.

    Raises:
        NlaicError: if there is none.
    """
    places = [Path(p).expanduser() / wanted.file for p in (folder, os.environ.get(ENVIRONMENT)) if p]
    for path in (*places, wanted.other):
        if path.is_file():
            return path
    raise NlaicError(
        f"loss: {wanted.file} is missing; put it into loss.networks=DIR or ${ENVIRONMENT}, or have {wanted.other}; "
        "loss=mse needs no network (in stage adversarial with loss.scale=152)"
    )


def _filled(trunk: Trunk, path: Path, network: str) -> Trunk:
    """The trunk with its weights."""
    state = {name: value for name, value in read(path).items() if name in trunk.state_dict()}
    try:
        trunk.load_state_dict(state)
    except RuntimeError as error:
        raise NlaicError(f"loss: {path} is not {network}'s convolutions: {error}".splitlines()[0]) from error
    return trunk.eval()


def read(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of one that torch saved.

    Raises:
        NlaicError: if it is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise NlaicError(f"loss: {path} holds no tensors, or is damaged") from error
    return state
