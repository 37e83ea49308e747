"""Which file becomes which, decided before any work; and writing so that no half file ever stands there."""

import errno
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlaic.errors import NlaicError
from nlaic.whole import replacing

STDIO = "-"
TOLD = 10  # suffixes of files that are not looked at


class UsageError(NlaicError):
    """A command line that makes no sense whatever the files hold: exit code 2."""


@dataclass(frozen=True)
class Job:
    """One file to be made. No source is standard input, no target standard output."""

    source: Path | None
    target: Path | None
    problem: str = ""  # why it cannot be done, known from its name alone

    @property
    def name(self) -> str:
        """What messages call it."""
        return STDIO if self.source is None else str(self.source)

    def read(self) -> bytes:
        """All of the source."""
        if self.source is not None:
            return self.source.read_bytes()
        if sys.stdin is None:
            raise NlaicError("standard input is closed")
        return sys.stdin.buffer.read()


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    recursive: bool,
    suffix: str,
    reads: Collection[str],
    ending: str = "",
) -> list[Job]:
    """The jobs of a command line.

    Without `output` a result stands beside its source, its suffix changed to `suffix`, `ending` before it (files that
    end so are not taken from folders: they are results). `output` is a folder where it
    is one, ends in a separator, or has to hold many; what is found below a folder (only with `recursive`: names
    ending in one of `reads`) keeps its place relative to that folder.

    Raises UsageError for contradictions, NlaicError for a missing output folder and for colliding targets.
    """
    if "" in inputs:
        raise UsageError("the name of an input is empty")
    if output == "":
        raise UsageError("the name of the output is empty")
    many = len(inputs) > 1 or any(_is_folder(Path(name)) for name in inputs)
    folder = _output_folder(inputs, output, many=many, recursive=recursive)
    jobs = []
    for name in inputs:
        for source, place, problem in _expand(name, recursive, reads, folder):
            if ending and recursive and source and source.stem.endswith(ending):
                continue
            target = None if problem else _target(source, place, folder, output, suffix, ending)
            jobs.append(Job(source, target, problem))
    return _without_collisions(jobs, recursive)


def _target(
    source: Path | None, place: Path, folder: Path | None, output: str | None, suffix: str, ending: str
) -> Path | None:
    """Where a result goes; None for standard output."""
    if folder:
        return folder / place.with_suffix(suffix)
    if output:
        return None if output == STDIO else Path(output)
    return source.with_name(source.stem + ending + suffix) if source else None


class DoneError(NlaicError):
    """The result of a file in a tree is there; another command may have written it since this one began."""


def check_target(target: Path | None, *, force: bool, parents: bool) -> None:
    """Fail before the work where the result could not be written after it.

    Raises:
        DoneError: with `parents`, that of a tree, if the result is there.
        NlaicError: if it cannot be written, or is there.
    """
    if target is None:
        return
    try:
        there = target.exists()
    except OSError as error:
        raise NlaicError(f"cannot write {target}: {error.strerror or error}") from error
    if target.is_dir():
        raise NlaicError(f"output {target} is a folder")
    if target.is_file() and not force:
        if parents:
            raise DoneError(f"done before: {target}")
        raise NlaicError(f"output {target} exists: --force overwrites it")
    if target.is_symlink() and not there and not force:  # in a tree of somebody else's it may lead anywhere
        raise NlaicError(f"output {target} is a link to what is not there: --force follows it")
    folder = target.parent
    if not parents and not folder.is_dir():
        raise NlaicError(f"output folder {folder} is missing")
    if (target.is_file() or not target.exists()) and folder.is_dir() and not os.access(folder, os.W_OK):
        raise NlaicError(f"cannot write {target}: {os.strerror(errno.EACCES)}")


def is_stdout(path: Path) -> bool:
    """Whether a name, such as /dev/stdout, is that of this program's standard output."""
    try:
        return sys.stdout is not None and not path.is_file() and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False


def write_output(target: Path | None, data: bytes, *, force: bool, parents: bool) -> None:
    """Write to a new file beside the target and rename it, so that a failure leaves what was there before."""
    try:
        if target is None:
            return _write_all(_raw_stdout().write, data)
        check_target(target, force=force, parents=parents)
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part, part.open("wb", buffering=0) as stream:
            _write_all(stream.write, data)
    except OSError as error:
        place = "standard output" if target is None else target
        raise NlaicError(f"cannot write {place}: {error.strerror or error}") from error


def _write_all(write: Callable[[memoryview], int], data: bytes) -> None:
    """Write every byte: an unbuffered stream may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[write(view) :]


def _raw_stdout() -> Any:
    """Standard output without a buffer, so that nothing is left to fail again when Python ends."""
    if sys.stdout is None:
        raise NlaicError("cannot write standard output: it is closed")
    return getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)


def _output_folder(inputs: Sequence[str], output: str | None, *, many: bool, recursive: bool) -> Path | None:
    """The folder that `output` names, if it names one."""
    if inputs.count(STDIO) > 1:
        raise UsageError("standard input (-) can be read only once")
    if output == STDIO and many:
        raise UsageError("-o - takes one input: standard output holds one file")
    ends = tuple({os.sep, os.altsep or os.sep})
    if output is None or output == STDIO or not (many or output.endswith(ends) or _is_folder(Path(output))):
        return None
    if STDIO in inputs:
        raise UsageError(f"standard input has no name to use in the folder {output}: give -o FILE")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise NlaicError(f"{output}: not a folder, and there is more than one result to hold")
    if not folder.exists() and not recursive:
        if below := next(filter(_is_folder, map(Path, inputs)), None):
            raise NlaicError(f"{below}: is a folder: -r takes what is in it")
        raise NlaicError(f"{output}: output folder is missing{', and several results need one' if many else ''}")
    return folder


def _expand(
    name: str, recursive: bool, reads: Collection[str], results: Path | None
) -> Iterator[tuple[Path | None, Path, str]]:
    """What an argument stands for: (source, place below the output folder, problem)."""
    path = Path(name)
    if name == STDIO:
        yield None, path, ""
    elif not _is_folder(path):
        yield path, Path(path.name), _missing(path)
    elif not recursive:
        yield path, path, "is a folder: -r takes what is in it"
    else:
        yield from _walk(path, reads, results)


def _walk(top: Path, reads: Collection[str], results: Path | None) -> Iterator[tuple[Path, Path, str]]:
    """The files below a folder, sorted; hidden ones, pipes, links to folders and the folder of results are left out."""
    problems: list[OSError] = []
    found, place = [], results and _key(results)
    for folder, below, names in _folders(top, problems.append):
        below[:] = [n for n in below if _key(Path(folder, n)) != place]
        taken = (Path(folder, n) for n in names if Path(n).suffix.lower() in reads)
        found += [path for path in taken if is_file(path) or _missing(path)]
    for path in sorted(found):
        yield path, path.relative_to(top), ""
    for error in problems:
        yield Path(error.filename), top, error.strerror or str(error)
    if not found and not problems:
        yield top, top, f"holds no file ending in {' '.join(sorted(reads))}"


def passed_over(inputs: Sequence[str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """For each folder, of how many files below it the suffix is not `known`, those that there are most of first."""
    for top in (name for name in inputs if _is_folder(Path(name))):
        suffixes = (Path(name).suffix.lower() for _, _, names in _folders(Path(top)) for name in names)
        counts = Counter(suffix for suffix in suffixes if suffix not in known)
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        told = [f"{count} {suffix or 'without a suffix'}" for suffix, count in most[:TOLD]]
        if more := sum(count for _, count in most[TOLD:]):
            told.append(f"{more} others")
        if told:
            yield top, f"not looked at: {', '.join(told)}"


def _folders(top: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, without what is hidden."""
    for folder, below, names in os.walk(top, onerror=onerror):
        below[:] = [name for name in below if not name.startswith(".")]
        yield folder, below, [name for name in names if not name.startswith(".")]


def _without_collisions(jobs: Sequence[Job], recursive: bool) -> list[Job]:
    """No two results in one place, none over an input: known before anything is read.

    In a tree the first of two is done, and what else would be lost has a problem; else nothing is.
    """
    found: list[Job] = []
    sources = {_key(job.source): job.name for job in jobs if job.source and not job.problem}
    taken: dict[str, str] = {}
    for job in jobs:
        found.append(job)
        if job.target is None or job.problem:
            continue
        key = _key(job.target)
        if key in sources and not recursive:
            raise NlaicError(f"{job.name}: its output {job.target} is also the input {sources[key]}")
        if key in sources:
            found[-1] = replace(job, target=None, problem=f"would write {job.target}, which is also an input")
            continue
        if key in taken and not recursive:
            raise NlaicError(f"{taken[key]} and {job.name} would both write {job.target}")
        if key in taken:
            found[-1] = replace(job, target=None, problem=f"would write {job.target}, as {taken[key]} does: rename one")
        taken.setdefault(key, job.name)
    return found


def _key(path: Path) -> str:
    """One spelling for each place."""
    return os.path.normcase(os.path.realpath(path))


def _missing(path: Path) -> str:
    """Why there is no such input, as the system says it."""
    try:
        path.stat()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _is_folder(path: Path) -> bool:
    """Path.is_dir, false where that may not be known."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Path.is_file, false where that may not be known."""
    try:
        return path.is_file()
    except OSError:
        return False
