"""The pixels of a whole picture, which are held once: blocks are cut from it, or pasted into it as they come."""

import math
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from nlaic.alpha import filled
from nlaic.errors import NlaicError
from nlaic.tiles import Box, Grid, pad, padded

CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # in bytes
BLOCK_BYTES = 64  # a pixel of a block while it is decoded: less than any network takes


@dataclass(frozen=True)
class Source:
    """A picture to encode, block by block.

    Attributes:
        picture: RGB or L, with alpha or without.
        grid: its blocks.
        sections: what the file holds beside them, by tag.
    """

    picture: Image.Image
    grid: Grid
    sections: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def grey(self) -> bool:
        """Whether it has no colours."""
        return self.picture.mode in ("L", "LA")

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return self.grid.rows * self.grid.columns

    def size(self, number: int) -> tuple[int, int]:
        """(height, width) of a block without padding."""
        left, top, right, bottom = self.grid.box(number)
        return bottom - top, right - left

    def block(self, number: int) -> np.ndarray:
        """A block's pixels, padded: uint8 [H, W, 3]; where alpha is 0 the colours are ours to choose."""
        part = cut(self.picture, self.grid.box(number))
        pixels = np.asarray(part if part.mode == "RGB" else part.convert("RGB"))
        if "A" in part.mode:
            pixels = filled(pixels, np.asarray(part.getchannel("A")))
        return pad(pixels)


class Canvas:
    """A picture that is being decoded, or as much of it as some of its blocks cover; 4 bytes a pixel from the first on.

    Args:
        grid: the blocks of the whole picture.
        numbers: of the blocks that will come.
        beside: bytes that the picture takes elsewhere meanwhile.

    Raises:
        NlaicError: if there is no memory for it.
    """

    def __init__(self, grid: Grid, numbers: Collection[int], beside: int = 0) -> None:
        boxes = [grid.box(number) for number in numbers]
        left, top, right, bottom = (
            choose(box[side] for box in boxes) for side, choose in enumerate((min, min, max, max))
        )
        self.grid, self.box, self._beside = grid, (left, top, right, bottom), beside
        self._block = padded(boxes[0][2] - boxes[0][0]) * padded(boxes[0][3] - boxes[0][1])
        self._check(_memory())  # many systems promise what they do not have, and kill who uses it

    @cached_property
    def image(self) -> Image.Image:
        """The pixels; made when the first block is there, so that a file of bad blocks costs nothing."""
        left, top, right, bottom = self.box
        try:
            return Image.new("RGB", (right - left, bottom - top))
        except MemoryError:
            self._check(0)
            raise

    def _check(self, memory: float) -> None:
        left, top, right, bottom = self.box
        width, height = right - left, bottom - top
        check_memory(width, height, 4 * width * height + BLOCK_BYTES * self._block + self._beside, memory)

    def paste(self, number: int, pixels: np.ndarray) -> None:
        """Put a block uint8 [H, W, 3] in its place, without its padding."""
        left, top, right, bottom = self.grid.box(number)
        self.write((left, top), pixels[: bottom - top, : right - left])

    def write(self, place: tuple[int, int], pixels: np.ndarray) -> None:
        """Put pixels uint8 [h, w, 3] where their left upper corner is to be, in coordinates of the whole picture."""
        left, top = place[0] - self.box[0], place[1] - self.box[1]
        self.image.paste(Image.fromarray(np.ascontiguousarray(pixels)), (left, top))

    def read(self, box: Box) -> np.ndarray:
        """Pixels of a box of the whole picture, uint8 [h, w, 3]; black where there are none."""
        return np.asarray(self.crop(box))

    def crop(self, box: Box) -> Image.Image:
        """A box of the whole picture."""
        left, top = self.box[:2]
        return cut(self.image, (box[0] - left, box[1] - top, box[2] - left, box[3] - top))


def check_memory(width: int, height: int, size: int, memory: float | None = None) -> None:
    """Hold the bytes that a picture needs against the memory there is.

    Raises:
        NlaicError: if it is not enough.
    """
    if size > (_memory() if memory is None else memory):
        raise NlaicError(f"not enough memory for a picture of {width}x{height} pixels ({size / 1e9:.2f} GB)")


def _memory() -> float:
    """Bytes that this machine has or this container may use, where that can be known."""
    limits = [math.inf]
    if hasattr(os, "sysconf"):  # not on Windows
        with suppress(ValueError, OSError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in CONTAINER_LIMITS:
        with suppress(ValueError, OSError):  # "max" is none
            limits.append(int(file.read_text()))
    return min(limits)


def cut(image: Image.Image, box: Box) -> Image.Image:
    """A box of a picture, black where it is outside; the picture itself where it is all of it.

    Pillow's own `crop` refuses large boxes as decompression bombs.
    """
    left, top, right, bottom = box
    if box == (0, 0, *image.size):
        return image
    part = Image.new(image.mode, (right - left, bottom - top))
    part.paste(image, (-left, -top))
    return part
