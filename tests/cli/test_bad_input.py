"""What each failure says and ends with, and that nothing half-done is left."""

import errno
import os
import re
import sys
from pathlib import Path

import pytest

import nlaic
from nlaic.cli import compress, files
from nlaic.errors import NlaicError
from tests.cli.conftest import make_bad, nlaic_bytes, picture, tree

BAD_INPUT = [  # command line, exit code, what the one line says
    ("compress text.png", 1, r"text\.png: not a picture"),
    ("compress truncated.png", 1, r"truncated\.png: damaged or truncated"),
    ("compress empty.png", 1, r"empty\.png: empty file"),
    ("compress none.png", 1, r"none\.png: No such file"),
    ("compress none/x.png", 1, r"none/x\.png: No such file"),
    ("compress none.png -o none/x.nlaic", 1, r"none\.png: No such file"),
    ("compress ./none/..", 1, r"none/\.\.: No such file"),
    ("compress photos", 1, r"photos: is a folder: -r"),
    ("compress .", 1, r"\.: is a folder: -r"),
    ("compress . -o photos", 1, r"\.: is a folder: -r"),
    ("compress ..", 1, r"\.\.: is a folder: -r"),
    ("decompress .", 1, r"\.: is a folder: -r"),
    ("compress -r photos", 1, r"photos: holds no file"),
    ("compress good.png -o none/x.nlaic", 1, r"good\.png: output folder none is missing"),
    ("compress good.png -o none/", 1, r"none/: output folder is missing"),
    ("compress good.png text.png -o none", 1, r"none: output folder is missing, and several results need one"),
    ("compress good.png text.png -o good.nlaic", 1, r"good\.nlaic: not a folder"),
    ("compress exists.png", 1, r"exists\.png: output exists\.nlaic exists: --force"),
    ("compress same/x.png same/x.jpg", 1, r"same/x\.png and same/x\.jpg would both write same/x\.nlaic"),
    ("compress good.png good.png --force", 1, r"good\.png and good\.png would both"),
    ("compress --force good.png -o good.png", 1, r"good\.png: its output good\.png is also the input"),
    ("compress good.png -o x.png", 1, r"good\.png: output x\.png ends like a picture"),
    ("compress good.png -o x.png --executor local", 1, r"good\.png: output x\.png ends like a picture"),
    ("compress good.png -o same/x.png --executor local", 1, r"good\.png: output same/x\.png ends like a picture"),
    ("compress good.png -o x.png --total-bytes 9K", 1, r"good\.png: output x\.png ends like a picture"),
    ("compress good.png -q 101", 2, r"-q/--quality: must be 0 to 100 in steps of 0\.1, but got '101'"),
    ("compress good.png -q -1", 2, r"must be 0 to 100 .* got '-1'"),
    ("compress good.png -q 5.55", 2, r"must be 0 to 100 .* got '5\.55'"),
    ("compress good.png -q nan", 2, r"must be 0 to 100 .* got 'nan'"),
    ("compress good.png -q high", 2, r"must be 0 to 100 .* got 'high'"),
    ("compress good.png --bpp 0", 2, r"--bpp: must be a number above 0, but got '0'"),
    ("compress good.png --bytes 0", 2, r"--bytes: must be a number of bytes above 0, with K, M or G .* got '0'"),
    ("compress good.png --bytes 1e999", 2, r"--bytes: must be a number of bytes"),
    ("compress photos -o none", 1, r"photos: is a folder: -r"),
    ("decompress good.png -o exists.png", 1, r"good\.png: byte 0: not a \.nlaic file"),
    ("compress good.png -q 50 --bpp 1", 2, r"not allowed with"),
    ("compress good.png --bpp 1 --bytes 9", 2, r"not allowed with"),
    ("compress good.png -e 0", 2, r"--effort: must be 1 to 9, but got '0'"),
    ("compress good.png --block 100x64", 2, r"--block: must be WIDTHxHEIGHT, multiples of 64 .* got '100x64'"),
    ("compress good.png --block 64", 2, r"--block: must be"),
    ("compress good.png --block 0x64", 2, r"--block: must be"),
    ("compress good.png --threads 0", 2, r"--threads: must be a whole number of at least 1"),
    ("compress good.png --device tpu", 2, r"--device: invalid choice"),
    ("compress good.png --qual 5", 2, r"unrecognized arguments"),
    ("compress", 2, r"required: IN"),
    ("compress - - -o x.nlaic", 2, r"only once"),
    ("compress good.png text.png -o -", 2, r"-o - takes one input"),
    ("compress - -o photos", 2, r"no name to use in the folder photos"),
    ("decompress good.nlaic --region 1,2,3", 2, r"--region: must be X,Y,W,H: four whole numbers.* got '1,2,3'"),
    ("decompress good.nlaic --region 1,2,0,4", 2, r"--region: must be X,Y,W,H"),
    ("decompress good.nlaic --region 1,2,3,x", 2, r"--region: must be X,Y,W,H"),
    ("decompress good.nlaic -o x.xyz", 1, r"x\.xyz: unknown suffix '\.xyz': allowed are \.png"),
    ("decompress cut.nlaic", 1, r"cut\.nlaic: "),
    ("decompress altered.nlaic", 1, r"altered\.nlaic: "),
    ("decompress newer.nlaic", 1, r"newer\.nlaic: .*version"),
    ("decompress zero.nlaic", 1, r"zero\.nlaic: "),
    ("decompress text.png", 1, r"text\.png: "),
    ("decompress none.nlaic", 1, r"none\.nlaic: No such file"),
    ("decompress good.nlaic", 1, r"good\.nlaic: output good\.png exists: --force"),
    ("decompress good.nlaic -o x.png --realism 2", 2, r"--realism: must be 0 to 1, but got '2'"),
    ("info none.nlaic", 1, r"none\.nlaic: No such file"),
    ("info text.png", 1, r"text\.png: "),
    ("info photos", 1, r"photos: Is a directory"),
    ("info cut.nlaic", 1, r"cut\.nlaic: "),
]


@pytest.mark.parametrize(("line", "code", "says"), BAD_INPUT, ids=[case[0] for case in BAD_INPUT])
def test_bad_input_is_one_line_and_changes_nothing(line, code, says, folder, run, stub):
    make_bad(folder)
    before = {name: Path(name).read_bytes() for name in tree(folder)}
    got, out, err = run(line)
    assert (got, out) == (code, [])
    assert len(err) == 1
    assert re.search(rf"^nlaic-{line.split()[0]}: .*{says}", err[0])
    assert {name: Path(name).read_bytes() for name in tree(folder)} == before


@pytest.mark.parametrize("name", ["compress", "decompress"])
def test_an_empty_name(name, folder, run, stub):
    assert run([name, ""]) == (2, [], [f"nlaic-{name}: the name of an input is empty"])


def test_nothing_in_the_folder_one_is_in(folder, run, stub):
    code, _, err = run("compress -r .")
    assert (code, len(err)) == (1, 1)
    assert err[0].startswith("nlaic-compress: .: holds no file ending in ")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(folder, run, stub):
    picture("a.png")
    Path("a.png").chmod(0)
    code, _, err = run("compress a.png")
    assert (code, err) == (1, ["nlaic-compress: a.png: Permission denied"])


def test_unreadable_is_told_as_the_system_does(folder, run, stub, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    picture("a.png")
    monkeypatch.setattr(Path, "open", refuse)
    code, _, err = run("compress a.png")
    assert (code, err) == (1, ["nlaic-compress: a.png: Permission denied"])


def test_one_failure_does_not_stop_the_rest(folder, run, stub):
    make_bad(folder)
    code, out, err = run("compress text.png good.png none.png exists.png photos --force -o photos")
    assert code == 1
    assert [line.split()[0] for line in out] == ["good.png", "exists.png"]
    assert [line.split(": ")[1] for line in err] == ["text.png", "none.png", "photos"]
    assert {"photos/good.nlaic", "photos/exists.nlaic"} <= tree(folder)


FAILURES = [  # raised in the codec, exit code, line
    (
        NlaicError("the target of 9 bytes cannot be met: the smallest file has 99 bytes"),
        1,
        "a.png: the target of 9 bytes",
    ),
    (MemoryError(), 1, "a.png: not enough memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), 1, "a.png: not enough memory"),
    (KeyboardInterrupt(), 130, "interrupted"),
]


@pytest.mark.parametrize(("failure", "code", "says"), FAILURES, ids=lambda x: type(x).__name__)
def test_failures_of_the_codec(failure, code, says, folder, run, stub):
    picture("a.png")
    stub.failure = failure
    got, out, err = run("compress a.png")
    assert (got, out, len(err)) == (code, [], 1)
    assert err[0].startswith(f"nlaic-compress: {says}")
    assert tree(folder) == {"a.png"}


def test_a_mistake_in_the_code_is_not_hidden(folder, stub):
    picture("a.png")
    stub.failure = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes"):
        compress.main(["a.png"])


def test_missing_weights_are_told_once(folder, run, monkeypatch):
    def load(name, **_):
        raise NlaicError(f"no weights {name!r}\nin /somewhere")

    monkeypatch.setitem(vars(nlaic), "load", load)
    picture("a.png")
    picture("b.png")
    assert run("compress a.png b.png --model nowhere") == (
        1,
        [],
        ["nlaic-compress: no weights 'nowhere' in /somewhere"],
    )


def test_weights_are_not_loaded_without_work_for_them(folder, run, stub):
    assert run("compress a.png b.png")[0] == 1
    assert stub.loads == []


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
@pytest.mark.parametrize("line", ["compress a.png", "compress --force b.png", "decompress c.nlaic"])
def test_disk_full_or_interrupted_while_writing(line, failure, folder, run, stub, monkeypatch):
    def half(write, data):
        write(memoryview(data)[: len(data) // 2])
        raise failure

    picture("a.png")
    picture("b.png")
    Path("b.nlaic").write_bytes(b"before")
    Path("c.nlaic").write_bytes(nlaic_bytes())
    before = {name: Path(name).read_bytes() for name in tree(folder)}
    monkeypatch.setattr(files, "_write_all", half)
    code, out, err = run(line)
    assert (out, len(err)) == ([], 1)
    if isinstance(failure, OSError):
        assert code == 1
        assert re.search(r": \w\.\w+: cannot write \w\.\w+: No space left on device", err[0])
    else:
        assert (code, err[0].split(": ")[1]) == (130, "interrupted")
    assert {name: Path(name).read_bytes() for name in tree(folder)} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_devices_are_written_to_and_not_replaced(folder, run, stub):
    picture("a.png")
    Path("full").symlink_to("/dev/full")
    Path("null").symlink_to("/dev/null")
    assert run("compress a.png -o full")[2] == ["nlaic-compress: a.png: cannot write full: No space left on device"]
    assert run("compress a.png -o null")[0] == 0
    assert Path("/dev/null").is_char_device() and Path("null").is_symlink()


def test_a_name_that_cannot_be_does_not_stop_the_rest(folder, run, stub):
    picture("photos/" + 251 * "x" + ".png")  # a byte too long with another suffix
    picture("photos/z.png")
    code, out, err = run("compress -r photos")
    assert (code, len(out), len(err)) == (1, 1, 1)
    assert out[0].startswith("photos/z.png") and err[0].endswith("File name too long")


def test_pipes_in_a_folder_are_left_alone(folder, run, stub):
    picture("photos/a.png")
    os.mkfifo("photos/b.png")
    code, out, err = run("compress -r photos")
    assert (code, len(out), err) == (0, 1, [])


def test_results_within_the_folder_are_not_taken_again(folder, run, stub):
    Path("files").mkdir()
    Path("files/a.nlaic").write_bytes(nlaic_bytes())
    Path("files/out").mkdir()
    Path("files/out/b.nlaic").write_bytes(nlaic_bytes())
    code, out, err = run("decompress -r files -o files/out")
    assert (code, len(out), err) == (0, 1, [])
    assert tree(folder) == {"files/a.nlaic", "files/out/a.png", "files/out/b.nlaic"}


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_closed_streams(stream, folder, run, stub, monkeypatch):
    picture("a.png")
    picture("b.png")
    monkeypatch.setattr(sys, stream, None)
    assert run(["compress", "a.png", "b.png"])[0] == (1 if stream == "stdout" else 0)
    assert Path("a.nlaic").is_file()
    if stream != "stderr":
        code, _, err = run(["compress", *(("-", "-o", "x.nlaic") if stream == "stdin" else ("a.png", "-o", "-"))])
        assert code == 1 and err[0].endswith(("standard input is closed", "standard output: it is closed"))


def test_inputs_that_begin_with_a_dash(folder, run, stub):
    picture("-b.png")
    code, out, err = run(["compress", "-q", "30", "--", "-b.png"])
    assert (code, len(out), err) == (0, 1, []) and Path("-b.nlaic").is_file()


def test_names_do_not_reach_the_terminal_as_commands(folder, run, stub):
    picture("a\x1b[31m\x07.png")
    code, out, _ = run(["compress", "a\x1b[31m\x07.png"])
    assert code == 0 and out[0].startswith(r"a\x1b[31m\x07.png  40x30")


def test_a_link_is_followed(folder, run, stub):
    picture("a.png")
    Path("real.nlaic").write_bytes(b"old")
    Path("link.nlaic").symlink_to("real.nlaic")
    assert run("compress a.png --force -o link.nlaic")[0] == 0
    assert Path("link.nlaic").is_symlink()
    assert Path("real.nlaic").read_bytes() != b"old"
