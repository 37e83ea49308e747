"""Compress and decompress one photograph, print what it cost, and draw it beside a JPEG of the same size
(the smallest that there is, where that is larger).

    python tools/demo.py [photo.png] [-q QUALITY]

Writes demo/<name>.nlaic, demo/<name>.png (decoded) and demo/<name>-comparison.png: whole pictures above, a crop at
twice the size below.
"""

import argparse
import importlib.util
import math
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import nlaic
from nlaic.picture import read_picture

PANEL = 560  # width of a column of the comparison
CROP = 280  # side of the crop, shown at twice the size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", help="default: a photograph that scikit-image brings")
    parser.add_argument("-q", "--quality", type=float, default=35)
    arguments = parser.parse_args()
    try:
        name, picture = photograph(arguments.image)
    except (nlaic.NlaicError, OSError) as error:
        raise SystemExit(f"demo: {error}") from error
    folder = Path("demo")
    folder.mkdir(exist_ok=True)

    begin = time.perf_counter()
    codec = nlaic.load("light")
    loaded = time.perf_counter()
    data = codec.compress(picture, arguments.quality)
    compressed = time.perf_counter()
    decoded = codec.decompress(data)
    done = time.perf_counter()
    (folder / f"{name}.nlaic").write_bytes(data)
    decoded.save(folder / f"{name}.png")

    jpeg = jpeg_of_size(picture, len(data))
    kind = ("of the same size", "JPEG") if len(jpeg) <= len(data) else ("the smallest there is", "smallest JPEG")
    pixels = picture.width * picture.height
    print(f"{name}: {picture.width}x{picture.height}, {3 * pixels} bytes as raw RGB")
    print(f"  nlaic  {report(picture, decoded, len(data))}  -q {arguments.quality:g}")
    print(f"  JPEG   {report(picture, Image.open(BytesIO(jpeg)), len(jpeg))}  {kind[0]}")
    equal = jpeg_of_psnr(picture, psnr(picture, decoded))
    if equal:
        print(f"  JPEG   {report(picture, Image.open(BytesIO(equal)), len(equal))}  of the same PSNR, ", end="")
        print(f"{len(equal) / len(data):.1f} times the bytes")
    print(f"  load {loaded - begin:.2f} s, compress {compressed - loaded:.2f} s, decompress {done - compressed:.2f} s")
    columns = [("original", picture), (f"nlaic, {len(data)} bytes", decoded)]
    columns.append((f"{kind[1]}, {len(jpeg)} bytes", Image.open(BytesIO(jpeg)).convert("RGB")))
    target = folder / f"{name}-comparison.png"
    comparison(columns).save(target)
    print(f"  look at {target}")


def photograph(path: str | None) -> tuple[str, Image.Image]:
    if path:
        return Path(path).stem, read_picture(Path(path))
    package = importlib.util.find_spec("skimage")  # not imported: it need not be able to run here
    if package is None or package.origin is None:
        raise SystemExit("no photograph: give one, or pip install --no-deps scikit-image")
    return "coffee", read_picture(Path(package.origin).parent / "data" / "coffee.png")


def psnr(a: Image.Image, b: Image.Image) -> float:
    mse = np.mean((np.asarray(a.convert("RGB"), float) - np.asarray(b.convert("RGB"), float)) ** 2)
    return 10 * math.log10(255**2 / max(mse, 1e-9))


def report(picture: Image.Image, decoded: Image.Image, size: int) -> str:
    bpp = 8 * size / (picture.width * picture.height)
    return f"{size:8d} bytes {bpp:6.3f} bpp {psnr(picture, decoded):6.2f} dB"


def jpeg_at(picture: Image.Image, quality: int) -> bytes:
    out = BytesIO()
    picture.save(out, "jpeg", quality=quality, optimize=True)
    return out.getvalue()


def jpeg_of_size(picture: Image.Image, size: int) -> bytes:
    """The best JPEG that is not larger than `size`, or the smallest there is."""
    files = [jpeg_at(picture, quality) for quality in range(1, 96)]
    return max((f for f in files if len(f) <= size), key=len, default=files[0])


def jpeg_of_psnr(picture: Image.Image, level: float) -> bytes | None:
    for quality in range(1, 96):
        data = jpeg_at(picture, quality)
        if psnr(picture, Image.open(BytesIO(data))) >= level:
            return data
    return None


def comparison(columns: list[tuple[str, Image.Image]]) -> Image.Image:
    """Each column: a title, the whole picture, the middle at twice the size."""
    width, height = columns[0][1].size
    whole = (PANEL, round(PANEL * height / width))
    side = min(CROP, width, height)
    box = ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2)
    font = ImageFont.load_default(18)
    sheet = Image.new("RGB", (len(columns) * (PANEL + 10) - 10, 30 + whole[1] + 10 + PANEL), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, picture) in enumerate(columns):
        left = number * (PANEL + 10)
        draw.text((left + 4, 4), title, "black", font)
        sheet.paste(picture.resize(whole, Image.Resampling.LANCZOS), (left, 30))
        sheet.paste(picture.crop(box).resize((PANEL, PANEL), Image.Resampling.NEAREST), (left, 40 + whole[1]))
    return sheet


if __name__ == "__main__":
    main()
