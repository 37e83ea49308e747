"""What the decoded picture is compared by (Eq. 2 of the paper): a weighted sum of named distances."""

import hashlib
from collections.abc import Mapping
from types import EllipsisType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.errors import NlaicError
from nlaic.nets.ms_ssim import MsSsim
from nlaic.train.perceptual import Pretrained, dists_files, find, load_dists, load_lpips, lpips_files

LPIPS = {"lpips_alex": "alex", "lpips_squeeze": "squeeze", "lpips_vgg": "vgg"}
GRIDS = (8, 16)  # sides of the transform's blocks; those that a patch has no room for do not count
DISTS = {"dists": 5, **{f"dists_{k}": k for k in (1, 2, 3, 4)}}
LEAST_WINDOW = 32  # pixels; below that nothing is left behind the strides of the networks
SMALL = 1e-5  # distortion that nobody sees: the squared error of 50 dB

Window = tuple[EllipsisType, slice, slice]


class MeanSquaredError(nn.Module):
    """Squared error of pictures in 0..1."""

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] to [B]."""
        return (x_hat - x).square().flatten(1).mean(1)


class MeanAbsoluteError(nn.Module):
    """Absolute error of pictures in 0..1."""

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] to [B]."""
        return (x_hat - x).abs().flatten(1).mean(1)


class GridError(nn.Module):
    """Squared error of the jumps between neighbouring pixels at multiples of 8 and of 16: what is seen of a grid."""

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] in 0..1 to [B]."""
        error = x_hat - x
        jumps = [
            (one[..., side::side] - one[..., side - 1 : -1 : side]).square().flatten(1).mean(1)
            for one in (error, error.mT)
            for side in GRIDS
            if side < one.shape[-1]
        ]
        return torch.stack(jumps).mean(0)


class Blockiness(nn.Module):
    """How visible the grids of 8 and of 16 are: jumps on them over jumps elsewhere, beside the same of the original.

    The square of how far the ratio's logarithm is above MARGIN, times the squared error (a factor without a gradient),
    so that it counts alike at every quality: 0.02 of that where jumps on the grid are a tenth too large. A decoder that
    minds the error alone blurs within its blocks more than between them.
    """

    MARGIN = -0.05  # below 0, so that the last hundredths still have a gradient
    FLOOR = 0.1 / 255  # of a mean jump: nothing is said of the grid of a flat patch

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] in 0..1 to [B]."""
        ratios = [self._ratio(x_hat, side) / self._ratio(x, side) for side in GRIDS if side < min(x.shape[-2:])]
        error = (x_hat - x).square().flatten(1).mean(1).detach()
        return error * (torch.stack(ratios).log() - self.MARGIN).relu().square().mean(0)

    def _ratio(self, x: Tensor, side: int) -> Tensor:
        """Mean jump on the grid over the mean jump off it, [B]."""
        on, off = [], []
        for one in (x, x.mT):
            jumps = one.diff(dim=-1).abs().mean((1, 2))
            crossed = torch.arange(1, one.shape[-1], device=x.device) % side == 0
            on.append(jumps[:, crossed])
            off.append(jumps[:, ~crossed])
        return (torch.cat(on, 1).mean(1) + self.FLOOR) / (torch.cat(off, 1).mean(1) + self.FLOOR)


class FlatError(nn.Module):
    """Squared error of blocks of 8x8, weighed by how flat the original is: 1, or 1/2 where luma deviates by 2 levels.

    Nothing hides an error there; squared error alone leaves the ringing of near edges in it.
    """

    SIDE, HALF = 8, (2 / 255) ** 2
    LUMA = (0.299, 0.587, 0.114)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] in 0..1 to [B]."""
        luma = torch.einsum("bchw,c->bhw", x, x.new_tensor(self.LUMA))
        variance = luma.unfold(1, self.SIDE, self.SIDE).unfold(2, self.SIDE, self.SIDE).var((-1, -2), correction=0)
        error = F.avg_pool2d((x_hat - x).square().mean(1), self.SIDE)
        return (error * self.HALF / (self.HALF + variance)).flatten(1).mean(1)


class ColourError(nn.Module):
    """Squared error of the mean R, G and B of squares of 64 pixels a side: casts of colour, which no texture hides."""

    SIDE = 64

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] in 0..1 to [B]; a patch that is smaller is one square."""
        side = min(self.SIDE, *x.shape[-2:])
        return F.avg_pool2d(x_hat - x, side).square().flatten(1).mean(1)


WITHOUT_NETWORK: dict[str, type[nn.Module]] = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "ms_ssim": MsSsim,
    "grid": GridError,
    "blockiness": Blockiness,
    "flat": FlatError,
    "colour": ColourError,
}
TERMS = (*WITHOUT_NETWORK, *LPIPS, *DISTS)


class Distortion(nn.Module):
    """scale * sum of weight * distance, a value a sample, for pictures in 0..1.

    Args:
        terms: weight of each distance: `mse`, `mae`, `ms_ssim`, `grid`, `blockiness`, `flat`, `colour`,
            `lpips_alex|squeeze|vgg`, `dists`, `dists_k` (k stages).
        scale: factor on the sum. With 255^2 lambda weighs the squared error of 0..255 pixels, as the field does.
        networks: folder with the pretrained networks' files (`nlaic.train.perceptual.find`).
        window: side of the random window that distances over a network look at; None: all of the patch.

    Attributes:
        files: SHA-256 of each pretrained network's file that is used.

    Raises:
        NlaicError: if a name is not known, or a network's file is missing.
    """

    def __init__(
        self,
        terms: Mapping[str, float] | None = None,
        scale: float = 255.0**2,
        networks: str | None = None,
        window: int | None = 128,
    ) -> None:
        super().__init__()
        self.weights = used_terms(terms)
        self.scale, self.window = scale, window
        check_window(window)
        self.distances = nn.ModuleDict({name: _distance(name, networks) for name in self.weights})
        used = {find(file, networks) for name in self.weights for file in network_files(name)}
        self.files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(used)}

    def forward(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Two batches [B, 3, H, W] to the distortion [B] and the mean of each distance, to look at."""
        return self._on(self._window(x), x_hat, x)

    def relative(self, x_hat: Tensor, x: Tensor, before: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same, divided by the distortion of a third batch, so that every quality counts alike."""
        window = self._window(x)
        distortion, means = self._on(window, x_hat, x)
        return distortion / (self._on(window, before, x)[0] + SMALL * self.scale), means

    def _on(self, window: Window, x_hat: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        total, means = torch.zeros(len(x), device=x.device), {}
        for name, weight in self.weights.items():
            pair = (x_hat, x) if name in WITHOUT_NETWORK else (x_hat[window], x[window])
            distance = self.distances[name](*pair)
            total = total + weight * distance
            means[name] = distance.mean().detach()
        return self.scale * total, means

    def train(self, mode: bool = True) -> "Distortion":
        """Pretrained networks have no training mode."""
        return super().train(False)

    def _window(self, x: Tensor) -> Window:
        side = self.window
        if side is None or side >= min(x.shape[-2:]):
            return ..., slice(None), slice(None)
        top, left = (int(torch.randint(n - side + 1, ())) for n in x.shape[-2:])
        return ..., slice(top, top + side), slice(left, left + side)


def used_terms(terms: Mapping[str, float] | None) -> dict[str, float]:
    """The distances that have a weight; squared error where none is named.

    Raises:
        NlaicError: if a name is not known, or no weight is left.
    """
    used = {name: weight for name, weight in (terms or {"mse": 1.0}).items() if weight}
    if unknown := sorted(set(used) - set(TERMS)):
        raise NlaicError(f"loss.terms: {unknown[0]!r} is none of {', '.join(TERMS)}")
    if not used:
        raise NlaicError(f"loss.terms: every weight is 0 in {terms}")
    return used


def check_window(window: int | None) -> None:
    """Whether the networks of all distances can look at a window of that side; an NlaicError says where not."""
    if window is not None and window < LEAST_WINDOW:
        raise NlaicError(f"loss.window must be at least {LEAST_WINDOW} or null, but got {window}")


def network_files(name: str) -> tuple[Pretrained, ...]:
    """The files that a distance reads."""
    if name in WITHOUT_NETWORK:
        return ()
    return lpips_files(LPIPS[name]) if name in LPIPS else dists_files(DISTS[name])


def _distance(name: str, networks: str | None) -> nn.Module:
    if name in WITHOUT_NETWORK:
        return WITHOUT_NETWORK[name]()
    return load_lpips(LPIPS[name], networks) if name in LPIPS else load_dists(DISTS[name], networks)
