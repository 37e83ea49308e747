"""How far a piece of work is: told by calls with the share that is done, 0..1."""

from collections.abc import Callable

Progress = Callable[[float], None]


def part(progress: Progress | None, start: float, end: float) -> Progress:
    """What a part of the work calls with its own share: it is from `start` to `end` of the whole."""
    return lambda share: progress(start + (end - start) * share) if progress else None
