"""MS-SSIM with a gradient: a distance to train by, and to search symbols by."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.visibility import C2, EXPONENTS


class MsSsim(nn.Module):
    """1 - MS-SSIM: Wang, Simoncelli, Bovik, "Multiscale structural similarity" (Asilomar 2003).

    Sides below 176 have no room for all five scales: as many are taken as there is room for, their weights sum to 1.
    Sides are at least 11.

    Args:
        edges: windows reach over the edges, where the picture is mirrored, so that an error there counts as elsewhere.
    """

    WEIGHTS = EXPONENTS
    WINDOW, SIGMA = 11, 1.5
    PIECE = 128
    C1, C2 = 0.01**2, C2

    def __init__(self, edges: bool = False) -> None:
        super().__init__()
        self.edges = edges

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Two batches [B, 3, H, W] in 0..1 to [B]; the mean over the channels of what each has by itself."""
        similarity = torch.ones(x.shape[:2], device=x.device)
        weights = self.weights(min(x.shape[-2:]))
        with torch.autocast(x.device.type, enabled=False):  # variances are differences of large sums
            for scale, weight in enumerate(weights, 1):
                value = self._compare(x_hat, x, with_luminance=scale == len(weights))
                # A negative structure at the first steps has no root, and the root of 0 no gradient.
                similarity = similarity * value.mean((2, 3)).clamp_min(1e-6) ** weight
                x_hat, x = F.avg_pool2d(x_hat, 2), F.avg_pool2d(x, 2)
        return 1 - similarity.mean(1)

    def _compare(self, x_hat: Tensor, x: Tensor, with_luminance: bool) -> Tensor:
        """Structure (with contrast) of one scale, times luminance if it is the last, [B, C, H - 10, W - 10]."""
        if self.edges:
            x_hat, x = (F.pad(one, (self.WINDOW // 2,) * 4, mode="reflect") for one in (x_hat, x))
        theirs = self._blur(x)
        ours, squares, both = self._blur(torch.stack((x_hat, x_hat * x_hat + x * x, x_hat * x)))
        product, energy = ours * theirs, ours * ours + theirs * theirs
        structure = (2 * (both - product) + self.C2) / (squares - energy + self.C2)
        return structure * (2 * product + self.C1) / (energy + self.C1) if with_luminance else structure

    def _blur(self, x: Tensor) -> Tensor:
        """The Gaussian window where it fits, [..., H, W] to [..., H - 10, W - 10], along columns, then along rows."""
        return self._along_rows(self._along_rows(x).mT).mT

    def _along_rows(self, x: Tensor) -> Tensor:
        """[..., W] to [..., W - 10]: pieces of rows by a banded matrix, far faster than a convolution."""
        inside = x.shape[-1] - self.WINDOW + 1
        pieces = -(-inside // self.PIECE)
        piece = -(-inside // pieces)
        x = F.pad(x, (0, pieces * piece - inside))
        rows = x.unfold(-1, piece + self.WINDOW - 1, piece) @ self._band(piece, x)
        return rows.flatten(-2)[..., :inside]

    def _band(self, places: int, like: Tensor) -> Tensor:
        """The window at so many places, [places + 10, places]."""
        reach = self.WINDOW // 2
        pixel = torch.arange(places + 2 * reach, device=like.device, dtype=like.dtype)
        offset = pixel[:, None] - pixel[reach : places + reach]
        window = torch.exp(-offset.square() / (2 * self.SIGMA**2)) * (offset.abs() <= reach)
        return window / window.sum(0)

    def weights(self, side: int) -> tuple[float, ...]:
        """Of the scales that a picture with this smaller side has room for."""
        scales = max(n for n in range(1, 6) if n == 1 or side >> (n - 1) >= self.WINDOW)
        return self.WEIGHTS if scales == 5 else tuple(w / sum(self.WEIGHTS[:scales]) for w in self.WEIGHTS[:scales])
