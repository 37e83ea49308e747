"""The same work on many items: in processes of this machine, or on a Ray cluster.

What dies on the way (a process killed, a machine lost) is done again elsewhere; what dies every time is told.
"""

import contextlib
import importlib.util
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeVar

from nlaic.errors import NlaicError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Shared, Item], Result]

EXECUTORS = ("local", "ray")
TRIES = 3  # of an item whose worker dies
LOST = f"the process that worked on it died, {TRIES} times"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
AHEAD = 2  # items handed out for each worker: one to work on, one to go on with


class WorkerLostError(NlaicError):
    """Every worker that tried an item died."""


def check_executor(executor: str) -> None:
    """Whether there is such an executor.

    Raises:
        NlaicError: if there is none, or Ray is asked for and missing.
    """
    if executor not in EXECUTORS:
        raise NlaicError(f"executor must be one of {', '.join(EXECUTORS)}, but got {executor!r}")
    if executor == "ray" and importlib.util.find_spec("ray") is None:
        raise NlaicError("executor ray needs Ray: pip install 'nlaic[cluster]'")


def run_all(
    executor: str, work: Work[Shared, Item, Result], shared: Shared, items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result | WorkerLostError]]:
    """Yield (item, result) as they come, in any order.

    Args:
        executor: `local`, or `ray`: the cluster of $RAY_ADDRESS, or one started on this machine.
        work: a function of a module, of `shared` and an item; an exception of it ends everything.
        shared: goes to each worker once, the same object for all its items.
        items: taken as workers come free.
        workers: processes on this machine; on a cluster its processors are counted.

    Raises:
        NlaicError: as `check_executor`.
    """
    check_executor(executor)
    run = {"local": _run_local, "ray": _run_ray}[executor]
    items = iter(items)
    for first in items:  # nothing is started for nothing
        yield from run(work, shared, chain([first], items), workers)


def _run_local(
    work: Work[Shared, Item, Result], shared: Shared, items: Iterator[Item], workers: int
) -> Iterator[tuple[Item, Result | WorkerLostError]]:
    """A pool breaks as a whole when one of its processes dies: each item that was in it gets one of its own then."""
    with _one_thread():
        while lost := (yield from _run_pool(work, shared, items, workers)):
            for item in lost:
                yield item, _run_alone(work, shared, item)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside have one thread; it must be said before they load a library."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run_pool(
    work: Work[Shared, Item, Result], shared: Shared, items: Iterator[Item], workers: int
) -> Generator[tuple[Item, Result | WorkerLostError], None, list[Item]]:
    """Work until nothing is left, or the pool is broken: gives what was not finished of what was taken."""
    running: dict[Future[Result], Item] = {}
    taken: list[Item] = []
    with _pool(shared, workers) as pool:
        try:
            while True:
                for item in islice(items, AHEAD * workers - len(running)):
                    taken.append(item)
                    running[pool.submit(_with_kept, work, item)] = item
                if not running:
                    return []
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result, item = future.result(), running.pop(future)
                    taken.remove(item)
                    yield item, result
        except BrokenProcessPool:
            return taken
        finally:
            if running:  # nobody will ask for these: after Ctrl-C, say
                for process in multiprocessing.active_children():
                    process.terminate()
            pool.shutdown(cancel_futures=True)


def _run_alone(work: Work[Shared, Item, Result], shared: Shared, item: Item) -> Result | WorkerLostError:
    for _ in range(TRIES - 1):
        with contextlib.suppress(BrokenProcessPool), _pool(shared, 1) as pool:
            return pool.submit(_with_kept, work, item).result()
    return WorkerLostError(LOST)


def _pool(shared: Any, workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    return ProcessPoolExecutor(workers, context, initializer=_keep, initargs=(shared,))


_kept: list[Any] = []  # of a worker process: what it was started with


def _keep(shared: Any) -> None:
    """Begin a worker process: it ends with the one that started it, however that ends."""
    _kept[:] = [shared]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _with_kept(work: Callable[[Any, Any], Result], item: Any) -> Result:
    return work(_kept[0], item)


def _run_ray(
    work: Work[Shared, Item, Result], shared: Shared, items: Iterator[Item], workers: int
) -> Iterator[tuple[Item, Result | WorkerLostError]]:
    """Items are tasks of one processor each; Ray does those of a lost worker again."""
    import ray

    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        here: dict[str, Any] = (
            {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": max(workers, 1), "include_dashboard": False}
        )
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
    task: Any = ray.remote(_with_fetched).options(
        num_cpus=1, max_retries=TRIES - 1, runtime_env={"env_vars": ONE_THREAD}
    )
    box = [ray.put(shared)]  # in a list it stays a reference, that a worker resolves once
    running: dict[Any, Item] = {}
    try:
        while True:
            room = AHEAD * int(ray.cluster_resources().get("CPU", 1)) - len(running)
            for item in islice(items, max(room, 0)):
                running[task.remote(work, box, item)] = item
            if not running:
                return
            done, _ = ray.wait(list(running))
            for reference in done:
                item = running.pop(reference)
                try:
                    yield item, ray.get(reference)
                except ray.exceptions.RayTaskError:
                    raise
                except ray.exceptions.RayError:
                    yield item, WorkerLostError(LOST)
    finally:
        if started:
            ray.shutdown()


@lru_cache(maxsize=1)
def _fetched(reference: Any) -> Any:
    import ray

    return ray.get(reference)


def _with_fetched(work: Callable[[Any, Any], Result], box: list[Any], item: Any) -> Result:
    return work(_fetched(box[0]), item)
