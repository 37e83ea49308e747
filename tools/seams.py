"""What the boundary filter does to the seams between blocks, on a folder of pictures.

    python tools/seams.py kodak/ --model mine.safetensors --block 128x128 [--quality 40] [--realism 0] [--crops seams/]

PSNR of the pixels in the strips, MS-SSIM of the picture (nothing else changes), and the step: the mean jump between
neighbouring pixels across a boundary over the mean jump elsewhere, divided by the same ratio in the original. Each
picture is coded whole, in blocks, and in blocks with the filter, at one quality. `--crops` writes a block crossing of
each picture at 4x: original, blocks, filtered.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

import nlaic
from nlaic.cli.command import block_size
from nlaic.codec import Codec
from nlaic.picture import read_picture
from nlaic.seams import WIDTH
from nlaic.tiles import padded

WAYS = ("whole", "blocks", "filtered")
CROP, ZOOM = 80, 4


@dataclass(frozen=True)
class Seams:
    """Where the boundaries of a picture are."""

    shape: tuple[int, int]
    block: tuple[int, int]

    @property
    def columns(self) -> range:
        """First columns of blocks, without 0."""
        return range(self.block[0], self.shape[1], self.block[0])

    @property
    def rows(self) -> range:
        """First rows of blocks, without 0."""
        return range(self.block[1], self.shape[0], self.block[1])

    def mask(self) -> np.ndarray:
        """True in the strips, [h, w]."""
        mask = np.zeros(self.shape, bool)
        for part, boundaries, side in ((mask.T, self.columns, self.block[0]), (mask, self.rows, self.block[1])):
            half = min(WIDTH, side) // 2
            for boundary in boundaries:
                part[boundary - half : boundary + half] = True
        return mask

    def step(self, pixels: np.ndarray) -> float:
        """Mean jump across boundaries over the mean jump elsewhere."""
        jumps = [(np.abs(np.diff(pixels, axis=1)), self.columns, 1), (np.abs(np.diff(pixels, axis=0)), self.rows, 0)]
        here, there = [], []
        for jump, boundaries, axis in jumps:
            at = np.zeros(jump.shape[axis], bool)
            at[[boundary - 1 for boundary in boundaries]] = True
            here.append(jump.compress(at, axis).ravel())
            there.append(jump.compress(~at, axis).ravel())
        return float(np.concatenate(here).mean() / np.concatenate(there).mean())


def scored(pixels: np.ndarray, original: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """PSNR of the pixels of a mask, and MS-SSIM of the picture: its windows are larger than a strip is wide."""
    psnr = 10 * np.log10(255**2 / np.square(pixels - original)[mask].mean())
    a, b = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in (pixels, original))
    return float(psnr), float(ms_ssim(a, b, data_range=255.0))


def coded(
    codec: Codec, picture: Image.Image, block: tuple[int, int], arguments: argparse.Namespace
) -> dict[str, np.ndarray]:
    """The picture by each way, float32 [h, w, 3]."""
    whole = padded(picture.width), padded(picture.height)
    files = {b: codec.compress(picture, arguments.quality, effort=1, block=b) for b in (whole, block)}
    plain, seen = (codec.decompress(files[b], realism=arguments.realism, boundary_filter=False) for b in (whole, block))
    filtered = codec.decompress(files[block], realism=arguments.realism)
    return dict(zip(WAYS, (np.asarray(p, np.float32) for p in (plain, seen, filtered)), strict=True))


def write_crop(target: Path, pictures: list[np.ndarray], seams: Seams) -> None:
    """The crossing nearest to the middle, of each picture, side by side."""
    column, row = (seams.columns or [WIDTH])[len(seams.columns) // 2], (seams.rows or [WIDTH])[len(seams.rows) // 2]
    top, left = max(row - CROP // 2, 0), max(column - CROP // 2, 0)
    crops = np.concatenate([p[top : top + CROP, left : left + CROP] for p in pictures], axis=1).astype(np.uint8)
    image = Image.fromarray(crops)
    image.resize((image.width * ZOOM, image.height * ZOOM), Image.Resampling.NEAREST).save(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="light")
    parser.add_argument("--block", type=block_size, default=(128, 128), metavar="WxH")
    parser.add_argument("--quality", type=float, default=40)
    parser.add_argument("--realism", type=float, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--crops", type=Path)
    arguments = parser.parse_args()
    codec = nlaic.load(arguments.model, device="cpu", threads=arguments.threads)
    if codec.engine.boundary is None:
        parser.error(f"weights {arguments.model} hold no boundary filter")

    rows = []
    for path in sorted(arguments.folder.iterdir()):
        picture = read_picture(path)
        original = np.asarray(picture, np.float32)
        seams = Seams(original.shape[:2], arguments.block)
        ways = coded(codec, picture, arguments.block, arguments)
        scores = {way: scored(ways[way], original, seams.mask()) for way in WAYS}
        steps = [seams.step(ways[way]) / seams.step(original) for way in WAYS]
        rows.append([*(s for way in WAYS for s in scores[way]), *steps])
        numbers = "  ".join(f"{scores[way][0]:6.2f} dB {scores[way][1]:.4f}" for way in WAYS)
        print(f"{path.name:20s} {numbers}   step {steps[0]:.3f} {steps[1]:.3f} {steps[2]:.3f}", flush=True)
        if arguments.crops:
            arguments.crops.mkdir(parents=True, exist_ok=True)
            write_crop(arguments.crops / f"{path.stem}.png", [original, ways["blocks"], ways["filtered"]], seams)

    mean, worse = np.mean(rows, axis=0), np.array(rows)
    print(
        f"\n{len(rows)} pictures in blocks of {arguments.block[0]}x{arguments.block[1]}, quality {arguments.quality:g}"
    )
    print("               PSNR  MS-SSIM    step")
    for k, way in enumerate(WAYS):
        print(f"{way:12s} {mean[2 * k]:8.3f} {mean[2 * k + 1]:8.5f} {mean[6 + k]:7.4f}")
    print(f"won back: {(mean[4] - mean[2]) / (mean[0] - mean[2]):.0%} of the PSNR lost by coding in blocks")
    falls = [int((worse[:, 4 + m] < worse[:, 2 + m]).sum()) for m in (0, 1)]
    print(f"pictures where the filter lowers PSNR: {falls[0]}, MS-SSIM: {falls[1]}")


if __name__ == "__main__":
    main()
