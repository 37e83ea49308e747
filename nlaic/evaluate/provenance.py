"""What the numbers of an evaluation depend on beside its settings: versions and the machine."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from nlaic.ahead import processors
from nlaic.version import __version__

PACKAGES = ("torch", "pillow", "numpy", "pytorch-msssim", "piq", "pytorch-fid", "bjontegaard", "imageio-ffmpeg")


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
