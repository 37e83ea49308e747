"""Overlap-save: a filter over blocks of a picture gives what it gives over all of it, in bounded memory.

A block is handed to the network with as many pixels around it as one of the network's pixels depends on (half of the
effective kernel, section 3 of MVGL's paper), as far as the picture goes: at its edges the network pads as it always
does. What is more than the block is cut off again.
"""

from collections.abc import Callable

import numpy as np

from nlaic.tiles import Grid

Run = Callable[[np.ndarray], np.ndarray]  # uint8 [h, w, 3] to uint8 [h, w, 3]


def overlap_save(pixels: np.ndarray, run: Run, block: tuple[int, int], reach: int, multiple: int = 1) -> np.ndarray:
    """A picture uint8 [H, W, 3] through `run`, block by block.

    Args:
        pixels: both sides multiples of `multiple`.
        run: the network.
        block: (width, height) in pixels, multiples of `multiple`.
        reach: pixels that a pixel of the output depends on, each way.
        multiple: blocks begin, and end, on this grid.
    """
    height, width = pixels.shape[:2]
    grid, more = Grid(width, height, block), -(-reach // multiple) * multiple
    out = np.empty_like(pixels)
    for left, top, right, bottom in grid.boxes():
        x, y = max(left - more, 0), max(top - more, 0)
        around = pixels[y : min(bottom + more, height), x : min(right + more, width)]
        out[top:bottom, left:right] = run(around)[top - y : bottom - y, left - x : right - x]
    return out


def padded_to(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """A picture [h, w, 3] with its last column and row repeated until both sides are multiples."""
    more = tuple((0, -side % multiple) for side in pixels.shape[:2])
    return np.pad(pixels, (*more, (0, 0)), mode="edge") if any(after for _, after in more) else pixels
