"""How many pixels Pillow may read here, and how many formats hold."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from nlaic.errors import NlaicError

PIXEL_LIMIT = 1 << 30  # 4 GiB as Pillow stores RGB; its own limit of 2^27.4 refuses pictures that people have

SIDES = {"JPEG": 65500, "WEBP": 16383, "AVIF": 32768}  # by libjpeg and libwebp; libavif writes more and reads no more
AREAS = {"AVIF": 1 << 28}  # pixels, likewise

_lock = threading.RLock()  # the setting is the whole process's; a picture may hold another


@contextmanager
def pixel_limit() -> Iterator[None]:
    """Let Pillow read up to PIXEL_LIMIT pixels (it refuses above twice its setting), then put its setting back."""
    with _lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT // 2
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def check_holds(size: tuple[int, int], format: str) -> None:
    """Refuse a picture that a format, by Pillow's name, does not hold, or that nobody could read again."""
    width, height = size
    side, area = SIDES.get(format, max(size)), AREAS.get(format, width * height)
    if max(size) > side or width * height > area:
        more = f" and {area} pixels" if format in AREAS else ""
        held = f"{format} holds sides up to {side}{more}"
        raise NlaicError(f"{width}x{height} pixels cannot be written as {format}: {held}")
