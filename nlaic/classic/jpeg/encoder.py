"""The way of a picture into a JPEG file, on one page.

```
pixels ── blocks ──► coefficients ── rounding, with the tables ──► levels ── files ──► bytes
                       model: tables for the quality ─ tuning: for the picture
```
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nlaic.canvas import check_memory
from nlaic.classic.jpeg import files
from nlaic.classic.jpeg.blocks import SUBSAMPLINGS, Planes, analyse
from nlaic.classic.jpeg.model import Model, as_tables
from nlaic.classic.jpeg.rounding import nearest, thoughtful
from nlaic.classic.jpeg.tuning import tune
from nlaic.errors import NlaicError
from nlaic.integer import QUALITIES
from nlaic.limits import check_holds
from nlaic.metadata import KEYS, save_options
from nlaic.notes import Warn, ignore
from nlaic.picture import normalized, over_white
from nlaic.target import largest_within, target_bytes

ROUNDINGS = ("thoughtful", "attention", "nearest")
PIXEL_BYTES = 72  # a pixel of a picture of noise, which takes the most


@dataclass(frozen=True)
class Options:
    """How a file is made.

    Attributes:
        subsampling: `420` or `444`.
        coding: `progressive`, `optimised` or `default`; see `files.write`.
        rounding: `thoughtful`, by what bits cost; `attention`, to the nearest of what the network leaves (Eq. 5);
            `nearest`, the tables alone.
        tune: steps of tuning the tables to the picture, for thoughtful rounding.
    """

    subsampling: str = "420"
    coding: str = "progressive"
    rounding: str = "thoughtful"
    tune: int = 0

    def __post_init__(self) -> None:
        choices = {"subsampling": SUBSAMPLINGS, "coding": files.CODINGS, "rounding": ROUNDINGS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise NlaicError(f"{name} must be one of {', '.join(allowed)}, but got {getattr(self, name)!r}")
        if self.tune < 0:
            raise NlaicError(f"tune must be at least 0, but got {self.tune}")
        if self.tune and self.rounding != "thoughtful":
            raise NlaicError(f"tables are tuned for rounding thoughtful, but got {self.rounding!r}")


def encode(
    image: Image.Image,
    model: Model,
    quality: float = 50,
    options: Options | None = None,
    *,
    bpp: float | None = None,
    max_bytes: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
    warn: Warn = ignore,
) -> bytes:
    """A picture to the bytes of a JPEG file that every decoder opens.

    Args:
        image: any Pillow picture; it is made upright and 8 bits, alpha goes over white, EXIF, XMP and profile are kept.
        model: from `model.load`.
        quality: 0..100; not looked at where a target is given.
        options: see there.
        bpp: target in bits per pixel: the best quality whose file is not larger.
        max_bytes: the same in bytes.
        progress: called with the share that is done, where the tables are tuned.
        warn: hears what is lost on the way.

    Raises:
        NlaicError: if an argument is out of range, a side is above 65500, there is no memory for the picture, or a
            target cannot be met; it names the smallest file.
    """
    options = options or Options()
    if not 0 <= quality <= 100:
        raise NlaicError(f"quality must be 0..100, but got {quality}")
    picture, metadata = _prepared(image, warn)
    check_memory(*picture.size, PIXEL_BYTES * picture.width * picture.height)
    job = _Job(analyse(np.asarray(picture), options.subsampling), model, options, metadata, warn)
    max_bytes = target_bytes(bpp, max_bytes, picture.size)
    if max_bytes is None:
        return job.pack(quality, job.tuned(quality, progress))
    sizes: dict[int, bytes] = {}

    def pack(number: int, change: np.ndarray | float = 0.0) -> bytes:
        sizes[number] = job.pack(100 * number / QUALITIES, change)
        return sizes[number]

    data = largest_within(pack, max_bytes)
    if not options.tune:
        return data
    found = next(number for number, own in sizes.items() if own is data)
    change = job.tuned(100 * found / QUALITIES, progress)
    try:
        return largest_within(lambda number: pack(number, change), max_bytes)
    except NlaicError:  # at quality 0 tuned tables may take more bytes
        return data


def _prepared(image: Image.Image, warn: Warn) -> tuple[Image.Image, dict[str, bytes]]:
    """Grey or RGB, and what is kept beside it."""
    picture, metadata = normalized(image, warn=warn)
    check_holds(picture.size, "JPEG")
    if "A" in picture.mode:
        warn("JPEG holds no transparency: it is put over white")
        picture = over_white(picture)
    kept = save_options(metadata, "JPEG", warn)
    return picture, {key: kept[key] for key in KEYS if key in kept}


@dataclass(frozen=True)
class _Job:
    """One picture and how its files are made."""

    planes: Planes
    model: Model
    options: Options
    metadata: dict[str, bytes]
    warn: Warn

    def pack(self, quality: float, change: np.ndarray | float = 0.0) -> bytes:
        """The file at a quality; `change` is added to the logarithms of the steps."""
        own = self.options
        tables = as_tables(self.model.log_steps(own.subsampling, quality, own.rounding) + change)
        if own.rounding == "thoughtful":
            levels = thoughtful(self.planes, tables, self.model.price(own.subsampling, quality))
        else:
            levels = self._attended(tables) if own.rounding == "attention" else nearest(self.planes, tables)
        data = files.write(self.planes, files.Levels(tuple(levels), tables), own.coding, self.warn)
        return files.with_metadata(data, self.metadata)

    def tuned(self, quality: float, progress: Callable[[float], None]) -> np.ndarray | float:
        """What to add to the logarithms of the steps for this picture."""
        own = self.options
        if not own.tune:
            return 0.0
        before = self.model.log_steps(own.subsampling, quality)
        price = self.model.price(own.subsampling, quality)
        return tune(self.planes, before, price, own.tune, progress) - before

    def _attended(self, tables: np.ndarray) -> list[np.ndarray]:
        """Eq. 5: the nearest levels of what attention leaves."""
        network = self.model.attention(self.options.subsampling)
        scaled = [c / tables[min(n, 1)].astype(np.float32) for n, c in enumerate(self.planes.coefficients)]
        return [np.rint(x * a).astype(np.int16) for x, a in zip(scaled, network(scaled, self.planes), strict=True)]
