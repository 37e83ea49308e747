"""`nlaic-compress --executor`: many pictures at once, by processes of one thread each, here or on a Ray cluster.

The command reads the pictures and writes the files; workers see bytes alone, and need no common disk.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BytesIO
from time import perf_counter
from typing import TYPE_CHECKING, Any

from nlaic.ahead import processors
from nlaic.cli.command import FAILURES, execution, failure, is_done, still_to_do
from nlaic.cli.files import Job, check_target, write_output
from nlaic.cli.progress import Reporter, StopError, reason, result_line
from nlaic.errors import NlaicError
from nlaic.executors import run_all

if TYPE_CHECKING:
    from nlaic.codec import Codec
    from nlaic.engine import Execution
    from nlaic.weights import Weights


@dataclass(frozen=True, eq=False)  # each is itself alone: what is loaded for it is kept by it
class Settings:
    """The same for all pictures: the weights, how to run them, and the arguments of `Codec.compress`."""

    weights: "Weights"
    execution: "Execution"
    options: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A job and the bytes of its picture."""

    job: Job
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """What became of a picture: the bytes of its file, or why there are none."""

    data: bytes = field(default=b"", repr=False)
    size: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    problem: str = ""


def compress_many(jobs: Sequence[Job], args: argparse.Namespace, options: dict[str, Any], report: Reporter) -> bool:
    """Compress all pictures whose files are not there yet; False where one failed."""
    from nlaic.engine import Execution
    from nlaic.weights import find_weights

    settings = Settings(find_weights(args.model), _alike(Execution(**execution(args) | {"threads": 1})), options)
    ended: list[bool] = []  # whether what did not go well is there all the same

    def end(job: Job, error: Exception) -> None:
        ended.append(is_done(job, error, report))
        report.finish()

    def tasks() -> Iterator[Task]:
        for job in still_to_do(jobs, args.force, report):
            try:
                if job.problem:
                    raise NlaicError(job.problem)
                check_target(job.target, force=args.force, parents=args.recursive)
                yield Task(job, job.read())
            except FAILURES as error:
                end(job, error)

    workers = min(args.threads or processors(), len(jobs))
    with report:
        for task, outcome in run_all(args.executor, compress_one, settings, tasks(), workers):
            try:
                if isinstance(outcome, NlaicError):
                    raise outcome
                _finish(task.job, outcome, args, report)
            except StopError:
                raise
            except FAILURES as error:
                end(task.job, error)
    return all(ended)


def compress_one(settings: Settings, task: Task) -> Outcome:
    """In a worker: the picture's bytes to the file's. Failures that a user can mend are told, not raised."""
    from nlaic.picture import open_picture

    notes: list[str] = []
    try:
        image = open_picture(BytesIO(task.data), strip=settings.options["strip"], warn=notes.append)
        codec = _codec(settings)
        start = perf_counter()
        data = codec.compress(image, **settings.options)
    except (*FAILURES, RuntimeError) as error:
        return Outcome(notes=tuple(notes), problem=reason(failure(error)))
    return Outcome(data, image.size, perf_counter() - start, tuple(notes))


def _alike(execution: "Execution") -> "Execution":
    """What runs alike in every worker: torch's precision is chosen here, once."""
    if execution.chosen() != "torch":
        return execution
    from nlaic.torch_engine import find_device, find_precision

    return replace(execution, precision=find_precision(execution.precision, find_device(execution.device)))


@lru_cache(maxsize=1)
def _codec(settings: Settings) -> "Codec":
    from nlaic.codec import Codec
    from nlaic.engine import open_engine

    return Codec(settings.weights, open_engine(settings.weights, settings.execution))


def _finish(job: Job, outcome: Outcome, args: argparse.Namespace, report: Reporter) -> None:
    for note in outcome.notes:
        report.note(job.name, note)
    if outcome.problem:
        raise NlaicError(outcome.problem)
    write_output(job.target, outcome.data, force=args.force, parents=args.recursive)
    report.line(result_line(job.name, outcome.size, len(outcome.data), outcome.seconds))
    report.finish()
