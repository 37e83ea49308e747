"""Pictures for the report's viewer: each codec's file closest to one rate, found by bisection over its settings."""

import base64
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import parse
from nlaic.evaluate.points import Picture, Point, PointTask, coder, decode, entry_of, measure, pixels
from nlaic.evaluate.store import as_image

NEAR = 0.1  # a file that misses the rate by more than this share is not shown as being at it
WEBP_SIDE = 16383  # pixels, the most that WebP holds


@dataclass(frozen=True)
class ViewTask:
    """One picture through one codec at about a rate; `points` are those measured."""

    picture: Picture
    codec: str
    bpp: float
    points: tuple[Point, ...]
    store: Path


def view(task: ViewTask) -> dict[str, Any] | None:
    """An entry of the viewer, or None where the codec does not reach the rate on this picture.

    The largest file that is within the rate is taken, or the next larger one where that is closer.
    """
    settings = _between(task)

    def rate(setting: float) -> float:
        return measure(_point(task, setting)).bpp  # kept, as every point

    place = bisect_right(settings, task.bpp, key=rate)
    near = settings[max(place - 1, 0) : place + 1]
    setting = min(near, key=lambda s: abs(rate(s) - task.bpp))
    if abs(rate(setting) - task.bpp) > NEAR * task.bpp:
        return None
    point = _point(task, setting)
    found = measure(point)
    decoded, _ = decode(point, entry_of(point))
    shown = {"codec": task.codec, "setting": setting, "bpp": found.bpp, "bytes": found.bytes}
    return shown | {"image": data_uri(decoded)}


def original(picture: Picture) -> str:
    """The picture itself as a data URI."""
    return data_uri(pixels(picture.path))


def data_uri(picture: np.ndarray) -> str:
    """Lossless WebP, which every browser shows; PNG where WebP holds no such side."""
    out = BytesIO()
    if max(picture.shape) > WEBP_SIDE:
        kind = "png"
        as_image(picture).save(out, "PNG")
    else:
        kind = "webp"
        as_image(picture).save(out, "WEBP", lossless=True, quality=50, method=3)
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


def choose(pictures: Sequence[Picture], wanted: int | Sequence[str]) -> list[Picture]:
    """So many, evenly over the set, or those named.

    Raises:
        NlaicError: if a name is not in the set.
    """
    if isinstance(wanted, int):
        count = min(wanted, len(pictures))
        return [pictures[(2 * n + 1) * len(pictures) // (2 * count)] for n in range(count)]
    by_name = {picture.name: picture for picture in pictures}
    if unknown := [name for name in wanted if name not in by_name]:
        raise NlaicError(f"viewer.pictures: {unknown[0]!r} is none of the pictures: {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def _between(task: ViewTask) -> list[float]:
    """The settings between the two measured ones around the rate, or all where it is outside of them."""
    every = getattr(coder(task.codec), "settings", None) or parse(task.codec).codec.all_settings()
    backwards = every[0] > every[-1]
    below = [point.setting for point in task.points if point.bpp <= task.bpp]
    above = [point.setting for point in task.points if point.bpp > task.bpp]
    low = (min if backwards else max)(below, default=every[0])
    high = (max if backwards else min)(above, default=every[-1])
    first, last = sorted((low, high))
    inside = [setting for setting in every if first <= setting <= last]
    return inside or [low]


def _point(task: ViewTask, setting: float) -> PointTask:
    return PointTask(task.picture, task.codec, setting, (), task.store, None)
