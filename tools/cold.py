"""What the commands take, started cold: seconds and peak memory from the start of the process to the written file.

    python tools/cold.py photo.png ... [-q 45] [--engines onnx,torch] [--bin ENVIRONMENT/bin] [--turns 5]

Engines take turns. --bin is where the console scripts of the installation to be measured are; the size of its
environment is told too. Seconds are medians (lowest to highest). Linux and macOS.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


def run(line: list[str]) -> tuple[float, float]:
    """(seconds, peak resident MB) of a process that must succeed."""
    begin = time.perf_counter()
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(line)}: exit status {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss * UNIT / 1e6


def lines(scripts: Path, photo: Path, quality: str, engine: str, folder: Path) -> dict[str, list[str]]:
    """What is run, in order."""
    file, back = str(folder / "a.nlaic"), str(folder / "a.png")
    shared = ["--engine", engine, "--force", "--quiet"]
    return {
        "compress": [str(scripts / "nlaic-compress"), str(photo), "-q", quality, "-o", file, *shared],
        "decompress": [str(scripts / "nlaic-decompress"), file, "-o", back, *shared],
    }


def size(environment: Path) -> float:
    """MB of the files of an environment."""
    return sum(path.lstat().st_size for path in environment.rglob("*")) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("-q", "--quality", default="45")
    parser.add_argument("--engines", default="onnx,torch")
    parser.add_argument("--bin", type=Path, default=Path(sys.executable).parent)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    table = Table(title=f"environment of {size(arguments.bin.parent):.0f} MB")
    for column in ("picture", "engine", "command", "seconds", "peak MB", "bits per pixel"):
        table.add_column(column, justify="left" if column in ("picture", "engine", "command") else "right")
    for photo in arguments.photos:
        found, bits = defaultdict(list), {}
        with Image.open(photo) as image:
            width, height = image.size
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(arguments.turns):
                for engine in arguments.engines.split(","):
                    for name, line in lines(arguments.bin, photo, arguments.quality, engine, Path(folder)).items():
                        found[engine, name].append(run(line))
                    bits[engine] = 8 * (Path(folder) / "a.nlaic").stat().st_size / (width * height)
        for (engine, name), values in found.items():
            times, peaks = zip(*values, strict=True)
            spread = f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"
            table.add_row(f"{width}x{height}", engine, name, spread, f"{max(peaks):.0f}", f"{bits[engine]:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
