"""A budget for a set of pictures: a quality (and a filter) for each, so that the mean metric is best.

Every picture is tried at a ladder of qualities, coded and decoded for real; `nlaic.classic.allocate` chooses. Where a
codec has finer steps, some more tries follow between the rungs, at the places where curves through the known points say
that the best choice is. The last choice is among tries alone, so that no budget is ever passed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from nlaic.classic.allocate import Limit, allocate

ROUNDS = (
    (10.0, 0.5),
    (1.5, 0.1),
    (0.5, 0.1),
)  # how far from the last choice, and in which steps, the next is looked for


@dataclass(frozen=True, order=True)
class Option:
    """What can be chosen for a picture: a quality, and the name of a filter or nothing."""

    quality: float
    filter: str = ""


@dataclass(frozen=True)
class Try:
    """What came of it: bytes of the file, the metric as a cost (less is better), seconds to decode."""

    size: int
    cost: float
    seconds: float


class Way(Protocol):
    """A codec, as it is tried."""

    ladder: Sequence[float]  # qualities that every picture is tried at
    fine: bool  # whether there are others between them

    def attempt(self, image: Image.Image, quality: float) -> dict[Option, tuple[int, np.ndarray, float]]:
        """Code a picture: for each filter, bytes, the decoded picture uint8 [H, W, 3] and seconds to decode."""


@dataclass(frozen=True)
class Budget:
    """What there is for all pictures together; seconds of decoding where they are limited."""

    bytes: int
    seconds: float | None = None


@dataclass(frozen=True)
class Share:
    """The choice for a set.

    Attributes:
        options: for each picture.
        tries: what they came to.
        single: the best that one quality for all could do within the budget, and its mean cost; None where none fits.
    """

    options: list[Option]
    tries: list[Try]
    single: tuple[Option, float] | None

    @property
    def cost(self) -> float:
        """The mean."""
        return float(np.mean([one.cost for one in self.tries]))


@dataclass
class Tries:
    """All that was tried of some pictures.

    Args:
        attempt: tries a picture, by its number, at a quality: an entry for each filter.
        count: how many pictures there are.
    """

    attempt: Callable[[int, float], dict[Option, Try]]
    count: int
    known: list[dict[Option, Try]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = [{} for _ in range(self.count)]

    def add(self, number: int, quality: float) -> None:
        """Try a picture, where it was not yet."""
        if not any(option.quality == quality for option in self.known[number]):
            self.known[number].update(self.attempt(number, quality))

    def best(self, budget: Budget) -> list[Option]:
        """The best choice among the tries.

        Raises:
            NlaicError: if the budget is too small; it says the least.
        """
        options = [sorted(known) for known in self.known]
        rows = [[known[option] for option in some] for known, some in zip(self.known, options, strict=True)]
        chosen = allocate(_table(rows, "cost"), *_limits(rows, budget))
        return [some[number] for some, number in zip(options, chosen, strict=True)]

    def between(self, budget: Budget, last: list[Option], reach: float, step: float) -> list[Option]:
        """The best choice near the last one by curves through the tries: log size, cost, seconds over the quality."""
        near, rows = [], []
        for known, option in zip(self.known, last, strict=True):
            places = np.arange(-round(reach / step), round(reach / step) + 1) * step + option.quality
            rungs = sorted(o for o in known if o.filter == option.filter)
            qualities = [rung.quality for rung in rungs]
            places = np.round(places[(places >= qualities[0]) & (places <= qualities[-1])], 1)
            sizes = np.exp(np.interp(places, qualities, np.log([known[rung].size for rung in rungs])))
            costs, seconds = (
                np.interp(places, qualities, [getattr(known[rung], name) for rung in rungs])
                for name in ("cost", "seconds")
            )
            near.append([Option(float(place), option.filter) for place in places])
            rows.append([Try(round(a), b, c) for a, b, c in zip(sizes, costs, seconds, strict=True)])
        chosen = allocate(_table(rows, "cost"), *_limits(rows, budget))
        return [some[number] for some, number in zip(near, chosen, strict=True)]

    def single(self, budget: Budget) -> tuple[Option, float] | None:
        """The best that one option for all pictures does within the budget, among those that all were tried at."""
        shared = set.intersection(*(set(known) for known in self.known))
        fitting = {option: self.mean(option) for option in shared if self._fits(option, budget)}
        return min(fitting.items(), key=lambda item: item[1], default=None)

    def mean(self, option: Option) -> float:
        """Cost of one option for all."""
        return float(np.mean([known[option].cost for known in self.known]))

    def _fits(self, option: Option, budget: Budget) -> bool:
        tries = [known[option] for known in self.known]
        seconds = budget.seconds is None or sum(one.seconds for one in tries) <= budget.seconds
        return sum(one.size for one in tries) <= budget.bytes and seconds


def share(
    attempt: Callable[[int, float], dict[Option, Try]], count: int, ladder: Sequence[float], budget: Budget, fine: bool
) -> Share:
    """Choose for each of `count` pictures.

    Args:
        attempt: tries a picture, by its number, at a quality; an entry for each filter.
        count: of pictures.
        ladder: qualities that each is tried at.
        budget: see there.
        fine: whether to go on in steps of 0.1.

    Raises:
        NlaicError: if the budget is too small; it says the least.
    """
    tries = Tries(attempt, count)
    for number in range(count):
        for quality in ladder:
            tries.add(number, quality)
    last = tries.best(budget)
    aim = float(budget.bytes)
    for reach, step in ROUNDS if fine else ():
        chosen = tries.between(Budget(int(aim), budget.seconds), last, reach, step)
        for number, option in enumerate(chosen):
            tries.add(number, option.quality)
        spent = sum(known[option].size for known, option in zip(tries.known, chosen, strict=True))
        aim *= min(budget.bytes / spent, 1.02)
        last = chosen
    options = tries.best(budget)
    single = _one_for_all(tries, ladder, budget) if fine else tries.single(budget)
    return Share(options, [known[option] for known, option in zip(tries.known, options, strict=True)], single)


def _one_for_all(tries: Tries, ladder: Sequence[float], budget: Budget) -> tuple[Option, float] | None:
    """The finest quality whose files, by curves through the rungs, fit together; its mean cost by the same curves."""
    rungs = [Option(float(quality)) for quality in ladder]
    sizes = np.log([[known[rung].size for rung in rungs] for known in tries.known])
    fine = np.round(np.arange(ladder[0], ladder[-1] + 0.05, 0.1), 1)
    totals = np.sum([np.exp(np.interp(fine, ladder, row)) for row in sizes], axis=0)
    fitting = np.flatnonzero(totals <= budget.bytes)
    if not len(fitting):
        return None
    quality = float(fine[fitting[-1]])
    return Option(quality), float(np.interp(quality, ladder, [tries.mean(rung) for rung in rungs]))


def _limits(rows: list[list[Try]], budget: Budget) -> list[Limit]:
    limits = [Limit("bytes", _table(rows, "size"), budget.bytes)]
    if budget.seconds is not None:
        limits.append(Limit("seconds", _table(rows, "seconds"), budget.seconds))
    return limits


def _table(rows: list[list[Try]], name: str) -> np.ndarray:
    """[N, M], infinite costs and nothing else where a picture has fewer options."""
    table = np.full((len(rows), max(map(len, rows))), np.inf if name == "cost" else 0.0)
    for number, row in enumerate(rows):
        table[number, : len(row)] = [getattr(one, name) for one in row]
    return table
