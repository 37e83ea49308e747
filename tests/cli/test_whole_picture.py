"""The commands on pictures that are more than colours, with the real codec."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import picture, tree
from tests.conftest import smooth_picture
from tests.files_by_hand import P3, camera_exif


@pytest.fixture
def there(folder, run, tiny_model):
    """Run a command with the tiny model; it must end well. Gives the notes."""
    model = ["--model", str(tiny_model), "--device", "cpu", "--threads", "1"]

    def call(*words):
        code, _, notes = run([*words, *model])
        assert code == 0, notes
        return [note.partition("note: ")[2] for note in notes]

    return call


@pytest.fixture
def photo(folder):
    """A P3 photograph with alpha, lying on its side by its EXIF; 60x80 upright."""
    image = smooth_picture(80, 60)
    image.putalpha(Image.fromarray(np.tile(np.arange(80, dtype=np.uint8), (60, 1)) * 3))
    image.save("p3.png", icc_profile=P3, exif=camera_exif(6), compress_level=1)
    return image.transpose(Image.Transpose.ROTATE_270)


def test_what_is_kept(photo, there, run):
    assert there("compress", "p3.png") == []
    out = run("info p3.nlaic")[1]
    sizes = {"ICC": len(P3), "EXIF": len(camera_exif(thumbnail=False)) - len(b"Exif\0\0")}
    assert all(f"  {name} {size} bytes" in out[0] for name, size in sizes.items())
    assert "  ALPHA " in out[0]
    assert there("decompress", "p3.nlaic", "-o", "back.webp") == []
    back = Image.open("back.webp")
    assert (back.size, back.mode) == ((60, 80), "RGBA")
    assert np.array_equal(np.asarray(back.getchannel("A")), np.asarray(photo.getchannel("A")))
    assert back.info["icc_profile"] == P3
    assert back.getexif()[0x010F] == "Maker of cameras"
    assert there("decompress", "p3.nlaic", "-o", "back.jpg") == ["JPEG holds no transparency: it is put over white"]
    flat = Image.open("back.jpg")
    assert (flat.mode, flat.info["icc_profile"]) == ("RGB", P3)
    assert np.asarray(flat)[0].min() > 240  # the first row is the least opaque


def test_stripped(photo, there, run):
    assert there("compress", "p3.png", "--strip") == ["colours converted from 'Display P3' to sRGB"]
    out = run("info p3.nlaic")[1][0]
    assert "ICC" not in out and "EXIF" not in out and "ALPHA" in out


def test_grey(there, run):
    smooth_picture(80, 60).convert("L").save("grey.png")
    there("compress", "grey.png", "--bytes", "1200")
    assert Path("grey.nlaic").stat().st_size <= 1200
    assert "  80x60 grey  " in run("info grey.nlaic")[1][0]
    there("decompress", "grey.nlaic", "-o", "back.png")
    assert Image.open("back.png").mode == "L"


def test_the_executor_keeps_the_same(photo, there):
    there("compress", "p3.png", "-o", "one.nlaic", "-e", "1")
    there("compress", "p3.png", "-o", "two.nlaic", "-e", "1", "--executor", "local")
    assert Path("one.nlaic").read_bytes() == Path("two.nlaic").read_bytes()


def test_folders_go_on_where_they_were_left(folder, run, stub):
    for path in ("photos/a.png", "photos/b/c.png"):
        picture(path)
    assert run("compress photos -o out -r")[::2] == (0, [])
    picture("photos/d.jpg")
    before = Path("out/a.nlaic").stat().st_mtime_ns
    code, out, err = run("compress photos -o out -r")
    assert (code, len(out), len(err)) == (0, 1, 2)
    assert all("note: done before: out/" in line for line in err)
    assert tree(folder / "out") == {"a.nlaic", "b/c.nlaic", "d.nlaic"}
    assert Path("out/a.nlaic").stat().st_mtime_ns == before
    assert run("decompress out -o back -r")[0] == run("decompress out -o back -r")[0] == 0
    assert tree(folder / "back") == {"a.png", "b/c.png", "d.png"}
    assert run("compress photos -o out -r --force --quiet") == (0, [], [])
