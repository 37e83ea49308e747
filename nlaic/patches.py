"""What is left of a damaged file: intact blocks as they are, the others made up from what is around them.

A damaged block is filled from the pixels along its sides, where these belong to intact blocks: smoothed along the side,
and weighted by the inverse distance from it. Blocks without such a neighbour come later, beside those that are filled
by then; where no block is intact, all is grey.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from nlaic.canvas import Canvas
from nlaic.container import Container
from nlaic.errors import FormatError
from nlaic.tiles import Box, Grid

GREY = 128
DEPTH, SMOOTH = 8, 64  # pixels: how deep a side is looked at, and what a value of it is the mean of along it
ROWS = 64  # filled at a time: memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class Salvaged:
    """What came of a damaged file.

    Attributes:
        picture: as `decompress` gives it.
        blocks: numbers of those that are damaged, row by row from 0; of a region, those that it needs.
        looked: how many blocks were looked at, damaged or not: all, or those that a region needs.
        damage: a line for each thing found: blocks, sections, bytes behind the end.
    """

    picture: Image.Image
    blocks: tuple[int, ...]
    looked: int
    damage: tuple[str, ...]


class Damage:
    """What becomes of a file's damaged blocks: here nothing, they are errors.

    Attributes:
        found: numbers of those that are damaged, and what is wrong with each.
        looked: how many blocks were looked at.
    """

    def __init__(self, file: Container) -> None:
        self.file = file
        self.found: dict[int, str] = {}
        self.looked = 0
        self._at_first = 0

    def look(self, numbers: Iterable[int]) -> None:
        """Before any block is decoded."""

    def tried(self, work: Callable[[int], Result], number: int) -> Result | None:
        """What `work` makes of a block, None if the block is damaged."""
        return work(number)

    def fill(self, canvas: Canvas, numbers: Iterable[int]) -> None:
        """When all others of the blocks are on the canvas."""


class Patches(Damage):
    """They are kept in mind, and made up in the end."""

    def look(self, numbers: Iterable[int]) -> None:
        """Find those whose CRC-32 does not fit: no seam is smoothed if there is one."""
        for self.looked, number in enumerate(numbers, 1):
            self.tried(self.file.block, number)
        self._at_first = len(self.found)

    @property
    def late(self) -> bool:
        """Whether a block was found damaged that was intact by its CRC-32, after none was found by that."""
        return bool(self.found) and not self._at_first

    def tried(self, work: Callable[[int], Result], number: int) -> Result | None:
        """See `Damage`; the damage is kept."""
        try:
            return work(number)
        except FormatError as error:
            self.found[number] = str(error)
            return None

    @property
    def damage(self) -> tuple[str, ...]:
        """A line for each."""
        return tuple(text for _, text in sorted(self.found.items()))

    def fill(self, canvas: Canvas, numbers: Iterable[int]) -> None:
        """Make up the damaged blocks of those that are on the canvas."""
        grid, there = canvas.grid, set(numbers) - self.found.keys()
        missing = set(numbers) & self.found.keys()
        beside = missing  # of those, all that may have got a neighbour
        while missing:
            sides = {number: _sides(canvas, grid, number, there) for number in sorted(beside)}
            ready = {number for number in sides if sides[number]} or set(missing)
            for number in sorted(ready):
                _fill(canvas, grid.box(number), sides.get(number, []))
            there |= ready
            missing -= ready
            beside = {number + step for number in ready for step in (-1, 1, -grid.columns, grid.columns)} & missing


Side = tuple[str, np.ndarray]  # which, and its colours float32 [length, 3]


def _sides(canvas: Canvas, grid: Grid, number: int, there: set[int]) -> list[Side]:
    """The colours around a block, along its sides, left to right or top to bottom."""
    left, top, right, bottom = grid.box(number)
    column = number % grid.columns
    boxes: list[tuple[str, bool, int, Box]] = [
        ("left", column > 0, number - 1, (left - DEPTH, top, left, bottom)),
        ("right", column + 1 < grid.columns, number + 1, (right, top, min(right + DEPTH, grid.width), bottom)),
        ("top", True, number - grid.columns, (left, top - DEPTH, right, top)),
        ("bottom", True, number + grid.columns, (left, bottom, right, min(bottom + DEPTH, grid.height))),
    ]
    sides = []
    for name, beside, neighbour, box in boxes:
        if beside and neighbour in there:
            pixels = canvas.crop(box)
            upright = pixels if name in ("left", "right") else pixels.transpose(Image.Transpose.TRANSPOSE)
            line = upright.resize((1, -(-upright.height // SMOOTH)), Image.Resampling.BOX)
            line = line.resize((1, upright.height), Image.Resampling.BICUBIC)
            sides.append((name, np.asarray(line, np.float32)[:, 0]))
    return sides


def _fill(canvas: Canvas, box: Box, sides: list[Side]) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    x = np.arange(width, dtype=np.float32)[None, :, None] + 1
    for start in range(0, height, ROWS):
        rows = slice(start, min(start + ROWS, height))
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None, None] + 1
        distance = {"left": x, "right": width + 1 - x, "top": y, "bottom": height + 1 - y}
        total = np.zeros((rows.stop - start, width, 3), np.float32)
        weights = np.zeros_like(total[..., :1])
        for name, line in sides:
            colour = line[rows, None] if name in ("left", "right") else line[None]
            total += colour / distance[name]
            weights += 1 / distance[name]
        pixels = total / weights if sides else np.full_like(total, GREY)
        canvas.write((left, top + start), np.rint(pixels).clip(0, 255).astype(np.uint8))
