"""Pictures beside what a codec made of them, for filters to learn from: coded whole, once, into one memory map.

Each picture is coded at settings of its own, drawn evenly by level between the lowest and the highest asked for. In the
map lie the samples of the decoded picture and of the original together, six a pixel, so that crops are those of plain
pictures.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from nlaic.classic.base import Base, base_named
from nlaic.classic.coders import Coder
from nlaic.errors import NlaicError
from nlaic.train.data import Pictures, in_turn
from nlaic.whole import replacing, write_whole

CHANNELS = 6  # R, G, B of the decoded picture, then of the original


@dataclass(frozen=True)
class Coding:
    """How pictures are coded.

    Attributes:
        source: name of the base codec.
        qualities: (lowest, highest) of its settings, both used.
        passes: how often each picture is coded.
        pictures: at most so many, evenly over the set.
    """

    source: str = "jpeg"
    qualities: tuple[float, float] = (5, 95)
    passes: int = 1
    pictures: int | None = None

    def __post_init__(self) -> None:
        base = base_named(self.source)
        if len(self.qualities) != 2:
            raise NlaicError(f"stage.qualities must be two settings of {self.source}, but got {self.qualities}")
        for quality in self.qualities:
            base.check(quality)
        if self.passes < 1:
            raise NlaicError(f"stage.passes must be at least 1, but got {self.passes}")
        if self.pictures is not None and self.pictures < 1:
            raise NlaicError(f"stage.pictures must be at least 1, but got {self.pictures}")

    def settings(self, count: int) -> list[float]:
        """Of so many pictures: evenly by level, in an order drawn by chance, the same whenever it is asked for."""
        base, (first, last) = base_named(self.source), sorted(self.qualities)
        every = np.arange(first, last + 1)
        levels = np.array([base.level(setting) for setting in every])
        wanted = levels.min() + (np.arange(count) + 0.5) / count * (levels.max() - levels.min())
        chosen = every[np.abs(levels[None] - wanted[:, None]).argmin(1)]
        return [float(setting) for setting in np.random.default_rng(count).permutation(chosen)]


@dataclass(frozen=True)
class _Task:
    """A picture of a memory map, and what is to be done to it."""

    file: str
    shape: tuple[int, int, int]
    source: str
    setting: float


def load_coded(pictures: Pictures, coding: Coding, cache: Path, workers: int = 1) -> Pictures:
    """Code pictures, or reuse what was coded before.

    Args:
        pictures: from `load_pictures`, or a part of them.
        coding: see there.
        cache: folder of the memory maps.
        workers: processes.

    Raises:
        NlaicError: if the codec is missing, or fails.
    """
    base = base_named(coding.source)
    if not len(pictures):
        return Pictures(np.empty(0, np.uint8), [], [], CHANNELS)
    shapes = _some(pictures.shapes, coding.pictures) * coding.passes
    settings = coding.settings(len(shapes))
    file = str(getattr(pictures.pixels, "filename", ""))
    identity = [Path(file).name, shapes, settings, base.name, base.open().version, CHANNELS]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    pixels, index = cache / f"{key}.u8", cache / f"{key}.json"
    if not (index.exists() and pixels.exists()):
        tasks = [_Task(file, shape, base.name, setting) for shape, setting in zip(shapes, settings, strict=True)]
        _code(tasks, pixels, workers)
        write_whole(index, json.dumps(settings).encode())
    places, offset = [], 0
    for _, height, width in shapes:
        places.append((offset, height, width))
        offset += CHANNELS * height * width
    levels = {place[0]: base.level(setting) for place, setting in zip(places, settings, strict=True)}
    return Pictures(np.memmap(pixels, np.uint8, "c"), places, [], CHANNELS, levels)


def _some(shapes: list[tuple[int, int, int]], most: int | None) -> list[tuple[int, int, int]]:
    """At most so many, evenly over all."""
    if most is None or most >= len(shapes):
        return shapes
    return [shapes[number * len(shapes) // most] for number in range(most)]


def _code(tasks: list[_Task], target: Path, workers: int) -> None:
    with replacing(target) as part, part.open("wb") as out:
        for both in track(
            in_turn(_both, tasks, workers), f"coding pictures by {tasks[0].source}", len(tasks), transient=True
        ):
            out.write(both)


def _both(task: _Task) -> bytes:
    """A picture's decoded and original samples, six a pixel."""
    offset, height, width = task.shape
    original = np.memmap(task.file, np.uint8, "r", offset, (height, width, 3))
    image = Image.fromarray(np.asarray(original))
    coder = _coder(base_named(task.source))
    decoded = np.asarray(coder.decode(coder.encode(image, task.setting)))
    return np.concatenate((decoded, original), axis=-1).tobytes()


@lru_cache(maxsize=1)
def _coder(base: Base) -> Coder:
    return base.open()
