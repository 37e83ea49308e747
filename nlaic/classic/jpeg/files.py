"""Levels and tables to the bytes of a JPEG file, and back.

The integers themselves are written, by jpeglib; mozjpeg-lossless-optimization then packs them without touching one.
Where these packages are missing, Pillow is given the picture that the levels decode to, and rounds it again.
"""

import tempfile
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nlaic.classic.jpeg.blocks import Planes, dequantised, synthesise
from nlaic.notes import Warn, ignore

CODINGS = ("progressive", "optimised", "default")
NEEDED = ("jpeglib", "mozjpeg_lossless_optimization")
WITHOUT = (
    "jpeglib and mozjpeg-lossless-optimization are missing (pip install 'nlaic[classic]'): Pillow writes the file, "
    "some levels are rounded once more, and it is larger, by about 2 % at -q 50 and 16 % at -q 15"
)
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_SOS = 0xDA  # the marker of a scan
_ICC_PART = 65519  # bytes of a profile that one segment holds


@dataclass(frozen=True)
class Levels:
    """What a JPEG file says of its pixels.

    Attributes:
        planes: int16 [rows, columns, 8, 8] of Y, or Y, Cb, Cr.
        tables: [2, 8, 8] of 1..255, luma and chroma.
    """

    planes: tuple[np.ndarray, ...]
    tables: np.ndarray


@cache
def can_write_levels() -> bool:
    """Whether both packages are there."""
    try:
        for name in NEEDED:
            __import__(name)
    except (ImportError, OSError):
        return False
    return True


def write(shape: Planes, levels: Levels, coding: str = "progressive", warn: Warn = ignore) -> bytes:
    """The file.

    Args:
        shape: size and subsampling; its coefficients are not looked at.
        levels: see there.
        coding: `progressive` and `optimised` with Huffman tables of the picture's own, `default` with those of T.81.
        warn: hears of what Pillow in the place of jpeglib costs.
    """
    if not can_write_levels():
        warn(WITHOUT)
        return _by_pillow(shape, levels, coding)
    data = _by_jpeglib(shape, levels, optimise=coding != "default")
    if coding != "progressive":
        return data
    import mozjpeg_lossless_optimization

    return min(data, bytes(mozjpeg_lossless_optimization.optimize(data)), key=len)


def read_levels(data: bytes) -> Levels:
    """The levels and tables of a file, by jpeglib; raises OSError where it is no JPEG file."""
    import jpeglib

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "levels.jpg"
        path.write_bytes(data)
        found = jpeglib.read_dct(str(path))
        planes = tuple(plane.copy() for plane in (found.Y, found.Cb, found.Cr) if plane is not None)
        tables = found.qt[found.quant_tbl_no[: min(len(planes), 2)]].astype(int)
    return Levels(planes, np.concatenate([tables, tables])[:2])


def _by_jpeglib(shape: Planes, levels: Levels, optimise: bool) -> bytes:
    import jpeglib

    coded = jpeglib.from_dct(*levels.planes, qt=levels.tables[: min(len(levels.planes), 2)].astype(np.uint16))
    coded.height, coded.width = shape.height, shape.width
    if len(levels.planes) == 3:
        luma = (2, 2) if shape.subsampling == "420" else (1, 1)
        coded.samp_factor = np.array([luma, (1, 1), (1, 1)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "levels.jpg"
        coded.write_dct(str(path), flags=["+OPTIMIZE_CODING"] if optimise else ["-OPTIMIZE_CODING"])
        return _with_ids(path.read_bytes())


def _with_ids(data: bytes) -> bytes:
    """With components 1, 2, 3, as JFIF has it and Java insists, where jpeglib writes 0, 1, 2; for files of one scan."""
    out, place = bytearray(data), 2
    while True:
        kind, length = out[place + 1], int.from_bytes(out[place + 2 : place + 4], "big")
        frame, scan = kind in (0xC0, 0xC1, 0xC2), kind == _SOS
        if frame or scan:
            count, first, size = (place + 9, place + 10, 3) if frame else (place + 4, place + 5, 2)
            for number in range(out[count]):
                out[first + size * number] = number + 1
        if scan:
            return bytes(out)
        place += 2 + length


def _by_pillow(shape: Planes, levels: Levels, coding: str) -> bytes:
    """Chroma is repeated, so that the mean over 2x2 that Pillow takes finds it again."""
    pixels = synthesise(dequantised(shape, levels.planes, levels.tables), smooth=False)
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    options: dict[str, Any] = {"qtables": [table.ravel().tolist() for table in levels.tables]}
    options |= {"optimize": True} if coding != "default" else {}
    options |= {"progressive": True} if coding == "progressive" else {}
    out = BytesIO()
    image.save(out, "JPEG", subsampling="4:2:0" if shape.subsampling == "420" else "4:4:4", **options)
    return out.getvalue()


def with_metadata(data: bytes, metadata: dict[str, bytes]) -> bytes:
    """Put `exif`, `xmp` and `icc_profile`, by the keys of Pillow's `info`, behind the first segment."""
    segments = []
    if "exif" in metadata:
        segments.append(_segment(0xE1, _EXIF + metadata["exif"].removeprefix(_EXIF)))
    if "xmp" in metadata:
        segments.append(_segment(0xE1, _XMP + metadata["xmp"]))
    profile = metadata.get("icc_profile", b"")
    parts = [profile[n : n + _ICC_PART] for n in range(0, len(profile), _ICC_PART)]
    segments += [_segment(0xE2, _ICC + bytes([n, len(parts)]) + part) for n, part in enumerate(parts, 1)]
    behind = 2  # SOI; then JFIF's segment, which has to be the first
    if data[2:4] == b"\xff\xe0":
        behind = 4 + int.from_bytes(data[4:6], "big")
    return data[:behind] + b"".join(segments) + data[behind:]


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content
