"""What an encoder has learned, from its weights file: tables for every quality, and the attention network.

The file is safetensors. For each subsampling S that it knows, float16:
    S.tables               [anchors, 2, 8, 8], logarithms of the steps of luma and chroma at equally spaced qualities
    S.nearest              the same for rounding to the nearest, without attention; may be missing
    S.attention.{luma,chroma}.{first,around,last}.{weight,bias}   of `nlaic.nets.jpeg.PlaneAttention`; may be missing
    S.attention.{features.N,last}.{weight,bias}                   of `nlaic.nets.jpeg.VggAttention` in its place
Metadata: `architecture`, `jpeg`; `S.lambdas`, the weight on the squared error (255^2, against bits a pixel) at the
lowest and the highest quality; `S.settings`, and what there is to know about the training.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from nlaic.classic.jpeg.attention import Attention
from nlaic.classic.jpeg.blocks import SUBSAMPLINGS
from nlaic.errors import NlaicError
from nlaic.resources import resource_folder
from nlaic.weights import damage_told, read_tensors

if TYPE_CHECKING:
    from nlaic.classic.jpeg.vgg import VggMaps

ARCHITECTURE = "jpeg"
LARGEST = 255  # of a table's entries in a baseline file
NAME = "jpeg"


@dataclass(frozen=True)
class Model:
    """The contents of a weights file.

    Attributes:
        tensors: by name, as stored.
        metadata: strings by name.
    """

    tensors: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]

    def knows(self, subsampling: str) -> bool:
        """Whether it was trained for 420, 444."""
        return f"{subsampling}.tables" in self.tensors

    def log_steps(self, subsampling: str, quality: float, rounding: str = "") -> np.ndarray:
        """Logarithms of the steps [2, 8, 8] at a quality of 0..100, linear between the anchors.

        Those for a rounding of its own, where the weights hold such.

        Raises:
            NlaicError: if the weights are of other subsamplings.
        """
        if not self.knows(subsampling):
            known = ", ".join(s for s in SUBSAMPLINGS if self.knows(s))
            raise NlaicError(f"weights: subsampling {subsampling} is not in them, allowed: {known}")
        name = f"{subsampling}.{rounding}"
        rows = self.tensors[name if name in self.tensors else f"{subsampling}.tables"].astype(np.float64)
        place = quality / 100 * (len(rows) - 1)
        below = min(int(place), max(len(rows) - 2, 0))
        above = min(below + 1, len(rows) - 1)
        return rows[below] + (place - below) * (rows[above] - rows[below])

    def price(self, subsampling: str, quality: float) -> float:
        """Of a bit, in squared errors of RGB samples: lambda weighs the mean over three samples a pixel."""
        low, high = (math.log(value) for value in json.loads(self.metadata[f"{subsampling}.lambdas"]))
        return 3 / math.exp(low + (high - low) * quality / 100)

    def attention(self, subsampling: str) -> "Attention | VggMaps":
        """The network; the paper's needs torch.

        Raises:
            NlaicError: if the weights have none.
        """
        prefix = f"{subsampling}.attention."
        own = {k.removeprefix(prefix): v.astype(np.float32) for k, v in self.tensors.items() if k.startswith(prefix)}
        if "features.0.weight" in own:
            from nlaic.classic.jpeg.vgg import VggMaps

            return VggMaps(own)
        if not own:
            raise NlaicError(f"weights: there is no attention network for {subsampling} in them")
        return Attention(own)

    def to_bytes(self) -> bytes:
        """The file."""
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(self.tensors.items())}
        return save(tensors, dict(self.metadata))


def as_tables(log_steps: np.ndarray) -> np.ndarray:
    """Integers of 1..255 [2, 8, 8], as a file holds them."""
    return np.clip(np.rint(np.exp(log_steps)), 1, LARGEST).astype(int)


@lru_cache(maxsize=4)
def load(name_or_file: str = NAME) -> Model:
    """The model that ships, or the one in a file.

    Raises:
        NlaicError: if it is missing, damaged, or of something else.
    """
    path = Path(name_or_file)
    if name_or_file == NAME:
        found = sorted((resource_folder("weights") / "classic").glob(f"{NAME}-*.safetensors"))
        if not found:
            raise NlaicError(f"no weights named {NAME!r} came with this package; --model takes a file of nlaic-train")
        path = found[0]
    tensors, metadata = read_tensors(path)
    if metadata.get("architecture") != ARCHITECTURE:
        raise NlaicError(f"weights {path}: not of stage jpeg (architecture {metadata.get('architecture')!r})")
    model = Model(tensors, metadata)
    with damage_told(path):
        for subsampling in filter(model.knows, SUBSAMPLINGS):
            model.price(subsampling, 0)
            if model.log_steps(subsampling, 0).shape != (2, 8, 8):
                raise ValueError(f"{subsampling}.tables has the shape {tensors[f'{subsampling}.tables'].shape}")
    return model
