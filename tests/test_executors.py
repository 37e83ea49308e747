"""Many items on many workers: all are done once more or less, whoever dies on the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nlaic.executors import WorkerLostError, run_all


def square(shared: int, item: int) -> int:
    return shared + item * item


def die_once(folder: str, item: int) -> int:
    """The worker on item 2 is killed the first time."""
    mark = Path(folder) / "mark"
    if item == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die_always(shared: None, item: int) -> int:
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail(shared: None, item: int) -> int:
    raise ValueError(item)


def sleep(folder: str, item: int) -> None:
    (Path(folder) / str(os.getpid())).touch()
    signal.pause()


def numbers(folder: Path) -> list[int]:
    """Process ids of the workers that sleep."""
    return [int(path.name) for path in folder.iterdir()]


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=60)[1]


def test_all_items_once():
    assert sorted(run_all("local", square, 100, range(7), 2)) == [(k, 100 + k * k) for k in range(7)]


def test_items_are_taken_as_workers_come_free():
    taken = []

    def items():
        for k in range(9):
            taken.append(k)
            yield k

    results = run_all("local", square, 0, items(), 1)
    next(results)
    assert len(taken) <= 3
    results.close()


def test_a_killed_worker_loses_nothing(tmp_path):
    assert sorted(run_all("local", die_once, str(tmp_path), range(6), 2)) == [(k, k) for k in range(6)]


def test_an_item_that_kills_every_worker_is_told_and_the_rest_is_done():
    results = dict(run_all("local", die_always, None, range(5), 2))
    assert isinstance(results.pop(2), WorkerLostError)
    assert results == {k: k for k in (0, 1, 3, 4)}


def test_a_mistake_is_not_hidden():
    with pytest.raises(ValueError, match="0"):
        list(run_all("local", fail, None, [0], 1))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_process_that_started_them(how, tmp_path):
    """At once, with what they were at: none of them would end by itself."""
    code = (
        "import signal; from nlaic.executors import run_all; from tests.test_executors import sleep\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored by what a shell starts with &
        f"if __name__ == '__main__': list(run_all('local', sleep, {str(tmp_path)!r}, range(4), 2))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as parent:
        while len(numbers(tmp_path)) < 2:
            assert parent.poll() is None
        workers = [psutil.Process(number) for number in numbers(tmp_path)]
        parent.send_signal(how)
        assert gone(workers)
