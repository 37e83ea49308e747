"""The base codecs: what a filter stands behind, with the numbers that `.nlaic` files know them by.

A codec's setting is its own: a quality of 0..100, or the quantiser of a video codec. Filters know it as a *level*
between 0 (the finest) and 1 (the coarsest).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from nlaic.classic.coders import (
    BaseCoder,
    avif_options,
    heic_options,
    jpeg_options,
    pillow_coder,
    plugin_coder,
    webp_options,
)
from nlaic.classic.programs import BpgCoder, open_avs2, open_hevc, open_vvc
from nlaic.errors import NlaicError

# The numbers that `.nlaic` files know filters by (MVGL's signalling byte); what one has meant it will mean. 0 is none.
NUMBERS = {
    "mvgl-a": 1,
    "mvgl-b": 2,
    "mvgl-c": 3,
    "colorblust": 4,
    "svac2": 5,
    "restore-light": 6,
    "colorblust-narrow": 7,
}

COARSEST, FINEST = 5000.0, 2.0  # per cent of the quantisation tables of the JPEG standard, between levels 1 and 0


@dataclass(frozen=True)
class Base:
    """A base codec.

    Attributes:
        name: as in `--codec` and `--source`.
        number: in files, 1..255; what one has meant it will mean.
        open: makes the coder; `MissingError` where it cannot be had.
        lowest: setting of the smallest files.
        highest: setting of the largest, which for a quantiser is the smaller number.
        default: a middling setting.
        suffix: of the codec's own files.
        own: from the coder's bytes to those of such a file.
        level: from the setting to 0..1.
    """

    name: str
    number: int
    open: Callable[[], BaseCoder]
    lowest: float
    highest: float
    default: float
    suffix: str
    own: Callable[[bytes], bytes]
    level: Callable[[float], float]

    def check(self, setting: float) -> float:
        """The setting, if there is such; they are whole numbers."""
        low, high = sorted((self.lowest, self.highest))
        if not (low <= setting <= high and setting == round(setting)):
            raise NlaicError(f"quality of {self.name} must be a whole number {low:g}..{high:g}, but got {setting:g}")
        return setting

    def settings(self) -> list[int]:
        """All there are, from the smallest file to the largest."""
        step = 1 if self.highest > self.lowest else -1
        return list(range(int(self.lowest), int(self.highest) + step, step))


def jpeg_level(quality: float) -> float:
    """Of a JPEG quality as libjpeg scales its tables by it."""
    return table_level(5000 / max(quality, 1) if quality < 50 else 200 - 2 * quality)


def table_level(percent: float) -> float:
    """Of quantisation tables so many per cent of the standard's: logarithmic, as noise is."""
    percent = min(max(percent, FINEST), COARSEST)
    return math.log(percent / FINEST) / math.log(COARSEST / FINEST)


def _quality_level(quality: float) -> float:
    return 1 - quality / 100


def _same(data: bytes) -> bytes:
    return data


def _stream(data: bytes) -> bytes:
    """Without the byte that says how a picture with odd sides was made even."""
    return data[1:]


def _twice(data: bytes) -> bytes:
    """Decoders of AVS2 give nothing for a single picture."""
    return 2 * data[1:]


BASES = {
    base.name: base
    for base in (
        Base("jpeg", 1, pillow_coder("JPEG", "jpg", jpeg_options), 1, 100, 30, ".jpg", _same, jpeg_level),
        Base(
            "webp", 2, pillow_coder("WEBP", "webp", webp_options, method=6), 0, 100, 30, ".webp", _same, _quality_level
        ),
        Base(
            "avif", 3, pillow_coder("AVIF", "avif", avif_options, speed=4), 0, 100, 40, ".avif", _same, _quality_level
        ),
        Base(
            "heic",
            4,
            plugin_coder("HEIF", "pillow_heif", "pillow-heif", "classic", heic_options),
            0,
            100,
            34,
            ".heic",
            _same,
            _quality_level,
        ),
        Base("hevc", 5, open_hevc, 51, 0, 37, ".hevc", _stream, lambda qp: qp / 51),
        Base("vvc", 6, open_vvc, 63, 0, 37, ".vvc", _stream, lambda qp: qp / 63),
        Base("avs2", 7, open_avs2, 63, 0, 45, ".avs2", _twice, lambda qp: qp / 63),
        Base("bpg", 8, BpgCoder, 51, 0, 37, ".bpg", _same, lambda qp: qp / 51),
    )
}


def base_named(name: str) -> Base:
    """A base codec.

    Raises:
        NlaicError: if there is none of that name.
    """
    if name not in BASES:
        raise NlaicError(f"base codec must be one of {', '.join(BASES)}, but got {name!r}")
    return BASES[name]


def base_numbered(number: int) -> Base | None:
    """The base codec that a file names; None where this program does not know it."""
    return next((base for base in BASES.values() if base.number == number), None)
