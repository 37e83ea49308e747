"""What the numbers of an evaluation depend on beside its settings: versions and the machine."""

import hashlib
import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import nlaic
from nlaic.ahead import processors
from nlaic.version import __version__

WITHOUT_CODEC = ("cli", "evaluate", "train")  # parts of the package
PACKAGES = ("torch", "pillow", "numpy", "pytorch-msssim", "piq", "pytorch-fid", "bjontegaard", "imageio-ffmpeg")


@cache
def program() -> str:
    """This package's version, and the first digits of the SHA-256 of all its code that a codec runs through."""
    folder, digest = Path(nlaic.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if path.relative_to(folder).parts[0] not in WITHOUT_CODEC:
            digest.update(path.read_bytes())
    return f"nlaic {__version__}+{digest.hexdigest()[:8]}"


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    found = {"nlaic": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def machine(executor: str, processes: int) -> dict[str, Any]:
    """What it ran on, without its name."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    return {
        "cpu": cpu,
        "processors": os.cpu_count(),
        "system": platform.system(),
        "executor": executor,
        "processes": processes,
        "threads_a_process": 1 if processes or executor == "ray" else processors(),
    }
