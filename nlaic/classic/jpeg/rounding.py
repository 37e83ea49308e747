"""Which integer a coefficient becomes: the nearest, or the one that is worth its bits.

`thoughtful` looks for the levels of a block that make squared error + price * bits smallest, by dynamic programming
over the places that are not zero; a level stays, falls by one or becomes zero. Each choice is one that an attention map
of values in 0..1 (Eq. 5) can make: it is that map at its best for the picture.
"""

import numpy as np

from nlaic.classic.jpeg.blocks import ZIGZAG, Planes
from nlaic.classic.jpeg.symbols import Counts, count, in_zigzag, sizes_of

BUCKETS = (2, 4, 8, 16, 32, 63)  # blocks are worked on together with those of about as many levels
CHUNK = 1 << 16  # blocks at once


def nearest(planes: Planes, tables: np.ndarray) -> list[np.ndarray]:
    """Eq. 1: integers int16 [rows, columns, 8, 8] of each plane, tables [2, 8, 8]."""
    return [np.rint(c / tables[min(n, 1)]).astype(np.int16) for n, c in enumerate(planes.coefficients)]


def thoughtful(planes: Planes, tables: np.ndarray, price: float, rounds: int = 2) -> list[np.ndarray]:
    """Integers as `nearest` gives them, by what they cost.

    Args:
        planes: the original coefficients.
        tables: [2, 8, 8].
        price: of a bit, in squared errors of RGB samples.
        rounds: how often codes are measured anew.
    """
    levels = nearest(planes, tables)
    places = [in_zigzag(q) for q in levels]
    wanted = [np.abs(in_zigzag(c)) for c in planes.coefficients]
    flat = tables.reshape(2, 64)[:, ZIGZAG].astype(np.float32)
    chosen = places
    for _ in range(rounds):
        by_table = [count(chosen[:1]), count(chosen[1:])]
        chosen = [
            _choose(q, w, flat[min(n, 1)], price / weight, by_table[min(n, 1)])
            for n, (q, w, weight) in enumerate(zip(places, wanted, planes.weights, strict=True))
        ]
    return [_in_rows(q, like) for q, like in zip(chosen, levels, strict=True)]


def _in_rows(zigzag: np.ndarray, like: np.ndarray) -> np.ndarray:
    rows = np.empty_like(zigzag)
    rows[:, ZIGZAG] = zigzag
    return rows.reshape(like.shape)


def _choose(levels: np.ndarray, wanted: np.ndarray, table: np.ndarray, price: float, counts: Counts) -> np.ndarray:
    """The AC levels [blocks, 64] of one plane, in zigzag order."""
    costs = counts.ac_costs() * price
    chosen = levels.copy()
    used = np.count_nonzero(levels[:, 1:], axis=1)
    fewest = 0
    for most in BUCKETS:
        inside = np.flatnonzero((used > fewest) & (used <= most))
        for start in range(0, len(inside), CHUNK):
            some = inside[start : start + CHUNK]
            chosen[some] = _best_paths(levels[some], wanted[some], table, costs, most)
        fewest = most
    return chosen


def _best_paths(levels: np.ndarray, wanted: np.ndarray, table: np.ndarray, costs: np.ndarray, most: int) -> np.ndarray:
    """Levels of blocks with at most `most` that are not zero.

    Step k of a path is the k-th place that is not zero; its cost is the least over the steps before it, of theirs and
    of the run between. `saved` is what a level takes from the squared error of a zero.
    """
    blocks = np.arange(len(levels))
    order = np.argsort(levels[:, 1:] == 0, axis=1, kind="stable")[:, :most] + 1
    place = np.concatenate([np.zeros((len(levels), 1), int), order], axis=1)  # [B, most + 1], the start first
    high = np.abs(np.take_along_axis(levels, place, 1)).astype(np.float32)
    target, step = np.take_along_axis(wanted, place, 1), table[place]
    cost = np.full(place.shape, np.inf, np.float32)
    cost[:, 0] = 0
    before, lower = np.zeros(place.shape, np.int8), np.zeros(place.shape, bool)
    for k in range(1, most + 1):
        runs = place[:, k, None] - place[:, :k] - 1
        found = []
        for level in (high[:, k], high[:, k] - 1):
            saved = (target[:, k] - level * step[:, k]) ** 2 - target[:, k] ** 2
            paths = cost[:, :k] + costs[runs, sizes_of(level)[:, None]]
            best = paths.argmin(1)
            found.append((np.where(level > 0, paths[blocks, best] + saved, np.inf), best))
        lower[:, k] = found[1][0] < found[0][0]
        cost[:, k] = np.minimum(found[0][0], found[1][0])
        before[:, k] = np.where(lower[:, k], found[1][1], found[0][1])
    cost += np.where(place < 63, costs[0, 0], 0)
    return _walked_back(levels, place, before, lower, cost.argmin(1))


def _walked_back(
    levels: np.ndarray, place: np.ndarray, before: np.ndarray, lower: np.ndarray, last: np.ndarray
) -> np.ndarray:
    blocks = np.arange(len(levels))
    chosen = np.zeros_like(levels)
    chosen[:, 0] = levels[:, 0]
    at = last
    while at.any():
        here = place[blocks, at]
        value = levels[blocks, here]
        value = value - np.sign(value) * lower[blocks, at]
        chosen[blocks, here] = np.where(at > 0, value, chosen[blocks, here])
        at = before[blocks, at].astype(int)
    return chosen
