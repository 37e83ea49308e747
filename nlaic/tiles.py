"""The block grid: cutting a picture into independent blocks, padding them, pasting them back.

The filter on the strips around block boundaries (Eq. 7-8 of the paper) has its place in `paste`'s caller, after all
blocks of a row are there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MULTIPLE = 64  # both sides of a padded block are multiples of it: z lives at 1/64


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

    def boxes(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield (left, top, right, bottom) of each block in coding order."""
        block_width, block_height = self.block
        for top in range(0, self.height, block_height):
            for left in range(0, self.width, block_width):
                yield left, top, min(left + block_width, self.width), min(top + block_height, self.height)


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
