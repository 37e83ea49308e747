"""How often SVAC2's multi-scale mode wins behind a base codec, and by how much (docs/classic.md).

    python tools/scales.py FOLDER CODEC SETTING [SETTING ...]

A row a setting: bits per pixel of one stream, in how many pictures two are chosen, at which reductions, and what the
chosen ones gain over one stream of as many bytes in dB, by the codec's own curve between its two nearest settings:
mean and most.
"""

import argparse
import math
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from nlaic.classic.base import BASES
from nlaic.classic.coders import Coder
from nlaic.classic.scales import best, code, psnr
from nlaic.picture import INPUT_SUFFIXES, open_picture


class Curve:
    """PSNR of one stream over its size, measured where it is asked for."""

    def __init__(self, coder: Coder, settings: list[int], picture: Image.Image) -> None:
        self.settings, self.picture = settings, picture
        self.at = cache(lambda place: code(coder, picture, settings[place]))

    def psnr_at(self, size: int) -> float:
        """Between the two settings whose streams are next to it; beyond the last one, of that one."""
        low, high = 0, len(self.settings) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.at(middle).size <= size else (low, middle)
        sizes = [math.log(self.at(place).size) for place in (low, high)]
        return float(np.interp(math.log(size), sizes, [psnr(self.picture, self.at(place)) for place in (low, high)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("codec", choices=sorted(BASES))
    parser.add_argument("settings", type=int, nargs="+")
    arguments = parser.parse_args()
    base = BASES[arguments.codec]
    coder, paths = base.open(), sorted(p for p in arguments.folder.iterdir() if p.suffix.lower() in INPUT_SUFFIXES)
    pictures = [open_picture(path).convert("RGB") for path in paths]
    curves = [Curve(coder, base.settings(), picture) for picture in pictures]
    print("| setting | bpp | two streams | at 1/2, 1/4, 1/8 | gain, mean (most) |\n|---|---|---|---|---|")
    for setting in arguments.settings:
        found = [best(coder, base, picture, setting) for picture in pictures]
        plain = [code(coder, picture, setting) for picture in pictures]
        bpp = np.mean([8 * p.size / (i.width * i.height) for p, i in zip(plain, pictures, strict=True)])
        chosen = [(curve, one) for curve, one in zip(curves, found, strict=True) if one.scale]
        gains = [psnr(curve.picture, one) - curve.psnr_at(one.size) for curve, one in chosen]
        times = ", ".join(str(sum(one.scale == scale for one in found)) for scale in (1, 2, 3))
        gained = f"{np.mean(gains):+.2f} ({max(gains):+.2f}) dB" if gains else ""
        print(f"| {setting} | {bpp:.3f} | {len(gains)} of {len(found)} | {times} | {gained} |", flush=True)


if __name__ == "__main__":
    main()
