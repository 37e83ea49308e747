"""Where the files that come with the package are, whether it is installed or worked on in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """The folder `conf` or `weights`: inside an installed package, at the top of a checkout otherwise."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
