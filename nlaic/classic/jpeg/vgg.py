"""The paper's attention network for an encoder: VGG-19 on pixels, by torch."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from nlaic.classic.jpeg.blocks import SIDE, Planes, synthesise
from nlaic.nets.jpeg import VggAttention


class VggMaps:
    """See `nlaic.nets.jpeg.VggAttention`; `tensors` are its state."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.network = VggAttention().eval()
        self.network.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})

    @torch.no_grad()
    def __call__(self, scaled: Sequence[np.ndarray], planes: Planes) -> list[np.ndarray]:
        """As `Attention`; the planes are the picture's in 4:4:4, or grey."""
        rows, columns = planes.coefficients[0].shape[:2]
        whole = Planes(SIDE * columns, SIDE * rows, planes.subsampling, planes.coefficients)
        pixels = synthesise(whole)
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        maps = self.network(x.clamp(0, 1), [])
        return [a[0].numpy().reshape(plane.shape) for a, plane in zip(maps, scaled, strict=False)]
