"""Distances between sets of pictures: FID in the field's two protocols, KID, and their stand-ins at 768 dimensions.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
https://arxiv.org/abs/1706.08500 (NIPS 2017), Eq. 6; Binkowski et al., "Demystifying MMD GANs",
https://arxiv.org/abs/1801.01401 (ICLR 2018), Eq. 4 for KID.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from nlaic.evaluate.codecs import plugin

PATCH = 256
FEW = 2048  # below so many samples the estimate is biased upwards and its covariance has not full rank
KID_SUBSETS, KID_SIZE, KID_SEED = 100, 1000, 1

Patches = Callable[[np.ndarray], list[np.ndarray]]  # of a picture uint8 [H, W, 3], not copied


def whole(picture: np.ndarray) -> list[np.ndarray]:
    """The picture itself, uint8 [H, W, 3]: pytorch-fid on a folder of pictures, the paper's protocol."""
    return [picture]


def shifted_grids(picture: np.ndarray) -> list[np.ndarray]:
    """Patches of 256x256 on a grid and on the grid shifted by 128 both ways, uint8 [256, 256, 3] each.

    Mentzer et al., "High-fidelity generative image compression", https://arxiv.org/abs/2006.09965 (NeurIPS 2020), A.7.
    """
    return [*_grid(picture, 0, PATCH), *_grid(picture, PATCH // 2, PATCH)]


def dense(picture: np.ndarray) -> list[np.ndarray]:
    """Patches of 256x256 every 64 pixels: many samples from few pictures."""
    return list(_grid(picture, 0, 64))


def _grid(picture: np.ndarray, start: int, step: int) -> Iterator[np.ndarray]:
    height, width = picture.shape[:2]
    for top in range(start, height - PATCH + 1, step):
        for left in range(start, width - PATCH + 1, step):
            yield picture[top : top + PATCH, left : left + PATCH]


@dataclass(frozen=True)
class SetMetric:
    """A row: a distance between all originals and all decoded pictures at one setting; lower is better.

    Attributes:
        name: of the column.
        label: for people.
        dims: of the features.
        patches: what of a picture goes through the network.
        kernel: KID instead of FID.
        smallest: pictures with a smaller side have no patch.
        stand_in_for: the standard that this is not.
    """

    name: str
    label: str
    dims: int
    patches: Patches
    kernel: bool = False
    smallest: int = 1
    stand_in_for: str = ""
    higher_is_better: bool = False


SET_METRICS = {
    row.name: row
    for row in (
        SetMetric("fid", "FID (whole pictures)", 2048, whole),
        SetMetric("fid_patch", "FID (256 patches, two grids)", 2048, shifted_grids, smallest=PATCH),
        SetMetric("kid", "KID (256 patches, two grids)", 2048, shifted_grids, True, PATCH),
        SetMetric("fid_768", "FID-768 (stand-in)", 768, dense, False, PATCH, "FID"),
        SetMetric("kid_768", "KID-768 (stand-in)", 768, dense, True, PATCH, "KID"),
    )
}
SHORT = {"fid": ("fid", "fid_patch")}
STAND_INS = {"fid": "fid_768", "fid_patch": "fid_768", "kid": "kid_768"}


class Gaussian:
    """Running sums of features: memory does not grow with the number of pictures."""

    def __init__(self, dims: int) -> None:
        self.count, self.sum, self.products = 0, np.zeros(dims), np.zeros((dims, dims))

    def add(self, features: np.ndarray) -> "Gaussian":
        """Take in [N, dims]."""
        features = features.astype(np.float64)
        self.count += len(features)
        self.sum += features.sum(0)
        self.products += features.T @ features
        return self

    @property
    def mean(self) -> np.ndarray:
        """[dims]."""
        return self.sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased, [dims, dims]; of one sample it is zero."""
        centred = self.products - self.count * np.outer(self.mean, self.mean)
        return centred / max(self.count - 1, 1)


def frechet(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 sqrt(AB)), the trace by the eigenvalues of the symmetric sqrt(A) B sqrt(A).

    Equal to pytorch-fid's; that one takes the root of a matrix that is not symmetric and fails where few pictures make
    it singular.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b.covariance @ root)
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(np.maximum(inner, 0)).sum()
    return float(np.sum((a.mean - b.mean) ** 2) + trace)


def fid(originals: Iterable[np.ndarray], decoded: Iterable[np.ndarray], dims: int) -> float:
    """From the features of each picture, [N, dims]."""
    gaussians = [Gaussian(dims), Gaussian(dims)]
    for gaussian, pictures in zip(gaussians, (originals, decoded), strict=True):
        for features in pictures:
            gaussian.add(features)
    return frechet(*gaussians)


def kid(originals: Iterable[np.ndarray], decoded: Iterable[np.ndarray]) -> float:
    """Mean squared MMD over random subsets, polynomial kernel of degree 3 (torchmetrics' own)."""
    import torch

    mmd = plugin("torchmetrics.image.kid", "torchmetrics").poly_mmd
    a, b = (torch.from_numpy(np.concatenate(list(features)).astype(np.float64)) for features in (originals, decoded))
    size, rng = min(KID_SIZE, len(a), len(b)), np.random.default_rng(KID_SEED)
    values = []
    for _ in range(KID_SUBSETS):
        first, second = (torch.from_numpy(rng.permutation(len(x))[:size]) for x in (a, b))
        values.append(float(mmd(a[first], b[second])))
    return float(np.mean(values))
