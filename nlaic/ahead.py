"""One thread that works ahead, and how many there are for all."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ahead(work: Callable[[Item], Result], items: Iterable[Item], *, enabled: bool = True) -> Iterator[Result]:
    """The results of `work` in order; while one is looked at, another thread works on the next and no further.

    Args:
        work: may raise; its error comes out in its turn.
        items: what to work on.
        enabled: False does everything in the caller's thread, one after the other.
    """
    if not enabled:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(1) as worker:
        pending: Future[Result] | None = None
        for item in items:
            following = worker.submit(work, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
