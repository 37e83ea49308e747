"""Reading and writing pictures: what Pillow opens becomes what a .nlaic file holds, and what comes back is saved.

A file holds 8 bits a sample, grey or RGB, with alpha or without, upright, with its colour profile, EXIF and XMP. On the
way in (each conversion that loses something is told to `warn`, one line each):

    RGB, L                      as they are; L stays grey
    1                           grey
    P, YCbCr, HSV, LAB          to RGB
    alpha, a transparent colour kept as alpha, left out where all of it is opaque
    I, I;16                     grey, round(v / 257); values outside 0..65535 are refused
    16 bits a sample, others    the upper 8, as Pillow reads them
    F, 8 bits with a sign       refused: its range is not known
    16 bits in planes apart     refused: Pillow reads them as 8
    camera raw                  refused: Pillow reads its preview
    profile of RGB or grey      kept, and the values as they are; left out where it is sRGB's, to 2 levels
    CMYK, LAB                   to sRGB through the profile; without one by Pillow's formula
    profile that is damaged     ignored
    EXIF orientation            applied to the pixels; EXIF and XMP are kept and say 1, the thumbnail is left out
    IPTC, extended XMP          left out
    many frames or pages        the first
    HEIC                        as pillow-heif reads it, where it is installed

Stripped, a picture has no EXIF and no XMP, and a profile is not kept but its colours are converted to sRGB. `to_rgb`
and `read_picture` go further, for programs that look at pixels alone: RGB in sRGB, alpha over white.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from nlaic.classic.coders import plugin
from nlaic.classic.headers import check_scans
from nlaic.errors import NlaicError
from nlaic.limits import check_holds, pixel_limit
from nlaic.looks import look_at, not_empty
from nlaic.metadata import HOLDERS, KEYS, metadata_of, save_options
from nlaic.notes import Warn, ignore
from nlaic.profiles import settled
from nlaic.whole import write_whole

T = TypeVar("T")

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
    | {".apng", ".avifs", ".dds", ".dib", ".gif", ".heic", ".heics", ".heif", ".hif", ".icns", ".ico"}
    | {".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpf", ".jpx"}
    | {".mpo", ".pbm", ".pcx", ".pgm", ".qoi", ".sgi", ".tga"}
)
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 1},  # four times as fast as Pillow's default, 3 % larger
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "quality": 20, "method": 0},  # as fast; quality is the effort here
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "PPM": {},
}
_MODES = ("L", "RGB", "LA", "RGBA")  # of a picture in a .nlaic file
_WITH_ALPHA = frozenset({"PNG", "WEBP", "AVIF", "TIFF"})
_COLOURED = frozenset({"WEBP", "AVIF"})  # Pillow writes grey as RGB
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and what Pillow does not look at where samples have 16 bits
_HEIF = re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)
TURNS = {  # EXIF orientation: what makes the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(source: Path | BinaryIO, *, strip: bool = False, warn: Warn = ignore) -> Image.Image:
    """The picture in a file or stream as a .nlaic file can hold it, by the table above.

    Its mode is L, LA, RGB or RGBA; `info` holds `icc_profile`, `exif` and `xmp` as far as they are there.

    Args:
        source: a path, or a stream of bytes.
        strip: leave EXIF and XMP out, and convert the colours to sRGB.
        warn: hears what is lost on the way.

    Raises OSError where the file cannot be opened, NlaicError (beginning with the path) where it is no good picture.
    """
    return _from(source, lambda image: _with_info(*_normalized(image, strip, warn)), warn)


def read_picture(source: Path | BinaryIO, *, warn: Warn = ignore) -> Image.Image:
    """The same as RGB alone: in sRGB, alpha over white, nothing in `info`."""
    return _from(source, lambda image: _with_info(_rgb(image, warn), {}), warn)


def normalized(image: Image.Image, *, strip: bool = False, warn: Warn = ignore) -> tuple[Image.Image, dict[str, bytes]]:
    """Any Pillow picture as `open_picture` gives it and, apart, its metadata; the picture given stays as it is."""
    return _given(image, lambda loaded: _normalized(loaded, strip, warn))


def to_rgb(image: Image.Image, *, warn: Warn = ignore) -> Image.Image:
    """Any Pillow picture as `read_picture` gives it, but for `info`; the picture given stays as it is."""
    return _given(image, lambda loaded: _rgb(loaded, warn))


def output_format(path: Path) -> str:
    """Pillow's name of the format that the suffix of `path` asks for."""
    Image.init()
    allowed = [suffix for suffix, name in _OUTPUT_FORMATS.items() if name in Image.SAVE]
    suffix = path.suffix.lower()
    if suffix not in allowed:
        got = f"unknown suffix {path.suffix!r}" if suffix else "no suffix to tell the format"
        raise NlaicError(f"{path}: {got}: allowed are {' '.join(allowed)}")
    return _OUTPUT_FORMATS[suffix]


def encode_picture(image: Image.Image, format: str = "PNG", *, warn: Warn = ignore) -> bytes:
    """The bytes of a picture file: lossless where the format can, JPEG and AVIF at quality 95 without subsampling.

    What `open_picture` leaves in `info` is written too. `warn` hears what the format cannot hold: alpha goes over
    white, colours become sRGB.
    """
    if format not in _SAVE_OPTIONS:
        raise NlaicError(f"unknown picture format {format!r}: allowed are {', '.join(_SAVE_OPTIONS)}")
    check_holds(image.size, format)
    metadata = {key: image.info[key] for key in KEYS if isinstance(image.info.get(key), bytes)}
    if "A" in image.mode and format not in _WITH_ALPHA:
        warn(f"{format} holds no transparency: it is put over white")
        image = over_white(image)
    if format in _COLOURED and image.mode in ("L", "LA") and "icc_profile" in metadata:  # it would be of grey values
        image = settled(image, metadata.pop("icc_profile"), to_srgb=True, warn=warn)[0].copy()
        image.info.pop("icc_profile", None)  # which the writer of AVIF would find
    options = _SAVE_OPTIONS[format]
    if format in HOLDERS:
        options = options | save_options(metadata, format, warn)
    elif metadata:
        image = _without(metadata, image, format, warn)
    buffer = BytesIO()  # not the file itself: Pillow hides the reason of a failed write, and TIFF wants to seek
    try:
        image.save(buffer, format, **options)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on what they do not hold
        width, height = image.size
        raise NlaicError(f"{width}x{height} pixels cannot be written as {format}: {error}") from error
    return buffer.getvalue()


def write_picture(image: Image.Image, target: Path | BinaryIO, format: str | None = None) -> None:
    """Write a picture; a file whole or not at all. Without `format` the suffix of the path decides."""
    if isinstance(target, Path):
        write_whole(target, encode_picture(image, format or output_format(target)))
    else:
        target.write(encode_picture(image, format or "PNG"))


def over_white(image: Image.Image) -> Image.Image:
    """Alpha composited over white: LA to L, RGBA to RGB."""
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return whole.convert(image.mode.removesuffix("A"))


def _given(image: Image.Image, convert: Callable[[Image.Image], T]) -> T:
    """What is made of a picture that somebody else has opened, and may have closed again, or tagged."""
    if not isinstance(image, Image.Image):
        raise NlaicError(f"image must be a PIL image, but got {type(image).__name__}: use PIL.Image.open")
    not_empty(image)
    with _sound("the picture is closed, damaged or oddly tagged"):
        return convert(_with_pixels(image))


def _from(source: Path | BinaryIO, convert: Callable[[Image.Image], Image.Image], warn: Warn) -> Image.Image:
    if not isinstance(source, Path):
        return _read(source, convert, warn)
    with source.open("rb") as stream:
        try:
            return _read(stream, convert, warn)
        except NlaicError as error:
            raise NlaicError(f"{source}: {error}") from error


def _read(stream: BinaryIO, convert: Callable[[Image.Image], Image.Image], warn: Warn) -> Image.Image:
    """A picture of an open stream: everything that goes wrong is an NlaicError without a name."""
    with _sound("damaged or truncated picture"):
        if not stream.seekable():
            stream = BytesIO(stream.read())
        if not stream.read(1):
            raise NlaicError("empty file (0 bytes)")
        return convert(_opened(stream, warn))


@contextmanager
def _sound(problem: str) -> Iterator[None]:
    """Everything that goes wrong is an NlaicError; `problem` says what it mostly is."""
    try:
        yield
    except NlaicError:
        raise
    except UnidentifiedImageError as error:
        raise NlaicError("not a picture in a format that is known") from error
    except Image.DecompressionBombError as error:
        raise NlaicError(f"too large: {str(error).split(',')[0]}") from error
    except MemoryError as error:
        raise NlaicError("not enough memory for this picture") from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise NlaicError(f"{problem}: {str(error) or type(error).__name__}") from error


def _opened(stream: BinaryIO, warn: Warn) -> Image.Image:
    with pixel_limit():
        image = _identified(stream)
        if image.format in ("JPEG", "MPO"):
            stream.seek(0)
            check_scans(stream.read())
        look_at(image, warn)
        return _with_pixels(image)


def _identified(stream: BinaryIO) -> Image.Image:
    try:
        return Image.open(stream)
    except UnidentifiedImageError:
        stream.seek(0)
        if not _HEIF.match(stream.read(12)):
            raise
    plugin("pillow_heif", "HEIC needs pillow-heif, which", "classic").register_heif_opener()
    stream.seek(0)
    return Image.open(stream)


def _with_pixels(image: Image.Image) -> Image.Image:
    """Loaded; Pillow makes RGBA of 16-bit grey with alpha."""
    grey = any("LA" in str(part) for part in getattr(image, "tile", ()))
    image.load()
    return image.convert("LA") if grey and image.mode == "RGBA" else image


def _upright(image: Image.Image, warn: Warn) -> Image.Image:
    """Turned by its orientation; without EXIF then, so that nobody turns it again."""
    turn = TURNS.get(orientation_of(image, warn) or 1)
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = {key: image.info[key] for key in ("icc_profile", "transparency") if key in image.info}
    return turned


def orientation_of(image: Image.Image, warn: Warn = ignore) -> int | None:
    """That of EXIF, else of XMP; a damaged EXIF costs the orientation, not the picture."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:  # see _read
        warn(f"orientation not read, EXIF is damaged ({type(error).__name__})")
        orientation = None
    if orientation is None and "exif" in image.info:  # it may be damaged, and XMP sound
        other = Image.new("1", (1, 1))
        other.info = {key: value for key, value in image.info.items() if key != "exif"}
        orientation = other.getexif().get(ExifTags.Base.Orientation)
    return orientation


def _normalized(image: Image.Image, strip: bool, warn: Warn) -> tuple[Image.Image, dict[str, bytes]]:
    """A loaded picture by the table above, and its metadata by the keys of Pillow's `info`."""
    metadata: dict[str, bytes] = {} if strip else metadata_of(image, warn)
    profile = image.info.get("icc_profile")
    negative = image.mode.startswith("I") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image = _in_eight_bits(_upright(image, warn), bool(profile), warn)
    if negative:
        image = ImageOps.invert(image)
    if profile:
        image, kept = settled(image, profile, to_srgb=strip, warn=warn)
        if kept:
            metadata["icc_profile"] = kept
    return image if image.mode in _MODES else image.convert("RGB"), metadata


def _in_eight_bits(image: Image.Image, has_profile: bool, warn: Warn) -> Image.Image:
    """One of _MODES, or CMYK or, where there is a profile for it, LAB."""
    if image.mode == "F":
        raise NlaicError("pixels are floating-point numbers of unknown range (mode F): allowed are 8 and 16 bits")
    if image.mode.startswith("I"):
        image = _sixteen_to_eight(image)
        warn("16 bits a sample reduced to 8")
    if image.has_transparency_data:
        image = image if image.mode in _MODES[2:] else image.convert("LA" if image.mode in ("1", "L", "La") else "RGBA")
        opaque = image.getchannel("A").getextrema() == (255, 255)
        return image.convert(image.mode.removesuffix("A")) if opaque else image
    if image.mode == "1":
        return image.convert("L")
    allowed = (*_MODES, "CMYK", "LAB") if has_profile else (*_MODES, "CMYK")
    return image if image.mode in allowed else image.convert("RGB")


def _sixteen_to_eight(image: Image.Image) -> Image.Image:
    """I and I;16 to L: round(v / 257), so that 65535 is 255; to LA where one value is transparent."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise NlaicError(f"samples from {low} to {high} (mode {image.mode}): allowed are 0 to 65535")
    grey = Image.fromarray(((values.astype(np.uint32) * 2 + 257) // 514).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _rgb(image: Image.Image, warn: Warn) -> Image.Image:
    """RGB in sRGB; nothing is said of alpha where all of it is opaque."""
    image, _ = _normalized(image, True, warn)
    if "A" in image.mode:
        warn("transparency is lost: composited over white")
        image = over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _with_info(image: Image.Image, metadata: dict[str, bytes]) -> Image.Image:
    image.info.clear()
    image.info.update(metadata)  # orientation and transparency are in the pixels now
    return image


def _without(metadata: dict[str, bytes], image: Image.Image, format: str, warn: Warn) -> Image.Image:
    """For a format that holds no metadata: the colours in sRGB."""
    names = [KEYS[key] for key in metadata if key != "icc_profile"]
    if names:
        warn(f"{format} holds no {' and no '.join(names)}: left out")
    return settled(image, metadata["icc_profile"], to_srgb=True, warn=warn)[0] if "icc_profile" in metadata else image
