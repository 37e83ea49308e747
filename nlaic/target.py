"""The quality that fits a number of bytes: packing is tried at few qualities, thoughtful packing at very few."""

import math
from bisect import bisect_right
from collections.abc import Callable
from itertools import count

from nlaic.arguments import real
from nlaic.errors import NlaicError
from nlaic.integer import QUALITIES
from nlaic.progress import Progress, part

Pack = Callable[[int], bytes]  # a quality 0..1000 to a file

MOST_BPP = 1e6  # more than any file has
LOG_BYTES = math.log(1.2 / 0.05) / QUALITIES  # by which the logarithm of a file's size grows with the quality, about
HOPELESS = 1.25  # times a target: the smallest quick file is larger, and no thought makes up for it


def target_bytes(bpp: float | None, max_bytes: int | None, size: tuple[int, int]) -> int | None:
    """The bytes that a file of (width, height) pixels may have, None where no target is given.

    Raises:
        NlaicError: if there are two targets, or one is not above 0.
    """
    if bpp is not None and max_bytes is not None:
        raise NlaicError("give bpp or max_bytes, not both")
    if bpp is None and max_bytes is None:
        return None
    name, given = ("max_bytes", max_bytes) if bpp is None else ("bpp", bpp)
    target = real(name, given)
    if not 0 < target < math.inf:
        raise NlaicError(f"a target must be above 0 and finite, but got {given}")
    return int(target) if bpp is None else int(min(target, MOST_BPP) * size[0] * size[1] / 8)


def unmet(limit: int, smallest: bytes) -> NlaicError:
    """That a target cannot be met."""
    return NlaicError(f"the target of {limit} bytes cannot be met: the smallest file has {len(smallest)} bytes")


def largest_within(pack: Pack, limit: int) -> bytes:
    """The file of the highest quality that is not larger than `limit` bytes, by bisection.

    Raises:
        NlaicError: if there is none.
    """
    low, high, best = -1, QUALITIES + 1, b""
    quality = 0  # first, so that a target that cannot be met is known at once
    while high - low > 1:
        data = pack(quality)
        if len(data) <= limit:
            low, best = quality, data
        elif quality == 0:
            raise unmet(limit, data)
        else:
            high = quality
        quality = (low + high) // 2
    return best


def close_to(pack: Pack, limit: int, guess: int, close: float = 1.0) -> bytes:
    """A file of at least `close` of `limit` bytes and never more, or the best there is; in few tries from a guess.

    Raises:
        NlaicError: if there is none.
    """
    low, high, best = -1, QUALITIES + 1, b""
    quality = guess
    while high - low > 1 and not (close < 1 and best and len(best) >= close * limit):
        data = pack(quality)
        if len(data) <= limit:
            low, best = quality, data
        elif quality == 0:
            raise unmet(limit, data)
        else:
            high = quality
        step = round(math.log((1 + close) / 2 * max(limit, 1) / len(data)) / LOG_BYTES)
        quality = min(max(quality + step, low + 1), high - 1)
    return best


def guided(
    pack: Callable[[int, Progress], bytes],
    quick: Pack,
    limit: int,
    close: float = 1.0,
    progress: Progress | None = None,
) -> bytes:
    """What `close_to` finds for a thoughtful `pack`, from the guess that a quick one gives.

    Raises:
        NlaicError: if neither makes a file that is small enough.
    """
    smallest = quick(0)
    if len(smallest) > HOPELESS * limit:
        raise unmet(limit, smallest)
    tries = count()

    def attempt(quality: int) -> bytes:
        nonlocal smallest  # at the lowest qualities more thought may take more bytes
        number = next(tries)  # most often the second is the last
        data = pack(quality, part(progress, 1 - 0.5**number, 1 - 0.5 ** (number + 1)))
        smallest = min(smallest, data, key=len)
        return data

    guess = bisect_right(range(QUALITIES), limit, key=lambda quality: len(quick(quality)))
    try:
        return close_to(attempt, limit, guess, close)
    except NlaicError:
        if len(smallest) > limit:
            raise unmet(limit, smallest) from None
        return smallest
