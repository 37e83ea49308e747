"""How many pixels Pillow may read here."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

PIXEL_LIMIT = 1 << 30  # 4 GiB as Pillow stores RGB; its own limit of 2^27.4 refuses pictures that people have

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
