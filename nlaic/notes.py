"""One line to the user on what is lost on the way, wherever it is found out."""

from collections.abc import Callable

Warn = Callable[[str], None]


def ignore(note: str) -> None:
    """The `warn` of a caller who does not want to know."""
