"""The command lines of the README, from top to bottom in one folder; those of Hydra's commands on every page."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from nlaic.cli.command import check_settings
from nlaic.cli.decompress import make_parser
from nlaic.codec import REALISM
from nlaic.resources import resource_folder
from tests.cli.conftest import COMMANDS, picture

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "weights" / "README.md")


def commands(section):
    """The compress, decompress and info lines of a section's shell blocks, without comments."""
    text = re.split(r"^## ", README.read_text(), flags=re.MULTILINE)
    found = next(part for part in text if part.startswith(section))
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", found, re.MULTILINE | re.DOTALL):
        for line in [] if language else block.splitlines():
            words = shlex.split(line, comments=True)
            name = words[0].removeprefix("nlaic-") if words else ""
            if name in COMMANDS:
                yield [name, *words[1:]]


def test_every_line_runs_after_the_one_before(folder, run, stub):
    for path in ("photo.jpg", "photos/a/b.jpg"):
        picture(path)
    lines = [*commands("Use\n"), *commands("Train it on your own pictures\n")]
    assert len(lines) >= 9
    for line in lines:
        code, _, err = run(line)
        assert (code, err) == (0, []), line
    assert {"photo.nlaic", "small.nlaic", "back.png", "part.png"} <= {path.name for path in folder.iterdir()}


def hydra_lines():
    """(command, its words) of every line of nlaic-train and nlaic-evaluate in code, without what stands for more."""
    texts = [path.read_text().replace("\\\n", " ") for path in (README, *PAGES)]
    spans = [span for text in texts for span in re.findall(r"`(nlaic-(?:train|evaluate) [^`]+)`", text)]
    lines = [line for text in texts for line in re.findall(r"^ *(nlaic-(?:train|evaluate) .*)$", text, re.MULTILINE)]
    for line in dict.fromkeys([*spans, *lines]):
        command, *words = shlex.split(line.replace("\n", " "), comments=True)
        if words[0] != "report":
            yield command, [word for word in words if not re.search(r"\.\.\.|…|=[A-Z]+$", word)]


def one_job(word):
    """An override as it is, or with the first value of a sweep."""
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return word
    return f"{override.key_or_group}={next(override.sweep_string_iterator())}"


@pytest.mark.parametrize(("command", "words"), hydra_lines())
def test_every_line_of_the_pages_composes(command, words):
    check_settings(command, words)
    overrides = [one_job(word) for word in words if "=" in word and not word.startswith("hydra")]
    with initialize_config_dir(str(resource_folder("conf")), version_base="1.3"):
        assert compose(command.removeprefix("nlaic-"), overrides)


def plain_lines():
    """Every other command's line in code on any page."""
    for text in (page.read_text().replace("\\\n", " ") for page in (README, *PAGES)):
        yield from re.findall(r"^(nlaic-(?:compress|decompress|info|export|jpeg|restore) .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("line", sorted(set(plain_lines())))
def test_every_line_of_the_pages_is_understood(line):
    name, *words = shlex.split(line, comments=True)
    assert import_module(f"nlaic.cli.{name.removeprefix('nlaic-')}").make_parser().parse_args(words)


def test_the_default_of_realism_is_told_as_it_is():
    for text in (README.read_text(), make_parser().format_help()):
        assert re.search(rf"natural looking.*?\b{re.escape(str(REALISM))}\b", text, re.DOTALL)
        assert f"default: {REALISM}" in " ".join(text.split()) or f"{REALISM} by default" in text
