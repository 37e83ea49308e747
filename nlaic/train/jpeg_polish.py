"""Tables for plain rounding, moved a last time by what files really hold.

The gradient's codes are those of small crops, in which rare symbols look cheaper than they are. So the tables of each
quality are searched with the symbols of whole pictures counted: first along five directions, the level of each table,
its slope towards high frequencies and the mean of luma, then along every antidiagonal u + v of each table and along
what tells u from v. What becomes smaller is the geometric mean of the pictures' costs, so that all count alike. With 48
pictures it takes ten minutes of a core for ten qualities.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from nlaic.classic.jpeg.blocks import Planes, analyse
from nlaic.classic.jpeg.model import Model, as_tables
from nlaic.classic.jpeg.rounding import nearest
from nlaic.classic.jpeg.tuning import cost

SIDES = (384, 512)  # of the middle of a picture that is looked at
STRIDES = (0.3, 0.15)  # in logarithms of steps
FINE = (0.2, 0.1, 0.05)  # along an antidiagonal
MOST = 6  # strides in one direction


def polished(model: Model, subsampling: str, pictures: Sequence[np.ndarray]) -> Model:
    """The model with `S.nearest`, tables for rounding to the nearest.

    Args:
        model: with `S.tables`, or `S.nearest` to go on from.
        subsampling: S.
        pictures: uint8 [H, W, 3], to count symbols in.
    """
    planes = [analyse(_middle(picture), subsampling) for picture in pictures]
    found = f"{subsampling}.nearest"
    rows = model.tensors[found if found in model.tensors else f"{subsampling}.tables"].astype(np.float64)
    for number in range(len(rows)):
        price = model.price(subsampling, 100 * number / max(len(rows) - 1, 1))
        cost_of = partial(_cost, planes, price)
        rows[number] = _searched(rows[number], cost_of, _directions(), STRIDES)
        rows[number] = _searched(rows[number], cost_of, _fine_directions(), FINE)
    return Model({**model.tensors, found: rows.astype(np.float16)}, model.metadata)


def _middle(picture: np.ndarray) -> np.ndarray:
    top, left = (max(0, side - most) // 2 for side, most in zip(picture.shape[:2], SIDES, strict=True))
    return picture[top : top + SIDES[0], left : left + SIDES[1]]


def _cost(planes: Sequence[Planes], price: float, log_steps: np.ndarray) -> float:
    tables = as_tables(log_steps)
    return float(np.mean(np.log([cost(one, tables, nearest(one, tables), price) for one in planes])))


def _directions() -> list[np.ndarray]:
    """What the five numbers move, [2, 8, 8] each."""
    u = np.arange(8) / 7
    slope = (u[:, None] + u) / 2
    mean = np.zeros((8, 8))
    mean[0, 0] = 1
    luma, chroma = np.array([1, 0])[:, None, None], np.array([0, 1])[:, None, None]
    return [luma * slope, luma * np.ones((8, 8)), luma * mean, chroma * np.ones((8, 8)), chroma * slope]


def _fine_directions() -> list[np.ndarray]:
    """Equal u + v in one of the tables [2, 8, 8], then u - v and its size."""
    u, v = np.arange(8)[:, None], np.arange(8)
    shapes = [*(u + v == n for n in range(15)), (u - v) / 7, np.abs(u - v) / 7]
    return [np.eye(2)[table][:, None, None] * shape for shape in shapes for table in range(2)]


def _searched(
    log_steps: np.ndarray,
    cost_of: Callable[[np.ndarray], float],
    directions: Sequence[np.ndarray],
    strides: Sequence[float],
) -> np.ndarray:
    """Along each direction as long as the cost falls, in long strides and then in short ones."""
    lowest = cost_of(log_steps)
    for stride in strides:
        for direction in directions:
            for sign in (1, -1):
                moved = 0
                while moved < MOST and (found := cost_of(log_steps + sign * stride * direction)) < lowest:
                    log_steps, lowest, moved = log_steps + sign * stride * direction, found, moved + 1
                if moved:
                    break
    return np.clip(log_steps, 0, np.log(255))
