"""What the decoded picture is compared by (Eq. 2 of the paper): a weighted sum of named distances."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nlaic.errors import NlaicError
from nlaic.train.perceptual import load_dists, load_lpips

WITHOUT_NETWORK = ("mse", "ms_ssim")
LPIPS = {"lpips_alex": "alex", "lpips_squeeze": "squeeze", "lpips_vgg": "vgg"}
DISTS = {"dists": 5, **{f"dists_{k}": k for k in (1, 2, 3, 4)}}
TERMS = (*WITHOUT_NETWORK, *LPIPS, *DISTS)


class MeanSquaredError(nn.Module):
    """Squared error of pictures in 0..1."""

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] to [B]."""
        return (x_hat - x).square().flatten(1).mean(1)


class MsSsim(nn.Module):
    """1 - MS-SSIM: Wang, Simoncelli, Bovik, "Multiscale structural similarity" (Asilomar 2003); sides from 176."""

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] in 0..1 to [B]."""
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

        # A negative structure at the first steps has no root: the ReLU is what the metric's own authors do.
        value = ms_ssim(x_hat, x, data_range=1.0, reduction="none", normalize="relu")
        return 1 - value


class Distortion(nn.Module):
    """scale * sum of weight * distance, a value a sample, for pictures in 0..1.

    Args:
        terms: weight of each distance: `mse`, `ms_ssim`, `lpips_alex|squeeze|vgg`, `dists`, `dists_k` (k stages).
        scale: factor on the sum. With 255^2 lambda weighs the squared error of 0..255 pixels, as the field does.
        networks: folder with the pretrained networks' files (`nlaic.train.perceptual.find`).
        window: side of the random window that distances over a network look at; None: all of the patch.

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
        self.weights = {name: weight for name, weight in (terms or {"mse": 1.0}).items() if weight}
        self.scale, self.window = scale, window
        if unknown := sorted(set(self.weights) - set(TERMS)):
            raise NlaicError(f"loss.terms: {unknown[0]!r} is none of {', '.join(TERMS)}")
        self.distances = nn.ModuleDict({name: _distance(name, networks) for name in self.weights})

    def forward(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Two batches [B, 3, H, W] to the distortion [B] and the mean of each distance, to look at."""
        total, means = torch.zeros(len(x), device=x.device), {}
        for name, weight in self.weights.items():
            pair = (x_hat, x) if name in WITHOUT_NETWORK else self._windowed(x_hat, x)
            distance = self.distances[name](*pair)
            total = total + weight * distance
            means[name] = distance.mean().detach()
        return self.scale * total, means

    def train(self, mode: bool = True) -> "Distortion":
        """Pretrained networks have no training mode."""
        return super().train(False)

    def _windowed(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        side = self.window
        if side is None or side >= min(x.shape[-2:]):
            return x_hat, x
        top, left = (int(torch.randint(n - side + 1, ())) for n in x.shape[-2:])
        window = (..., slice(top, top + side), slice(left, left + side))
        return x_hat[window], x[window]


def _distance(name: str, networks: str | None) -> nn.Module:
    if name == "mse":
        return MeanSquaredError()
    if name == "ms_ssim":
        return MsSsim()
    return load_lpips(LPIPS[name], networks) if name in LPIPS else load_dists(DISTS[name], networks)
