"""Completion in the shells that are here, and the type of the files for desktops."""

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nlaic import container, plugin
from nlaic.cli import completion

MIME = Path(__file__).parents[2] / "docs" / "nlaic-mime.xml"


def completed(words):
    """What bash offers for the last of the words."""
    script = completion.bash() + (
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n_${1//-/_}\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["nlaic-compress", "--st"], ["--strip"]),
        (["nlaic-compress", "a.png", "--device", ""], ["auto", "cpu", "cuda"]),
        (["nlaic-compress", "--executor", "r"], ["ray"]),
        (["nlaic-decompress", "--re"], ["--recursive", "--realism", "--region"]),
        (["nlaic-decompress", "--region", "-"], []),
        (["nlaic-info", "--"], ["--help", "--version", "--json", "--max-pixels"]),
        (["nlaic-info", "a"], []),
    ],
)
def test_bash(words, offered):
    assert completed(words) == offered


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_option_of_every_command_is_there(shell, capsys):
    completion.main([shell])
    script = capsys.readouterr().out
    for name, make in completion.PARSERS.items():
        assert name in script
        for option in re.findall(r"--([a-z-]+)", make().format_help()):
            assert option in script
    program = shutil.which(shell)
    if program:
        subprocess.run([program, "-n"], input=script, text=True, check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("update-mime-database"), reason="no shared-mime-info")
def test_the_mime_type_can_be_installed(tmp_path):
    (tmp_path / "packages").mkdir()
    shutil.copy(MIME, tmp_path / "packages")
    subprocess.run(["update-mime-database", tmp_path], check=True, capture_output=True)
    assert "50:image/x-nlaic:*.nlaic" in (tmp_path / "globs2").read_text()
    assert b"[60:image/x-nlaic]\n>0=\0\x04" + container.MAGIC in (tmp_path / "magic").read_bytes()


def test_the_mime_type_is_that_of_the_format():
    space = {"m": "http://www.freedesktop.org/standards/shared-mime-info"}
    kind = ElementTree.parse(MIME).getroot().find("m:mime-type", space)
    assert kind.get("type") == plugin.MIME
    assert kind.find("m:glob", space).get("pattern") == f"*{plugin.SUFFIX}"
    match = kind.find("m:magic/m:match", space)
    assert match.get("value").encode("latin-1").decode("unicode_escape").encode("latin-1") == container.MAGIC
