"""The codecs of the package as they are tried for a budget: bytes, what is seen, and seconds to decode."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from nlaic.classic.budget import Option, Try, Way
from nlaic.classic.costs import cost_of
from nlaic.classic.file import AUTO, BaseDecoder, BaseEncoder
from nlaic.codec import Codec
from nlaic.picture import over_white

RUNGS = 12  # of a base codec's ladder


class LearnedWay:
    """`light`, or other weights of the codec itself.

    Args:
        codec: loaded.
        options: of `Codec.compress`.
    """

    ladder: tuple[float, ...] = tuple(float(quality) for quality in range(0, 101, 10))
    step = 0.1

    def __init__(self, codec: Codec, options: dict[str, Any]) -> None:
        self.codec, self.options = codec, options

    def attempt(self, image: Image.Image, quality: float) -> dict[Option, tuple[int, np.ndarray, float]]:
        """See `Way`."""
        data = self.codec.compress(image, quality, **self.options)
        start = perf_counter()
        pixels = _seen(self.codec.decompress(data))
        return {Option(quality): (len(data), pixels, perf_counter() - start)}


class BaseWay:
    """A base codec, without a filter and with those that there are."""

    step = 1.0

    def __init__(self, encoder: BaseEncoder, strip: bool) -> None:
        self.encoder, self.strip = encoder, strip
        self.plain, self.decoder = encoder.with_filter(None), BaseDecoder()
        settings = encoder.pair.base.settings()
        places = np.unique(np.linspace(0, len(settings) - 1, RUNGS).round().astype(int))
        self.ladder = tuple(float(settings[place]) for place in places)

    def attempt(self, image: Image.Image, quality: float) -> dict[Option, tuple[int, np.ndarray, float]]:
        """See `Way`."""
        encoder = self.encoder
        data = self.plain.compress(image, quality, strip=self.strip)
        size = len(data)
        start = perf_counter()
        picture = self.decoder.decompress(data)
        decoded = np.asarray(picture.convert("RGB"))
        seconds = perf_counter() - start
        found = {Option(quality): (size, _seen(picture), seconds)} if encoder.pair.filter in (None, AUTO) else {}
        for name, restorer in encoder.filters.items():
            start = perf_counter()
            pixels = restorer.restore(decoded, encoder.pair.base.level(quality))
            seconds_with = seconds + perf_counter() - start
            filtered = Image.fromarray(pixels)
            if "A" in picture.mode:
                filtered.putalpha(picture.getchannel("A"))
            found[Option(quality, name)] = (size, _seen(filtered), seconds_with)
        return found


def _seen(picture: Image.Image) -> np.ndarray:
    """What is seen of a picture, uint8 [H, W, 3]: over white."""
    whole = over_white(picture) if "A" in picture.mode else picture
    return np.asarray(whole.convert("RGB"))


def trier(way: Way, read: Callable[[int], Image.Image], metric: str) -> Callable[[int, float], dict[Option, Try]]:
    """What `nlaic.classic.budget.share` calls: a picture, by its number, at a quality.

    Args:
        way: the codec.
        read: a picture, as `nlaic.picture.open_picture` gives it.
        metric: one of `costs.METRICS`.

    Raises:
        NlaicError: if the metric is not known, or lacks its package or network.
    """
    measure = cost_of(metric)

    def attempt(number: int, quality: float) -> dict[Option, Try]:
        image = read(number)
        original = _seen(image)
        tried = way.attempt(image, quality)
        return {o: Try(size, measure(original, pixels), seconds) for o, (size, pixels, seconds) in tried.items()}

    return attempt
