"""The codec's peak memory against the size of its blocks, each in a process of its own.

    python tools/memory.py photo.png [--models light,nlaic.safetensors] [--blocks 256,512,1024,2048x1024,whole]

Resident memory of the whole process in MB, and of that what the engine and the weights are. One thread, effort 1.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from peak import peak
from PIL import Image
from rich.console import Console
from rich.table import Table

from nlaic.tiles import padded


def compress(start: Callable[[], None], model: str, path: Path, block: tuple[int, int], target: Path) -> None:
    import nlaic
    from nlaic.picture import read_picture

    codec = nlaic.load(model, device="cpu", threads=1)
    start()
    target.write_bytes(codec.compress(read_picture(path), 45, effort=1, block=block))


def decompress(start: Callable[[], None], model: str, path: Path) -> None:
    import nlaic

    codec = nlaic.load(model, device="cpu", threads=1)
    start()
    codec.decompress(path.read_bytes())


def sides(text: str, size: tuple[int, int]) -> tuple[int, int]:
    """256, 2048x1024 or whole."""
    if text == "whole":
        return padded(size[0]), padded(size[1])
    width, _, height = text.partition("x")
    return int(width), int(height or width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--models", default="light", help="names or files, with commas between")
    parser.add_argument("--blocks", default="256,512,1024,2048x1024,whole")
    parser.add_argument("--scratch", type=Path, default=Path("memory.nlaic"), help="a file to write and to remove")
    arguments = parser.parse_args()
    with Image.open(arguments.image) as image:
        size = image.size
    table = Table(title=f"peak MB at {size[0]}x{size[1]}")
    for column in ("weights", "blocks", "before", "encode", "decode", "seconds"):
        table.add_column(column, justify="left" if column == "weights" else "right")
    for model in arguments.models.split(","):
        for text in arguments.blocks.split(","):
            block = sides(text, size)
            begin = time.perf_counter()
            encoding = peak(compress, model, arguments.image, block, arguments.scratch)
            decoding = peak(decompress, model, arguments.scratch) if encoding else None
            seconds = time.perf_counter() - begin
            cells = [f"{result[1]:.0f}" if result else "out of memory" for result in (encoding, decoding)]
            before = f"{encoding[0]:.0f}" if encoding else "-"
            table.add_row(Path(model).name, "{}x{}".format(*block), before, *cells, f"{seconds:.0f}")
    arguments.scratch.unlink(missing_ok=True)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
