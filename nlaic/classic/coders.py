"""Codecs that people already have, as coders: those that Pillow and its plug-ins write, with what they are told."""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Protocol

from PIL import Image, features

from nlaic.classic.headers import Size, avif_sizes, check_scans, check_size, check_sizes
from nlaic.errors import NlaicError
from nlaic.limits import check_holds, pixel_limit


class MissingError(NlaicError):
    """A codec or metric that this installation lacks; the message is the reason it is skipped."""


class Coder(Protocol):
    """One codec, opened. `version` names everything but the setting that decides the bytes."""

    version: str

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to the bytes of a file."""

    def decode(self, data: bytes) -> Image.Image:
        """The bytes of a file to an RGB picture."""


class BaseCoder(Coder, Protocol):
    """One whose streams stand in other files, which say what size the picture has."""

    def decode(self, data: bytes, size: Size | None = None) -> Image.Image:
        """See `Coder`; a FormatError where the picture is not of the size, found before memory is taken for it."""


class PillowCoder:
    """A format that Pillow or a plug-in of it writes.

    Args:
        format: Pillow's name.
        options: of `save`, from the setting.
        version: of the library.
    """

    def __init__(self, format: str, options: Callable[[float], dict[str, Any]], version: str) -> None:
        self.format, self.options = format, options
        self.version = f"Pillow {Image.__version__} {version} {options(1)}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a file; an NlaicError where the format does not hold it."""
        check_holds(image.size, self.format)
        out = BytesIO()
        try:
            image.save(out, self.format, **self.options(quality))
        except MemoryError:
            raise
        except Exception as error:  # encoders raise nearly anything on sides that are too long
            width, height = image.size
            raise NlaicError(f"{width}x{height} pixels cannot be written as {self.format}: {error}") from error
        return out.getvalue()

    def decode(self, data: bytes, size: Size | None = None) -> Image.Image:
        """Back to RGB."""
        with pixel_limit():
            image = Image.open(BytesIO(data), formats=[self.format])
        check_size(image.size, size, self.format)
        if self.format == "JPEG":
            check_scans(data)
        if self.format == "AVIF" and size:
            check_sizes(avif_sizes(data), size, self.format)
        return image.convert("RGB")


def plugin(module: str, package: str, extra: str = "eval") -> Any:
    """Import what an extra brings, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"{package} is missing: pip install 'nlaic[{extra}]'") from error


def installed(package: str) -> str:
    """Name and version of a package, for `version`."""
    return f"{package} {importlib.metadata.version(package)}"


def pillow_coder(
    format: str, feature: str, options: Callable[..., dict[str, Any]], **defaults: Any
) -> Callable[..., BaseCoder]:
    """`open` of a format inside Pillow."""

    def open(**given: Any) -> BaseCoder:
        check_options(format, given, defaults)
        if not features.check(feature):
            raise MissingError(f"this Pillow was built without {format}")
        chosen = defaults | given
        return PillowCoder(
            format, lambda q: options(q, **chosen), f"{feature} {features.version(feature) or 'built in'}"
        )

    return open


def plugin_coder(
    format: str, module: str, package: str, extra: str, options: Callable[..., dict[str, Any]], **defaults: Any
) -> Callable[..., BaseCoder]:
    """`open` of a format that a plug-in adds to Pillow; `extra` brings it."""

    def open(**given: Any) -> BaseCoder:
        check_options(format, given, defaults)
        library = plugin(module, package, extra)
        if hasattr(library, "register_heif_opener"):
            library.register_heif_opener()
        chosen = defaults | given
        return PillowCoder(format, lambda q: options(q, **chosen), installed(package))

    return open


def check_options(format: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse an option that a format does not have."""
    if unknown := sorted(set(given) - set(known)):
        allowed = f"allowed are {', '.join(known)}" if known else "there are none"
        raise NlaicError(f"codec {format} has no option {unknown[0]!r}: {allowed}")


def jpeg_options(quality: float) -> dict[str, Any]:
    """Of Pillow's JPEG, 4:2:0 as it comes."""
    return {"quality": int(quality), "optimize": True}


def webp_options(quality: float, method: float) -> dict[str, Any]:
    """Of Pillow's WebP."""
    return {"quality": int(quality), "method": int(method)}


def avif_options(quality: float, speed: float) -> dict[str, Any]:
    """Of Pillow's AVIF, 4:2:0."""
    return {"quality": int(quality), "speed": int(speed), "subsampling": "4:2:0"}


def heic_options(quality: float) -> dict[str, Any]:
    """Of pillow-heif's HEIC, 4:2:0 as it comes."""
    return {"quality": int(quality)}
