"""Rows of base codecs with a filter behind them: `codecs=['jpeg+restore-light','vvc+colorblust:rotations=1']`."""

from dataclasses import replace

import numpy as np
from PIL import Image

from nlaic.classic.file import BaseEncoder, parse_pair
from nlaic.classic.section import read_base
from nlaic.container import MAX_PIXELS
from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import Codec, Coder, MissingError, weights_hash
from nlaic.evaluate.provenance import program


class FilteredCoder:
    """A base codec and a filter in a .nlaic file, on one thread.

    Args:
        name: `codec+filter`.
        rotations: 1 for the mean over four rotations.
        model: a weights file in the place of the filter's own.
        precision: of the filter, as of `nlaic.engine.Execution`.
    """

    def __init__(self, name: str, rotations: float = 0, model: str | None = None, precision: str = "auto") -> None:
        from nlaic.classic.file import BaseDecoder
        from nlaic.classic.restore import Restorer, Running
        from nlaic.classic.weights import find_filter
        from nlaic.engine import Execution

        pair, execution = parse_pair(name), Execution("cpu", 1, precision)
        if not pair.filter:
            raise NlaicError(f"codecs: {name!r} names no filter: codec+filter")
        try:
            self.restorer = Restorer(find_filter(model or pair.filter, pair.base.name), execution)
            self.encoder = BaseEncoder(pair, execution, filters={pair.filter: self.restorer})
        except NlaicError as error:
            raise MissingError(str(error)) from error
        self.plain, self.running = BaseDecoder(execution, filtered=False), Running(rotations=bool(rotations))
        turned = " rotations" if rotations else ""
        engine = f"{program()} {execution.chosen()} {precision}"
        self.version = f"{self.encoder.coder.version} {weights_hash(self.restorer)}{turned} {engine}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a .nlaic file."""
        return self.encoder.compress(image, quality)

    def decode(self, data: bytes) -> Image.Image:
        """The base codec's picture, filtered."""
        file, section = read_base(data, MAX_PIXELS)
        level = section.base.level(file.header.quality / 10)
        decoded = np.asarray(self.plain.decompress(data))
        return Image.fromarray(self.restorer.restore(decoded, level, self.running))


def filtered_row(name: str, base: Codec) -> Codec:
    """The row of a base codec with a filter behind it.

    Args:
        name: `codec+filter`.
        base: the codec's own row.
    """

    def open(rotations: float = 0, model: str | None = None, precision: str = "auto") -> Coder:
        return FilteredCoder(name, rotations, model, precision)

    return replace(base, name=name, label=f"{base.label} + {name.partition('+')[2]}", open=open)
