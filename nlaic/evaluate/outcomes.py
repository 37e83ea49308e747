"""What becomes of the tasks of an evaluation: one that fails gives its reason and does not end the others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nlaic.errors import NlaicError
from nlaic.executors import WorkerLostError, check_executor, run_all

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """A result, or the reason why there is none."""

    result: Result | None
    reason: str = ""


def outcomes(
    function: Callable[[Task], Result], tasks: Sequence[Task], executor: str, jobs: int
) -> Iterator[tuple[Task, Outcome[Result]]]:
    """Each task with its outcome, in the order they are done.

    Args:
        function: a function of a module, so that other processes find it.
        tasks: what they get; on Ray every machine must see the same folders.
        executor: `local` or `ray`.
        jobs: processes of `local`; 0 works in this one.

    Raises:
        NlaicError: if there is no such executor, or Ray is missing.
    """
    check_executor(executor)
    if executor == "local" and jobs == 0:
        yield from ((task, _guarded(function, task)) for task in tasks)
        return
    for task, outcome in run_all(executor, _guarded, function, tasks, jobs):
        yield task, Outcome(None, str(outcome)) if isinstance(outcome, WorkerLostError) else outcome


def _guarded(function: Callable[[Task], Result], task: Task) -> Outcome[Result]:
    """Run here. Whatever a codec or a metric raises is the reason of this one point."""
    try:
        return Outcome(function(task))
    except Exception as error:
        text = " ".join(str(error).split())
        return Outcome(None, text if isinstance(error, NlaicError) else f"{type(error).__name__}: {text}")
