"""The block grid: cutting a picture into independent blocks, padding them, and which of them a region needs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from nlaic.errors import NlaicError

MULTIPLE = 64  # both sides of a padded block are multiples of it: z lives at 1/64

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are outside


@dataclass(frozen=True)
class Grid:
    """Blocks of at most `block` (width, height) pixels over a picture, row by row.

    Attributes:
        width: of the picture.
        height: of the picture.
        block: (width, height) of a block; those at the right and bottom edges are cut.
    """

    width: int
    height: int
    block: tuple[int, int]

    @property
    def columns(self) -> int:
        """Blocks side by side."""
        return -(-self.width // self.block[0])

    @property
    def rows(self) -> int:
        """Blocks one below the other."""
        return -(-self.height // self.block[1])

    def box(self, number: int) -> Box:
        """Where a block stands, by its number in coding order."""
        (block_width, block_height), (row, column) = self.block, divmod(number, self.columns)
        left, top = column * block_width, row * block_height
        return left, top, min(left + block_width, self.width), min(top + block_height, self.height)

    def boxes(self) -> Iterator[Box]:
        """Yield each block's box in coding order."""
        return map(self.box, range(self.rows * self.columns))

    def padded_size(self, number: int) -> tuple[int, int]:
        """(height, width) of a block once padded."""
        left, top, right, bottom = self.box(number)
        return padded(bottom - top), padded(right - left)

    def touched_by(self, area: Box) -> set[int]:
        """Numbers of the blocks that share a pixel with an area of the picture."""
        left, top, right, bottom = area
        (block_width, block_height), columns = self.block, range(self.columns)
        rows = range(top // block_height, -(-bottom // block_height))
        return {
            row * self.columns + column
            for row in rows
            for column in columns[left // block_width : -(-right // block_width)]
        }


def intersection(a: Box, b: Box) -> Box | None:
    """What two boxes share; None where that is nothing."""
    left, top, right, bottom = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def region_box(region: tuple[int, int, int, int] | None, width: int, height: int) -> Box:
    """A region (x, y, width, height) of a picture as a box; None is all of it.

    Raises:
        NlaicError: if it is empty or not inside the picture.
    """
    if region is None:
        return 0, 0, width, height
    numbers = tuple(region) if isinstance(region, Iterable) else ()
    if len(numbers) != 4 or not all(isinstance(number, Integral) for number in numbers):
        raise NlaicError(f"region must be four whole numbers X,Y,W,H, but got {region}")
    x, y, w, h = map(int, numbers)
    if not (0 <= x < x + w <= width and 0 <= y < y + h <= height):
        raise NlaicError(f"region X,Y,W,H must be inside the picture of {width}x{height} and not empty, got {region}")
    return x, y, x + w, y + h


def padded(size: int) -> int:
    """The size of a side once padded to a multiple of 64."""
    return -(-size // MULTIPLE) * MULTIPLE


def pad(pixels: np.ndarray) -> np.ndarray:
    """Pad a block [h, w, 3] at its bottom and right to multiples of 64.

    By reflection without repeating the edge; what is too small for that is first repeated at its edge.
    """
    height, width = pixels.shape[:2]
    missing = padded(height) - height, padded(width) - width
    reflected = tuple((0, min(n, size - 1)) for n, size in zip(missing, (height, width), strict=True))
    pixels = np.pad(pixels, (*reflected, (0, 0)), mode="reflect")
    rest = tuple((0, padded(size) - now) for size, now in zip((height, width), pixels.shape[:2], strict=True))
    return np.pad(pixels, (*rest, (0, 0)), mode="edge")
