"""`nlaic-info`: the facts in the head of .nlaic files. Needs no weights and no torch."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from nlaic.cli import command
from nlaic.cli.files import STDIO, Job
from nlaic.cli.progress import Reporter, tell

NAME = "nlaic-info"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    args = make_parser().parse_args(argv)
    command.run(NAME, lambda: _tell_all(args))


def make_parser() -> command.Parser:
    """The options."""
    parser = command.Parser(NAME, "Tell what .nlaic files hold.")
    parser.add_argument("inputs", nargs="+", metavar="IN", help="file, or - for standard input")
    parser.add_argument("--json", action="store_true", help="a list with one object a file")
    command.add_max_pixels(parser)
    return parser


def _tell_all(args: argparse.Namespace) -> bool:
    import nlaic

    facts: list[dict[str, Any]] = []

    def look(job: Job) -> None:
        """Collect for JSON, print otherwise."""
        data = job.read()
        found = {"file": job.name, "bytes": len(data), **nlaic.info(data, max_pixels=args.max_pixels)}
        if args.json:
            facts.append(found)
        else:
            tell(_line(found))

    jobs = [Job(None if name == STDIO else Path(name), None) for name in args.inputs]
    good = command.do_all(jobs, look, Reporter(NAME, total=1))
    if args.json:
        for line in json.dumps(facts, indent=2).splitlines():
            tell(line)
    return good


def _line(facts: dict[str, Any]) -> str:
    """The facts for people, in one line."""
    width, height, count = facts["width"], facts["height"], facts["bytes"]
    blocks, block = facts["blocks"], facts["block"]
    parts = [
        facts["file"],
        f"{width}x{height}{' grey' if facts['grey'] else ''}",
        f"{count} bytes",
        f"{8 * count / (width * height):.4f} bpp",
        f"quality {facts['quality']:.1f}",
        f"model {facts['model_id']}",
        f"{blocks} block{'s' if blocks > 1 else ''} of {block[0]}x{block[1]}",
        f"version {facts['version']}",
    ]
    if "base" in facts:
        parts.append("+".join(filter(None, facts["base"].values())))
    parts += [f"{name} {size} bytes" for name, size in facts["sections"].items()]
    return "  ".join(parts)
