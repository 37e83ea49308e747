"""What the commands share: options and their ranges, the loop over files, exit codes."""

import argparse
import math
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from nlaic.ahead import processors
from nlaic.cli.files import DoneError, Job, UsageError, is_file, is_stdout, passed_over
from nlaic.cli.progress import Reporter, StopError, is_terminal, reason, say
from nlaic.container import MAX_PIXELS
from nlaic.errors import NlaicError, lacks_memory
from nlaic.version import __version__

if TYPE_CHECKING:
    from nlaic.classic.file import BaseEncoder
    from nlaic.codec import Codec

T = TypeVar("T")

FAILURES = (NlaicError, OSError, MemoryError)
POWERS = {"K": 10**3, "M": 10**6, "G": 10**9}
HYDRA_SHORT = ("-c", "-p", "-i", "-cp", "-cn", "-cd")  # options of Hydra that a value follows
HYDRA_LONG = ("--cfg", "--package", "--info", "--config-path", "--config-name", "--config-dir")
EXIT_CODES = "exit code: 0 all done, 1 something failed, 2 usage, 130 interrupted"


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, without prefixes of options, and whose inputs may stand between options."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, epilog=EXIT_CODES, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"{prog} {__version__}")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """See `argparse.ArgumentParser.parse_intermixed_args`; with `--` inputs are what stands behind it."""
        words = sys.argv[1:] if args is None else args
        return (super().parse_args if "--" in words else self.parse_intermixed_args)(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Say it and end with 2."""
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def ranged(kind: Callable[[str], T], allowed: str, accepts: Callable[[T], bool]) -> Callable[[str], T]:
    """An argparse type that refuses with what is allowed and what was got."""

    def parse(text: str) -> T:
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            accepted = False
        else:
            accepted = accepts(value)
        if not accepted:
            raise argparse.ArgumentTypeError(f"must be {allowed}, but got {text!r}")
        return value

    return parse


quality = ranged(
    float, "0 to 100 in steps of 0.1", lambda value: 0 <= value <= 100 and abs(value * 10 - round(value * 10)) < 1e-6
)
above_zero = ranged(float, "a number above 0", lambda value: 0 < value < math.inf)
realism = ranged(float, "0 to 1", lambda value: 0 <= value <= 1)
effort = ranged(int, "1 to 9", lambda value: 1 <= value <= 9)


def _size(text: str) -> int:
    number, unit = (text[:-1], POWERS[text[-1].upper()]) if text[-1:].upper() in POWERS else (text, 1)
    return int(float(number) * unit)


size = ranged(_size, "a number of bytes above 0, with K, M or G for powers of 1000", lambda value: value > 0)
at_least_one = ranged(int, "a whole number of at least 1", lambda value: value >= 1)


def _pair(text: str) -> tuple[int, int]:
    width, height = text.lower().split("x")
    return int(width), int(height)


block_size = ranged(
    _pair,
    "WIDTHxHEIGHT, multiples of 64 up to 65536",
    lambda sides: all(side in range(64, 65537, 64) for side in sides),
)


def _region(text: str) -> tuple[int, int, int, int]:
    x, y, width, height = (int(part) for part in text.split(","))
    return x, y, width, height


region = ranged(
    _region,
    "X,Y,W,H: four whole numbers, the last two above 0",
    lambda sides: min(sides[:2]) >= 0 and min(sides[2:]) > 0,
)


def add_place_options(parser: Parser) -> None:
    """Inputs, output and what may be overwritten, the same for all that make a file of a file."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help="file, folder (with -r), or - for standard input")
    parser.add_argument("-o", "--output", metavar="OUT|DIR", help="file, folder, or -; default: beside the input")
    parser.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help="take what is in folders and folders below; what is there already is not done again",
    )
    parser.add_argument("--force", action="store_true", help="overwrite what exists")
    parser.add_argument("--quiet", action="store_true", help="only errors")


def add_run_options(parser: Parser) -> None:
    """What runs the networks; see `execution`."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument(
        "--engine",
        choices=("auto", "onnx", "openvino", "torch"),
        default="auto",
        help="what runs the networks; default: ONNX Runtime, torch on a GPU; openvino is faster for many pictures",
    )
    parser.add_argument(
        "--threads", type=at_least_one, metavar="N", help="threads on the CPU, in all; default: the engine decides"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="default: fp32 by ONNX Runtime, the fastest by the others",
    )


def add_max_pixels(parser: Parser) -> None:
    """What a file may claim to hold."""
    parser.add_argument(
        "--max-pixels",
        type=at_least_one,
        default=MAX_PIXELS,
        metavar="N",
        help="refuse files that say they hold more; default: 2^30, a gigapixel",
    )


def execution(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `nlaic.engine.Execution` from the options; efforts that only torch has choose torch."""
    from nlaic.engine import engine_for

    engine = engine_for(getattr(args, "effort", 1)) if args.engine == "auto" else args.engine
    return {"device": args.device, "threads": args.threads, "precision": args.precision, "engine": engine}


def open_codec(args: argparse.Namespace) -> "Codec | BaseEncoder":
    """The encoder that the options of nlaic-compress name."""
    if args.codec:
        from nlaic.classic.file import BaseEncoder, parse_pair
        from nlaic.engine import Execution

        return BaseEncoder(parse_pair(args.codec), Execution(**execution(args)), scales=args.scales)
    import nlaic

    return nlaic.load(args.model, **execution(args))


def codec_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of what `open_codec` opens, beside those that say how large a file is to be."""
    names = ("strip",) if args.codec else ("effort", "block", "strip")
    return {name: getattr(args, name) for name in names}


def limit_threads(command: str, threads: int | None) -> None:
    """Hold NumPy's matrix products to the threads asked for (before NumPy is imported); say where it is too many."""
    if threads is None:
        return
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    if threads > processors():
        say(
            f"{command}: note: {threads} threads asked for, but {processors()} is all there are to run them", sys.stderr
        )


def check_settings(command: str, words: Sequence[str]) -> None:
    """End with a line where a word among Hydra's sets nothing."""
    for before, word in zip(("", *words), words, strict=False):
        if "=" not in word and word[:1] not in ("-", "~") and before not in (*HYDRA_SHORT, *HYDRA_LONG):
            say(f"{command}: {word!r} sets nothing: write name=value, as in data.root=FOLDER (--help)", sys.stderr)
            sys.exit(2)


def check_stdout(jobs: Sequence[Job]) -> bool:
    """Whether a result goes to standard output, which then must not be a terminal."""
    taken = any(not job.problem and (job.target is None or is_stdout(job.target)) for job in jobs)
    if taken and is_terminal(sys.stdout):
        raise UsageError("standard output is a terminal: give -o")
    return taken


def still_to_do(jobs: Iterable[Job], force: bool, report: Reporter) -> Iterator[Job]:
    """Without --force, a file that is there is done: it was written whole or not at all."""
    for job in jobs:
        if job.target and is_file(job.target) and not force:
            report.note(job.name, f"done before: {job.target}")
            report.finish()
        else:
            yield job


def tell_passed_over(args: argparse.Namespace, known: Collection[str], report: Reporter) -> None:
    """With -r, a note on what else is in the folders: who deletes them afterwards would delete it too."""
    for name, text in passed_over(args.inputs, known) if args.recursive else ():
        report.note(name, text)


def do_all(jobs: Iterable[Job], work: Callable[[Job], None], report: Reporter) -> bool:
    """Do every job, tell the failures, and say whether there were none."""
    good = True
    with report:
        for job in jobs:
            report.start(job.name)
            try:
                if job.problem:
                    raise NlaicError(job.problem)
                work(job)
            except StopError:
                raise
            except (*FAILURES, RuntimeError) as error:
                good &= is_done(job, error, report)
            report.finish()
    return good


def is_done(job: Job, error: Exception, report: Reporter) -> bool:
    """Tell what ended a job, and whether its result is there all the same."""
    if isinstance(error, DoneError):
        report.note(job.name, str(error))
        return True
    report.failure(job.name, failure(error))
    return False


def failure(error: Exception) -> Exception:
    """The failure that a user can mend; a RuntimeError that is none is a mistake of ours, and raised."""
    if isinstance(error, FAILURES):
        return error
    if lacks_memory(error):
        return MemoryError()
    raise error


def run(command: str, body: Callable[[], bool]) -> NoReturn:
    """Run `body` and end the process with the exit code that fits; failures a user can mend get no traceback."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries; ours are notes
            code = 0 if body() else 1
    except KeyboardInterrupt:
        code = 130
        say(f"{command}: interrupted", sys.stderr)
    except FAILURES as error:
        code = 2 if isinstance(error, UsageError) else 1
        say(f"{command}: {reason(error)}", sys.stderr)
    sys.exit(code)
