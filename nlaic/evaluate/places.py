"""Where pictures come from and results go."""

from collections.abc import Sequence
from pathlib import Path

from nlaic.errors import NlaicError
from nlaic.evaluate import results
from nlaic.evaluate.points import Picture


def find_pictures(root: Path, without: Sequence[Path] = ()) -> list[Path]:
    """All pictures in a folder and below, but for those in some folders.

    Raises:
        NlaicError: if there are none.
    """
    from nlaic.picture import INPUT_SUFFIXES

    if not root.is_dir():
        raise NlaicError(f"data.root={root}: no such folder")
    files = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in INPUT_SUFFIXES
        and path.is_file()
        and not any(path.is_relative_to(folder) for folder in without)
    )
    if not files:
        raise NlaicError(f"data.root={root}: no picture in it (looked for {' '.join(sorted(INPUT_SUFFIXES))})")
    return files


def check_out(out: Path, pictures: Sequence[Picture], force: bool) -> None:
    """Refuse a folder with other things in it, or with results of other pictures."""
    if out.exists() and not out.is_dir():
        raise NlaicError(f"out={out} is not a folder")
    if force or not out.is_dir():
        return
    if (out / results.JSON).is_file():
        before = {picture["sha256"] for picture in results.read_json(out)["data"]["pictures"]}
        if before != {picture.sha256 for picture in pictures}:
            raise NlaicError(f"out={out} holds results of other pictures: name another, or force=true")
    elif others := sorted(path.name for path in out.iterdir() if path.name != "cache"):
        raise NlaicError(f"out={out} holds other files ({others[0]}): name another, or force=true")
