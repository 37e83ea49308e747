"""The attention network in NumPy: which share of each coefficient is worth its bits (Eq. 4 and 5).

It is `nlaic.nets.jpeg.SmallAttention` written again, so that an encoder needs no torch: two layers of 1x1 around one of
3x3 on the grid of blocks, whose channels are the 64 frequencies.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from nlaic.classic.jpeg.blocks import Planes

ROWS = 64  # rows of blocks at once: a strip of 512 pixels


class Attention:
    """Maps for luma, and for both planes of chroma together.

    Args:
        tensors: float32, `{luma,chroma}.{first,around,last}.{weight,bias}`.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.tensors = tensors

    def __call__(self, scaled: Sequence[np.ndarray], planes: Planes) -> list[np.ndarray]:
        """Coefficients over steps of Y, or Y, Cb, Cr [rows, columns, 8, 8], to maps in 0..1 of the same shapes.

        The picture's planes are not looked at.
        """
        flat = [np.abs(plane).reshape(*plane.shape[:2], 64) for plane in scaled]
        maps = [self._plane("luma", flat[0])]
        if len(flat) == 3:
            maps += [self._plane("chroma", np.concatenate(flat[1:], axis=-1))] * 2
        return [a.reshape(plane.shape) for a, plane in zip(maps, scaled, strict=True)]

    def _plane(self, name: str, magnitudes: np.ndarray) -> np.ndarray:
        """[rows, columns, C] to [rows, columns, 64], strip by strip with a row of blocks around each."""
        edged = np.pad(magnitudes, ((1, 1), (1, 1), (0, 0)), mode="edge")
        strips = [self._strip(name, edged[top : top + ROWS + 2]) for top in range(0, len(magnitudes), ROWS)]
        return np.concatenate(strips)

    def _strip(self, name: str, edged: np.ndarray) -> np.ndarray:
        hidden = np.maximum(self._pointwise(f"{name}.first", np.log1p(edged)), 0)
        rows, columns = (side - 2 for side in hidden.shape[:2])
        weight = self.tensors[f"{name}.around.weight"]  # [O, I, 3, 3]
        around = np.broadcast_to(self.tensors[f"{name}.around.bias"], (rows, columns, len(weight))).copy()
        for v in range(3):
            for u in range(3):
                around += hidden[v : v + rows, u : u + columns] @ weight[:, :, v, u].T
        hidden = hidden[1:-1, 1:-1] + np.maximum(around, 0)
        maps = 1 / (1 + np.exp(-self._pointwise(f"{name}.last", hidden)))
        maps[..., 0] = 1  # of a block's mean
        return maps

    def _pointwise(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"][:, :, 0, 0].T + self.tensors[f"{name}.bias"]
