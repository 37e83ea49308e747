"""tools/demo.py: what it says of the JPEG beside the file."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

import nlaic
from tests.conftest import smooth_picture


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The tool as a module, in a folder with a picture; a codec whose file has `demo.size` bytes stands in."""
    spec = importlib.util.spec_from_file_location("demo", Path(__file__).parent.parent / "tools" / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    picture = smooth_picture(96, 64)
    codec = SimpleNamespace(compress=lambda *_: bytes(module.size), decompress=lambda _: picture)
    monkeypatch.setitem(vars(nlaic), "load", lambda _: codec)
    monkeypatch.chdir(tmp_path)
    picture.save("photo.png")
    monkeypatch.setattr("sys.argv", ["demo.py", "photo.png"])
    return module


@pytest.mark.parametrize(
    ("size", "said", "label"), [(9, "the smallest there is", "smallest JPEG, "), (5000, "of the same size", "JPEG, ")]
)
def test_a_jpeg_that_is_larger_is_not_called_of_the_same_size(size, said, label, demo, capsys, monkeypatch):
    labels, draw = [], demo.comparison
    monkeypatch.setattr(demo, "comparison", lambda columns: labels.extend(c[0] for c in columns) or draw(columns))
    demo.size = size
    demo.main()
    line = next(line for line in capsys.readouterr().out.splitlines() if "JPEG" in line)
    count = int(line.split()[1])
    assert line.endswith(f"  {said}")
    assert (count > size) == (said != "of the same size")
    assert labels[2] == f"{label}{count} bytes"
    assert Path("demo/photo-comparison.png").is_file()
