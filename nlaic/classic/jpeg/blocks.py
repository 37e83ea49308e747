"""Pixels to the DCT coefficients of JPEG and back: colours, subsampling, blocks of 8x8. NumPy alone.

Coefficients of a plane are float32 [rows, columns, 8, 8], vertical frequency before horizontal, of the orthonormal DCT:
squared errors of coefficients are squared errors of samples. JPEG divides them by the table and rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SUBSAMPLINGS = ("420", "444")
SIDE = 8
# JFIF 1.02: RGB of 0..255 to Y, Cb, Cr, each less 128 but for the offset of the first.
TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float32
)
TO_RGB = np.linalg.inv(TO_YCBCR.astype(np.float64)).astype(np.float32)
# What a squared error of a plane's sample costs in squared errors of R, G and B: columns of TO_RGB, squared and summed.
PLANE_WEIGHTS = np.square(TO_RGB).sum(0)


def _zigzag() -> np.ndarray:
    """Places of the 64 coefficients in row-major order, from the lowest frequency to the highest (T.81, figure A.6)."""
    places = [(v + u, u if (v + u) % 2 else v, v, u) for v in range(SIDE) for u in range(SIDE)]
    # On an odd diagonal one goes down (v rises), on an even one up (u rises).
    ordered = sorted(places, key=lambda p: (p[0], p[2] if p[0] % 2 else p[3]))
    return np.array([SIDE * v + u for _, _, v, u in ordered])


def _dct() -> np.ndarray:
    """Orthonormal DCT-II [8, 8]: rows are frequencies."""
    angle = np.pi * (2 * np.arange(SIDE) + 1) * np.arange(SIDE)[:, None] / (2 * SIDE)
    basis = np.cos(angle) / 2
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


ZIGZAG = _zigzag()
DCT = _dct()


@dataclass(frozen=True)
class Planes:
    """The coefficients of a picture.

    Attributes:
        width: of the picture, pixels.
        height: the same.
        subsampling: `420` or `444`.
        coefficients: of Y, or of Y, Cb and Cr; see the top of this module.
    """

    width: int
    height: int
    subsampling: str
    coefficients: tuple[np.ndarray, ...]

    @property
    def weights(self) -> tuple[float, ...]:
        """What a squared error of each plane's coefficients is in RGB samples; grey counts thrice."""
        if len(self.coefficients) == 1:
            return (3.0,)
        y, cb, cr = (float(w) for w in PLANE_WEIGHTS)
        area = 4.0 if self.subsampling == "420" else 1.0
        return y, area * cb, area * cr


def analyse(pixels: np.ndarray, subsampling: str = "420") -> Planes:
    """A picture uint8 [H, W] or [H, W, 3] to its coefficients; chroma halved by the mean of 2x2 as libjpeg does.

    Edges are repeated to whole blocks.
    """
    height, width = pixels.shape[:2]
    if pixels.ndim == 2:
        return Planes(width, height, subsampling, (_forward(_padded(pixels.astype(np.float32) - 128, SIDE)),))
    samples = pixels.astype(np.float32) @ TO_YCBCR.T
    luma, chroma = samples[..., 0] - 128, samples[..., 1:]
    planes = [_forward(_padded(luma, SIDE))]
    for number in range(2):
        plane = chroma[..., number]
        if subsampling == "420":
            plane = _padded(plane, 2)
            plane = (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4
        planes.append(_forward(_padded(plane, SIDE)))
    return Planes(width, height, subsampling, tuple(planes))


def synthesise(planes: Planes, smooth: bool = True) -> np.ndarray:
    """What a decoder shows, float32 [H, W] or [H, W, 3], not rounded and not clipped.

    Args:
        planes: with dequantised coefficients.
        smooth: enlarge chroma by (3, 1)/4 of neighbours, as libjpeg does unless told otherwise; else by repeating.
    """
    parts = [_inverse(c) for c in planes.coefficients]
    shown = (slice(planes.height), slice(planes.width))
    parts[0] = parts[0] + 128
    if len(parts) == 1:
        return parts[0][shown]
    if planes.subsampling == "420":
        half = (slice((planes.height + 1) // 2), slice((planes.width + 1) // 2))
        enlarge = _smoothly if smooth else _repeated
        parts[1:] = [enlarge(part[half]) for part in parts[1:]]
    return np.stack([part[shown] for part in parts], axis=-1) @ TO_RGB.T


def dequantised(planes: Planes, levels: Sequence[np.ndarray], tables: np.ndarray) -> Planes:
    """The coefficients that integers [rows, columns, 8, 8] and tables [2, 8, 8] stand for."""
    found = tuple((q * tables[min(n, 1)]).astype(np.float32) for n, q in enumerate(levels))
    return Planes(planes.width, planes.height, planes.subsampling, found)


def _padded(plane: np.ndarray, multiple: int) -> np.ndarray:
    below, right = (-side % multiple for side in plane.shape)
    return np.pad(plane, ((0, below), (0, right)), mode="edge")


def _forward(plane: np.ndarray) -> np.ndarray:
    rows, columns = (side // SIDE for side in plane.shape)
    blocks = plane.reshape(rows, SIDE, columns, SIDE).transpose(0, 2, 1, 3)
    return DCT @ blocks @ DCT.T


def _inverse(coefficients: np.ndarray) -> np.ndarray:
    rows, columns = coefficients.shape[:2]
    blocks = DCT.T @ coefficients @ DCT
    return blocks.transpose(0, 2, 1, 3).reshape(rows * SIDE, columns * SIDE)


def _smoothly(plane: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        edges = [(int(axis == n), int(axis == n)) for n in range(2)]
        wide = np.moveaxis(np.pad(plane, edges, mode="edge"), axis, 0)
        near = 3 * wide[1:-1]
        both = np.stack([near + wide[:-2], near + wide[2:]], axis=1) / 4
        plane = np.moveaxis(both.reshape(-1, *wide.shape[1:]), 0, axis)
    return plane


def _repeated(plane: np.ndarray) -> np.ndarray:
    return plane.repeat(2, axis=0).repeat(2, axis=1)
