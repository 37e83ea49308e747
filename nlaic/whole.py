"""Files that are written whole or not at all, whatever ends the process, and however many write the same one."""

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

STALE = 3600  # seconds after which a temporary file that nobody wrote to is what a killed process left


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """The name of a temporary file beside `target`, to be written inside; it then becomes `target`, in one step.

    Before that its bytes are on the disk. Where there is an error, Ctrl-C too, it is removed; a killed process leaves
    it, and the next that writes into the folder removes it, an hour later. Nothing happens where it was not written.
    A link is followed; a device or a pipe is written to itself. Who may read the file stays as it was.
    """
    if target.exists() and not target.is_file():
        yield target
        return
    try:
        target = target.resolve()
    except RuntimeError as error:  # Python's word for it until 3.12
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target)) from error
    _sweep(target.parent)
    part = target.with_name(f".nlaic-{secrets.token_hex(6)}.part")
    try:
        if target.exists():
            part.touch(0o600)  # nobody may read what nobody may read in the end
        empty = part.exists() and part.stat().st_mtime_ns
        yield part
        if part.exists() and part.stat().st_size == 0 and part.stat().st_mtime_ns == empty:
            part.unlink()
        if part.exists():
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            with contextlib.suppress(OSError):
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            part.replace(target)
            _sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_whole(target: Path, data: bytes) -> None:
    """`target` holds all of `data`, or stays as it was."""
    with replacing(target) as part:
        part.write_bytes(data)


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk too, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes left; once a process and folder."""
    for part in sorted(folder.glob(".nlaic-*.part")):
        with contextlib.suppress(OSError):  # another process was faster, or may do more
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink(missing_ok=True)
