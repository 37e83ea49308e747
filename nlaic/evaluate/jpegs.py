"""JPEG in several hands, all of them packed by the same lossless optimiser: Pillow's, a family of tables, ours."""

from io import BytesIO

import numpy as np
from PIL import Image

from nlaic.classic.jpeg.blocks import SUBSAMPLINGS, analyse
from nlaic.classic.jpeg.encoder import Options, encode
from nlaic.classic.jpeg.files import NEEDED, Levels, can_write_levels, write
from nlaic.classic.jpeg.model import Model, load
from nlaic.classic.jpeg.rounding import nearest
from nlaic.classic.jpeg.tables import FITTED, family
from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import Codec, JpegDecoder, JpegliCoder, MissingError, Series, installed, plugin
from nlaic.evaluate.provenance import program


def packed(data: bytes) -> bytes:
    """The same picture in the fewest bytes, by mozjpeg-lossless-optimization."""
    library = plugin("mozjpeg_lossless_optimization", "mozjpeg-lossless-optimization", "classic")
    return min(data, bytes(library.optimize(data)), key=len)


class PackedJpeg(JpegDecoder):
    """Pillow with optimised Huffman tables, then packed; option `subsampling`."""

    def __init__(self, subsampling: float = 420) -> None:
        plugin("mozjpeg_lossless_optimization", "mozjpeg-lossless-optimization", "classic")
        self.subsampling = _subsampling(subsampling)
        self.version = f"Pillow {Image.__version__} {self.subsampling} {installed('mozjpeg-lossless-optimization')}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a JPEG file."""
        out = BytesIO()
        image.save(out, "JPEG", quality=int(quality), optimize=True, subsampling=":".join(self.subsampling))
        return packed(out.getvalue())


class PackedJpegli(JpegliCoder):
    """jpegli, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.version += f" {installed('mozjpeg-lossless-optimization')}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a JPEG file."""
        return packed(super().encode(image, quality))


class FamilyJpeg(JpegDecoder):
    """Tables s(1 + a(u + v)), those of chroma `chroma` times as coarse, the nearest levels; the setting is s."""

    def __init__(self, subsampling: float = 420, a: float | None = None, chroma: float | None = None) -> None:
        _needed()
        self.subsampling = _subsampling(subsampling)
        fitted = FITTED[self.subsampling]
        self.a, self.chroma = fitted[0] if a is None else a, fitted[1] if chroma is None else chroma
        self.version = f"1 {self.subsampling} {self.a:g} {self.chroma:g} {_writers()}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a JPEG file."""
        tables = family(quality, self.a, self.chroma)
        planes = analyse(np.asarray(image), self.subsampling)
        return write(planes, Levels(tuple(nearest(planes, tables)), tables))


class LearnedJpeg(JpegDecoder):
    """Ours. Options: `subsampling`, `rounding` (thoughtful, attention, nearest), `tune` steps, `model`."""

    def __init__(
        self, subsampling: float = 420, rounding: str = "thoughtful", tune: float = 0, model: str = "jpeg"
    ) -> None:
        import hashlib

        _needed()
        try:
            self.model = load(model)
        except NlaicError as error:
            raise MissingError(str(error)) from error
        self.options = Options(_subsampling(subsampling), "progressive", rounding, int(tune))
        key = self.options.subsampling
        unused = () if rounding == "nearest" else (f"{key}.nearest",)
        price = f"{key}.lambdas"
        own = {k: v for k, v in self.model.tensors.items() if k.startswith(f"{key}.") and k not in unused}
        digest = hashlib.sha256(Model(own, {price: self.model.metadata[price]}).to_bytes()).hexdigest()[:8]
        self.version = f"{program()} {digest} {self.options} {_writers()}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a JPEG file."""
        return encode(image, self.model, quality, self.options)


class LearnedSeries(Series, JpegDecoder):
    """Ours, tables and attention alone as in the paper.

    Args:
        models: files of weights, separated by +.
        subsampling: of all of them.
        rounding: `nearest` leaves attention out.
    """

    def __init__(self, models: str = "", subsampling: float = 444, rounding: str = "attention") -> None:
        if not models:
            raise MissingError("jpeg-series is of weights of your own: jpeg-series:models=A+B+C")
        super().__init__([LearnedJpeg(subsampling, rounding, model=model) for model in models.split("+")])


def _subsampling(value: float | str) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if text not in SUBSAMPLINGS:
        raise ValueError(f"subsampling must be one of {', '.join(SUBSAMPLINGS)}, but got {text}")
    return text


def _writers() -> str:
    return f"{installed('jpeglib')} {installed('mozjpeg-lossless-optimization')}"


def _needed() -> None:
    if not can_write_levels():
        raise MissingError(f"{' or '.join(NEEDED).replace('_', '-')} is missing: pip install 'nlaic[classic]'")


ROWS = (
    Codec("jpeg-packed", "JPEG, packed", PackedJpeg, (2, 4, 6, 9, 12, 16, 20, 26, 33, 42, 52, 65), (1.0, 100.0, 1.0)),
    Codec(
        "jpeg-family",
        "JPEG s(1 + a(u + v))",
        FamilyJpeg,
        (110, 80, 60, 45, 34, 26, 20, 15, 12, 9, 6),
        (255, 1, 1),
        "step",
    ),
    Codec("jpeg-learned", "nlaic-jpeg", LearnedJpeg, (0, 7, 14, 20, 26, 32, 38, 44, 50, 58, 66), (0.0, 100.0, 0.1)),
    Codec("jpeg-series", "JPEG, learned", LearnedSeries, (1, 2, 3, 4, 5, 6), (1, 6, 1), "number of the weights"),
    Codec("jpegli-packed", "jpegli, packed", PackedJpegli, (5, 10, 15, 20, 25, 30, 40, 50, 60, 75), (1.0, 100.0, 1.0)),
)
