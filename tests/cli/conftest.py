"""A stub in the place of the codec (its files are real containers), and a folder to be in."""

import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic import container
from nlaic.cli import compress, decompress, export, info

SIZE = (40, 30)
COMMANDS = {"compress": compress, "decompress": decompress, "export": export, "info": info}
MODEL_ID = b"stubstub"


class StubCodec:
    """Zipped pixels in a container. `calls` keeps the arguments, `failure` is raised instead of working."""

    name, has_second_decoder = "stub", True

    def __init__(self):
        self.calls, self.loads, self.failure = [], [], None

    def load(self, name, **options):
        self.loads.append((name, options))
        return self

    def load_for(self, data, **options):
        return self.load(container.unpack(data).header.model_id, **options)

    def compress(self, image, quality=50, **options):
        self.calls.append(SimpleNamespace(quality=quality, **options))
        if self.failure:
            raise self.failure
        options["progress"](0.5)
        header = container.Header(*image.size, MODEL_ID, round(quality * 10), (2048, 1024))
        return container.pack(header, [zlib.compress(image.tobytes())])

    def decompress(self, data, *, realism=None, **options):
        self.calls.append(SimpleNamespace(realism=realism, **options))
        if self.failure:
            raise self.failure
        file = container.unpack(data)
        size = file.header.width, file.header.height
        return Image.frombytes("RGB", size, zlib.decompress(file.block(0)))


@pytest.fixture
def stub(monkeypatch):
    codec = StubCodec()
    monkeypatch.setitem(vars(nlaic), "load", codec.load)
    monkeypatch.setitem(vars(nlaic), "load_for", codec.load_for)
    return codec


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to be in; what the commands set in the environment is taken back."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command: (exit code, lines on stdout, lines on stderr)."""

    def call(line):
        name, *rest = line if isinstance(line, list) else line.split()
        with pytest.raises(SystemExit) as caught:
            COMMANDS[name].main(rest)
        out, err = capsys.readouterr()
        return caught.value.code, out.splitlines(), err.splitlines()

    return call


def picture(path, seed=0):
    """Write a picture; gives its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def nlaic_bytes(pixels=None):
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8) if pixels is None else pixels
    header = container.Header(pixels.shape[1], pixels.shape[0], MODEL_ID, 500, (2048, 1024))
    return container.pack(header, [zlib.compress(pixels.tobytes())])


def tree(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def make_bad(folder):
    """A folder with one of each."""
    picture("good.png")
    picture("same/x.png")
    picture("same/x.jpg")
    data = Path("good.png").read_bytes()
    Path("text.png").write_text("this is not a picture, only text that goes on and on")
    Path("truncated.png").write_bytes(data[:-60])
    Path("empty.png").write_bytes(b"")
    Path("photos").mkdir()
    Path("exists.png").write_bytes(data)
    Path("exists.nlaic").write_bytes(b"before")
    file = nlaic_bytes()
    Path("good.nlaic").write_bytes(file)
    Path("cut.nlaic").write_bytes(file[:-7])
    Path("altered.nlaic").write_bytes(file[:-9] + bytes([file[-9] ^ 4]) + file[-8:])
    Path("newer.nlaic").write_bytes(file[:4] + b"\x09" + file[5:])
    Path("zero.nlaic").write_bytes(b"")
