"""A first look at a picture that Pillow has opened: what is no picture, what would be read wrongly, what is left out.

Before loading, which would start programs or lose facts.
"""

from typing import Any

from PIL import Image

from nlaic.errors import NlaicError
from nlaic.notes import Warn
from nlaic.plugin import FORMAT, SUFFIX

_NO_PIXELS = {  # formats that are not opened, and what they are
    **dict.fromkeys(("EPS", "WMF", "EMF"), "a drawing"),  # Pillow would start another program to render them
    "IPTC": "a wrapper",  # Pillow would open what is inside, whatever it is
}
_PAGED = frozenset({"MPO", "PSD", "ICO", "ICNS"})  # their further frames are previews, layers or sizes
_SUBFILE, _BITS, _BELOW, _SAMPLES, _DNG = 254, 258, 330, 339, 50706  # tags of TIFF
_REDUCED, _SIGNED = 1, 2  # values of the first, and of that of samples


def look_at(image: Image.Image, warn: Warn) -> None:
    """Refuse what has no pixels, or others than would be read; tell what is left out."""
    if image.format in _NO_PIXELS:
        raise NlaicError(f"{image.format} is {_NO_PIXELS[image.format]}, not a picture of pixels")
    if image.format == FORMAT:
        raise NlaicError(f"is a {SUFFIX} file already: nlaic-decompress makes a picture of it")
    not_empty(image)
    deep = not image.mode.startswith("I") and any(map(_is_deep, getattr(image, "tile", ())))
    if image.format == "TIFF":
        _check_tiff(image, deep)
    frames = 1 if image.format in _PAGED else getattr(image, "n_frames", 1)
    if frames > 1:
        warn(f"the first of {frames} frames is taken")
    if deep:
        warn("16 bits a sample reduced to 8")  # Pillow itself does it while loading
        if isinstance(image.info.get("transparency"), tuple):
            image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])


def not_empty(image: Image.Image) -> None:
    """Refuse a picture without pixels."""
    if 0 in image.size:
        raise NlaicError(f"{image.width}x{image.height} pixels: at least 1x1 is needed")


def _check_tiff(image: Any, deep: bool) -> None:
    """Refuse camera raw, of which Pillow reads a preview, and samples that it takes for others."""
    tags = image.tag_v2
    if _DNG in tags or (tags.get(_SUBFILE) == _REDUCED and _BELOW in tags):
        raise NlaicError("holds only a preview here: camera raw, develop it first")
    if image.mode.startswith(("I", "F")):
        return
    if max(tags.get(_BITS, (1,))) > 8 and not deep:
        raise NlaicError("16 bits a sample in planes apart: save it with the samples of a pixel together")
    if _SIGNED in tags.get(_SAMPLES, ()):
        raise NlaicError("samples of 8 bits with a sign: allowed are those without")


def _is_deep(tile: Any) -> bool:
    """Whether a part of a picture, as Pillow is about to load it, has more than 8 bits a sample."""
    deep_ppm = tile[0].startswith("ppm") and isinstance(tile[3], tuple) and tile[3][-1] > 255
    return deep_ppm or ";16" in str(tile)
