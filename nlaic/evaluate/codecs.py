"""The codecs that are compared: a small protocol and a table of rows.

A row is named in `codecs=[...]`, with options after a colon where it has any: `light:effort=9`, `avif:speed=0`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from io import BytesIO
from typing import Any

from PIL import Image

from nlaic.classic.coders import (
    Coder,
    MissingError,
    avif_options,
    check_options,
    heic_options,
    installed,
    jpeg_options,
    pillow_coder,
    plugin,
    plugin_coder,
    webp_options,
)
from nlaic.errors import NlaicError
from nlaic.evaluate.provenance import program


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

    def check(self, settings: Sequence[float]) -> None:
        """Refuse a setting that a library would round to another.

        Raises:
            NlaicError: for the first of them.
        """
        allowed, (first, last, step) = set(self.all_settings()), self.finest
        if wrong := [setting for setting in settings if round(setting, 6) not in allowed]:
            raise NlaicError(
                f"settings.{self.name}: {wrong[0]:g} is none of {first:g} to {last:g} in steps of {step:g}"
            )


class NlaicCoder:
    """This codec with one set of weights.

    Args:
        model: name or file of the weights.
        effort: 1..9, of the encoder.
        realism: 0..1, of the decoder.
    """

    def __init__(self, model: str = "light", effort: float = 3, realism: float | None = None) -> None:
        import nlaic
        from nlaic.engine import engine_for

        if effort not in range(1, 10):
            raise ValueError(f"effort must be 1 to 9, but got {effort:g}")
        try:
            self.codec = nlaic.load(model, device="cpu", threads=1, engine=engine_for(int(effort)))
        except NlaicError as error:
            raise MissingError(str(error)) from error
        self.effort, self.realism = int(effort), self.codec.realism if realism is None else realism
        engine = f"{self.codec.engine.name} {self.codec.engine.precision}"
        options = f"effort {self.effort} realism {self.realism:g}"
        self.version = f"{program()} {weights_hash(self.codec)} {options} {engine}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a .nlaic file."""
        return self.codec.compress(image, quality, effort=self.effort)

    def decode(self, data: bytes) -> Image.Image:
        """Back to RGB."""
        return self.codec.decompress(data, realism=self.realism)


class Series:
    """Weights of one rate each; the setting is the number of the weights, 1 the lowest rate."""

    def __init__(self, coders: Sequence[Coder]) -> None:
        self.coders, self.settings = coders, tuple(range(1, len(coders) + 1))
        self.version = " | ".join(coder.version for coder in coders)

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """Which weights, then the file."""
        number = int(quality)
        if not 1 <= number <= len(self.coders):
            raise NlaicError(f"there are {len(self.coders)} weights, but setting is {quality:g}")
        return self.coders[number - 1].encode(image, 50)


class NlaicSeries(Series):
    """This codec.

    Args:
        models: names or files of the weights, separated by +.
        effort: 1..9.
        realism: 0..1.
    """

    def __init__(
        self, models: str = "nlaic-low+nlaic-mid+nlaic-high", effort: float = 3, realism: float | None = None
    ) -> None:
        coders = [NlaicCoder(model, effort, realism) for model in models.split("+")]
        super().__init__(coders)
        self.coder_of = {coder.codec.weights.model_id: coder for coder in coders}
        if len(self.coder_of) < len({coder.version for coder in coders}):
            raise NlaicError(f"models={models}: some have one model id, so that files do not tell them apart")

    def decode(self, data: bytes) -> Image.Image:
        """The file says which weights it is of."""
        from nlaic.codec import model_id_of

        return self.coder_of[model_id_of(data)].decode(data)


class JpegDecoder:
    """Files that libjpeg-turbo decodes, by way of Pillow, as it will for everybody."""

    def decode(self, data: bytes) -> Image.Image:
        """Back to RGB."""
        return Image.open(BytesIO(data), formats=["JPEG"]).convert("RGB")


class JpegliCoder(JpegDecoder):
    """JPEG by jpegli (pyjpegli): 4:2:0, progressive, as it comes."""

    def __init__(self) -> None:
        self.library = plugin("pyjpegli", "pyjpegli")
        self.version = installed("pyjpegli")

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a JPEG file."""
        return bytes(self.library.encode(image.tobytes(), image.width, image.height, round(quality)))


def weights_hash(codec: Any) -> str:
    """A name for all of the weights; the model id leaves out what files do not depend on."""
    import hashlib

    return f"{codec.name}@{hashlib.sha256(codec.weights.to_bytes()).hexdigest()[:8]}"


def _jpeg2000(ratio: float) -> dict[str, Any]:
    return {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True, "mct": 1}


_PERCENT = (1.0, 100.0, 1.0)
PILLOW = (
    Codec(
        "jpeg",
        "JPEG",
        pillow_coder("JPEG", "jpg", jpeg_options),
        (3, 5, 8, 12, 18, 25, 35, 50, 65, 80),
        _PERCENT,
    ),
    Codec(
        "webp",
        "WebP",
        pillow_coder("WEBP", "webp", webp_options, method=6),
        (0, 5, 15, 30, 50, 65, 80),
        (0, 100, 1),
    ),
    Codec(
        "jpeg2000",
        "JPEG 2000",
        pillow_coder("JPEG2000", "jpg_2000", _jpeg2000),
        (240, 160, 96, 60, 40, 24, 16),
        (1000, 1, 1),
        "compression ratio",
    ),
    Codec(
        "avif",
        "AVIF",
        pillow_coder("AVIF", "avif", avif_options, speed=4),
        (15, 25, 32, 40, 48, 55, 65, 75),
        (0, 100, 1),
    ),
    Codec(
        "jxl",
        "JPEG XL",
        plugin_coder(
            "JXL",
            "pillow_jxl",
            "pillow-jxl-plugin",
            "eval",
            lambda q, effort: {"quality": int(q), "effort": int(effort)},
            effort=7,
        ),
        (5, 15, 30, 45, 60, 75, 85),
        (0, 100, 1),
    ),
    Codec(
        "heic",
        "HEIC",
        plugin_coder("HEIF", "pillow_heif", "pillow-heif", "classic", heic_options),
        (10, 18, 26, 34, 42, 50, 60, 70),
        (0, 100, 1),
    ),
    Codec("jpegli", "jpegli", JpegliCoder, (5, 10, 15, 20, 30, 40, 50, 60, 75), _PERCENT),
)
OURS = (
    Codec("light", "nlaic light", NlaicCoder, tuple(range(0, 101, 10)), (0, 100, 0.1)),
    Codec("nlaic", "nlaic", NlaicSeries, (1, 2, 3), (1, 3, 1), "number of the weights"),
)


def _table() -> dict[str, Codec]:
    """All rows; `jpegs`, `programs` and `zoo` add those that are not one library call."""
    from nlaic.evaluate import jpegs, programs, zoo

    return {row.name: row for row in (*OURS, *PILLOW, *jpegs.ROWS, *programs.ROWS, *zoo.ROWS)}


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
        known = signature(self.codec.open).parameters
        if all(one.kind is not one.VAR_KEYWORD for one in known.values()):  # else it looks at them itself
            check_options(self.codec.name, self.options, known)
        try:
            coder = self.codec.open(**self.options)
        except (TypeError, ValueError, KeyError) as error:
            raise NlaicError(f"codec {self.text!r}: {error}") from error
        if not hasattr(coder, "version"):
            raise NlaicError(f"codec {self.text!r} has no version, by which its points are kept")
        return coder


def parse(text: str) -> Spec:
    """`name` or `name:option=value,option=value`; `codec+filter` is the codec with a filter behind it.

    Raises:
        NlaicError: if the name is not known; it lists those that are.
    """
    table = _table()
    name, _, options = text.partition(":")
    if name.partition("+")[0] in table and "+" in name:
        from nlaic.evaluate.filtered import filtered_row

        table[name] = filtered_row(name, table[name.partition("+")[0]])
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
