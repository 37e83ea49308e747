"""Points that are done, in a folder: the encoded file of each, and beside it what was measured.

A point is known by the content of its picture, the codec with its version and options, and the setting; names and
places of files do not matter. Values of a metric are kept with what they were computed by.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nlaic.whole import write_whole


def digest(picture: np.ndarray) -> str:
    """SHA-256 of the pixels and their shape."""
    return hashlib.sha256(f"{picture.shape}".encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


@dataclass(frozen=True)
class Store:
    """The folder of points."""

    folder: Path

    def entry(self, picture: str, codec: str, version: str, setting: float) -> "Entry":
        """The place of a point; `picture` is a digest."""
        key = hashlib.sha256(json.dumps([picture, codec, version, float(setting)]).encode()).hexdigest()[:40]
        return Entry(self.folder / key[:2] / key)

    def features(self, picture: str, network: str, patches: str) -> Path:
        """The place of the features of a picture, by its digest."""
        return self.folder / "features" / f"{picture[:40]}-{network}-{patches}.npy"


@dataclass(frozen=True)
class Entry:
    """One point's two files."""

    path: Path

    @property
    def file(self) -> Path:
        """What the codec wrote."""
        return self.path.with_suffix(".bin")

    def read(self) -> dict[str, Any] | None:
        """What was measured, or None where the point is not done; a damaged record is one not done."""
        try:
            record = json.loads(self.path.with_suffix(".json").read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and self.file.is_file() else None

    def write(self, record: Mapping[str, Any]) -> None:
        """Keep what was measured."""
        replace(self.path.with_suffix(".json"), json.dumps(record).encode())


def replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, with its folder; several processes may do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def read_pixels(path: Path) -> np.ndarray:
    """A picture file as RGB uint8 [H, W, 3]."""
    from nlaic.picture import read_picture

    return np.asarray(read_picture(path))


def as_image(pixels: np.ndarray) -> Image.Image:
    """For codecs."""
    return Image.fromarray(pixels)
