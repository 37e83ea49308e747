"""`nlaic-decompress`: .nlaic files to pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn

from nlaic.cli import command
from nlaic.cli.files import Job, check_target, plan, write_output
from nlaic.cli.progress import Reporter, result_line
from nlaic.errors import NlaicError

if TYPE_CHECKING:
    from nlaic.classic.file import BaseDecoder
    from nlaic.codec import Codec

NAME = "nlaic-decompress"
TOLD = 20  # damages of one file, a line each


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    args = make_parser().parse_args(argv)
    command.limit_threads(NAME, args.threads)
    command.run(NAME, lambda: _decompress_all(args))


def make_parser() -> command.Parser:
    """The options."""
    parser = command.Parser(
        NAME,
        "Decompress .nlaic files. The suffix of OUT decides the format (png jpg webp avif tiff bmp ppm), "
        "PNG where there is none. MP/s is the codec's own time, without reading and writing.",
    )
    command.add_place_options(parser)
    parser.add_argument("--model", metavar="NAME|FILE", help="weights; default: found by the id in each file")
    parser.add_argument(
        "--realism",
        type=command.realism,
        metavar="R",
        help="0 faithful .. 1 natural looking, where the weights hold a second decoder; default: 0.95",
    )
    parser.add_argument(
        "--region", type=command.region, metavar="X,Y,W,H", help="only this part of the picture, in pixels"
    )
    parser.add_argument("--no-boundary-filter", action="store_true", help="leave the seams between blocks as they are")
    parser.add_argument(
        "--salvage",
        action="store_true",
        help="write what is intact of damaged files too, the rest filled from around it; exit code 1 if one was",
    )
    parser.add_argument(
        "--no-filter", action="store_true", help="show the base codec's picture as it is, without the filter behind it"
    )
    parser.add_argument(
        "--extract-base", action="store_true", help="write the base codec's own file (.jpg, .heic, ..), for any viewer"
    )
    command.add_max_pixels(parser)
    command.add_run_options(parser)
    return parser


def _decompress_all(args: argparse.Namespace) -> bool:
    jobs = plan(args.inputs, args.output, recursive=args.recursive, suffix=".png", reads=(".nlaic",))
    taken = command.check_stdout(jobs)
    report = Reporter(NAME, total=len(jobs), quiet=args.quiet, stdout_taken=taken)
    if args.extract_base:
        return command.do_all(jobs, lambda job: _extract(job, args, report), report)
    codecs: dict[str, Codec | BaseDecoder] = {}
    to_do = command.still_to_do(jobs, args.force, report) if args.recursive else jobs
    return command.do_all(to_do, lambda job: _decompress(job, args, codecs, report), report)


def _extract(job: Job, args: argparse.Namespace, report: Reporter) -> None:
    """A base codec's own file; beside the input, or in a folder, it gets its own suffix."""
    from PIL import Image

    import nlaic
    from nlaic.classic.file import extract_base

    data = job.read()
    facts = nlaic.info(data, max_pixels=args.max_pixels)
    if "base" not in facts:
        raise NlaicError("holds no file of a base codec: its picture is coded by nlaic itself")
    file, suffix = extract_base(data, args.max_pixels)
    named = job.target is None or (args.output and job.target == Path(args.output))
    target = job.target if named or job.target is None else job.target.with_suffix(suffix)
    kinds = Image.registered_extensions()
    if target and kinds.get(target.suffix.lower(), kind := kinds.get(suffix)) != kind:
        raise NlaicError(f"--extract-base writes the {facts['base']['codec']} file as it is, {suffix}: not to {target}")
    if args.recursive and target and target.is_file() and not args.force:
        return report.note(job.name, f"done before: {target}")
    check_target(target, force=args.force, parents=args.recursive)
    write_output(target, file, force=args.force, parents=args.recursive)
    return report.line(f"{target or job.name}  {len(file)} bytes  {facts['base']['codec']}")


def _decompress(job: Job, args: argparse.Namespace, codecs: "dict[str, Codec | BaseDecoder]", report: Reporter) -> None:
    """One file; `codecs` keeps one loaded codec for each model id met."""
    import nlaic
    from nlaic.classic.file import BaseDecoder
    from nlaic.picture import encode_picture, output_format

    format = "PNG" if job.target is None or not job.target.suffix else output_format(job.target)
    data = job.read()
    facts = nlaic.info(data, max_pixels=args.max_pixels, salvage=args.salvage)
    check_target(job.target, force=args.force, parents=args.recursive)
    model_id = "base" if "base" in facts else facts["model_id"]
    if model_id not in codecs:
        codecs[model_id] = nlaic.load_for(data, model=args.model, **command.execution(args))
        if model_id == "base" and args.no_filter:
            codecs[model_id] = BaseDecoder(filtered=False)
        if args.realism and not codecs[model_id].has_second_decoder:
            report.note(codecs[model_id].name, "--realism has no effect, these weights hold no second decoder")
    start = perf_counter()
    options = {"realism": args.realism, "region": args.region, "boundary_filter": not args.no_boundary_filter}
    if args.salvage:
        salvaged = codecs[model_id].salvage(data, **options, max_pixels=args.max_pixels)
        image, blocks, looked, damage = salvaged.picture, salvaged.blocks, salvaged.looked, salvaged.damage
        if len(blocks) == looked:
            raise NlaicError(f"nothing is intact, nothing is written: {damage[0]}")
    else:
        image = codecs[model_id].decompress(data, **options, max_pixels=args.max_pixels)
        blocks, looked, damage = (), 0, ()
    seconds = perf_counter() - start
    encoded = encode_picture(image, format, warn=lambda text: report.note(job.name, text))
    write_output(job.target, encoded, force=args.force, parents=args.recursive)
    whole = facts["width"], facts["height"]
    report.line(result_line(job.name, image.size, len(data), seconds, whole))
    for text in damage[:TOLD]:
        report.note(job.name, text)
    if len(damage) > TOLD:
        report.note(job.name, f"and {len(damage) - TOLD} more")
    if damage:
        numbers = " ".join(map(str, blocks[:TOLD])) + (" .." if len(blocks) > TOLD else "")
        filled = f"; filled from around them: {numbers}" if blocks else ""
        intact = f"{looked - len(blocks)} of {looked} blocks"
        raise NlaicError(f"damaged, what is intact is written ({intact}){filled}")
