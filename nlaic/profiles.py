"""Colour profiles (ICC): which are kept with the values as they are, and the way to sRGB for the others."""

from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from nlaic.notes import Warn

SRGB_WITHIN = 2  # levels of 8 bits: a profile that is no further from sRGB says nothing
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}  # of the profile that fits a mode
_BAD = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


def settled(image: Image.Image, profile: bytes, *, to_srgb: bool, warn: Warn) -> tuple[Image.Image, bytes]:
    """A picture and the profile that it still needs; none where its colours are in sRGB.

    Args:
        image: of mode L, LA, RGB, RGBA, CMYK or LAB; the last two always become sRGB.
        profile: as it was found. One that is damaged, or not of the picture's kind, is ignored, which `warn` hears.
        to_srgb: convert the others too.
        warn: hears of conversions.
    """
    mode = image.mode if image.mode in _SPACES else image.mode.removesuffix("A")
    try:
        source = ImageCms.getOpenProfile(BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space != _SPACES[mode]:
            warn(f"colour profile ignored: it is of {space} colours, the picture of {_SPACES[mode]}")
            return image, b""
        if mode in ("L", "RGB") and _is_srgb(source, mode):
            return image, b""
        if mode in ("L", "RGB") and not to_srgb:
            return image, profile
        name = ImageCms.getProfileDescription(source).strip()
        converted = _through(image if image.mode == mode else image.convert(mode), source)
    except _BAD as error:
        warn(f"colour profile ignored: {error or 'not usable'}")
        return image, b""
    warn(f"colours converted from {name!r} to sRGB")
    converted = converted.convert("L") if mode == "L" else converted
    if image.mode != mode:
        converted.putalpha(image.getchannel("A"))
    return converted, b""


def _is_srgb(source: ImageCms.ImageCmsProfile, mode: str) -> bool:
    """By what it does to colours: names are not to be relied on."""
    probe = _probe(mode)
    found = np.asarray(_through(probe, source)).astype(int)
    return bool(np.abs(found - np.asarray(probe.convert("RGB"))).max() <= SRGB_WITHIN)


@cache
def _probe(mode: str) -> Image.Image:
    """Colours of all kinds."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3))


def _through(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # only with inPlace
    return converted
