"""`nlaic-compress --executor`: the files that one process makes, made by many; workers may be killed."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import ray

from tests.cli.conftest import tree
from tests.conftest import smooth_picture

COUNT = 10


@pytest.fixture
def photos(folder):
    """Pictures in two folders, and one that is none."""
    for k in range(COUNT):
        path = Path("photos") / f"{k % 2}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth_picture(96, 64, seed=k).save(path)
    Path("photos/text.png").write_text("no picture")
    return folder


def command(executor: str, out: str, model: Path) -> list[str]:
    words = ["compress", "-r", "photos", "-o", out, "--model", str(model), "--device", "cpu", "-e", "1"]
    return [*words, "--executor", executor, "--threads", "2"]


def alone(model: Path, run) -> dict[str, bytes]:
    """What one process makes of the pictures."""
    words = ["compress", "-r", "photos", "-o", "alone", "--model", str(model), "--device", "cpu", "-e", "1"]
    assert run([*words, "--threads", "1"])[0] == 1
    return contents("alone")


def contents(out: str) -> dict[str, bytes]:
    return {name: (Path(out) / name).read_bytes() for name in tree(Path(out))}


def test_local_processes_make_the_same_files_and_only_those_that_lack(photos, tiny_model, run):
    expected = alone(tiny_model, run)
    assert len(expected) == COUNT
    Path("out/0").mkdir(parents=True)
    Path("out/0/4.nlaic").write_bytes(b"made before")
    code, lines, errors = run(command("local", "out", tiny_model))
    assert (code, len(lines), len(errors)) == (1, COUNT - 1, 2)
    assert any("photos/text.png: not a picture" in error for error in errors)
    assert any("done before: out/0/4.nlaic" in error for error in errors)
    assert contents("out") == expected | {"0/4.nlaic": b"made before"}


def test_a_ray_cluster_of_two_workers_of_which_one_is_killed_half_way(photos, tiny_model, run, monkeypatch):
    expected = alone(tiny_model, run)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    killed, over = [], threading.Event()

    def kill_one() -> None:
        """Once a third of the files is there, one of the two worker processes goes."""
        while not killed and not over.wait(0.01):
            if Path("out").is_dir() and len(tree(Path("out"))) >= COUNT // 3 and (running := workers()):
                os.kill(running[0], signal.SIGKILL)
                killed.append(True)

    killer = threading.Thread(target=kill_one)
    killer.start()
    code, _, errors = run(command("ray", "out", tiny_model))
    over.set()
    killer.join()
    assert killed
    assert (code, len(errors)) == (1, 1), errors  # the one that is no picture
    assert contents("out") == expected
    assert not ray.is_initialized()
    code, lines, errors = run([*command("ray", "out", tiny_model), "--quiet"])
    assert (code, lines, len(errors)) == (1, [], 1)  # nothing was left to do but the bad one


def workers() -> list[int]:
    """Process ids of Ray's workers that run our tasks, below this process."""
    import psutil

    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "_with_fetched" in " ".join(child.cmdline())]


def test_without_ray_the_extra_is_named(photos, tiny_model, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, errors = run(command("ray", "out", tiny_model))
    assert code == 1
    assert errors[-1] == "nlaic-compress: executor ray needs Ray: pip install 'nlaic[cluster]'"


def test_standard_input_is_not_for_many(photos, run, tiny_model):
    code, _, errors = run(["compress", "-", "-o", "x.nlaic", "--executor", "local", "--model", str(tiny_model)])
    assert (code, len(errors)) == (2, 1)
    assert "--executor works on files" in errors[0]
