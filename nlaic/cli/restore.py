"""`nlaic-restore`: pictures that went through a codec, filtered to be nearer to what they were."""

import argparse
from collections.abc import Sequence
from io import BytesIO
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn

from nlaic.cli import command
from nlaic.cli.files import Job, UsageError, check_target, plan, write_output
from nlaic.cli.progress import Reporter, StopError, result_line
from nlaic.errors import NlaicError

if TYPE_CHECKING:
    from nlaic.classic.base import Base
    from nlaic.classic.restore import Restorer
    from nlaic.classic.source import Source

NAME = "nlaic-restore"
ENDING = "-restored"
TOLERANCE = 0.01  # of a level: what quantisation tables tell is not exact
LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".heic", ".heif", ".hif"})


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    args = make_parser().parse_args(argv)
    command.limit_threads(NAME, args.threads)
    command.run(NAME, lambda: _restore_all(args))


def make_parser() -> command.Parser:
    """The options."""
    parser = command.Parser(
        NAME,
        "Undo some of what JPEG and other codecs did to pictures, as far as it can be guessed. The suffix of OUT "
        "decides the format (png jpg webp avif tiff bmp ppm), PNG where there is none.",
    )
    command.add_place_options(parser)
    parser.add_argument("--model", default="restore-light", metavar="NAME|FILE", help="filter; default: restore-light")
    parser.add_argument(
        "--source",
        metavar="CODEC[:Q]",
        help="what the pictures went through: jpeg webp avif heic hevc vvc avs2 bpg, with its quality or quantiser; "
        "default: as the file says",
    )
    parser.add_argument("--rotations", action="store_true", help="mean over four rotations: four times as long")
    parser.add_argument(
        "--block", type=command.block_size, default=(512, 512), metavar="WxH", help="multiples of 64; default: 512x512"
    )
    command.add_run_options(parser)
    return parser


def _restore_all(args: argparse.Namespace) -> bool:
    from nlaic.classic.source import parse_source
    from nlaic.picture import INPUT_SUFFIXES

    try:
        given = parse_source(args.source) if args.source else None
    except NlaicError as error:
        raise UsageError(str(error)) from error
    reads = LOSSY | INPUT_SUFFIXES if given else LOSSY
    jobs = plan(args.inputs, args.output, recursive=args.recursive, suffix=".png", reads=reads, ending=ENDING)
    taken = command.check_stdout(jobs)
    report = Reporter(NAME, total=len(jobs), quiet=args.quiet, slow=True, stdout_taken=taken)
    filters = _Filters(args)
    to_do = command.still_to_do(jobs, args.force, report) if args.recursive else jobs
    return command.do_all(to_do, lambda job: _restore(job, args, filters, report, given), report)


def _restore(
    job: Job, args: argparse.Namespace, filters: "_Filters", report: Reporter, given: "tuple[Base, float | None] | None"
) -> None:
    from nlaic.classic.pictures import open_coded, restored
    from nlaic.classic.restore import Running
    from nlaic.picture import encode_picture, output_format

    def warn(text: str) -> None:
        report.note(job.name, text)

    format = "PNG" if job.target is None or not job.target.suffix else output_format(job.target)
    check_target(job.target, force=args.force, parents=args.recursive)
    data = job.read()
    picture, source, turn = open_coded(BytesIO(data), given, warn)
    start, seconds = perf_counter(), None
    if source and source.level < filters.get(source, report).levels[0] - TOLERANCE:
        warn("finer than the filter was trained for: it is left as it is")
    elif source:
        running = Running(args.block, args.rotations)
        picture = restored(picture, turn, filters.get(source, report), source.level, running)
        seconds = perf_counter() - start
    encoded = encode_picture(picture, format, warn=warn)
    write_output(job.target, encoded, force=args.force, parents=args.recursive)
    report.line(result_line(job.name, picture.size, len(encoded), seconds))


class _Filters:
    """Filters, each loaded when the first picture of its codec is there."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._loaded: dict[str, Restorer] = {}

    def get(self, source: "Source", report: Reporter) -> "Restorer":
        """The filter behind a codec; says where it was trained behind another."""
        from nlaic.classic.restore import Restorer
        from nlaic.classic.weights import find_filter
        from nlaic.engine import Execution

        name = source.base.name
        if name not in self._loaded:
            args = self._args
            try:
                weights = find_filter(args.model, name)
                self._loaded[name] = Restorer(weights, Execution(**command.execution(args)))
            except OSError as error:
                raise StopError(str(error)) from error
            if self._loaded[name].source != name:
                report.note(args.model, f"trained behind {self._loaded[name].source}, not behind {name}")
        return self._loaded[name]
