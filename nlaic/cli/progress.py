"""What a command says while it works: a line a file on stdout, notes and errors on stderr, a bar on a terminal."""

import contextlib
import os
import re
import sys
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from nlaic.errors import NlaicError

if TYPE_CHECKING:
    from rich.progress import Progress


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # characters that a terminal obeys


class StopError(NlaicError):
    """A failure that every further file would share, such as missing weights."""


def say(text: str, stream: TextIO | None) -> None:
    """One line, now; what the terminal's encoding lacks or would obey is escaped (names of files may hold anything).

    Nothing happens where the stream is closed.
    """
    if stream is None:
        return
    stream.write(_printable(text, stream.encoding or "utf-8") + "\n")
    stream.flush()


def _printable(text: str, encoding: str) -> str:
    line = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", " ".join(text.splitlines()))
    return line.encode(encoding, "backslashreplace").decode(encoding)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it; a closed one is None."""
    return stream is not None and stream.isatty()


def tell(text: str) -> None:
    """One line on standard output; where nobody can read it (`| head`, disk full), that is the end."""
    if sys.stdout is None:
        raise StopError("cannot write standard output: it is closed")
    try:
        say(text, sys.stdout)
    except OSError as error:
        with contextlib.suppress(OSError):  # what is still buffered would fail again when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StopError(f"cannot write standard output: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What went wrong, without Python's decoration."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


class Reporter:
    """Reports on `total` files. `slow` asks for a bar even for one; `stdout_taken` sends the lines to stderr."""

    def __init__(
        self, command: str, *, total: int, quiet: bool = False, slow: bool = False, stdout_taken: bool = False
    ) -> None:
        self._command, self._quiet, self._total, self._done = command, quiet, total, 0
        self._stdout_taken = stdout_taken
        self._bar = None
        if (total > 1 or slow) and not quiet and is_terminal(sys.stderr):
            self._bar = _make_bar(transient=total == 1)
            self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> "Reporter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def start(self, name: str) -> None:
        """The file being worked on."""
        if self._bar:
            self._bar.update(self._task, description=_printable(name, self._bar.console.encoding)[-40:])

    def fraction(self, part: float) -> None:
        """How far the current file is, 0..1."""
        if self._bar:
            self._bar.update(self._task, completed=self._done + part)

    def finish(self) -> None:
        """The current file is over, done or failed."""
        self._done += 1
        self.fraction(0.0)

    def line(self, text: str) -> None:
        """The line of a file that is done; a bar for many files stands for it where both are on the terminal."""
        if self._quiet or (self._bar and self._total > 1 and is_terminal(sys.stdout)):
            return
        if self._bar and self._total == 1:
            self._bar.stop()
        if self._stdout_taken:
            say(text, sys.stderr)
        else:
            tell(text)

    def note(self, name: str, text: str) -> None:
        """Something that was lost, though the file is done."""
        if not self._quiet:
            say(f"{self._command}: {name}: note: {text}", sys.stderr)

    def failure(self, name: str, error: BaseException) -> None:
        """A file that is not done. Quiet or not."""
        text = reason(error)
        known = text.startswith(f"{name}: ")
        say(f"{self._command}: {text if known else f'{name}: {text}'}", sys.stderr)


def result_line(
    name: str, size: tuple[int, int], count: int, seconds: float | None, whole: tuple[int, int] | None = None
) -> str:
    """Name, pixels, bytes, bits a pixel, million pixels a second if they took any.

    `whole` is the picture's size where `size` is not.
    """
    width, height = whole or size
    speed = "" if seconds is None else f"  {size[0] * size[1] / 1e6 / max(seconds, 1e-9):.2f} MP/s"
    return f"{name}  {size[0]}x{size[1]}  {count} bytes  {8 * count / (width * height):.4f} bpp{speed}"


def _make_bar(*, transient: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False)]
    if not transient:
        columns.insert(1, MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=transient, redirect_stdout=False)
