"""Fit the family s(1 + a(u + v)) to training pictures: BD-rate against Pillow below 0.4 bits a pixel.

python tools/jpeg_family.py FOLDER [--pictures 40] [--subsampling 420]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from nlaic.evaluate.bd import bd_rate, below
from nlaic.evaluate.codecs import Coder, parse
from nlaic.picture import read_picture

LIMIT = 0.4  # bits a pixel
SIZE = (768, 512)


def curve(coder: Coder, settings: tuple[float, ...], picture: Image.Image) -> list[tuple[float, float]]:
    points = []
    for setting in settings:
        data = coder.encode(picture, setting)
        decoded = np.asarray(coder.decode(data), float)
        mse = np.square(decoded - np.asarray(picture)).mean()
        points.append((8 * len(data) / (picture.width * picture.height), -10 * np.log10(max(mse, 1e-9) / 255**2)))
    return below(points, LIMIT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--subsampling", default="420")
    parser.add_argument("--a", type=float, nargs="+", default=[0.3, 0.45, 0.6, 0.8])
    parser.add_argument("--chroma", type=float, nargs="+", default=[0.7, 0.8, 0.9, 1.0, 1.2])
    args = parser.parse_args()
    files = sorted(path for path in args.folder.rglob("*") if path.suffix in (".avif", ".png", ".jpg"))
    pictures = [read_picture(path).crop((0, 0, *SIZE)) for path in files[7 :: max(1, len(files) // args.pictures)]]
    anchor = parse(f"jpeg-packed:subsampling={args.subsampling}")
    anchors = [curve(anchor.open(), anchor.codec.settings, picture) for picture in pictures]
    for a in args.a:
        for chroma in args.chroma:
            spec = parse(f"jpeg-family:subsampling={args.subsampling},a={a},chroma={chroma}")
            rates = [
                bd_rate(other, curve(spec.open(), spec.codec.settings, picture))
                for other, picture in zip(anchors, pictures, strict=True)
            ]
            found = [rate for rate in rates if rate is not None]
            print(f"a {a:g} chroma {chroma:g}: {np.mean(found):.2f} % ({len(found)} pictures)", flush=True)


if __name__ == "__main__":
    main()
