"""`nlaic-export`: the ONNX graphs of a weights file, by which it runs without torch."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from nlaic.cli import command
from nlaic.cli.files import Job, check_target, write_output
from nlaic.cli.progress import Reporter
from nlaic.errors import NlaicError

NAME = "nlaic-export"
INSTALL = "pip install 'nlaic[export]'"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    args = make_parser().parse_args(argv)
    command.run(NAME, lambda: _export(args))


def make_parser() -> command.Parser:
    """The options."""
    parser = command.Parser(
        NAME,
        "Write the ONNX graphs of weights, <name>.onnx.zip, checked against torch. Weights of the same shape as those "
        "that come with nlaic need none of their own. Unpacked beside the weights they are ONNX files for any program.",
    )
    parser.add_argument("weights", metavar="NAME|FILE", help="weights, such as what nlaic-train has written")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: beside the weights")
    parser.add_argument("--force", action="store_true", help="overwrite what exists")
    parser.add_argument("--quiet", action="store_true", help="only errors")
    return parser


def _export(args: argparse.Namespace) -> bool:
    report = Reporter(NAME, total=1, quiet=args.quiet)
    return command.do_all([Job(Path(args.weights), args.output)], lambda job: _export_one(job, args, report), report)


def _export_one(job: Job, args: argparse.Namespace, report: Reporter) -> None:
    from nlaic.graphs import SUFFIX
    from nlaic.weights import find_weights

    weights = find_weights(args.weights)
    assert weights.path is not None
    target = job.target or weights.path.with_suffix(SUFFIX)
    check_target(target, force=args.force, parents=False)
    try:
        from nlaic.onnx_export import export_graphs
    except ImportError as error:
        raise NlaicError(f"{error.name or error} is missing: {INSTALL}") from error
    graphs = export_graphs(weights)
    data = graphs.to_bytes()
    write_output(target, data, force=args.force, parents=False)
    report.line(f"{target}  {len(graphs.models)} graphs  {len(data)} bytes")
