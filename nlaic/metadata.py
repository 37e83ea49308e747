"""EXIF and XMP: out of a picture that Pillow opened, and into the files that Pillow writes."""

import math
import re
from numbers import Real
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from nlaic import exif
from nlaic.notes import Warn

KEYS = {"icc_profile": "colour profile", "exif": "EXIF", "xmp": "XMP"}  # in Pillow's `info`: their names for people
HOLDERS = frozenset({"PNG", "JPEG", "WEBP", "AVIF", "TIFF"})  # formats that hold all three
_PARSED = frozenset({"AVIF", "TIFF"})  # of these, those whose EXIF Pillow reads before it writes it
_JPEG_LIMITS = {"exif": 65533, "xmp": 65504, "icc_profile": 255 * 65519}  # bytes
_TEXTS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)  # title, make, model, software, date, artist, rights
_UNIT = 0x0128
_DESCRIPTIVE = (*_TEXTS, 0x011A, 0x011B, _UNIT)  # tags of TIFF files that say nothing of how their pixels are stored
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_XMP_TAG, _PREDICTOR_TAG, _HORIZONTAL = 700, 317, 2
_IPTC_TAG, _IPTC_RESOURCE, _IPTC_TEXT = 33723, 0x0404, "Raw profile type iptc"  # of TIFF, of Photoshop in JPEG, of PNG
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_TURN = re.compile(rb'(tiff:Orientation(?:="|>))[0-9]')


def metadata_of(image: Image.Image, warn: Warn) -> dict[str, bytes]:
    """`exif` (with its prefix) and `xmp` as far as they are there, their orientation 1; the picture stays as it is.

    `warn` hears of what is damaged, and of what else there is.
    """
    found = {}
    try:
        stored = image.info.get("exif")
        kept = exif.upright(stored if isinstance(stored, bytes) else _descriptive(image))
        if kept:
            found["exif"] = exif.PREFIX + kept
    except Exception as error:  # Pillow raises nearly anything on damaged files
        warn(f"EXIF left out, it is damaged ({type(error).__name__})")
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode(errors="replace")
    if xmp and isinstance(xmp, bytes):
        found["xmp"] = _TURN.sub(rb"\g<1>1", xmp)
    elif xmp:
        warn("XMP left out, it is damaged")
    _tell_others(image, warn)
    return found


def _tell_others(image: Image.Image, warn: Warn) -> None:
    """What else says something of a picture, and has no place in other files."""
    resources = image.info.get("photoshop")
    in_jpeg = isinstance(resources, dict) and resources.get(_IPTC_RESOURCE)
    if in_jpeg or _IPTC_TAG in getattr(image, "tag_v2", ()) or _IPTC_TEXT in image.info:
        warn("IPTC (caption, keywords, rights) left out")
    if any(content.startswith(_EXTENDED_XMP) for _, content in getattr(image, "applist", ())):
        warn("extended XMP left out, what goes beyond the first 64 kB")


def save_options(metadata: dict[str, bytes], format: str, warn: Warn) -> dict[str, Any]:
    """Arguments of `Image.save` that write the metadata, for one of HOLDERS."""
    left = {key: size for key, size in _JPEG_LIMITS.items() if format == "JPEG" and len(metadata.get(key, b"")) > size}
    for key, limit in left.items():
        warn(f"{KEYS[key]} left out, it has {len(metadata[key])} bytes and JPEG holds {limit}")
    kept: dict[str, Any] = {key: content for key, content in metadata.items() if key not in left}
    if format in _PARSED and "exif" in kept:
        kept["exif"] = _parsed(kept["exif"])
        if not kept["exif"]:
            warn(f"EXIF left out, it is damaged or empty, and {format} holds none such")
            del kept["exif"]
    if format == "PNG" and "xmp" in kept:
        kept["pnginfo"] = PngImagePlugin.PngInfo()
        kept["pnginfo"].add_itxt("XML:com.adobe.xmp", kept.pop("xmp").decode(errors="replace"))
    if format == "TIFF":
        kept["tiffinfo"] = _tiff_tags(kept.pop("exif", b""), kept.pop("xmp", b""), warn)
    return kept


def _parsed(stored: bytes) -> bytes:
    """EXIF for the writers of _PARSED, empty where it is damaged or has no tags.

    Without an orientation, because of which AVIF's would write all tags anew, which it cannot where one is odd.
    """
    tags = Image.Exif()
    try:
        kept = exif.without_orientation(stored)
        tags.load(kept)
    except Exception:  # Pillow raises nearly anything on damaged EXIF
        return b""
    return exif.PREFIX + kept if len(tags) else b""


def _descriptive(image: Image.Image) -> bytes:
    """EXIF of a TIFF file, whose tags stand among those of the pixels, or where a program has hidden it otherwise."""
    stored, kept = image.getexif(), Image.Exif()
    kept.update({tag: stored[tag] for tag in _DESCRIPTIVE if tag in stored})
    for directory in _DIRECTORIES:
        if below := dict(stored.get_ifd(directory)):
            kept[directory] = below
    return kept.tobytes()


def _tiff_tags(stored: bytes, xmp: bytes, warn: Warn) -> dict[int, Any]:
    """Among the tags of the pixels; Pillow writes no further directories into compressed files."""
    tags = Image.Exif()
    if stored:
        tags.load(stored)
    if set(tags) - {*_DESCRIPTIVE, ExifTags.Base.Orientation}:
        warn("of EXIF only title, camera, date and rights are written to TIFF")
    found: dict[int, Any] = {tag: tags[tag] for tag in _DESCRIPTIVE if tag in tags}
    chosen = {tag: value for tag, value in found.items() if _sound(tag, value)}
    if odd := [ExifTags.TAGS[tag] for tag in found if tag not in chosen]:
        warn(f"{', '.join(odd)} of EXIF left out, TIFF holds none such")
    return chosen | {_PREDICTOR_TAG: _HORIZONTAL} | ({_XMP_TAG: xmp} if xmp else {})


def _sound(tag: int, value: Any) -> bool:
    """Whether a tag of _DESCRIPTIVE is what it has to be: libtiff refuses others, and the picture with them."""
    if tag in _TEXTS:
        return isinstance(value, (str, bytes))
    if tag == _UNIT:
        return isinstance(value, int) and 1 <= value <= 3
    try:
        return isinstance(value, Real) and 0 <= float(value) < math.inf
    except ZeroDivisionError:  # 0/0 before Pillow 12.2
        return False
