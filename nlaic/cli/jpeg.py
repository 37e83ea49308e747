"""`nlaic-jpeg`: pictures to JPEG files that every decoder opens, by an encoder that has learned."""

import argparse
from collections.abc import Callable, Sequence
from io import BytesIO
from time import perf_counter
from typing import NoReturn

from nlaic.cli import command
from nlaic.cli.files import Job, UsageError, check_target, plan, write_output
from nlaic.cli.progress import Reporter, StopError, result_line
from nlaic.errors import NlaicError

NAME = "nlaic-jpeg"
SUFFIX = ".jpg"
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    args = make_parser().parse_args(argv)
    command.run(NAME, lambda: _encode_all(args))


def make_parser() -> command.Parser:
    """The options."""
    parser = command.Parser(NAME, "Make JPEG files, smaller ones: the decoder stays what everybody has.")
    command.add_place_options(parser)
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "-q", "--quality", type=command.quality, default=50.0, help="0 to 100 in steps of 0.1; default: 50"
    )
    rate.add_argument("--bpp", type=command.above_zero, metavar="B", help="at most so many bits a pixel")
    rate.add_argument("--bytes", type=command.size, metavar="N", help="at most so many bytes (50k: 50,000)")
    parser.add_argument(
        "--subsampling", choices=("420", "444"), default="420", help="of the colours; 444 has none; default: 420"
    )
    parser.add_argument(
        "--tune", type=command.at_least_one, metavar="STEPS", help="fit the tables to each picture in so many steps"
    )
    parser.add_argument(
        "--coding",
        choices=("progressive", "optimised", "default"),
        default="progressive",
        help="progressive, or one scan with Huffman tables of the picture's own or of the standard",
    )
    parser.add_argument(
        "--rounding",
        choices=("thoughtful", "attention", "nearest"),
        default="thoughtful",
        help="by what bits cost, by the attention network as in the paper, or to the nearest",
    )
    parser.add_argument(
        "--model", default="jpeg", metavar="NAME|FILE", help="weights of stage jpeg; default: what ships"
    )
    return parser


def _encode_all(args: argparse.Namespace) -> bool:
    from nlaic.picture import INPUT_SUFFIXES

    if args.tune and args.rounding != "thoughtful":
        raise UsageError(f"--tune works with --rounding thoughtful, not {args.rounding}")
    reads = INPUT_SUFFIXES if args.output else INPUT_SUFFIXES - SUFFIXES  # beside their sources JPEGs are results
    jobs = plan(args.inputs, args.output, recursive=args.recursive, suffix=SUFFIX, reads=reads)
    taken = command.check_stdout(jobs)
    report = Reporter(NAME, total=len(jobs), quiet=args.quiet, slow=bool(args.tune), stdout_taken=taken)
    to_do = command.still_to_do(jobs, args.force, report) if args.recursive else jobs
    good = command.do_all(to_do, lambda job: _encode(job, args, report), report)
    command.tell_passed_over(args, INPUT_SUFFIXES, report)
    return good


def _encode(job: Job, args: argparse.Namespace, report: Reporter) -> None:
    from nlaic.classic.jpeg.encoder import Options, encode
    from nlaic.classic.jpeg.model import load
    from nlaic.picture import open_picture

    if job.target and job.target.suffix.lower() not in SUFFIXES:
        raise NlaicError(f"output {job.target} does not end like a JPEG file: allowed are {' '.join(sorted(SUFFIXES))}")
    check_target(job.target, force=args.force, parents=args.recursive)
    try:
        model = load(args.model)
    except NlaicError as error:
        raise StopError(str(error)) from error
    source = job.read()
    warn = _once(lambda text: report.note(job.name, text))
    image = open_picture(BytesIO(source), warn=warn)
    options = Options(args.subsampling, args.coding, args.rounding, args.tune or 0)
    start = perf_counter()
    data = encode(
        image, model, args.quality, options, bpp=args.bpp, max_bytes=args.bytes, progress=report.fraction, warn=warn
    )
    seconds = perf_counter() - start
    if source[:2] == b"\xff\xd8" and len(data) >= len(source):
        warn(f"the input is a JPEG file of {len(source)} bytes, the result is not smaller; a lower -q makes it smaller")
    write_output(job.target, data, force=args.force, parents=args.recursive)
    report.line(result_line(job.name, image.size, len(data), seconds))


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """The same note of many tries is told once."""
    told: set[str] = set()

    def warn(text: str) -> None:
        if text not in told:
            told.add(text)
            tell(text)

    return warn
