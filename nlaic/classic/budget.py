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

from nlaic.classic.allocate import Limit, allocate, solver
from nlaic.errors import NlaicError

ROUNDS = (1.0, 0.15, 0.05)  # how far from the last choice the next is looked for, in rungs of the ladder
PLACES = 20  # at most so many on either side
CHECKED = 4  # qualities for all that are tried, each a step below the last


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
    step: float  # between its qualities, those off the ladder too

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

    def single(self, ladder: Sequence[float], budget: Budget, step: float) -> tuple[Option, float] | None:
        """The best that one option for all pictures does within the budget: looked for by curves, then tried."""
        rungs, found = sorted(ladder), []
        places = np.round(np.arange(rungs[0], rungs[-1] + step / 2, step), 1)
        for name in sorted({option.filter for option in self.known[0]}):
            rows = [[known[Option(rung, name)] for rung in rungs] for known in self.known]
            sizes = sum(np.exp(np.interp(places, rungs, np.log([one.size for one in row]))) for row in rows)
            costs, seconds = (
                np.interp(places, rungs, np.mean([[getattr(one, kind) for one in row] for row in rows], axis=0))
                for kind in ("cost", "seconds")
            )
            fits = (sizes <= budget.bytes) & (len(rows) * seconds <= (budget.seconds or np.inf))
            found += [(Option(float(q), name), float(c)) for q, c in zip(places[fits], costs[fits], strict=True)]
        if not found:
            return None
        option = min(found, key=lambda one: one[1])[0]
        ends = [sum(known[Option(rung, option.filter)].size for known in self.known) for rung in (rungs[0], rungs[-1])]
        smaller = -step if ends[0] < ends[1] else step
        for _ in range(CHECKED):
            if not rungs[0] <= option.quality <= rungs[-1]:
                break
            for number in range(self.count):
                self.add(number, option.quality)
            some = [known[option] for known in self.known]
            in_time = sum(one.seconds for one in some) <= (budget.seconds or np.inf)
            if in_time and sum(one.size for one in some) <= budget.bytes:
                return option, float(np.mean([one.cost for one in some]))
            option = Option(round(option.quality + smaller, 1), option.filter)
        return None


def share(
    attempt: Callable[[int, float], dict[Option, Try]], count: int, ladder: Sequence[float], budget: Budget, step: float
) -> Share:
    """Choose for each of `count` pictures.

    Args:
        attempt: tries a picture, by its number, at a quality; an entry for each filter.
        count: of pictures.
        ladder: qualities that each is tried at.
        budget: see there.
        step: between the codec's qualities.

    Raises:
        MissingError: without SciPy.
        NlaicError: if the budget is too small; it says the least.
    """
    solver()  # before the work
    tries = Tries(attempt, count)
    for number in range(count):
        for quality in ladder:
            tries.add(number, quality)
    last = tries.best(budget)
    aim, rung = float(budget.bytes), float(np.abs(np.diff(ladder)).max())
    for reach in (max(part * rung, step) for part in ROUNDS):
        apart = step * max(round(reach / step / PLACES), 1)
        try:
            chosen = tries.between(Budget(int(aim), budget.seconds), last, reach, apart)
        except NlaicError:  # nothing so near is small enough by the curves: the tries there are will do
            break
        for number, option in enumerate(chosen):
            tries.add(number, option.quality)
        spent = sum(known[option].size for known, option in zip(tries.known, chosen, strict=True))
        aim *= min(budget.bytes / spent, 1.02)
        last = chosen
    single = tries.single(ladder, budget, step)
    options = tries.best(budget)  # of these tries too: never worse than one quality for all
    return Share(options, [known[option] for known, option in zip(tries.known, options, strict=True)], single)


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
