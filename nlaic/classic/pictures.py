"""A coded picture in a file: opened with what is known of its codec, filtered as it was coded, nothing lost of it."""

from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from nlaic.classic.base import Base
from nlaic.classic.restore import Restorer, Running
from nlaic.classic.source import Source, find_source, is_lossless
from nlaic.errors import NlaicError
from nlaic.limits import pixel_limit
from nlaic.notes import Warn, ignore
from nlaic.picture import TURNS, open_picture

BACK = {  # what undoes a turn
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}

Turn = Image.Transpose | None


def open_coded(
    stream: BinaryIO, given: tuple[Base, float | None] | None = None, warn: Warn = ignore
) -> tuple[Image.Image, Source | None, Turn]:
    """A picture as `open_picture` gives it, what it went through as `find_source` does, and how it was turned upright.

    Raises:
        NlaicError: if it is no good picture, has several frames, or nothing says how it was coded.
    """
    notes: list[str] = []  # told once there is a picture
    picture = open_picture(stream, warn=notes.append)
    lossless = is_lossless(stream)
    stream.seek(0)
    with pixel_limit():
        image = Image.open(stream)
    with image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # whose further frames are previews
            raise NlaicError(f"{frames} frames or pages: only a picture of one is restored")
        source = find_source(image, given, lossless=lossless, warn=notes.append)
        turn = _turn_of(image)
    for note in notes:
        warn(note)
    return picture, source, turn


def _turn_of(image: Image.Image) -> Turn:
    """As `open_picture` turns it: codecs worked on the pixels as they are stored."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of damaged EXIF Pillow raises nearly anything; the picture was not turned then
        return None


def restored(
    picture: Image.Image, turn: Turn, restorer: Restorer, level: float, running: Running | None = None
) -> Image.Image:
    """The picture filtered, of the same mode, its metadata kept.

    Args:
        picture: of mode L, LA, RGB or RGBA.
        turn: how it was turned since it was decoded: the codec's grid is that of the picture before.
        restorer: the filter.
        level: 0..1, at which it was coded.
        running: how to run the filter.
    """
    info = picture.info
    stored = picture.transpose(BACK.get(turn, turn)) if turn is not None else picture
    pixels = restorer.restore(np.asarray(stored.convert("RGB")), level, running)
    out = Image.fromarray(pixels)
    if stored.mode in ("L", "LA"):
        out = out.convert("L")
    if "A" in stored.mode:
        out.putalpha(stored.getchannel("A"))
    out = out.transpose(turn) if turn is not None else out
    out.info = dict(info)
    return out
