"""`nlaic-compress`: pictures to .nlaic files."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace
from io import BytesIO
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

from nlaic.cli import command
from nlaic.cli.budget import add_budgets, check_budgets, compress_set
from nlaic.cli.files import Job, UsageError, check_target, plan, write_output
from nlaic.cli.many import compress_many
from nlaic.cli.progress import Reporter, StopError, result_line
from nlaic.errors import NlaicError

if TYPE_CHECKING:
    from nlaic.classic.file import BaseEncoder
    from nlaic.codec import Codec

NAME = "nlaic-compress"
SUFFIX = ".nlaic"
DEFAULT_QUALITY = 50.0
# Options of nlaic's own codec, which --codec refuses: defaults.
OWN: dict[str, Any] = {"effort": 3, "model": "light", "block": (2048, 1024), "executor": None}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    args = make_parser().parse_args(argv)
    command.limit_threads(NAME, args.threads)
    command.run(NAME, lambda: _compress_all(args))


def make_parser() -> command.Parser:
    """The options."""
    parser = command.Parser(NAME, "Compress pictures. MP/s is the codec's own time, without reading and writing.")
    command.add_place_options(parser)
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "-q",
        "--quality",
        type=command.quality,
        help="0 to 100 in steps of 0.1, or the base codec's own (--codec); default: 50, or a middling one",
    )
    rate.add_argument(
        "--bpp", type=command.above_zero, metavar="B", help="at most so many bits a pixel, the time as for --bytes"
    )
    rate.add_argument(
        "--bytes",
        type=command.size,
        metavar="N",
        help="at most so many bytes (50k: 50,000); takes several times as long as -q",
    )
    add_budgets(parser, rate)
    parser.add_argument(
        "-e",
        "--effort",
        type=command.effort,
        default=OWN["effort"],
        help="1 (fast) to 9 (most quality for its bytes, takes minutes a megapixel; 8 and 9 need torch); default: 3",
    )
    parser.add_argument(
        "--codec",
        metavar="BASE[+FILTER]",
        help="another codec inside of the file (jpeg webp avif heic hevc vvc avs2 bpg), and a filter behind it "
        "(restore-light svac2 mvgl-c .., or auto: whichever is best)",
    )
    parser.add_argument(
        "--scales",
        action="store_true",
        help="with --codec: a picture reduced to 1/2, 1/4 or 1/8 first and the rest second, where that is better",
    )
    parser.add_argument("--model", default=OWN["model"], metavar="NAME|FILE", help="weights; default: light")
    parser.add_argument(
        "--block",
        type=command.block_size,
        default=OWN["block"],
        metavar="WxH",
        help="multiples of 64; default: 2048x1024",
    )
    parser.add_argument(
        "--strip",
        action="store_true",
        help="leave EXIF, XMP and the colour profile out; colours are converted to sRGB",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        help="many pictures at once, a thread each (--threads of them): in processes here, or on the Ray cluster of "
        "$RAY_ADDRESS; what is there already is not done again, as with -r",
    )
    command.add_run_options(parser)
    return parser


def _compress_all(args: argparse.Namespace) -> bool:
    from nlaic.picture import INPUT_SUFFIXES

    check_budgets(args)
    _check_codec(args)
    jobs = plan(args.inputs, args.output, recursive=args.recursive, suffix=SUFFIX, reads=INPUT_SUFFIXES)
    jobs = [_no_picture(job, INPUT_SUFFIXES) for job in jobs]
    taken = command.check_stdout(jobs)
    report = Reporter(NAME, total=len(jobs), quiet=args.quiet, slow=args.effort > 3, stdout_taken=taken)
    if args.executor and (taken or any(job.source is None for job in jobs)):
        raise UsageError("--executor works on files, not on standard input or output")
    good = _compress_jobs(jobs, args, report)
    command.tell_passed_over(args, INPUT_SUFFIXES | {SUFFIX}, report)
    return good


def _compress_jobs(jobs: Sequence[Job], args: argparse.Namespace, report: Reporter) -> bool:
    """Together, many at once, or one after the other; False where one failed."""
    if args.total_bytes is not None:
        return compress_set(jobs, args, report)
    if args.executor:
        return compress_many(jobs, args, _options(args), report)
    codecs = _Codecs(args)
    to_do = command.still_to_do(jobs, args.force, report) if args.recursive else jobs
    return command.do_all(to_do, lambda job: _compress(job, args, codecs, report), report)


def _check_codec(args: argparse.Namespace) -> None:
    """Refuse a base codec that there is not, and options that do not go with one, or without."""
    if not args.codec:
        if args.scales:
            raise UsageError("--scales goes with --codec")
        return
    from nlaic.classic.file import parse_pair

    try:
        parse_pair(args.codec)
    except NlaicError as error:
        raise UsageError(f"--codec: {error}") from error
    for name, default in OWN.items():
        if getattr(args, name) != default:
            raise UsageError(f"--{name} is for nlaic's own codec, not for --codec")


def _no_picture(job: Job, suffixes: Collection[str]) -> Job:
    """A job whose result would be named like a picture has a problem."""
    if job.problem or not job.target or job.target.suffix.lower() not in suffixes:
        return job
    problem = f"output {job.target} ends like a picture, but a {SUFFIX} file would be written"
    return replace(job, target=None, problem=problem)


def _compress(job: Job, args: argparse.Namespace, codecs: "_Codecs", report: Reporter) -> None:
    import nlaic
    from nlaic.picture import open_picture

    check_target(job.target, force=args.force, parents=args.recursive)
    source = job.source or BytesIO(job.read())
    image = open_picture(source, strip=args.strip, warn=lambda text: report.note(job.name, text))
    codec = codecs.get()
    start = perf_counter()
    more: dict[str, Any] = {} if args.codec else {"progress": report.fraction}
    data = codec.compress(image, **_options(args), **more)
    seconds = perf_counter() - start
    if (args.bytes or args.bpp) and not args.codec and nlaic.info(data)["quality"] == 100:
        report.note(job.name, "smaller than asked for: quality 100, the best there is, needs no more")
    write_output(job.target, data, force=args.force, parents=args.recursive)
    report.line(result_line(job.name, image.size, len(data), seconds))


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `compress`, of `Codec` or of `BaseEncoder`."""
    quality = DEFAULT_QUALITY if args.quality is None and not args.codec else args.quality
    return {"quality": quality, "bpp": args.bpp, "max_bytes": args.bytes, **command.codec_options(args)}


class _Codecs:
    """The codec, loaded when the first picture is there and then kept."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._codec: Codec | BaseEncoder | None = None

    def get(self) -> "Codec | BaseEncoder":
        """Load once; failing is the end of the command."""
        if self._codec is None:
            try:
                self._codec = command.open_codec(self._args)
            except (NlaicError, OSError) as error:
                raise StopError(str(error)) from error
        return self._codec
