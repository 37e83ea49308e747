"""Standard input and output, bars, `nlaic-info`, and what is imported for it."""

import errno
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic.cli import compress, decompress
from tests.cli.conftest import COMMANDS, MODEL_ID, nlaic_bytes, picture, tree


def feed(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=BytesIO(data)))


def test_standard_input_and_output(folder, stub, monkeypatch, capsysbinary):
    pixels = picture("a.png")
    feed(monkeypatch, Path("a.png").read_bytes())
    with pytest.raises(SystemExit) as caught:
        compress.main(["-"])
    out, err = capsysbinary.readouterr()
    assert caught.value.code == 0
    assert err.startswith(b"-  40x30  ") and err.count(b"\n") == 1
    feed(monkeypatch, out)
    with pytest.raises(SystemExit) as caught:
        decompress.main(["-", "-o", "-", "--quiet"])
    out, err = capsysbinary.readouterr()
    assert (caught.value.code, err) == (0, b"")
    assert np.array_equal(np.asarray(Image.open(BytesIO(out))), pixels)
    assert tree(folder) == {"a.png"}


def test_standard_input_to_a_file_and_a_bad_one(folder, run, stub, monkeypatch):
    picture("a.png")
    feed(monkeypatch, Path("a.png").read_bytes())
    assert run("compress - -o x.nlaic")[0] == 0
    feed(monkeypatch, b"")
    assert run("compress - -o y.nlaic") == (1, [], ["nlaic-compress: -: empty file (0 bytes)"])
    assert tree(folder) == {"a.png", "x.nlaic"}


def test_standard_output_that_is_a_terminal(folder, run, stub, monkeypatch):
    picture("a.png")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run("compress a.png -o -") == (2, [], ["nlaic-compress: standard output is a terminal: give -o"])


@pytest.mark.parametrize("line", ["compress --force a.png b.png", "info a.nlaic b.nlaic", "info --json a.nlaic"])
def test_nobody_reads_the_lines(line, folder, run, stub, monkeypatch):
    def gone(_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    for name in ("a", "b"):
        picture(f"{name}.png")
        Path(f"{name}.nlaic").write_bytes(nlaic_bytes())
    monkeypatch.setattr(sys.stdout, "write", gone)
    code, _, err = run(line)
    assert (code, err) == (1, [f"nlaic-{line.split()[0]}: cannot write standard output: Broken pipe"])


def test_names_do_not_command_the_terminal(folder, run, stub, monkeypatch):
    for name in ("a", "b"):
        picture(f"{name}\x1b[31m\nx.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, _, err = run(["compress", "-r", ".", "-o", "out"])
    assert code == 0
    assert "\\x1b[31m x.png" in "".join(err)
    assert "\x1b[31m" not in "".join(err)


@pytest.mark.parametrize(("stdout_too", "lines"), [(True, 0), (False, 2)])
def test_many_files_on_a_terminal_show_a_bar(stdout_too, lines, folder, run, stub, monkeypatch):
    picture("a.png")
    picture("b.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: stdout_too, raising=False)
    code, out, err = run("compress a.png none.png b.png")
    assert (code, len(out)) == (1, lines)
    assert "3/3" in "".join(err)
    assert sum("none.png: No such file" in line for line in err) == 1


@pytest.mark.parametrize(("options", "bar"), [("-e 9", True), ("-e 9 --quiet", False), ("", False)])
def test_a_slow_single_file_shows_a_bar(options, bar, folder, run, stub, monkeypatch):
    picture("a.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, out, err = run(f"compress a.png {options}")
    assert (code, len(out)) == (0, 0 if "quiet" in options else 1)
    assert bool(err) == bar


def test_info_lines_and_json(folder, run):
    data = nlaic_bytes()
    Path("a.nlaic").write_bytes(data)
    code, out, err = run("info a.nlaic none.nlaic")
    assert (code, len(err)) == (1, 1)
    assert out == [
        f"a.nlaic  40x30  {len(data)} bytes  {8 * len(data) / 1200:.4f} bpp  quality 50.0"
        f"  model {MODEL_ID.hex()}  1 block of 2048x1024  version 1"
    ]
    code, out, err = run("info --json a.nlaic none.nlaic")
    facts = json.loads("\n".join(out))
    assert (code, len(err), len(facts)) == (1, 1, 1)
    assert facts[0] == {"file": "a.nlaic", "bytes": len(data), **nlaic.info(data)}


def python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "arguments", [["info", "a.nlaic"], ["compress", "--help"], ["decompress", "--help"], ["export", "--help"]]
)
def test_nothing_heavy_is_imported_without_work_for_it(arguments, folder):
    Path("a.nlaic").write_bytes(nlaic_bytes())
    code = (
        "import sys, importlib\n"
        "try: importlib.import_module('nlaic.cli.' + sys.argv[1]).main(sys.argv[2:])\n"
        "except SystemExit as end: print(end.code)\n"
        "print([name for name in ('torch', 'numpy', 'rich', 'compressai', 'onnxruntime') if name in sys.modules])\n"
    )
    lines = python(code, *arguments).splitlines()
    assert lines[-2:] == ["0", "[]"]


@pytest.mark.parametrize("name", COMMANDS)
def test_version(name, run):
    assert run(f"{name} --version") == (0, [f"nlaic-{name} {nlaic.__version__}"], [])
