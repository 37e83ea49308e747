"""The commands: what they write, and that what cannot be done is one line and no file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic.cli import compress, decompress, info, restore
from nlaic.errors import NlaicError
from nlaic.resources import resource_folder
from tests.conftest import smooth_picture

COMMANDS = {"compress": compress, "decompress": decompress, "info": info, "restore": restore}


@pytest.fixture
def folder(tmp_path, monkeypatch, filters):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    smooth_picture(96, 80).save("a.png")
    smooth_picture(96, 80).save("a.jpg", quality=20)
    return place


@pytest.fixture
def run(capsys):
    def call(line):
        name, *rest = line.split()
        with pytest.raises(SystemExit) as caught:
            COMMANDS[name].main([*rest, "--threads=1"] if name != "info" else rest)
        out, err = capsys.readouterr()
        return caught.value.code, out.splitlines(), err.splitlines()

    return call


def names():
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_restore_writes_beside_or_where_it_is_told(folder, run):
    code, out, err = run("restore a.jpg")
    assert (code, err) == (0, []) and "96x80" in out[0]
    restored = np.asarray(Image.open("a-restored.png"))
    assert restored.shape == (80, 96, 3) and not np.array_equal(restored, np.asarray(Image.open("a.jpg")))
    assert run("restore a.jpg")[0] == 1  # it is there
    assert run("restore a.jpg -o b.webp --model svac2 --rotations --block 64x64")[0] == 0
    assert Image.open("b.webp").size == (96, 80)
    Path("tree/below").mkdir(parents=True)
    smooth_picture(40, 40).save("tree/below/c.jpg")
    assert run("restore -r tree")[0] == 0 and run("restore -r tree --force")[0] == 0
    assert [name for name in names() if "tree" in name] == ["tree/below/c-restored.png", "tree/below/c.jpg"]
    assert run("restore -r tree -o out")[0] == 0 and Path("out/below/c.png").is_file()


def test_restore_says_what_it_does_not_know(folder, run):
    code, _, err = run("restore a.png")
    assert code == 0 and len(err) == 1 and "HEIC with loss: it is left as it is" in err[0]
    assert np.array_equal(Image.open("a-restored.png"), Image.open("a.png"))
    smooth_picture(96, 80).save("lossless.webp", lossless=True)
    code, _, err = run("restore lossless.webp")
    assert code == 0 and len(err) == 1 and "HEIC with loss: it is left as it is" in err[0]
    assert np.array_equal(Image.open("lossless-restored.png"), Image.open("lossless.webp"))
    code, _, err = run("restore a.png --source jpeg:20 --force")
    assert (code, err) == (0, []) and not np.array_equal(Image.open("a-restored.png"), Image.open("a.png"))
    code, _, err = run("restore a.png --source heic:20 --force --model weights.safetensors")
    assert code == 1 and len(err) == 1
    smooth_picture(96, 80).save("fine.jpg", quality=99)
    code, _, err = run("restore fine.jpg")
    assert code == 0 and "finer than the filter was trained for" in err[0]
    assert np.array_equal(Image.open("fine-restored.png"), Image.open("fine.jpg"))
    path = next(Path("../weights/filters").glob("mvgl-c*"))
    code, _, err = run(f"restore a.jpg --force --model {path}")
    assert code == 0 and "trained behind heic, not behind jpeg" in err[0]


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("restore a.webp", 1, "--source webp:30"),
        ("restore moving.webp", 1, "2 frames or pages"),
        ("restore a.jpg --source gif", 2, "base codec must be one of"),
        ("restore a.jpg --model edsr", 1, "filter must be one of mvgl-a"),
        ("restore a.jpg --model mvgl-c", 1, "no weights of filter mvgl-c for jpeg"),
        ("restore text.jpg", 1, "not a picture"),
        ("compress a.png --codec gif", 2, "base codec must be one of"),
        ("compress a.png --codec jpeg+edsr", 2, "filter must be one of"),
        ("compress a.png --codec jpeg -q 30.5", 1, "whole number 1..100"),
        ("compress a.png --codec jpeg --bytes 10", 1, "smallest file has"),
        ("compress a.png --codec jpeg -e 8", 2, "--effort is for nlaic's own codec"),
        ("compress a.png --codec jpeg --block 128x128", 2, "--block is for nlaic's own codec"),
        ("compress a.png --codec jpeg+svac2 --model nonsense", 2, "--model is for nlaic's own codec"),
        ("compress a.png --codec jpeg --executor local", 2, "--executor is for nlaic's own codec"),
        ("compress a.png --scales", 2, "--scales goes with --codec"),
        ("compress a.png --metric lpips", 2, "--metric goes with --total-bytes"),
        ("compress a.png --total-bytes 10", 1, "cannot be met: the least is"),
        ("compress a.png --total-bytes 10K --executor local", 2, "do not go together"),
        ("compress a.png --total-seconds 3", 2, "goes with --total-bytes"),
        ("compress a.png --total-bytes 3X", 2, "powers of 1000"),
        ("decompress own.nlaic --extract-base", 1, "holds no file of a base codec"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_no_file(folder, run, tiny_model, line, code, says):
    smooth_picture(32, 32).save("a.webp", quality=30)
    smooth_picture(32, 32).save("moving.webp", save_all=True, append_images=[smooth_picture(32, 32, 1)])
    Path("text.jpg").write_text("no picture")
    if "total" in line:
        line += f" --model {tiny_model} -e 1"
    if "own" in line:
        run(f"compress a.webp --model {tiny_model} -o own.nlaic")
    before = names()
    got, _, err = run(line)
    assert got == code and says in err[-1], err
    assert len([text for text in err if "note" not in text]) == 1 and names() == before
    assert not any("frames is taken" in text for text in err)


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_weights_of_another_kind_are_said_to_be(folder, run, engine):
    light, *_ = resource_folder("weights").glob("light-*.safetensors")
    filter = next(Path("../weights/filters").glob("restore-light*"))
    run("compress a.png --codec jpeg+restore-light -o base.nlaic")
    run(f"compress a.png --model {light} -e 1 -o own.nlaic")
    not_filter = f"weights {light}: those of a codec (light), not of a filter"
    not_codec = f"weights {filter}: those of a filter (restore-light), not of a codec"
    for line, says in (
        (f"restore a.jpg --model {light}", not_filter),
        (f"decompress base.nlaic --model {light}", not_filter),
        (f"compress a.png --model {filter}", not_codec),
        (f"decompress own.nlaic --model {filter}", not_codec),
    ):
        code, out, err = run(f"{line} --engine {engine}")
        assert (code, out, len(err)) == (1, [], 1)
        assert says in err[0]


def test_a_base_codec_in_a_file(folder, run):
    assert run("compress a.png --codec jpeg+restore-light -q 20")[0] == 0
    code, out, _ = run("info a.nlaic --json")
    assert code == 0 and json.loads("\n".join(out))[0]["base"] == {"codec": "jpeg", "filter": "restore-light"}
    assert run("decompress a.nlaic -o filtered.png")[0] == 0
    assert run("decompress a.nlaic -o plain.png --no-filter")[0] == 0
    assert run("decompress a.nlaic --extract-base -o own.jpg")[0] == 0
    plain, filtered = np.asarray(Image.open("plain.png")), np.asarray(Image.open("filtered.png"))
    assert np.array_equal(plain, np.asarray(Image.open("own.jpg"))) and not np.array_equal(plain, filtered)
    Path("out").mkdir()
    assert run("decompress a.nlaic --extract-base -o out")[0] == 0 and Path("out/a.jpg").is_file()
    code, out, err = run("decompress -r a.nlaic --extract-base -o out")
    assert (code, out) == (0, []) and "done before: out/a.jpg" in err[0]
    code, out, err = run("decompress a.nlaic --extract-base -o own.png")
    assert (code, out) == (1, []) and "writes the jpeg file as it is, .jpg: not to own.png" in err[0]
    assert not Path("own.png").exists()


def test_a_picture_that_a_codec_does_not_hold_does_not_end_the_others(folder, run):
    Image.new("RGB", (16400, 1)).save("long.png")
    code, out, err = run("compress long.png a.png --codec webp")
    assert code == 1 and len(out) == len(err) == 1
    assert "long.png: 16400x1 pixels cannot be written as WEBP" in err[0]
    assert Path("a.nlaic").is_file() and not Path("long.nlaic").exists()


def test_a_budget_for_a_folder(folder, run, tiny_model):
    Path("photos").mkdir()
    for seed in range(3):
        smooth_picture(64 + 64 * seed, 64, seed).save(f"photos/{seed}.png")
    Path("photos/broken.png").write_text("no picture")
    code, out, err = run(f"compress -r photos -o out --total-bytes 2K --model {tiny_model} -e 1")
    assert code == 1 and len(err) == 1 and "broken.png" in err[0]
    total = sum(path.stat().st_size for path in Path("out").iterdir())
    assert 1940 <= total <= 2000 and f"{total} of 2000 bytes" in out[-1]
    assert "for all: mean psnr" in out[-1] and len(out) == 4
    code, out, _ = run("compress -r photos -o out --total-bytes 9K --codec jpeg+auto --force --total-seconds 9")
    assert code == 1 and sum(path.stat().st_size for path in Path("out").iterdir()) <= 9000
    assert "decoding" in out[-1]


def test_of_a_budget_what_the_codec_does_not_hold_is_left_out(folder, run):
    Path("photos").mkdir()
    for seed in range(2):
        smooth_picture(64, 64, seed).save(f"photos/{seed}.png")
    Image.new("RGB", (16400, 1)).save("photos/long.png")
    code, out, err = run("compress -r photos -o out --total-bytes 1K --codec webp")
    assert code == 1 and len(err) == 1 and "long.png: 16400x1 pixels cannot be written as WEBP" in err[0]
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.nlaic", "1.nlaic"]
    assert out[-1].startswith("2 pictures  ") and sum(path.stat().st_size for path in Path("out").iterdir()) <= 1000


def test_of_a_budget_what_can_be_written_is(folder, run, monkeypatch):
    Path("photos").mkdir()
    for seed in range(3):
        smooth_picture(64, 64, seed).save(f"photos/{seed}.png")
    written = []

    def write(target, data, **options):
        if target.name == "0.nlaic":
            raise NlaicError(f"cannot write {target}: Permission denied")
        written.append(target.name)

    monkeypatch.setattr("nlaic.cli.budget.write_output", write)
    code, _, err = run("compress -r photos -o out --total-bytes 3K --codec jpeg")
    assert (code, written) == (1, ["1.nlaic", "2.nlaic"])
    assert len(err) == 1 and err[0].endswith("photos/0.png: cannot write out/0.nlaic: Permission denied")


def test_more_bytes_than_the_best_quality_takes_are_noted(folder, run, tiny_model):
    smooth_picture(64, 64).save("one.png")
    code, _, err = run(f"compress one.png --bytes 900K --model {tiny_model} -e 1")
    assert code == 0 and len(err) == 1 and "quality 100, the best there is, needs no more" in err[0]
    assert nlaic.info(Path("one.nlaic").read_bytes())["quality"] == 100
    code, _, err = run(f"compress one.png --bytes 250 --model {tiny_model} -e 1 --force")
    assert (code, err) == (0, [])


def test_a_budget_without_scipy_is_one_line_before_the_work(folder, tiny_model):
    smooth_picture(64, 64).save("one.png")
    code = "import sys; sys.modules['scipy'] = None; from nlaic.cli.compress import main; main()"
    words = f"one.png --total-bytes 2K --model {tiny_model}".split()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith("scipy is missing: pip install 'nlaic[classic]'\n")
    assert len(done.stderr.splitlines()) == 1 and not Path("one.nlaic").exists()


def test_help_and_info_import_nothing_heavy(folder):
    code = "import sys; sys.modules['torch'] = sys.modules['scipy'] = None; from nlaic.cli.{0} import main; main()"
    for name in ("restore", "compress", "decompress"):
        command = [sys.executable, "-c", code.format(name), "--help"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(nlaic.__file__).parents[1])
        assert done.returncode == 0, done.stderr
