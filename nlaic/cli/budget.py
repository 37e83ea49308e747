"""`nlaic-compress --total-bytes`: a budget for all pictures together."""

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nlaic.classic.costs import METRICS, told
from nlaic.cli import command
from nlaic.cli.command import FAILURES
from nlaic.cli.files import Job, UsageError, check_target, write_output
from nlaic.cli.progress import Reporter, StopError
from nlaic.errors import NlaicError
from nlaic.notes import Warn, ignore

if TYPE_CHECKING:
    from PIL import Image

    from nlaic.classic.budget import Option, Share, Try, Way

METRIC = "psnr"  # of a budget, unless told otherwise


def add_budgets(parser: command.Parser, rate: Any) -> None:
    """The options; `rate` is the group of those that say how large files are to be."""
    rate.add_argument(
        "--total-bytes",
        type=command.size,
        metavar="N",
        help="at most so many bytes for all pictures together (10M: ten million), shared out for the best mean "
        "metric; every picture is tried at about 14 qualities; files that are there need --force",
    )
    parser.add_argument(
        "--total-seconds",
        type=command.above_zero,
        metavar="T",
        help="with --total-bytes: decoding all pictures here takes at most so long; matters with --codec BASE+auto",
    )
    parser.add_argument(
        "--metric",
        choices=tuple(METRICS),
        default=METRIC,
        help="of --total-bytes: mean of a picture's; mse is the squared error of all pixels; default: psnr",
    )


def check_budgets(args: argparse.Namespace) -> None:
    """Refuse what makes no sense, before anything is read.

    Raises:
        UsageError: if it does not.
    """
    if args.total_seconds is not None and args.total_bytes is None:
        raise UsageError("--total-seconds goes with --total-bytes")
    if args.total_bytes is not None and args.executor:
        raise UsageError("--total-bytes and --executor do not go together")
    if args.total_bytes is None and args.metric != METRIC:
        raise UsageError("--metric goes with --total-bytes")


def compress_set(jobs: Sequence[Job], args: argparse.Namespace, report: Reporter) -> bool:
    """Try all pictures, choose, write; False where one failed."""
    work = _Set(jobs, args, report)
    with report:
        return work.run()


class _LostError(Exception):
    """A picture that cannot be coded, by its number."""

    def __init__(self, number: int, reason: Exception) -> None:
        super().__init__(str(reason))
        self.number, self.reason = number, reason


class _Set:
    """The pictures of a command line that share a budget."""

    def __init__(self, jobs: Sequence[Job], args: argparse.Namespace, report: Reporter) -> None:
        if any(not job.problem and (job.source is None or job.target is None) for job in jobs):
            raise UsageError("--total-bytes works on files: pictures are read several times")
        self.args, self.report, self.failed = args, report, False
        self.jobs = [job for job in jobs if self._possible(job)]
        self.pixels: dict[str, int] = {}

    def run(self) -> bool:
        """Everything."""
        from nlaic.classic.ways import trier

        if not self.jobs:
            return False
        try:
            way = self._way()
        except (NlaicError, OSError) as error:
            raise StopError(str(error)) from error
        attempt = trier(way, self._read, self.args.metric)
        tried: dict[tuple[str, float], dict[Option, Try]] = {}
        steps = len(way.ladder) + 3

        def watched(number: int, quality: float) -> "dict[Option, Try]":
            name = self.jobs[number].name
            self.report.start(name)
            self.report.fraction(min(len(tried) / steps, len(self.jobs)))
            if (name, quality) not in tried:
                try:
                    tried[name, quality] = attempt(number, quality)
                except FAILURES as error:
                    raise _LostError(number, error) from error
            return tried[name, quality]

        found = self._share(watched, way)
        if found is None:
            return False
        for job, option in zip(self.jobs, found.options, strict=True):
            try:
                self._write(job, option)
            except StopError:
                raise
            except FAILURES as error:
                self._fail(job, error)
        self._tell(found)
        return not self.failed

    def _share(self, attempt: "Callable[[int, float], dict[Option, Try]]", way: "Way") -> "Share | None":
        """The choice for all pictures that can be coded; the others are said."""
        from nlaic.classic.budget import Budget, share

        budget = Budget(self.args.total_bytes, self.args.total_seconds)
        while self.jobs:
            try:
                return share(attempt, len(self.jobs), way.ladder, budget, way.step)
            except _LostError as lost:
                self._fail(self.jobs.pop(lost.number), lost.reason)
        return None

    def _fail(self, job: Job, error: Exception) -> None:
        self.report.failure(job.name, error)
        self.failed = True

    def _possible(self, job: Job) -> bool:
        """Whether a picture can be read and its file written; said where not."""
        try:
            if job.problem:
                raise NlaicError(job.problem)
            check_target(job.target, force=self.args.force, parents=self.args.recursive)
            self._open(job, lambda text: self.report.note(job.name, text))
        except FAILURES as error:
            self._fail(job, error)
            return False
        return True

    def _open(self, job: Job, warn: Warn = ignore) -> "Image.Image":
        from nlaic.picture import open_picture

        assert job.source is not None
        return open_picture(job.source, strip=self.args.strip, warn=warn)

    def _read(self, number: int) -> "Image.Image":
        job = self.jobs[number]
        image = self._open(job)
        self.pixels[job.name] = image.width * image.height
        return image

    def _way(self) -> Any:
        from nlaic.classic.file import BaseEncoder
        from nlaic.classic.ways import BaseWay, LearnedWay

        self.codec = command.open_codec(self.args)
        if isinstance(self.codec, BaseEncoder):
            return BaseWay(self.codec, self.args.strip)
        return LearnedWay(self.codec, command.codec_options(self.args))

    def _write(self, job: Job, option: "Option") -> None:
        from nlaic.classic.file import BaseEncoder

        image, args = self._open(job), self.args
        codec = self.codec.with_filter(option.filter or None) if isinstance(self.codec, BaseEncoder) else self.codec
        data = codec.compress(image, option.quality, **command.codec_options(args))
        write_output(job.target, data, force=args.force, parents=args.recursive)
        filter = f"  {option.filter}" if option.filter else ""
        self.report.line(
            f"{job.name}  {image.width}x{image.height}  {len(data)} bytes  quality {option.quality:g}{filter}"
        )

    def _tell(self, found: "Share") -> None:
        metric = self.args.metric
        pixels = sum(self.pixels[job.name] for job in self.jobs) / len(self.jobs)
        spent, total = sum(one.size for one in found.tries), self.args.total_bytes
        text = f"{len(found.tries)} pictures  {spent} of {total} bytes ({spent / total:.1%})  "
        text += told(metric, found.cost, pixels)
        if self.args.total_seconds is not None:
            text += f"  decoding {sum(one.seconds for one in found.tries):.2f} s"
        if found.single:
            option, cost = found.single
            name = f"quality {option.quality:g}" + (f" and {option.filter}" if option.filter else "")
            text += f"  (with {name} for all: {told(metric, cost, pixels)})"
        self.report.line(text)
