"""What a picture went through: which base codec, and about which of its settings."""

import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from nlaic.classic.base import BASES, Base, base_named, table_level
from nlaic.classic.weights import filters_for
from nlaic.errors import NlaicError
from nlaic.notes import Warn, ignore

# ITU-T T.81, table K.1, which libjpeg scales by its quality: the steps of luma in rising order.
STANDARD_LUMA = np.sort(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)
LARGEST = 255  # step of a JPEG as everybody writes it
FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp", "AVIF": "avif", "HEIF": "heic"}


@dataclass(frozen=True)
class Source:
    """A base codec and the level, 0 (the finest) .. 1, at which a picture went through it."""

    base: Base
    level: float


def parse_source(text: str) -> tuple[Base, float | None]:
    """`codec` or `codec:setting`.

    Raises:
        NlaicError: if there is no such codec or setting.
    """
    name, _, setting = text.partition(":")
    base = base_named(name)
    if not setting:
        return base, None
    try:
        return base, base.check(float(setting))
    except ValueError as error:
        raise NlaicError(f"source must be CODEC or CODEC:QUALITY, but got {text!r}") from error


def is_lossless(stream: BinaryIO) -> bool:
    """Whether a sound file is a WebP without loss, which Pillow does not tell: its (first) picture is a chunk VP8L."""
    stream.seek(0)
    riff, form = struct.unpack("4s4x4s", stream.read(12).ljust(12))
    if (riff, form) != (b"RIFF", b"WEBP"):
        return False
    while len(head := stream.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind in (b"VP8 ", b"VP8L"):
            return bool(kind == b"VP8L")
        stream.seek(16 if kind == b"ANMF" else size + size % 2, os.SEEK_CUR)  # a frame's chunks lie behind 16 bytes
    return False


def find_source(
    image: Image.Image,
    given: tuple[Base, float | None] | None = None,
    *,
    lossless: bool = False,
    warn: Warn = ignore,
) -> Source | None:
    """What a picture went through, as far as it says so itself; None for one that is left as it is, and why to `warn`.

    Args:
        image: as Pillow opened it, its `format` and quantisation tables still there.
        given: what the user says, from `parse_source`; it goes before.
        lossless: from `is_lossless`.
        warn: hears why a picture is left.

    Raises:
        NlaicError: if the codec is known but nothing says at which setting.
    """
    base, setting = given or (None, None)
    if base is None and image.format in FORMATS and not lossless:
        base = BASES[FORMATS[image.format]]
    if base is None:
        warn("no JPEG, WebP, AVIF or HEIC with loss: it is left as it is; or say --source CODEC:QUALITY")
        return None
    if setting is not None:
        return Source(base, base.level(setting))
    tables = getattr(image, "quantization", None)
    if base.name == "jpeg" and tables:
        if colours := _other_colours(image):
            warn(f"coded in {colours}, behind which no filter was trained: it is left as it is")
            return None
        return Source(base, level_of_tables(tables))
    hint = f"--source {base.name}:{base.default:g}, or nearer to what it was"
    if not filters_for(base.name):
        hint += f"; and there is no filter behind {base.name}: --model FILE"
    raise NlaicError(f"nothing in it says its quality: {hint}")


def _other_colours(image: Any) -> str:
    """What a JPEG's planes are, by libjpeg's rule, where they are not grey or YCbCr."""
    if image.mode == "CMYK" or len(image.layer) != 3 or "jfif" in image.info:
        return "CMYK" if image.mode == "CMYK" else ""
    if "adobe" in image.info:
        return "RGB" if image.info.get("adobe_transform") == 0 else ""
    return "RGB" if bytes(layer[0] for layer in image.layer) == b"RGB" else ""


def level_of_tables(tables: dict[int, list[int]]) -> float:
    """The level of a JPEG's quantisation tables, whoever made them: how large they are against the standard's.

    Args:
        tables: of luma, then of chroma where there are two, 64 steps each, in any order.
    """
    luma = np.sort(np.asarray(tables[min(tables)], float)).clip(1)
    if luma[0] >= LARGEST:
        return 1.0
    free = luma < LARGEST  # others would have been larger
    return table_level(100 * float(np.exp(np.mean(np.log(luma[free] / STANDARD_LUMA[free])))))
