"""`nlaic-jpeg`: files and what it says; each failure in one line, nothing half-done."""

import re
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nlaic.cli import jpeg
from tests.classic.conftest import model_of, untrained
from tests.cli.conftest import make_bad, picture, tree
from tests.conftest import smooth_picture


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    path.write_bytes(model_of(untrained("420"), untrained("444")).to_bytes())
    return path


@pytest.fixture
def run(capsys, weights, tmp_path, monkeypatch):
    """Run the command with untrained weights: (exit code, lines on stdout, lines on stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(line):
        with pytest.raises(SystemExit) as caught:
            jpeg.main([*line.split(), "--model", str(weights)] if "--model" not in line else line.split())
        out, err = capsys.readouterr()
        return caught.value.code, out.splitlines(), err.splitlines()

    return call


def test_a_file_beside_the_picture(run):
    smooth_picture(90, 60).save("a.png")
    code, out, err = run("a.png -q 80")
    assert (code, err) == (0, []) and re.match(r"a\.png  90x60  \d+ bytes  \d\.\d+ bpp", out[0])
    shown = np.asarray(Image.open("a.jpg").convert("RGB"), float)
    assert np.abs(shown - np.asarray(Image.open("a.png"), float)).mean() < 8


def test_folders_go_on_where_they_stopped(run):
    for name in ("in/a.png", "in/below/b.png"):
        picture(name)
    assert run("in -r -o out")[0] == 0
    assert tree(Path("out")) == {"a.jpg", "below/b.jpg"}
    first = Path("out/a.jpg").read_bytes()
    Path("out/below/b.jpg").unlink()
    code, out, err = run("in -r -o out -q 5")
    assert code == 0 and len(out) == 1 and "done before" in err[0]
    assert Path("out/a.jpg").read_bytes() == first


def test_in_a_tree_what_is_a_jpeg_already_stays_and_the_rest_is_done(run):
    for name in ("in/a.jpg", "in/b.png"):
        picture(name)
    before = Path("in/a.jpg").read_bytes()
    for _ in range(2):
        assert run("in -r")[0] == 0 and Path("in/a.jpg").read_bytes() == before
        assert tree(Path("in")) == {"a.jpg", "b.jpg", "b.png"}


def test_targets_and_tuning(run):
    smooth_picture(160, 120).save("a.png")
    for options in ("--bytes 2500", "--bpp 1.0", "--bytes 2500 --tune 3", "--bytes 3000 --subsampling 444"):
        assert run(f"a.png --force --quiet {options}") == (0, [], [])
        assert Path("a.jpg").stat().st_size <= 3000
    code, _, err = run("a.png --force --bytes 20")
    assert code == 1
    assert re.fullmatch(
        r"nlaic-jpeg: a\.png: the target of 20 bytes cannot be met: the smallest file has \d+ bytes", err[0]
    )


def test_a_jpeg_that_would_grow(run):
    smooth_picture(160, 120).save("small.jpg", quality=5)
    code, _, err = run("small.jpg -o out.jpg -q 95")
    assert code == 0 and Path("out.jpg").exists()
    assert re.search(r"note: the input is a JPEG file of \d+ bytes, the result is not smaller", err[0])
    assert run("small.jpg -o smaller.jpg -q 1")[2] == []


def test_alpha_is_told_and_flattened(run):
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save("clear.png")
    code, _, err = run("clear.png --bytes 5000")
    assert (code, err) == (0, ["nlaic-jpeg: clear.png: note: JPEG holds no transparency: it is put over white"])
    assert Image.open("clear.jpg").getpixel((10, 10)) == (255, 255, 255)


def test_standard_input_and_output(tmp_path, monkeypatch, capfdbinary, weights):
    monkeypatch.chdir(tmp_path)
    smooth_picture(30, 20).save("a.png")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(Path("a.png").read_bytes())))
    with pytest.raises(SystemExit) as caught:
        jpeg.main(["-", "-o", "-", "--model", str(weights)])
    out, err = capfdbinary.readouterr()
    assert caught.value.code == 0 and out[:2] == b"\xff\xd8" and b"30x20" in err


BAD_INPUT = [  # command line, exit code, what the one line says
    ("text.png", 1, r"text\.png: not a picture"),
    ("truncated.png", 1, r"truncated\.png: damaged or truncated"),
    ("corrupt.jpg -o x.jpg", 1, r"corrupt\.jpg: (damaged or truncated|not a picture)"),
    ("empty.png", 1, r"empty\.png: empty file"),
    ("none.png", 1, r"none\.png: No such file"),
    ("photos", 1, r"photos: is a folder: -r"),
    ("good.png -o none/x.jpg", 1, r"good\.png: output folder none is missing"),
    ("good.png -o x.png", 1, r"good\.png: output x\.png does not end like a JPEG file: allowed are .*\.jpg"),
    ("there.png", 1, r"there\.png: output there\.jpg exists: --force"),
    ("corrupt.jpg", 1, r"corrupt\.jpg: its output corrupt\.jpg is also the input"),
    ("float.tif", 1, r"float\.tif: .*mode F"),
    ("good.png --model none.safetensors", 1, r"weights none\.safetensors: No such file"),
    ("good.png --bytes 10", 1, r"good\.png: the target of 10 bytes cannot be met: the smallest file has"),
    ("good.png -q 101", 2, r"-q/--quality: must be 0 to 100 in steps of 0\.1, but got '101'"),
    ("good.png --tune 0", 2, r"--tune: must be a whole number of at least 1, but got '0'"),
    ("good.png --tune -3", 2, r"--tune: must be a whole number of at least 1, but got '-3'"),
    ("good.png --bytes 0", 2, r"--bytes: must be a number of bytes above 0, with K, M or G .* got '0'"),
    ("good.png --bpp nan", 2, r"--bpp: must be a number above 0, but got 'nan'"),
    ("good.png -q 5 --bpp 1", 2, r"not allowed with"),
    ("good.png --tune 3 --rounding nearest", 2, r"--tune works with --rounding thoughtful, not nearest"),
    ("good.png --subsampling 422", 2, r"--subsampling: invalid choice: '422'"),
    ("", 2, r"required: IN"),
]


@pytest.mark.parametrize(("line", "code", "says"), BAD_INPUT, ids=[case[0] for case in BAD_INPUT])
def test_bad_input_is_one_line_and_changes_nothing(line, code, says, run):
    make_bad(Path())
    picture("there.png")
    Path("there.jpg").write_bytes(b"before")
    smooth_picture(80, 60).save("corrupt.jpg")
    Path("corrupt.jpg").write_bytes(Path("corrupt.jpg").read_bytes()[:300])
    Image.fromarray(np.zeros((8, 8), np.float32)).save("float.tif")
    before = {name: Path(name).read_bytes() for name in tree(Path())}
    got, out, err = run(line)
    assert (got, out, len(err)) == (code, [], 1)
    assert re.search(says, err[0]), err[0]
    assert {name: Path(name).read_bytes() for name in tree(Path())} == before
