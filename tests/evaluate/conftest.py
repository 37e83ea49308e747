"""Codecs to put into the table, and an evaluation in this process."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nlaic.errors import NlaicError
from nlaic.evaluate import codecs, points
from nlaic.evaluate.codecs import Codec, MissingError
from nlaic.evaluate.run import Evaluation
from nlaic.evaluate.settings import Settings
from tests.conftest import smooth_picture


class Coarse:
    """Levels of grey, zipped: the setting is how many bits a sample keeps. Counts what it does."""

    version = "1"
    encoded = 0

    def encode(self, image, quality):
        Coarse.encoded += 1
        shift = 8 - int(quality)
        kept = (np.asarray(image) >> shift << shift) + (1 << shift >> 1)
        return np.array(image.size, "<u2").tobytes() + zlib.compress(kept.astype(np.uint8).tobytes())

    def decode(self, data):
        width, height = (int(n) for n in np.frombuffer(data[:4], "<u2"))
        return Image.frombytes("RGB", (width, height), zlib.decompress(data[4:]))


class Fails(Coarse):
    """Refuses pictures that are wide, and decodes those that are high to another size."""

    def encode(self, image, quality):
        if image.width > 200:
            raise ValueError("too wide for me")
        return super().encode(image, quality)

    def decode(self, data):
        image = super().decode(data)
        return image.resize((8, 8)) if image.height > 200 else image


class Grey(Coarse):
    """Loses the colours."""

    def decode(self, data):
        return super().decode(data).convert("L")


def missing():
    raise MissingError("not on this machine")


@pytest.fixture
def table(monkeypatch):
    rows = [
        Codec("coarse", "Coarse", Coarse, (1, 2, 3, 4, 5), (1, 8, 1), "bits"),
        Codec("fails", "Fails", Fails, (2, 4, 6), (1, 8, 1), "bits"),
        Codec("grey", "Grey", Grey, (2, 4, 6), (1, 8, 1), "bits"),
        Codec("missing", "Missing", missing, (1,), (1, 8, 1)),
    ]
    before = codecs._table()
    monkeypatch.setattr(codecs, "_table", lambda: before | {row.name: row for row in rows})
    monkeypatch.setattr(Coarse, "encoded", 0)
    points.coder.cache_clear()
    yield
    points.coder.cache_clear()


class Watch:
    """Listens."""

    def __init__(self):
        self.notes, self.phases = [], {}

    def phase(self, name, total):
        self.phases[name] = total

    def step(self):
        pass

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three pictures."""
    data = tmp_path / "data"
    (data / "below").mkdir(parents=True)
    smooth_picture(192, 176).save(data / "a.png")
    smooth_picture(177, 190, 1).save(data / "b.png")
    smooth_picture(200, 170, 2).save(data / "below" / "c.png")
    return data


@pytest.fixture
def evaluate(table, folder, tmp_path):
    """Run with settings; gives the results and what was said."""

    def run(**given):
        watch = Watch()
        plain = {"data": {"root": str(folder)}, "out": str(tmp_path / "out"), "codecs": ["coarse", "jpeg"], "jobs": 0}
        plain |= {"metrics": ["psnr"], "anchor": "jpeg", "rates": [0.5, 1.0], "viewer": {"pictures": 1, "bpp": 1.0}}
        return Evaluation(Settings(**plain | given), watch).run(), watch

    return run


@pytest.fixture
def refused(evaluate):
    """What the error says."""

    def run(**given):
        with pytest.raises(NlaicError) as caught:
            evaluate(**given)
        return str(caught.value)

    return run
