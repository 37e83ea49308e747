"""Rate and distortion over a folder of pictures, by real files: this codec, JPEG and WebP.

    python tools/curve.py FOLDER [--model NAME|FILE] [--effort E] [--qualities 0,10,...] [--jobs N] [--csv OUT.csv]

Every point is a file that was written and decoded again; bpp is that file's size, PSNR is over RGB, both are means over
the pictures at one setting. PSNR at a rate is interpolated in the logarithm of the rate between these means.
"""

import argparse
import csv
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

RATES = (0.15, 0.25, 0.4, 0.6)
JPEG = (3, 5, 8, 12, 16, 22, 30, 40, 50, 60, 70, 80)
WEBP = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80)

Point = tuple[str, float, str, int, float, float, float, float]  # codec, setting, picture, bytes, bpp, dB, s, s


@cache
def codec(model: str) -> object:
    import torch

    import nlaic

    torch.set_num_threads(1)
    return nlaic.load(model, device="cpu", threads=1)


def nlaic_point(
    model: str, effort: int, quality: float, picture: Image.Image
) -> tuple[bytes, Callable[[], Image.Image]]:
    data = codec(model).compress(picture, quality, effort=effort)  # type: ignore[attr-defined]
    return data, lambda: codec(model).decompress(data)  # type: ignore[attr-defined]


def pillow_point(kind: str, setting: float, picture: Image.Image) -> tuple[bytes, Callable[[], Image.Image]]:
    options = {"jpeg": {"optimize": True}, "webp": {"method": 6}}[kind]
    out = BytesIO()
    picture.save(out, kind, quality=int(setting), **options)
    return out.getvalue(), lambda: Image.open(BytesIO(out.getvalue())).convert("RGB")


def measure(path: Path, plan: list[tuple[str, float, Callable]]) -> list[Point]:
    picture = Image.open(path).convert("RGB")
    pixels = np.asarray(picture, float)
    points = []
    for name, setting, encode in plan:
        begin = time.perf_counter()
        data, decode = encode(setting, picture)
        middle = time.perf_counter()
        decoded = decode()
        end = time.perf_counter()
        mse = float(np.mean((np.asarray(decoded, float) - pixels) ** 2))
        bpp = 8 * len(data) / (picture.width * picture.height)
        psnr = 10 * math.log10(255**2 / max(mse, 1e-9))
        points.append((name, setting, path.name, len(data), bpp, psnr, middle - begin, end - middle))
    return points


def means(points: list[Point]) -> dict[str, list[tuple[float, float, float]]]:
    """By codec: (setting, bpp, PSNR), means over the pictures."""
    settings: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for name, setting, _, _, bpp, psnr, _, _ in points:
        settings.setdefault((name, setting), []).append((bpp, psnr))
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for (name, setting), values in sorted(settings.items()):
        bpp, psnr = np.mean(values, axis=0)
        curves.setdefault(name, []).append((setting, float(bpp), float(psnr)))
    return curves


def at_rate(curve: list[tuple[float, float, float]], rate: float) -> float:
    _, bpp, psnr = zip(*sorted(curve, key=lambda p: p[1]), strict=True)
    return float(np.interp(math.log(rate), np.log(bpp), psnr)) if bpp[0] <= rate <= bpp[-1] else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="light")
    parser.add_argument("--effort", default="3", help="one or more, separated by commas")
    parser.add_argument("--qualities", default="0,10,20,30,40,50,60,70,80,90,100")
    parser.add_argument("--every", type=int, default=1, help="take every N-th picture")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--alone", action="store_true", help="no JPEG, no WebP")
    arguments = parser.parse_args()
    qualities = [float(q) for q in arguments.qualities.split(",")]
    plan: list[tuple[str, float, Callable]] = [
        (f"nlaic -e {effort}", quality, partial(nlaic_point, arguments.model, int(effort)))
        for effort in arguments.effort.split(",")
        for quality in qualities
    ]
    for kind, settings in () if arguments.alone else (("jpeg", JPEG), ("webp", WEBP)):
        plan += [(kind, float(setting), partial(pillow_point, kind)) for setting in settings]
    files = sorted(p for p in arguments.folder.iterdir() if p.suffix.lower() in (".png", ".avif"))[:: arguments.every]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        points = [p for some in pool.map(measure, files, [plan] * len(files)) for p in some]
    if arguments.csv:
        with arguments.csv.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(("codec", "setting", "picture", "bytes", "bpp", "psnr", "encode_s", "decode_s"))
            writer.writerows(points)
    show(means(points), len(files))


def show(curves: dict[str, list[tuple[float, float, float]]], pictures: int) -> None:
    print(f"{pictures} pictures, real files\n")
    print("| codec | quality | bpp | PSNR (dB) |\n|---|---|---|---|")
    for name, curve in curves.items():
        for setting, bpp, psnr in curve if name.startswith("nlaic") else ():
            print(f"| {name} | {setting:g} | {bpp:.3f} | {psnr:.2f} |")
    print("\n| PSNR (dB) at bpp | " + " | ".join(f"{r:g}" for r in RATES) + " |\n|---|" + "---|" * len(RATES))
    for name, curve in curves.items():
        print(f"| {name} | " + " | ".join(f"{at_rate(curve, r):.2f}" for r in RATES) + " |")


if __name__ == "__main__":
    main()
