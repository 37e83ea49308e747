"""Peak memory of a piece of work, in a process of its own."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

MB = 1e6


def peak(work: Callable[..., object], *arguments: object) -> tuple[float, float] | None:
    """(MB before, MB at most) resident while `work(start, *arguments)` runs; None where it ran out of memory.

    `work` calls `start()` when what is to be measured begins: the first figure is what was there by then.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, work, arguments))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:  # killed
        result = None
    process.join()
    return result


def _run(sender: Connection, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    before = []
    try:
        work(lambda: before.append(resident()), *arguments)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return
    sender.send((before[0], resident("VmHWM")))


def resident(field: str = "VmRSS") -> float:
    """MB of memory that this process has now (VmRSS), or had at most (VmHWM); Linux."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) * 1024 / MB
