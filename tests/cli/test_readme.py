"""The command lines of the README, from top to bottom in one folder."""

import re
import shlex
from pathlib import Path

from tests.cli.conftest import COMMANDS, picture

README = Path(__file__).parents[2] / "README.md"


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
