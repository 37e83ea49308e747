"""Speed of codecs in one run: each in its turn and again, so that all meet the same machine.

    python tools/bench.py photo.png [--codecs light,light@3,nlaic,jpeg] [--threads 2] [--turns 5] [--bpp 0.25] [--peaks]
    python tools/bench.py photo.png --sizes sizes.png     time of `light` against size, 0.1 to 100 megapixels, drawn
    python tools/bench.py train [--help]                  patches a second of training (bench_train.py)

MP/s are medians (lowest to highest). Networks other than ours have random weights, and so has `nlaic` where there are
none: their bits a pixel mean nothing. Compare figures of one run with each other, as ratios; machines differ and are
noisy.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from contenders import make
from peak import peak
from PIL import Image
from rich.console import Console
from rich.table import Table

from nlaic.cli.command import block_size
from nlaic.engine import ENGINES, PRECISIONS, Execution
from nlaic.picture import read_picture

CODECS = "light,light@3,nlaic,hyperprior,mean,cheng,jpeg,webp,avif,jxl,heic"
CROPPED = {"cheng": 512}  # too slow for more
MEGAPIXELS = (0.1, 0.3, 1, 3, 10, 30, 100)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def execution(arguments: argparse.Namespace) -> Execution:
    return Execution(device="cpu", precision=arguments.precision, engine=arguments.engine)


def cropped(picture: Image.Image, name: str) -> Image.Image:
    side = CROPPED.get(name)
    return picture.crop((0, 0, min(side, picture.width), min(side, picture.height))) if side else picture


def there_and_back(start: Callable[[], None], name: str, path: Path, arguments: argparse.Namespace) -> None:
    """In a process of its own, for its peak of memory."""
    limit_threads(arguments.threads)
    picture = cropped(load(path, arguments), name)
    contender = make(name, picture, arguments.bpp, execution(arguments))
    start()
    contender.decode(contender.encode(picture))


def limit_threads(threads: int | None) -> None:
    """Also of codecs that know no such option: by the processors that this process may use."""
    if threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        torch.set_num_threads(threads)


def compare(path: Path, arguments: argparse.Namespace) -> Table:
    """All codecs in turn."""
    picture = load(path, arguments)
    names = arguments.codecs.split(",")
    codecs = {name: make(name, cropped(picture, name), arguments.bpp, execution(arguments)) for name in names}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    bits = {}
    for turn in range(arguments.turns + 1):  # the first warms up
        for name, codec in codecs.items():
            if times[name] and sum(times[name][-1]) > arguments.patience:
                continue
            image, coded = cropped(picture, name), []
            encoding = seconds(lambda codec=codec, image=image, coded=coded: coded.append(codec.encode(image)))
            decoding = seconds(lambda codec=codec, coded=coded: codec.decode(coded[0]))
            bits[name] = 8 * codec.size(coded[0]) / (image.width * image.height)
            if turn or encoding + decoding > arguments.patience:
                times[name].append((encoding, decoding))

    table = Table(title=f"{picture.width}x{picture.height}, {torch.get_num_threads()} threads")
    for column in ("codec", "bpp", "encode MP/s", "decode MP/s", "turns", "kMAC/px enc, dec", "peak MB"):
        table.add_column(column, justify="left" if column == "codec" else "right")
    for name, codec in codecs.items():
        image = cropped(picture, name)
        cells = [speed([t[way] for t in times[name]], image.width * image.height) for way in (0, 1)]
        kmac = f"{codec.kmac[0]:.1f}, {codec.kmac[1]:.1f}" if codec.kmac else "-"
        most = peak(there_and_back, name, path, arguments) if arguments.peaks else None
        label = Path(name).name if image is picture else f"{name}, {image.width}x{image.height}"
        table.add_row(
            label, f"{bits[name]:.3f}", *cells, f"{len(times[name])}", kmac, f"{most[1]:.0f}" if most else "-"
        )
    return table


def speed(times: list[float], pixels: int) -> str:
    middle, low, high = (pixels / 1e6 / t for t in (statistics.median(times), max(times), min(times)))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def draw_sizes(path: Path, arguments: argparse.Namespace) -> None:
    """Seconds of the first codec against megapixels, for a picture tiled to size."""
    import matplotlib.pyplot as plt

    picture, name = load(path, arguments), arguments.codecs.split(",")[0]
    codec = make(name, picture, arguments.bpp, execution(arguments))
    points = []
    for megapixels in (m for m in MEGAPIXELS if m <= arguments.largest):
        image = tiled(picture, megapixels)
        coded: list[bytes] = []
        encoding = seconds(lambda image=image, coded=coded: coded.append(codec.encode(image)))
        points.append((image.width * image.height / 1e6, encoding, seconds(partial(codec.decode, *coded))))
        print("{:8.2f} MP   encode {:8.3f} s   decode {:8.3f} s".format(*points[-1]), flush=True)
    sizes, encoding, decoding = zip(*points, strict=True)
    plt.loglog(sizes, encoding, "o-", label="encode")
    plt.loglog(sizes, decoding, "s-", label="decode")
    plt.loglog(sizes, [decoding[-1] / sizes[-1] * s for s in sizes], ":", color="grey", label="linear")
    plt.xlabel("megapixels")
    plt.ylabel("seconds")
    plt.title(f"{name}, {torch.get_num_threads()} threads")
    plt.legend()
    plt.savefig(arguments.sizes, dpi=120)


def tiled(picture: Image.Image, megapixels: float) -> Image.Image:
    """A picture of a size in the same shape, made of copies."""
    factor = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
    image = Image.new("RGB", (round(picture.width * factor), round(picture.height * factor)))
    for top in range(0, image.height, picture.height):
        for left in range(0, image.width, picture.width):
            image.paste(picture, (left, top))
    return image


def load(path: Path | None, arguments: argparse.Namespace) -> Image.Image:
    if path is None:
        from skimage import data

        picture = Image.fromarray(data.coffee())
    else:
        picture = read_picture(path)
    return picture.crop((0, 0, *arguments.crop)) if arguments.crop else picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path, help="default: a photograph that scikit-image brings")
    parser.add_argument("--codecs", default=CODECS, help=f"default: {CODECS}; `light` may be a weights file too")
    parser.add_argument("--bpp", type=float, default=0.25)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--patience", type=float, default=20.0, help="seconds; what takes longer is timed once")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="of our transforms")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of our transforms")
    parser.add_argument("--crop", type=block_size, help="WxH of the left upper corner")
    parser.add_argument("--peaks", action="store_true", help="measure each codec's peak memory, in its own process")
    parser.add_argument("--sizes", type=Path, metavar="PNG")
    parser.add_argument("--largest", type=float, default=100, help="megapixels of --sizes")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    if arguments.sizes:
        draw_sizes(arguments.image, arguments)
    else:
        Console(width=120).print(compare(arguments.image, arguments))


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        import bench_train

        bench_train.main(sys.argv[2:])
    else:
        main()
