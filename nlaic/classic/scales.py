"""SVAC2's multi-scale mode (its paper's section 2.2): a reduced picture first, then what its enlargement lacks.

The paper codes the second as a P frame whose reference is the enlarged first; here it is a picture of differences
around grey, coded by the same base codec: a P frame without motion, and without its choice block by block.
"""

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nlaic.classic.base import Base
from nlaic.classic.coders import Coder
from nlaic.errors import NlaicError

FACTORS = (1, 2, 3)  # the first picture is reduced to 1/2, 1/4 or 1/8
GREY = 128
SMALLEST = 65  # sides of a reduced picture: below, xavs2 crashes, and nobody gains
APART = 0.08  # of a codec's settings: how far the neighbour is that tells what a byte is worth
FINER = (0.0, 0.15, 0.3)  # of a codec's settings: by how much the reduced picture may be finer than the differences


@dataclass(frozen=True)
class Streams:
    """One coding of a picture.

    Attributes:
        scale: 0, or of FACTORS.
        first: stream of the reduced picture; empty for scale 0.
        last: stream of the picture, or of the differences.
        pixels: decoded, uint8 [H, W, 3].
    """

    scale: int
    first: bytes
    last: bytes
    pixels: np.ndarray

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.first) + len(self.last)


def code(
    coder: Coder, picture: Image.Image, setting: float, scale: int = 0, first_setting: float | None = None
) -> Streams:
    """A picture RGB by a base codec, in one stream or in two; the first at a setting of its own where one is given."""
    if not scale:
        data = coder.encode(picture, setting)
        return Streams(0, b"", data, np.asarray(coder.decode(data)))
    small = picture.resize(reduced(picture.size, scale), Image.Resampling.LANCZOS)
    first = coder.encode(small, setting if first_setting is None else first_setting)
    below = enlarged(coder.decode(first), picture.size)
    lacking = (np.asarray(picture, np.int16) - below + GREY).clip(0, 255).astype(np.uint8)
    last = coder.encode(Image.fromarray(lacking), setting)
    return Streams(scale, first, last, together(below, np.asarray(coder.decode(last))))


def reduced(size: tuple[int, int], scale: int) -> tuple[int, int]:
    """(width, height) of the first picture."""
    return -(-size[0] // 2**scale), -(-size[1] // 2**scale)


def enlarged(first: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """The first picture at the size of the second, int16 [H, W, 3]; Pillow's bicubic, which is exact everywhere."""
    return np.asarray(first.resize(size, Image.Resampling.BICUBIC), np.int16)


def together(below: np.ndarray, lacking: np.ndarray) -> np.ndarray:
    """The enlarged picture and the differences, uint8 [H, W, 3]; the first array is used up."""
    below += lacking
    below -= GREY
    return below.clip(0, 255, out=below).astype(np.uint8)


def best(coder: Coder, base: Base, picture: Image.Image, setting: float) -> Streams:
    """The coding whose PSNR is most above what one stream of as many bytes would have; in one stream where none is.

    What bytes are worth is told by a second coding in one stream, at a setting near by.
    """
    plain = code(coder, picture, setting)
    settings = base.settings()
    place, count = settings.index(int(setting)), len(settings)
    step = max(round(APART * count), 1)
    other = code(coder, picture, settings[place + step if place + step < count else place - step])
    slope = (psnr(picture, other) - psnr(picture, plain)) / (math.log(other.size / plain.size) or 1.0)

    def margin(one: Streams) -> float:
        return psnr(picture, one) - psnr(picture, plain) - slope * math.log(one.size / plain.size)

    tried = [plain]
    finer = sorted({min(place + round(more * count), count - 1) for more in FINER})
    for scale in (one for one in FACTORS if min(picture.size) >> one >= SMALLEST):
        for first in finer:
            with suppress(NlaicError):  # xavs2 crashes on some differences
                tried.append(code(coder, picture, setting, scale, settings[first]))
    return max(tried, key=margin)


def psnr(picture: Image.Image, coded: Streams) -> float:
    """In dB of RGB."""
    error = np.square(coded.pixels.astype(float) - np.asarray(picture)).mean()
    return 10 * math.log10(255**2 / max(error, 1e-3))
