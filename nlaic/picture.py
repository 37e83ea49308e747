"""Reading and writing pictures: what Pillow opens becomes 8-bit RGB, upright, in sRGB; what comes back is saved.

Conversions on the way in (each that loses something is told to `warn`, one line each):

    1, L, P, YCbCr, HSV, LAB    to RGB
    alpha, a transparent colour composited over white
    I, I;16                     round(v / 257); values outside 0..65535 are refused
    F                           refused: its range is not known
    CMYK and any ICC profile    to sRGB through the profile; CMYK without one by Pillow's formula
    EXIF orientation            applied
    many frames or pages        the first
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from nlaic.errors import NlaicError
from nlaic.whole import write_whole

Warn = Callable[[str], None]

PIXEL_LIMIT = 1 << 30  # 4 GiB as Pillow stores RGB; its own limit of 2^27.4 refuses pictures that people have

_OUTPUT_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pnm": "PPM",
}
# Looked for in folders; a file that is named is opened whatever its suffix.
INPUT_SUFFIXES = (
    frozenset(_OUTPUT_FORMATS)
    | {".apng", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpx"}
    | {".mpo", ".pbm", ".pcx", ".pgm", ".qoi", ".sgi", ".tga"}
)
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 1},  # four times as fast as Pillow's default, 3 % larger
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "quality": 20, "method": 0},  # as fast; quality is the effort here
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_lzw", "tiffinfo": {317: 2}},  # 317: horizontal predictor
    "BMP": {},
    "PPM": {},
}
_NO_PIXELS = frozenset({"EPS", "WMF", "EMF"})  # drawings: Pillow would start another program to render them
_PAGED = frozenset({"MPO", "PSD", "ICO", "ICNS"})  # their further frames are previews, layers or sizes
_TURNS = {  # EXIF orientation: what makes the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_limit_lock = threading.Lock()  # the setting is the whole process's


def _ignore(note: str) -> None:
    """The `warn` of a caller who does not want to know."""


def read_picture(source: Path | BinaryIO, *, warn: Warn = _ignore) -> Image.Image:
    """The picture in a file or stream as upright RGB; `warn` hears what was lost on the way.

    Raises OSError where the file cannot be opened, NlaicError (beginning with the path) where it is no good picture.
    """
    if not isinstance(source, Path):
        return _read(source, warn)
    with source.open("rb") as stream:
        try:
            return _read(stream, warn)
        except NlaicError as error:
            raise NlaicError(f"{source}: {error}") from error


def to_rgb(image: Image.Image, *, warn: Warn = _ignore) -> Image.Image:
    """Any Pillow picture as upright 8-bit RGB in sRGB, by the table above; the picture given stays as it is."""
    if not isinstance(image, Image.Image):
        raise NlaicError(f"image must be a PIL image, but got {type(image).__name__}: use PIL.Image.open")
    image.load()
    return _converted(_upright(image, warn), warn)


def output_format(path: Path) -> str:
    """Pillow's name of the format that the suffix of `path` asks for."""
    Image.init()
    allowed = [suffix for suffix, name in _OUTPUT_FORMATS.items() if name in Image.SAVE]
    suffix = path.suffix.lower()
    if suffix not in allowed:
        got = f"unknown suffix {path.suffix!r}" if suffix else "no suffix to tell the format"
        raise NlaicError(f"{path}: {got}: allowed are {' '.join(allowed)}")
    return _OUTPUT_FORMATS[suffix]


def encode_picture(image: Image.Image, format: str = "PNG") -> bytes:
    """The bytes of a picture file: lossless where the format can, JPEG and AVIF at quality 95 without subsampling."""
    if format not in _SAVE_OPTIONS:
        raise NlaicError(f"unknown picture format {format!r}: allowed are {', '.join(_SAVE_OPTIONS)}")
    buffer = BytesIO()  # not the file itself: Pillow hides the reason of a failed write, and TIFF wants to seek
    try:
        image.save(buffer, format, **_SAVE_OPTIONS[format])
    except (OSError, ValueError, KeyError, OverflowError) as error:
        width, height = image.size
        raise NlaicError(f"{width}x{height} pixels cannot be written as {format}: {error}") from error
    return buffer.getvalue()


def write_picture(image: Image.Image, target: Path | BinaryIO, format: str | None = None) -> None:
    """Write a picture; a file whole or not at all. Without `format` the suffix of the path decides."""
    if isinstance(target, Path):
        write_whole(target, encode_picture(image, format or output_format(target)))
    else:
        target.write(encode_picture(image, format or "PNG"))


def _read(stream: BinaryIO, warn: Warn) -> Image.Image:
    """`read_picture` of an open stream: everything that goes wrong is an NlaicError without a name."""
    try:
        if not stream.seekable():
            stream = BytesIO(stream.read())
        if not stream.read(1):
            raise NlaicError("empty file (0 bytes)")
        with _pixel_limit():
            image: Image.Image = Image.open(stream)
            _look_at(image, warn)
            image.load()
        image = _upright(image, warn)  # bound to the name, so that what was not upright is not kept meanwhile
        image = _converted(image, warn)
    except NlaicError:
        raise
    except UnidentifiedImageError as error:
        raise NlaicError("not a picture in a format that is known") from error
    except Image.DecompressionBombError as error:
        raise NlaicError(f"too large: {str(error).split(',')[0]}") from error
    except MemoryError as error:
        raise NlaicError("not enough memory for this picture") from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise NlaicError(f"damaged or truncated picture: {error or type(error).__name__}") from error
    image.info = {}  # profile, orientation and transparency are in the pixels now
    return image


@contextmanager
def _pixel_limit() -> Iterator[None]:
    """Let Pillow read up to PIXEL_LIMIT pixels (it refuses above twice its setting), then put its setting back."""
    with _limit_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT // 2
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _look_at(image: Image.Image, warn: Warn) -> None:
    """Refuse what has no pixels; tell what is left out. Before loading, which would start programs or lose facts."""
    if image.format in _NO_PIXELS:
        raise NlaicError(f"{image.format} is a drawing, not a picture of pixels")
    if 0 in image.size:
        raise NlaicError(f"{image.width}x{image.height} pixels: at least 1x1 is needed")
    frames = 1 if image.format in _PAGED else getattr(image, "n_frames", 1)
    if frames > 1:
        warn(f"the first of {frames} frames is taken")
    if not image.mode.startswith("I") and any(";16" in str(part) for part in getattr(image, "tile", ())):
        warn("16 bits a sample reduced to 8")  # Pillow itself does it while loading


def _upright(image: Image.Image, warn: Warn) -> Image.Image:
    """Turned by its EXIF orientation; a damaged EXIF costs the orientation, not the picture."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # see _read
        warn(f"orientation not read, EXIF is damaged ({type(error).__name__})")
        return image
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = {key: image.info[key] for key in ("icc_profile", "transparency") if key in image.info}
    return turned  # without EXIF, so that nobody turns it again


def _converted(image: Image.Image, warn: Warn) -> Image.Image:
    """To 8-bit RGB in sRGB, by the table above but for orientation."""
    if image.mode == "F":
        raise NlaicError("pixels are floating-point numbers of unknown range (mode F): allowed are 8 and 16 bits")
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        image = _sixteen_to_eight(image)
        warn("16 bits a sample reduced to 8")
    if image.has_transparency_data:
        image = _over_white(image, warn)
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile, warn)
    return image if image.mode == "RGB" else image.convert("RGB")


def _sixteen_to_eight(image: Image.Image) -> Image.Image:
    """I and I;16 to L: round(v / 257), so that 65535 is 255."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise NlaicError(f"samples from {low} to {high} (mode {image.mode}): allowed are 0 to 65535")
    return Image.fromarray(((values.astype(np.uint32) * 2 + 257) // 514).astype(np.uint8))


def _over_white(image: Image.Image, warn: Warn) -> Image.Image:
    """Alpha composited over white; nothing is said where all of it is opaque."""
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        warn("transparency is lost: composited over white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes, warn: Warn) -> Image.Image:
    """Colours of an embedded ICC profile to sRGB, so that the picture looks right without the profile."""
    try:
        source = ImageCms.getOpenProfile(BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "sRGB" in name:
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        warn(f"colour profile ignored: {error or 'not usable'}")
        return image
    warn(f"colours converted from {name!r} to sRGB")
    assert converted is not None  # only with inPlace
    return converted
