"""Partial post-processing: a filter on the strips around block boundaries, and nowhere else (section 2.2 of the paper).

A strip is as wide as a block and at most 128, with its boundary in the middle. The network sees every strip in one
orientation, cut into *pieces*: what belongs to one block's side, at most 1024 long, with as many pixels more at both
ends as the network reaches. What it says is blended in by the weight of Eq. 7 and 8; where a vertical and a horizontal
strip cross, each correction counts by its weight. So pieces leave no marks, and a picture and its transpose give
transposed results. `nlaic.nets.boundary.filter_boundaries` is the same on whole pictures, for training.

Every strip is filtered from what the decoder made, in 8 bits, not from what another strip's filter left. A row of
blocks is therefore finished when the one below is there, block by block from the left, and these wait beside the raster
meanwhile: the last rows above it as they were, as many as the network reaches, and the corrections of the strip above
it, as far as they are of the row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Protocol

import numpy as np
from PIL import Image

from nlaic.canvas import Canvas, cut
from nlaic.tiles import Box, Grid, intersection

WIDTH = 128  # of a strip in pixels, w in the paper
SIGMA = 22.0  # of the weight in pixels for that width: 0.015 at the strip's edge
SIGMA_MAX = 1e6  # long before, the weight is 1 all over
PIECE = 1024  # pixels along a strip at most: memory
UNIT = 4  # pieces are multiples of this long, and begin at multiples of it


class BoundaryFilter(Protocol):
    """A network on strips."""

    reach: int  # pixels that a pixel of its output depends on, in each direction; at most 64, a multiple of UNIT
    sigma: float  # of the blending weight, in pixels, for strips of 128

    def correction(self, strip: np.ndarray, quality: int) -> np.ndarray:
        """What to add to a strip uint8 [n, w, 3] along a vertical boundary: float32 [n, w, 3] in levels of 0..255.

        Args:
            strip: as it was decoded.
            quality: 0..1000, at which it was coded.
        """


@lru_cache(maxsize=8)
def blend_weight(width: int, sigma: float = SIGMA) -> np.ndarray:
    """W_p of Eq. 8 at each column's centre, float32 [width]: 1 at the boundary, between the two middle columns.

    Args:
        width: of the strip in pixels.
        sigma: of a strip of 128; that of a narrower one is narrower by as much.
    """
    x = np.arange(width, dtype=np.float32) + 0.5
    return np.exp(-((x - width / 2) ** 2) / (2 * (sigma * width / WIDTH) ** 2))


@dataclass(frozen=True)
class Piece:
    """A part of a strip. Coordinates are `across` the boundary and `along` it: x and y, or y and x where `turned`.

    Attributes:
        boundary: first pixel after the boundary, across.
        width: of the strip.
        start: first pixel along.
        stop: the pixel after the last.
        turned: the boundary is horizontal.
    """

    boundary: int
    width: int
    start: int
    stop: int
    turned: bool

    def box(self, more: int = 0) -> Box:
        """Where it is in the picture; `more` pixels at both ends. May be outside of the picture."""
        low, high = self.boundary - self.width // 2, self.boundary + self.width // 2
        start, stop = self.start - more, self.stop + more
        return (start, low, stop, high) if self.turned else (low, start, high, stop)


@dataclass(frozen=True)
class Correction:
    """What the filter says of a box: float32 [h, w, 3] in levels, and its weight [h, w, 1]."""

    box: Box
    delta: np.ndarray
    weight: np.ndarray

    def inside(self, box: Box) -> "Correction":
        """What it says of a box that it shares pixels with, apart from the rest."""
        shared = intersection(self.box, box)
        assert shared is not None
        there = _within(shared, self.box)
        return Correction(shared, self.delta[there].copy(), self.weight[there])


class SeamFilter:
    """Filters the seams of a picture, or of those in a region, while its rows of blocks arrive.

    Args:
        grid: the blocks.
        region: what is wanted of the picture.
        network: the filter.
        quality: 0..1000, at which the picture was coded.
    """

    def __init__(self, grid: Grid, region: Box, network: BoundaryFilter, quality: int) -> None:
        self.grid, self.region, self.network, self.quality = grid, region, network, quality
        self.numbers = sorted(self._needed())  # of the blocks that the region and its seams are made from
        self._last_of_row = {number // grid.columns: number for number in self.numbers}
        self._above: dict[int, list[Correction]] = {}  # by column, of the strip above the row
        self._kept: Image.Image | None = None  # the rows above it that the network reaches

    def pasted(self, canvas: Canvas, number: int) -> None:
        """To be called after each block, in order; filters those rows of blocks that can be."""
        row = number // self.grid.columns
        if number != self._last_of_row[row]:
            return
        if row - 1 in self._last_of_row:
            self._finish(canvas, row - 1)
        if number == self.numbers[-1]:
            self._finish(canvas, row)

    @property
    def waiting(self) -> int:
        """Bytes that wait beside the raster: float32 of the strip above, and two rasters of the rows kept."""
        width = self.grid.block[0] * len({number % self.grid.columns for number in self.numbers})
        side = self.grid.block[1]
        rows = min(WIDTH // 2, side // 2, self.grid.height - side)
        return width * (3 * 4 * rows + 2 * 4 * self.network.reach) if rows > 0 else 0

    def _needed(self) -> set[int]:
        numbers, reach = self.grid.touched_by(self.region), self.network.reach + UNIT
        whole = (0, 0, self.grid.width, self.grid.height)
        for row, column in product(*(self._near(axis) for axis in (1, 0))):
            for piece in (*self._vertical(row, column), *self._horizontal(row, column)):
                seen = intersection(piece.box(), self.region)
                if seen is None:
                    continue
                left, top, right, bottom = piece.box(self.network.reach)
                need = (
                    (max(left, seen[0] - reach), top, min(right, seen[2] + reach), bottom)
                    if piece.turned
                    else (left, max(top, seen[1] - reach), right, min(bottom, seen[3] + reach))
                )
                inside = intersection(need, whole)
                assert inside is not None
                numbers |= self.grid.touched_by(inside)
        return numbers

    def _near(self, axis: int) -> range:
        """Columns (0) or rows (1) of blocks whose seams the region may touch."""
        side, count = self.grid.block[axis], (self.grid.columns, self.grid.rows)[axis]
        first, last = (self.region[axis] - WIDTH) // side, (self.region[axis + 2] + WIDTH) // side
        return range(max(first, 0), min(last + 1, count))

    def _finish(self, canvas: Canvas, row: int) -> None:
        """Filter the pixels of a row of blocks; the row below is there, and not filtered."""
        (left, _, right, _), side = canvas.box, self.grid.block[0]
        top, bottom = self._rows(row)
        kept = canvas.crop((left, bottom - self.network.reach, right, bottom))
        along: list[Correction] = []
        across: list[Correction] = []
        start = left
        for column in range(left // side, -(-right // side)):
            along += [self._filtered(canvas, piece, top) for piece in self._wanted(self._vertical(row, column))]
            below = [self._filtered(canvas, piece, top) for piece in self._wanted(self._horizontal(row, column))]
            across += [*self._above.pop(column, ()), *below]
            self._above[column] = [one.inside((0, bottom, self.grid.width, self.grid.height)) for one in below]
            stop = min((column + 1) * side, right)
            if stop < right:  # what the next column's strips are filtered from stays
                stop -= max(min(WIDTH, side) // 2, self.network.reach)
            self._blend_band(canvas, (start, top, stop, bottom), along, across)
            along, across = ([one for one in ones if one.box[2] > stop] for ones in (along, across))
            start = stop
        self._kept = kept

    def _blend_band(self, canvas: Canvas, band: Box, along: Sequence[Correction], across: Sequence[Correction]) -> None:
        """Blend in what is said of a part of a row of blocks, by vertical and by horizontal strips."""
        for correction in along:
            _blend(canvas, intersection(correction.box, band), [correction, *across])
        for correction in across:
            for box in _beside(correction.box, [other.box for other in along]):
                _blend(canvas, intersection(box, band), [correction])

    def _rows(self, row: int) -> tuple[int, int]:
        _, top, _, bottom = self.grid.box(row * self.grid.columns)
        return top, bottom

    def _vertical(self, row: int, column: int) -> Iterator[Piece]:
        """Pieces left of a block."""
        side, (top, bottom) = self.grid.block[0], self._rows(row)
        if column:
            for start in range(top, bottom, PIECE):
                yield Piece(column * side, min(WIDTH, side), start, min(start + PIECE, bottom), False)

    def _horizontal(self, row: int, column: int) -> Iterator[Piece]:
        """Pieces below a block."""
        side, (left, _, right, bottom) = self.grid.block[1], self.grid.box(row * self.grid.columns + column)
        if row + 1 < self.grid.rows:
            for start in range(left, right, PIECE):
                yield Piece(bottom, min(WIDTH, side), start, min(start + PIECE, right), True)

    def _wanted(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        return (piece for piece in pieces if intersection(piece.box(), self.region))

    def _filtered(self, canvas: Canvas, piece: Piece, top: int) -> Correction:
        """Run the network on a piece of the row that begins at `top`."""
        reach, length = self.network.reach, self.grid.width if piece.turned else self.grid.height
        seen = replace(piece, start=max(piece.start - reach, 0), stop=min(piece.stop + reach, length))
        strip = self._unfiltered(canvas, seen.box(), top)
        if piece.turned:
            strip = strip.swapaxes(0, 1)
        strip = np.pad(strip, ((0, -len(strip) % UNIT), (0, 0), (0, 0)), mode="edge")
        delta = self.network.correction(strip, self.quality)[piece.start - seen.start : piece.stop - seen.start]
        weight = np.broadcast_to(blend_weight(piece.width, self.network.sigma)[:, None], (*delta.shape[:2], 1))
        if piece.turned:
            delta, weight = delta.swapaxes(0, 1), weight.swapaxes(0, 1)
        return Correction(piece.box(), delta, weight)

    def _unfiltered(self, canvas: Canvas, box: Box, top: int) -> np.ndarray:
        """Pixels of a box as the decoder made them, uint8 [h, w, 3]; the picture's edge is repeated around it."""
        inside = intersection(box, (0, 0, self.grid.width, self.grid.height))
        assert inside is not None
        left, upper, right, lower = inside
        pixels = canvas.read(inside)
        if self._kept is not None and upper < top:
            first = canvas.box[0]
            reach = self.network.reach
            kept = cut(self._kept, (left - first, reach + upper - top, right - first, reach))
            pixels = np.concatenate((np.asarray(kept), pixels[top - upper :]))
        around = (upper - box[1], box[3] - lower), (left - box[0], box[2] - right), (0, 0)
        return np.pad(pixels, around, mode="edge")


def _beside(box: Box, strips: Sequence[Box]) -> Iterator[Box]:
    """What vertical strips leave of a box."""
    left, top, right, bottom = box
    for start, stop in sorted({(strip[0], strip[2]) for strip in strips}):
        if stop > left and start < right:
            yield left, top, start, bottom
            left = stop
    yield left, top, right, bottom


def _blend(canvas: Canvas, box: Box | None, corrections: Sequence[Correction]) -> None:
    """Eq. 7 on the pixels of a box, with the mean of the corrections by their weights where there are several."""
    if box is None:
        return
    pixels = canvas.read(box).astype(np.float32)
    weighted, total = np.zeros_like(pixels), np.zeros_like(pixels[..., :1])
    for correction in corrections:
        if shared := intersection(correction.box, box):
            here, there = _within(shared, box), _within(shared, correction.box)
            weight = correction.weight[there]
            weighted[here] += weight**2 * correction.delta[there]
            total[here] += weight
    pixels += weighted / np.maximum(total, np.finfo(np.float32).tiny)
    canvas.write(box[:2], np.rint(pixels).clip(0, 255).astype(np.uint8))


def _within(inner: Box, outer: Box) -> tuple[slice, slice]:
    """Rows and columns of a box in an array that holds another."""
    left, top = outer[:2]
    return slice(inner[1] - top, inner[3] - top), slice(inner[0] - left, inner[2] - left)
