"""Files are whole or not there: processes killed at random moments, full disks, two writers of one file."""

import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nlaic.whole import STALE, _sweep, replacing, write_whole

SIZE = 20_000_000
WRITER = """
import itertools, sys
from pathlib import Path
from nlaic.whole import write_whole
letter, size = sys.argv[2].encode(), int(sys.argv[3])
print("ready", flush=True)
for _ in itertools.count():
    write_whole(Path(sys.argv[1]), letter * size)
"""


def writer(target, letter, size=SIZE):
    """A process that writes the file again and again."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target), letter, str(size)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def parts(folder):
    return list(folder.glob(".nlaic-*.part"))


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    for data in (b"first", b"second"):
        write_whole(tmp_path / "a", data)
        assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", data)]


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    told, fsync, replace = [], os.fsync, Path.replace

    def synced(descriptor):
        told.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(self, target):
        told.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(tmp_path / "a", b"all of it")
    assert told == ["file", "name", "folder"]


def test_who_may_read_it_stays_as_it_was(tmp_path):
    for mode in (0o600, 0o644):
        write_whole(tmp_path / "a", b"first")
        (tmp_path / "a").chmod(mode)
        with replacing(tmp_path / "a") as part:
            part.write_bytes(b"second")
            assert part.stat().st_mode & 0o777 & ~mode == 0
        assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_a_pipe_without_a_name_is_written_to(tmp_path):
    read, write = os.pipe()
    try:
        write_whole(Path(f"/dev/fd/{write}"), b"all of it")
        assert os.read(read, 100) == b"all of it"
    finally:
        os.close(read)
        os.close(write)


def test_a_link_to_itself_is_an_error_of_the_system(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="Too many levels"):
        write_whole(tmp_path / "a", b"lost")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(error, tmp_path):
    write_whole(tmp_path / "a", b"before")
    with pytest.raises(error), replacing(tmp_path / "a") as part:
        part.write_bytes(b"half")
        raise error
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"before")]


def test_what_was_not_written_replaces_nothing(tmp_path):
    with replacing(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
    write_whole(tmp_path / "a", b"before")
    with replacing(tmp_path / "a"):
        pass
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"before")]
    write_whole(tmp_path / "a", b"")
    assert (tmp_path / "a").read_bytes() == b""


def test_links_are_followed_and_devices_are_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_whole(tmp_path / "link", b"a")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"a"
    (tmp_path / "null").symlink_to(os.devnull)
    write_whole(tmp_path / "null", b"a")
    assert Path(os.devnull).is_char_device()


def test_killed_at_random_moments_while_writing(tmp_path):
    target, rng = tmp_path / "a", random.Random(0)
    write_whole(target, b"." * SIZE)
    left = 0
    for letter in "abcdefgh":
        before, process = target.read_bytes(), writer(target, letter)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.wait()
        after = target.read_bytes()
        assert after in (before, letter.encode() * SIZE)
        left = max(left, len(parts(tmp_path)))
    assert left > 0  # some were killed in the middle


def test_what_killed_processes_left_is_removed_later(tmp_path):
    old, new, folder = (tmp_path / f".nlaic-{name}.part" for name in ("0123", "4567", "0000"))
    for part in (old, new):
        part.write_bytes(b"half")
    folder.mkdir()  # not ours, and in no one's way
    os.utime(folder, (time.time() - 2 * STALE,) * 2)
    os.utime(old, (time.time() - 2 * STALE,) * 2)
    _sweep.cache_clear()
    write_whole(tmp_path / "a", b"whole")
    assert {p.name for p in tmp_path.iterdir()} == {"a", new.name, folder.name}


def test_two_processes_write_the_same_file(tmp_path):
    target = tmp_path / "a"
    both = [writer(target, letter, 3_000_000) for letter in "xy"]
    seen = set()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        if target.exists():
            data = target.read_bytes()
            assert len(data) == 3_000_000 and len(set(data)) == 1
            seen.add(data[:1])
    for process in both:
        assert process.poll() is None  # neither was disturbed by the other
        process.kill()
        process.wait()
    assert seen == {b"x", b"y"}


def limited():
    """In a process: no file may grow beyond 4 kB, and what tries gets an error, no signal."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def compress_noise(folder, source, before, **options):
    """Run the command on noise into `folder`; gives what it says."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)).save(source)
    target = folder / "a.nlaic"
    target.write_bytes(before)
    command = [sys.executable, "-c", "from nlaic.cli.compress import main; main()"]
    options["args"] = [*command, source, "-o", target, "-e", "1", "-q", "100", "--force", "--threads", "1", "--quiet"]
    done = subprocess.run(**options, capture_output=True, text=True, check=False)
    assert target.read_bytes() == before and parts(folder) == []
    return done.returncode, done.stderr


def test_a_full_disk(small_disk, tmp_path):
    code, said = compress_noise(small_disk, tmp_path / "a.png", bytes(20_000))
    assert (code, said.endswith("No space left on device\n"), len(said.splitlines())) == (1, True, 1)


def test_a_quota(tmp_path):
    code, said = compress_noise(tmp_path, tmp_path / "a.png", b"before", preexec_fn=limited)
    assert (code, said.endswith("File too large\n"), len(said.splitlines())) == (1, True, 1)
