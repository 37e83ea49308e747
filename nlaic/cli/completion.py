"""Completion of the commands' options in a shell, from the options themselves.

```
eval "$(python -m nlaic.cli.completion bash)"        # or zsh, in the shell's start-up file
python -m nlaic.cli.completion fish | source
```
`nlaic-train` and `nlaic-evaluate` are Hydra's: `eval "$(nlaic-train -sc install=bash)"` completes their settings.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from nlaic.cli import compress, decompress, export, info, jpeg, restore

PARSERS = {module.NAME: module.make_parser for module in (compress, decompress, info, export, restore, jpeg)}
_BASH = """{function}() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    COMPREPLY=()
    case "$before" in
{cases}
    esac
    if [[ "$current" == -* ]]; then
        COMPREPLY=($(compgen -W "{options}" -- "$current"))
    fi
}}
complete -o default -F {function} {name}
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the script for one shell."""
    parser = argparse.ArgumentParser(prog="python -m nlaic.cli.completion", description="Print a completion script.")
    parser.add_argument("shell", choices=SHELLS)
    sys.stdout.write(SHELLS[parser.parse_args(argv).shell]())


def bash() -> str:
    """Options, and the values of those that have a choice; files otherwise."""
    return "".join(_bash_function(name, _options(make())) for name, make in PARSERS.items())


def zsh() -> str:
    """The same through zsh's reading of bash."""
    return "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + bash()


def fish() -> str:
    """With what each option is."""
    return "".join(_fish_line(name, option) for name, make in PARSERS.items() for option in _options(make()))


SHELLS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _bash_function(name: str, options: list[argparse.Action]) -> str:
    case = '        {}) COMPREPLY=($(compgen -W "{}" -- "$current")); return ;;'
    chosen = [case.format("|".join(o.option_strings), " ".join(map(str, o.choices))) for o in options if o.choices]
    taking = [text for o in options if o.nargs != 0 for text in o.option_strings]
    rest = [f"        {'|'.join(taking)}) return ;;"] if taking else []
    words = " ".join(text for option in options for text in option.option_strings)
    cases = "\n".join([*chosen, *rest, "        *) ;;"])
    return _BASH.format(function=f"_{name.replace('-', '_')}", name=name, cases=cases, options=words)


def _fish_line(name: str, option: argparse.Action) -> str:
    words = [f"complete -c {name}"]
    words += [f"-l {text[2:]}" if text.startswith("--") else f"-s {text[1:]}" for text in option.option_strings]
    if option.nargs != 0:
        words.append(f"-x -a {_quoted(' '.join(map(str, option.choices)))}" if option.choices else "-r")
    return " ".join([*words, f"-d {_quoted(option.help or '')}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


if __name__ == "__main__":
    main()
