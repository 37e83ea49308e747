"""The studies of the learned-JPEG paper that are not a curve: its rate proxy (4.4) and what attention does (4.5).

    python tools/jpeg_studies.py proxy FOLDER OUT.png [--model A.safetensors B.safetensors] [--subsampling 444]
    python tools/jpeg_studies.py maps PICTURE OUT.png [--model FILE] [--quality 30]

`proxy` prints Eq. 10 beside real bits a pixel, a row a quality (or a row a model, where each is of one lambda), and
plots one over the other. `maps` draws the picture, the maps of luma and chroma (means over the frequencies, stretched),
the picture that attention leaves before any rounding, and the decoded file.
"""

import argparse
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from nlaic.classic.jpeg.blocks import Planes, analyse, dequantised, synthesise
from nlaic.classic.jpeg.encoder import Options, encode
from nlaic.classic.jpeg.model import Model, as_tables, load
from nlaic.picture import read_picture

ALPHA, BETA = 10.0, 1.0  # of Eq. 10
QUALITIES = (0, 10, 20, 30, 40, 50)
SUFFIXES = (".png", ".avif", ".jpg", ".webp")


def attended(model: Model, planes: Planes, quality: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Tables, and the maps of every plane."""
    tables = as_tables(model.log_steps(planes.subsampling, quality))
    scaled = [c / tables[min(n, 1)].astype(np.float32) for n, c in enumerate(planes.coefficients)]
    return tables, model.attention(planes.subsampling)(scaled, planes)


def proxy(args: argparse.Namespace) -> None:
    files = sorted(path for path in Path(args.source).rglob("*") if path.suffix in SUFFIXES)[: args.pictures]
    models = [load(name) for name in args.model]
    cases = [(model, 50.0) for model in models] if len(models) > 1 else [(models[0], float(q)) for q in QUALITIES]
    rows = []
    for model, quality in cases:
        found = [measured(model, read_picture(path), quality, args.subsampling) for path in files]
        rows.append(np.mean(found, axis=0))
        print("tables {:7.3f}  attention {:6.4f}  Eq. 10 {:7.3f}  real {:6.4f} bpp".format(*rows[-1]), flush=True)
    plot(np.array(rows), args.out)


def measured(model: Model, image: Image.Image, quality: float, subsampling: str) -> list[float]:
    """The two terms of Eq. 10, their sum, and bits a pixel of the file."""
    tables, maps = attended(model, analyse(np.asarray(image), subsampling), quality)
    of_tables, of_maps = ALPHA * float((1 / tables).sum()), BETA * float(maps[0].mean() + maps[1].mean())
    data = encode(image, model, quality, Options(subsampling, rounding="attention"))
    return [of_tables, of_maps, of_tables + of_maps, 8 * len(data) / (image.width * image.height)]


def plot(rows: np.ndarray, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 4))
    for number, label in enumerate(("tables", "attention", "both (Eq. 10)")):
        axes.plot(rows[:, 3], rows[:, number], "o-", label=label)
    axes.set(xlabel="bits per pixel", ylabel="rate loss", yscale="log")
    axes.legend()
    figure.savefig(out, bbox_inches="tight", dpi=120)


def maps(args: argparse.Namespace) -> None:
    image = read_picture(Path(args.source))
    planes, model = analyse(np.asarray(image), args.subsampling), load(args.model[0])
    tables, found = attended(model, planes, args.quality)
    left = tuple(c * a for c, a in zip(planes.coefficients, found, strict=True))
    smoothed = synthesise(dequantised(planes, left, np.ones_like(tables)))
    data = encode(image, model, args.quality, Options(args.subsampling, rounding="attention"))
    decoded = Image.open(BytesIO(data)).convert("RGB")
    parts = [image, *(stretched(a.mean((2, 3)), image.size) for a in found[:2])]
    parts += [Image.fromarray(np.clip(np.rint(smoothed), 0, 255).astype(np.uint8)), decoded]
    strip = Image.new("RGB", (image.width * len(parts), image.height))
    for number, part in enumerate(parts):
        strip.paste(part, (number * image.width, 0))
    strip.save(args.out)
    bpp = 8 * len(data) / (image.width * image.height)
    print(f"{args.out}: original, luma, chroma, smoothed, decoded at {bpp:.3f} bpp")


def stretched(values: np.ndarray, size: tuple[int, int]) -> Image.Image:
    low, high = values.min(), values.max()
    grey = np.rint(255 * (values - low) / max(high - low, 1e-9)).astype(np.uint8)
    return Image.fromarray(grey).resize(size, Image.Resampling.NEAREST).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("proxy", "maps"))
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", nargs="+", default=["jpeg"])
    parser.add_argument("--quality", type=float, default=30)
    parser.add_argument("--subsampling", default="420")
    parser.add_argument("--pictures", type=int, default=24)
    args = parser.parse_args()
    {"proxy": proxy, "maps": maps}[args.study](args)


if __name__ == "__main__":
    main()
