"""The codecs that are compared: a small protocol and a table of rows.

A row is named in `codecs=[...]`, with options after a colon where it has any: `light:effort=9`, `avif:speed=0`.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

from PIL import Image, features

from nlaic.errors import NlaicError
from nlaic.version import __version__


class MissingError(NlaicError):
    """A codec or metric that this installation lacks; the message is the reason it is skipped."""


class Coder(Protocol):
    """One codec, opened. `version` names everything but the setting that decides the bytes."""

    version: str

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to the bytes of a file."""

    def decode(self, data: bytes) -> Image.Image:
        """The bytes of a file to an RGB picture."""


@dataclass(frozen=True)
class Codec:
    """A row of the table.

    Attributes:
        name: as in `codecs=[...]`.
        label: for people.
        open: makes the coder from options; raises `MissingError` where it cannot be had.
        settings: the sweep, from the smallest file to the largest.
        finest: (first, last, step) of all settings there are, in the same direction; for a search of one rate.
        setting: what the number is.
    """

    name: str
    label: str
    open: Callable[..., Coder]
    settings: tuple[float, ...]
    finest: tuple[float, float, float]
    setting: str = "quality"

    def all_settings(self) -> list[float]:
        """Every setting, from the smallest file to the largest."""
        first, last, step = self.finest
        count = round(abs(last - first) / step)
        return [round(first + (last - first) * n / count, 6) for n in range(count + 1)]


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
        """An RGB picture to a file."""
        out = BytesIO()
        image.save(out, self.format, **self.options(quality))
        return out.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        """Back to RGB."""
        return Image.open(BytesIO(data), formats=[self.format]).convert("RGB")


class NlaicCoder:
    """This codec with one set of weights.

    Args:
        model: name or file of the weights.
        effort: 1..9, of the encoder.
        realism: 0..1, of the decoder.
    """

    def __init__(self, model: str = "light", effort: float = 3, realism: float | None = None) -> None:
        import nlaic

        try:
            self.codec = nlaic.load(model, device="cpu", threads=1)
        except NlaicError as error:
            raise MissingError(str(error)) from error
        self.effort, self.realism = int(effort), realism
        self.version = f"nlaic {__version__} {weights_hash(self.codec)} effort {self.effort} realism {realism or 0:g}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a .nlaic file."""
        return self.codec.compress(image, quality, effort=self.effort)

    def decode(self, data: bytes) -> Image.Image:
        """Back to RGB."""
        return self.codec.decompress(data, realism=self.realism)


class NlaicSeries:
    """Weights of one rate each; the setting is the number of the weights, 1 the lowest rate.

    Args:
        models: their names or files, separated by +.
        effort: 1..9.
        realism: 0..1.
    """

    def __init__(
        self, models: str = "nlaic-low+nlaic-mid+nlaic-high", effort: float = 3, realism: float | None = None
    ) -> None:
        self.coders = [NlaicCoder(model, effort, realism) for model in models.split("+")]
        self.version = " | ".join(coder.version for coder in self.coders)

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """Which weights, then the file."""
        number = int(quality)
        if not 1 <= number <= len(self.coders):
            raise NlaicError(f"there are {len(self.coders)} weights, but setting is {quality:g}")
        return self.coders[number - 1].encode(image, 50)

    def decode(self, data: bytes) -> Image.Image:
        """The file says which weights it is of."""
        from nlaic import container

        model = container.unpack(data).header.model_id
        return next(c for c in self.coders if c.codec.weights.model_id == model).decode(data)


class JpegliCoder:
    """JPEG by jpegli (pyjpegli): 4:2:0, progressive, as it comes."""

    def __init__(self) -> None:
        self.library = plugin("pyjpegli", "pyjpegli")
        self.version = installed("pyjpegli")

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a JPEG file."""
        return bytes(self.library.encode(image.tobytes(), image.width, image.height, round(quality)))

    def decode(self, data: bytes) -> Image.Image:
        """By libjpeg, as everybody will."""
        return Image.open(BytesIO(data), formats=["JPEG"]).convert("RGB")


def plugin(module: str, package: str) -> Any:
    """Import what an extra brings, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"{package} is missing: pip install 'nlaic[eval]'") from error


def installed(package: str) -> str:
    """Name and version of a package, for `version`."""
    return f"{package} {importlib.metadata.version(package)}"


def weights_hash(codec: Any) -> str:
    """A name for all of the weights; the model id leaves out what files do not depend on."""
    import hashlib

    return f"{codec.name}@{hashlib.sha256(codec.weights.to_bytes()).hexdigest()[:8]}"


def _pillow(format: str, feature: str, options: Callable[..., dict[str, Any]], **defaults: Any) -> Callable[..., Coder]:
    """`open` of a format inside Pillow."""

    def open(**given: Any) -> Coder:
        _check_options(format, given, defaults)
        if not features.check(feature):
            raise MissingError(f"this Pillow was built without {format}")
        chosen = defaults | given
        return PillowCoder(
            format, lambda q: options(q, **chosen), f"{feature} {features.version(feature) or 'built in'}"
        )

    return open


def _plugin_format(
    format: str, module: str, package: str, options: Callable[..., dict[str, Any]], **defaults: Any
) -> Callable[..., Coder]:
    """`open` of a format that a plug-in adds to Pillow."""

    def open(**given: Any) -> Coder:
        _check_options(format, given, defaults)
        library = plugin(module, package)
        if hasattr(library, "register_heif_opener"):
            library.register_heif_opener()
        chosen = defaults | given
        return PillowCoder(format, lambda q: options(q, **chosen), installed(package))

    return open


def _check_options(format: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    if unknown := sorted(set(given) - set(known)):
        allowed = f"allowed are {', '.join(known)}" if known else "there are none"
        raise NlaicError(f"codec {format} has no option {unknown[0]!r}: {allowed}")


def _jpeg2000(ratio: float) -> dict[str, Any]:
    return {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True, "mct": 1}


def _webp(quality: float, method: float) -> dict[str, Any]:
    return {"quality": int(quality), "method": int(method)}


def _avif(quality: float, speed: float) -> dict[str, Any]:
    return {"quality": int(quality), "speed": int(speed), "subsampling": "4:2:0"}


def _table() -> dict[str, Codec]:
    """All rows; `jpegs`, `programs` and `zoo` add those that are not one library call."""
    from nlaic.evaluate import jpegs, programs, zoo

    percent = (1.0, 100.0, 1.0)
    pillow = [
        Codec(
            "jpeg",
            "JPEG",
            _pillow("JPEG", "jpg", lambda q: {"quality": int(q), "optimize": True}),
            (3, 5, 8, 12, 18, 25, 35, 50, 65, 80),
            percent,
        ),
        Codec("webp", "WebP", _pillow("WEBP", "webp", _webp, method=6), (0, 5, 15, 30, 50, 65, 80), (0, 100, 1)),
        Codec(
            "jpeg2000",
            "JPEG 2000",
            _pillow("JPEG2000", "jpg_2000", _jpeg2000),
            (240, 160, 96, 60, 40, 24, 16),
            (1000, 1, 1),
            "compression ratio",
        ),
        Codec(
            "avif",
            "AVIF",
            _pillow("AVIF", "avif", _avif, speed=4),
            (15, 25, 32, 40, 48, 55, 65, 75),
            (0, 100, 1),
        ),
        Codec(
            "jxl",
            "JPEG XL",
            _plugin_format(
                "JXL",
                "pillow_jxl",
                "pillow-jxl-plugin",
                lambda q, effort: {"quality": int(q), "effort": int(effort)},
                effort=7,
            ),
            (5, 15, 30, 45, 60, 75, 85),
            (0, 100, 1),
        ),
        Codec(
            "heic",
            "HEIC",
            _plugin_format("HEIF", "pillow_heif", "pillow-heif", lambda q: {"quality": int(q)}),
            (10, 18, 26, 34, 42, 50, 60, 70),
            (0, 100, 1),
        ),
        Codec("jpegli", "jpegli", JpegliCoder, (5, 10, 15, 20, 30, 40, 50, 60, 75), percent),
    ]
    ours = [
        Codec("light", "nlaic light", NlaicCoder, tuple(range(0, 101, 10)), (0, 100, 0.1)),
        Codec("nlaic", "nlaic", NlaicSeries, (1, 2, 3), (1, 3, 1), "number of the weights"),
    ]
    return {row.name: row for row in (*ours, *pillow, *jpegs.ROWS, *programs.ROWS, *zoo.ROWS)}


@dataclass(frozen=True)
class Spec:
    """A codec with its options, as the user named it."""

    text: str
    codec: Codec
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """For people, options with it."""
        options = self.text.partition(":")[2]
        return f"{self.codec.label} ({options.replace(',', ', ')})" if options else self.codec.label

    def open(self) -> Coder:
        """The coder; NlaicError for an option it does not have, MissingError where it cannot be had."""
        try:
            return self.codec.open(**self.options)
        except TypeError as error:
            raise NlaicError(f"codec {self.text!r}: {error}".replace("__init__() ", "")) from error


def parse(text: str) -> Spec:
    """`name` or `name:option=value,option=value`.

    Raises:
        NlaicError: if the name is not known; it lists those that are.
    """
    table = _table()
    name, _, options = text.partition(":")
    if name not in table:
        raise NlaicError(f"codecs: {name!r} is none of {', '.join(table)}")
    values: dict[str, Any] = {}
    for part in filter(None, options.split(",")):
        key, sign, value = part.partition("=")
        if not sign:
            raise NlaicError(f"codecs: {text!r}: options are written name=value, but got {part!r}")
        values[key.strip()] = _number(value.strip())
    return Spec(text, table[name], values)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
