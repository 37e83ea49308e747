"""Many tasks over many processes, one thread each: on this machine, or by Ray on several.

A task that fails gives its reason and does not end the others; so does one that takes its process down with it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

from nlaic.errors import NlaicError

Task = TypeVar("Task")
Result = TypeVar("Result")

EXECUTORS = ("local", "ray")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of a task: a result, or the reason why there is none."""

    result: Result | None
    reason: str = ""


Outcomes = Iterator[tuple[Task, Outcome[Result]]]


def run_all(function: Callable[[Task], Result], tasks: Sequence[Task], executor: str, jobs: int) -> Outcomes:
    """Each task with its outcome, in the order they are done.

    Args:
        function: a function of a module, so that other processes find it.
        tasks: what they get.
        executor: `local` or `ray`.
        jobs: processes of `local`; 0 works in this one.
    """
    if executor not in EXECUTORS:
        raise NlaicError(f"executor must be one of {', '.join(EXECUTORS)}, but got {executor!r}")
    if executor == "ray":
        return _ray(function, tasks)
    if jobs == 0:
        return ((task, _guarded(function, task)) for task in tasks)
    return _local(function, tasks, jobs)


def _guarded(function: Callable[[Task], Result], task: Task) -> Outcome[Result]:
    """Run here. Whatever a codec or a metric raises is the reason of this one point."""
    try:
        return Outcome(function(task))
    except Exception as error:
        text = " ".join(str(error).split())
        return Outcome(None, text if isinstance(error, NlaicError) else f"{type(error).__name__}: {text}")


def _local(function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int) -> Outcomes:
    """In `jobs` processes; where one of them dies, what was in flight is done again, one task a process."""
    left = list(range(len(tasks)))
    with _one_thread():
        while left:
            done, suspects = [], []
            with _pool(jobs) as pool:
                for number, outcome in _in_flight(pool, function, tasks, left, 2 * jobs):
                    if outcome is None:
                        suspects.append(number)
                    else:
                        done.append(number)
                        yield tasks[number], outcome
            for number in suspects:
                with _pool(1) as pool:
                    yield tasks[number], _alone(pool, function, tasks[number])
            gone = {*done, *suspects}
            left = [number for number in left if number not in gone]


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def _in_flight(
    pool: ProcessPoolExecutor, function: Callable, tasks: Sequence, numbers: Sequence[int], most: int
) -> Iterator[tuple[int, Outcome | None]]:
    """Outcomes by number; None for those that were in flight when a process died, and then no more."""
    waiting = iter(numbers)
    flying: dict[Future, int] = {}
    broken = False
    while True:
        while len(flying) < most and not broken and (number := next(waiting, None)) is not None:
            try:
                flying[pool.submit(_guarded, function, tasks[number])] = number
            except BrokenProcessPool:
                broken = True
                yield number, None
        if not flying:
            return
        for future in wait(flying, return_when=FIRST_COMPLETED).done:
            number = flying.pop(future)
            try:
                yield number, future.result()
            except BrokenProcessPool:
                broken = True
                yield number, None


def _alone(pool: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task) -> Outcome[Result]:
    try:
        return pool.submit(_guarded, function, task).result()
    except BrokenProcessPool:
        return Outcome(None, "the process died")


def _ray(function: Callable[[Task], Result], tasks: Sequence[Task]) -> Outcomes:
    """As Ray tasks of one processor each; every machine must see the same folders."""
    try:
        import ray
    except ImportError as error:
        raise NlaicError("executor=ray needs Ray: pip install 'nlaic[cluster]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    remote: Any = ray.remote(num_cpus=1, max_retries=1, runtime_env={"env_vars": dict.fromkeys(ONE_THREAD, "1")})(
        _guarded
    )
    flying = {remote.remote(function, task): task for task in tasks}
    while flying:
        (reference, *_), _ = ray.wait(list(flying), num_returns=1)
        task = flying.pop(reference)
        try:
            yield task, ray.get(reference)
        except ray.exceptions.RayError as error:
            yield task, Outcome(None, f"Ray: {type(error).__name__}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside have one thread; it must be said before they load a library."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
