"""What becomes which file, with a stub in the place of the codec; and once with the real one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nlaic
from tests.cli.conftest import MODEL_ID, nlaic_bytes, picture, tree
from tests.conftest import smooth_picture


def test_there_and_back_beside_the_input(folder, run, stub):
    pixels = picture("a.png")
    code, out, err = run("compress a.png")
    size = (folder / "a.nlaic").stat().st_size
    assert (code, err) == (0, [])
    assert re.fullmatch(rf"a\.png  40x30  {size} bytes  {8 * size / 1200:.4f} bpp  \d+\.\d\d MP/s", out[0])
    code, out, err = run("decompress a.nlaic -o back.png --realism 0.5")
    assert (code, err) == (0, [])
    assert re.fullmatch(rf"a\.nlaic  40x30  {size} bytes  {8 * size / 1200:.4f} bpp  \d+\.\d\d MP/s", out[0])
    assert np.array_equal(np.asarray(Image.open("back.png")), pixels)
    assert stub.calls[1].realism == 0.5
    assert tree(folder) == {"a.png", "a.nlaic", "back.png"}


def test_options_may_stand_between_inputs(folder, run, stub):
    for name in ("a.png", "b.png"):
        picture(name)
    assert run("compress a.png -q 30 b.png --force")[0] == 0
    assert [call.quality for call in stub.calls] == [30, 30]


def test_arguments_reach_the_codec(folder, run, stub):
    picture("a.png")
    assert run("compress a.png")[0] == 0
    assert (
        run("compress a.png --force -q 12.3 -e 9 --block 128x64 --model m.safetensors --device cpu --threads 2")[0] == 0
    )
    assert run("compress a.png --force --bpp 0.25")[0] == 0
    assert run("compress a.png --force --bytes 4000")[0] == 0
    first, second, third, fourth = stub.calls
    assert (first.quality, first.bpp, first.max_bytes, first.effort, first.block) == (50, None, None, 3, (2048, 1024))
    assert (second.quality, second.effort, second.block) == (12.3, 9, (128, 64))
    assert (third.bpp, third.max_bytes) == (0.25, None)
    assert (fourth.bpp, fourth.max_bytes) == (None, 4000)
    automatic = {"device": "auto", "threads": None, "precision": "auto", "engine": "auto"}
    assert stub.loads[0] == ("light", automatic)
    assert stub.loads[1] == ("m.safetensors", automatic | {"device": "cpu", "threads": 2, "engine": "torch"})
    assert run("compress a.png --force -e 7 --engine onnx")[0] == 0
    assert stub.loads[-1] == ("light", automatic | {"engine": "onnx"})


def test_in_a_tree_one_of_two_that_would_write_the_same_is_done(folder, run, stub):
    for name in ("photos/x.jpg", "photos/x.png", "photos/y.png"):
        picture(name)
    code, _, err = run("compress -r photos -o out")
    assert (code, err) == (
        1,
        ["nlaic-compress: photos/x.png: would write out/x.nlaic, as photos/x.jpg does: rename one"],
    )
    assert {"out/x.nlaic", "out/y.nlaic"} <= tree(folder)


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("a.png", {"a.nlaic"}),
        ("photos/a/b.png -o c.nlaic", {"c.nlaic"}),
        ("photos/a/b.png -o out", {"out/b.nlaic"}),
        ("photos/a/b.png -o out/", {"out/b.nlaic"}),
        ("a.png photos/a/b.png -o out", {"out/a.nlaic", "out/b.nlaic"}),
        ("-r photos", {"photos/a/b.nlaic", "photos/c.tar.nlaic"}),
        ("-r photos -o out", {"out/a/b.nlaic", "out/c.tar.nlaic"}),
        ("-r photos a.png -o new/deep", {"new/deep/a/b.nlaic", "new/deep/c.tar.nlaic", "new/deep/a.nlaic"}),
        ("-r a.png -o new/x.nlaic", {"new/x.nlaic"}),
        ("./photos/../a.png", {"a.nlaic"}),
    ],
)
def test_where_results_go(line, made, folder, run, stub):
    for path in ("a.png", "photos/a/b.png", "photos/c.tar.jpg", "photos/.hidden.png"):
        picture(path)
    (folder / "photos/.notes.txt").write_text("hidden, not looked at")
    (folder / "out").mkdir()
    before = tree(folder)
    code, out, err = run(f"compress {line}")
    assert (code, err) == (0, [])
    assert len(out) == len(made)
    assert tree(folder) - before == made
    assert len(stub.loads) == 1


def test_what_else_is_in_a_folder_is_told_at_the_end(folder, run, stub):
    for path in ("photos/a.png", "photos/more/b.png", "photos/.hidden/c.png"):
        picture(path)
    for name in ("a.CR2", "more/b.cr2", "more/b.xmp", "more/LICENSE", "d.nlaic", ".e.cr2", ".hidden/f.cr2"):
        (folder / "photos" / name).write_bytes(b"")
    told = ["nlaic-compress: photos: note: not looked at: 2 .cr2, 1 without a suffix, 1 .xmp"]
    assert run("compress -r photos")[::2] == (0, told)
    assert run("compress -r photos --quiet --force") == (0, [], [])
    assert run("compress photos/a.png --force")[2] == []
    for number in range(12):
        (folder / f"photos/x.{number}").write_bytes(b"")
    assert run("compress -r photos")[2][-1].endswith(", 5 others")


def test_decompress_loads_once_a_model_and_makes_png(folder, run, stub):
    for name in ("in/a.nlaic", "in/b/c.nlaic"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(nlaic_bytes())
    assert run("decompress -r in -o out")[0] == 0
    assert {"out/a.png", "out/b/c.png"} < tree(folder)
    automatic = {"device": "auto", "threads": None, "precision": "auto", "engine": "auto"}
    assert stub.loads == [(MODEL_ID, {"model": None} | automatic)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp", "ppm"])
def test_suffix_decides_the_format(suffix, folder, run, stub):
    Path("a.nlaic").write_bytes(nlaic_bytes())
    assert run(f"decompress a.nlaic -o a.{suffix}")[0] == 0
    with Image.open(f"a.{suffix}") as image:
        assert image.format == {"jpg": "JPEG"}.get(suffix, suffix.upper())


def test_a_link_to_what_is_not_there_is_not_followed(folder, run, stub):
    """In somebody else's tree it may lead anywhere."""
    picture("photos/a.png")
    Path("photos/a.nlaic").symlink_to("../b.nlaic")
    line = "compress -r photos"
    problem = "output photos/a.nlaic is a link to what is not there: --force follows it"
    assert run(line) == (1, [], [f"nlaic-compress: photos/a.png: {problem}"])
    assert not Path("b.nlaic").exists()
    assert run(f"{line} --force")[0] == 0
    assert Path("b.nlaic").is_file()


def test_two_commands_on_one_tree_do_not_fail(folder, run, stub, monkeypatch):
    """What the other has written since is done."""
    picture("photos/a.png")
    picture("photos/b.png")
    compress = stub.compress

    def beside_another(*arguments, **options):
        Path("out").mkdir(exist_ok=True)
        Path("out/b.nlaic").write_bytes(b"of the other")
        return compress(*arguments, **options)

    monkeypatch.setattr(stub, "compress", beside_another)
    code, lines, err = run("compress -r photos -o out")
    assert (code, len(lines), err) == (0, 1, ["nlaic-compress: photos/b.png: note: done before: out/b.nlaic"])
    assert Path("out/b.nlaic").read_bytes() == b"of the other"


def test_force_overwrites_and_quiet_is_quiet(folder, run, stub):
    picture("a.png")
    Path("a.nlaic").write_bytes(b"old")
    assert run("compress a.png --force --quiet") == (0, [], [])
    assert Path("a.nlaic").read_bytes() != b"old"
    assert (folder / "a.nlaic").stat().st_mode & 0o777 == (folder / "a.png").stat().st_mode & 0o777


def test_what_is_lost_is_noted(folder, run, stub):
    Image.new("RGB", (40, 30)).save("a.tif", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    code, out, err = run("compress a.tif")
    assert (code, len(out)) == (0, 1)
    assert err == ["nlaic-compress: a.tif: note: the first of 2 frames is taken"]
    assert run("compress a.tif --force --quiet")[2] == []


def test_names_that_the_terminal_cannot_show(folder, run, stub):
    name = os.fsdecode(b"a\xff\nb.png")
    picture("a.png")
    try:
        Path("a.png").rename(name)
    except OSError:
        pytest.skip("the file system refuses such names")
    code, out, err = run(["compress", name])
    assert (code, len(out), err) == (0, 1, [])
    assert out[0].startswith("a\\udcff b.png  40x30")


def test_the_real_codec_end_to_end(folder, run, tiny_model):
    ramp = np.mgrid[0:80, 0:96].sum(0) % 256
    Image.fromarray(np.stack([ramp, ramp // 2, 255 - ramp], 2).astype(np.uint8)).save("a.png")
    model = ["--model", str(tiny_model), "--device", "cpu", "--threads", "1"]
    assert run(["compress", "a.png", "-q", "80", *model])[::2] == (0, [])
    assert run(["decompress", "a.nlaic", "-o", "back.png", *model])[::2] == (0, [])
    assert Image.open("back.png").size == (96, 80)
    code, out, _ = run("info --json a.nlaic")
    facts = json.loads("\n".join(out))[0]
    assert (code, facts["width"], facts["height"], facts["quality"]) == (0, 96, 80, 80.0)
    code, out, err = run(["compress", "a.png", "--force", "--bytes", "3", *model])
    assert (code, out, len(err)) == (1, [], 1)
    assert re.search(r"^nlaic-compress: a\.png: .*smallest", err[0])
    assert (folder / "a.nlaic").stat().st_size == facts["bytes"]


def test_a_region_and_seams_left_alone(folder, run, stub):
    picture("a.png")
    run("compress a.png")
    assert run("decompress a.nlaic -o b.png --region 1,2,3,4 --no-boundary-filter")[0] == 0
    assert run("decompress a.nlaic -o c.png")[0] == 0
    assert [(c.region, c.boundary_filter) for c in stub.calls[1:]] == [((1, 2, 3, 4), False), (None, True)]


@pytest.mark.parametrize(("options", "notes"), [("--realism 1", 1), ("--realism 1 --quiet", 0), ("--realism 0", 0)])
def test_realism_without_a_second_decoder_is_noted_once(options, notes, folder, run, stub):
    stub.has_second_decoder = False
    for name in ("a", "b"):
        Path(f"{name}.nlaic").write_bytes(nlaic_bytes())
    code, _, err = run(f"decompress a.nlaic b.nlaic {options}")
    assert code == 0
    line = "nlaic-decompress: stub: note: --realism has no effect, these weights hold no second decoder"
    assert err == [line] * notes


def test_more_threads_than_processors_are_noted(folder, run, stub):
    picture("a.png")
    code, _, errors = run("compress a.png --threads 4096")
    assert code == 0
    assert len(errors) == 1 and "4096 threads asked for, but" in errors[0]


def test_weights_that_are_nowhere(folder, run, tiny_model, monkeypatch):
    monkeypatch.setenv("NLAIC_WEIGHTS", str(folder))
    picture("a.png")
    Path("a.nlaic").write_bytes(nlaic_bytes())
    for line, named in (
        ("compress a.png --force --model nowhere", "nowhere"),
        ("decompress a.nlaic -o b.png", MODEL_ID.hex()),
    ):
        code, out, err = run(line)
        assert (code, out, len(err)) == (1, [], 1)
        assert named in err[0]
        assert str(folder) in err[0]
    assert tree(folder) == {"a.png", "a.nlaic"}


def test_standard_output_by_its_name(folder, run, tiny_model):
    smooth_picture(64, 64).save("a.png")
    code = "from nlaic.cli.compress import main; main()"
    words = ["a.png", "-o", "/dev/stdout", "-e", "1", "--model", str(tiny_model)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True)
    assert done.returncode == 0 and nlaic.info(done.stdout)["width"] == 64 and b"64x64" in done.stderr


def test_an_output_that_cannot_be_is_named_before_the_work(folder, run, stub):
    smooth_picture(64, 64).save("a.png")
    code, _, err = run(f"compress a.png -o {'N' * 300}")
    assert code == 1 and f"cannot write {'N' * 300}: File name too long" in err[0] and not stub.calls
    code, _, err = run(["compress", "a.png", "-o", ""])
    assert code == 2 and "the name of the output is empty" in err[-1]
