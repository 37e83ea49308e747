"""What a learned decoder may put into a picture that was not there: checkerboards, life in flat parts, casts of colour.

    python tools/artefacts.py kodak/ [--model mine.safetensors] [--quality 20 44 70] [--realism 0 1]

A row for each quality and realism, of all pictures:

grid 8, 16  mean jump between neighbouring pixels at multiples of 8 (of 16) over the mean jump elsewhere, divided by the
            same ratio in the original: the mean over the pictures and the largest; 1 is no checkerboard. Pictures lose
            their first rows and columns before, so that the grid of 8 that one may have, of a JPEG, is not this one
flat        of the 8x8 blocks of luma whose standard deviation in the original is below one level: how many, the mean of
            their deviation in the decoded picture, and the share of those above 1.5
colour      the largest difference between the means of R, G or B of a picture and its original, in levels
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from seams import Seams

import nlaic
from nlaic.codec import Codec
from nlaic.nets.layers import RGB_TO_YCBCR
from nlaic.picture import read_picture

GRIDS = (8, 16)
CUT = (3, 5)  # columns and rows
FLAT, LIVELY = 1.0, 1.5  # levels


@dataclass(frozen=True)
class Found:
    """Of one picture: the ratio of steps at each grid, deviations of flat blocks, the largest difference of a mean."""

    steps: list[float]
    flat: np.ndarray
    colour: float


def found(decoded: np.ndarray, original: np.ndarray) -> Found:
    """Two pictures float32 [h, w, 3]."""
    grids = [Seams(original.shape[:2], (side, side)) for side in GRIDS]
    flat = deviations(decoded)[deviations(original) < FLAT]
    colour = np.abs(decoded.mean((0, 1)) - original.mean((0, 1))).max()
    return Found([grid.step(decoded) / grid.step(original) for grid in grids], flat, float(colour))


def deviations(pixels: np.ndarray) -> np.ndarray:
    """Standard deviation of luma in every whole 8x8 block, [n]."""
    luma = pixels @ np.asarray(RGB_TO_YCBCR[0], np.float32)
    height, width = (side // 8 * 8 for side in luma.shape)
    blocks = luma[:height, :width].reshape(height // 8, 8, width // 8, 8)
    return blocks.std((1, 3)).ravel()


def cut(picture: Image.Image) -> Image.Image:
    """Without its first columns and rows."""
    return picture.crop((*CUT, *picture.size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="light")
    parser.add_argument("--quality", type=float, nargs="+", default=[20, 44, 60, 80])
    parser.add_argument("--realism", type=float, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    codec = nlaic.load(arguments.model, device="cpu", threads=arguments.threads)
    pictures = [cut(read_picture(path).convert("RGB")) for path in sorted(arguments.folder.iterdir())]
    print("| quality | realism | bpp | grid 8 | grid 16 | flat blocks | deviation | lively | colour |")
    print("|" + "---|" * 9)
    for quality in arguments.quality:
        files = [codec.compress(picture, quality) for picture in pictures]
        for realism in arguments.realism if codec.has_second_decoder else [0.0]:
            print(row(codec, pictures, files, quality, realism), flush=True)


def row(codec: Codec, pictures: list[Image.Image], files: list[bytes], quality: float, realism: float) -> str:
    """One line of the table."""
    bpp = np.mean([8 * len(data) / (p.width * p.height) for data, p in zip(files, pictures, strict=True)])
    every = [
        found(np.asarray(codec.decompress(data, realism=realism), np.float32), np.asarray(picture, np.float32))
        for data, picture in zip(files, pictures, strict=True)
    ]
    steps = np.array([one.steps for one in every])
    flat = np.concatenate([one.flat for one in every])
    cells = [f"{quality:g}", f"{realism:g}", f"{bpp:.3f}"]
    cells += [f"{mean:.3f} ({most:.3f})" for mean, most in zip(steps.mean(0), steps.max(0), strict=True)]
    cells += [f"{len(flat)}", f"{flat.mean():.2f}", f"{(flat > LIVELY).mean():.1%}"] if len(flat) else ["0", "-", "-"]
    return "| " + " | ".join([*cells, f"{max(one.colour for one in every):.2f}"]) + " |"


if __name__ == "__main__":
    main()
