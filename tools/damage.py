"""Random single-byte changes and truncations of a file: every one must be found, and salvage must keep what is intact.

    python tools/damage.py [PHOTO] [--count 10000] [--salvaged 500] [--seed 0]

Each byte's turn comes as often as every other's, the header's too. A change is *found* if decoding raises FormatError,
*undetected* if a picture comes back; any other error ends the run. `salvaged` of them are then salvaged: blocks that
were not touched must be what they were, to the bit.
"""

import argparse
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import nlaic
from nlaic import container
from nlaic.tiles import Grid

BLOCK = (128, 64)


def picture(path: Path | None) -> Image.Image:
    """A part of a photograph, or noise with a photograph's spectrum, about."""
    if path:
        from nlaic.picture import read_picture

        return read_picture(path).crop((0, 0, 300, 170))
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (17, 30, 3), dtype=np.uint8))
    return small.resize((300, 170), Image.Resampling.BICUBIC)


def damaged(rng: random.Random, data: bytes, number: int) -> bytes:
    """Every fourth time cut, else one byte changed."""
    place = rng.randrange(len(data))
    if number % 4 == 0:
        return data[:place]
    return data[:place] + bytes([data[place] ^ rng.randrange(1, 256)]) + data[place + 1 :]


def check_salvage(codec: "nlaic.codec.Codec", data: bytes, sound: np.ndarray, file: container.Container) -> str:
    """Salvage, and compare the blocks that are said to be intact."""
    grid = Grid(file.header.width, file.header.height, BLOCK)
    try:
        salvaged = codec.salvage(data, boundary_filter=False)
    except nlaic.FormatError:
        return "header lost"
    for number in set(range(file.header.blocks)) - set(salvaged.blocks):
        left, top, right, bottom = grid.box(number)
        same = np.asarray(salvaged.picture)[top:bottom, left:right] == sound[top:bottom, left:right]
        assert same.all(), f"block {number} is said to be intact, but differs"
    assert salvaged.damage, "salvage found no damage"
    return "salvaged"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--salvaged", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="light")
    arguments = parser.parse_args()
    codec = nlaic.load(arguments.model, device="cpu", threads=1)
    data = codec.compress(picture(arguments.photo), 60, effort=1, block=BLOCK)
    sound, file = np.asarray(codec.decompress(data, boundary_filter=False)), container.unpack(data)
    rng, counts, start = random.Random(arguments.seed), Counter[str](), time.monotonic()
    for number in range(arguments.count):
        other = damaged(rng, data, number)
        cut, header = len(other) < len(data), other[: file.header_bytes] != data[: file.header_bytes]
        kind = "cut" if cut else "in the header" if header else "in a block"
        try:
            codec.decompress(other)
            counts["undetected"] += 1
        except nlaic.FormatError:
            counts[f"found, {kind}"] += 1
        if number < arguments.salvaged:
            counts[check_salvage(codec, other, sound, file)] += 1
    print(f"a file of {len(data)} bytes, {file.header_bytes} of them its header, {file.header.blocks} blocks")
    seconds = time.monotonic() - start
    print(f"{arguments.count} damages in {seconds:.0f} s: {counts['undetected']} undetected; {dict(counts)}")


if __name__ == "__main__":
    main()
