"""Speed of the codec and of its commands: medians over repeated turns, every setting in each turn.

    python tools/bench.py [photo.png] [--efforts 1,3] [--turns 5] [--threads N]

Compare figures of one run with each other, as ratios; machines differ and are noisy.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import nlaic
from nlaic.picture import read_picture


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def command(*words: str) -> Callable[[], object]:
    script = Path(sys.executable).parent / words[0]
    return lambda: subprocess.run([str(script), *words[1:]], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path, help="default: a photograph that scikit-image brings")
    parser.add_argument("--model", default="light")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--efforts", default="1,3")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.image:
        picture = read_picture(arguments.image)
    else:
        from skimage import data

        picture = Image.fromarray(data.coffee())
    codec = nlaic.load(arguments.model, device="cpu", threads=arguments.threads)
    efforts = [int(e) for e in arguments.efforts.split(",")]
    file = codec.compress(picture, arguments.quality)
    megapixels = picture.width * picture.height / 1e6

    work: dict[str, Callable[[], object]] = {"decompress": lambda: codec.decompress(file)}
    for effort in efforts:
        work[f"compress -e {effort}"] = lambda effort=effort: codec.compress(picture, arguments.quality, effort=effort)
    start = {f"nlaic-{name} --help": command(f"nlaic-{name}", "--help") for name in ("compress", "decompress", "info")}
    times: dict[str, list[float]] = {}
    for _ in range(arguments.turns):
        for name, one in (work | start).items():
            times.setdefault(name, []).append(seconds(one))

    print(f"{picture.width}x{picture.height}, {8e-6 * len(file) / megapixels:.3f} bpp, {arguments.turns} turns")
    for name, values in times.items():
        middle = statistics.median(values)
        speed = f"{megapixels / middle:7.2f} MP/s" if name in work else " " * 12
        print(f"{name:22s} {middle:7.3f} s ({min(values):.3f} to {max(values):.3f}) {speed}")


if __name__ == "__main__":
    main()
