"""`nlaic-evaluate`: rate and distortion of codecs on a folder of pictures, configured by Hydra."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nlaic.cli.command import check_settings
from nlaic.cli.progress import say
from nlaic.errors import NlaicError
from nlaic.resources import resource_folder
from nlaic.version import __version__

if TYPE_CHECKING:
    from rich.progress import Progress

NAME = "nlaic-evaluate"


def main() -> None:
    """Compose conf/evaluate.yaml with the command line's overrides and run; `report DIR` builds a report again."""
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(f"{NAME} {__version__}")
        return
    if arguments[:1] == ["report"]:
        _ended(lambda: _report_again(arguments[1:]))
        return
    try:
        import hydra
        import matplotlib  # noqa: F401
        import pytorch_msssim  # noqa: F401
        from omegaconf import MissingMandatoryValue, OmegaConf
    except ImportError as error:
        sys.exit(f"{NAME}: {error.name} is missing: pip install 'nlaic[eval]'")

    check_settings(NAME, arguments)

    @hydra.main(version_base="1.3", config_path=str(resource_folder("conf")), config_name="evaluate")
    def run_config(config: Any) -> None:
        try:
            plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            _fail(f"{error.full_key}=... must be given")
        _ended(lambda: _evaluate(plain))

    run_config()


def _ended(body: Any) -> None:
    try:
        body()
    except NlaicError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
    except KeyboardInterrupt:
        say(f"{NAME}: interrupted; points that are done are kept", sys.stderr)
        sys.exit(130)


def _fail(text: str) -> NoReturn:
    say(f"{NAME}: {text}", sys.stderr)
    sys.exit(1)


def _report_again(arguments: list[str]) -> None:
    from nlaic.evaluate.report import write_report
    from nlaic.evaluate.results import read_json

    if len(arguments) != 1:
        raise NlaicError("report takes one folder or results.json")
    path = Path(arguments[0])
    print(write_report(read_json(path), path if path.is_dir() else path.parent))


def _evaluate(settings: dict[str, Any]) -> None:
    from nlaic.evaluate.report import write_all
    from nlaic.evaluate.run import Evaluation
    from nlaic.evaluate.settings import Settings

    with Bar() as bar:
        evaluation = Evaluation(Settings.of(settings), bar)
        results = evaluation.run()
    out = evaluation.settings.folder
    write_all(results, out)
    for line in summary(results):
        print(line)
    print(f"\n{out / 'report.html'}")
    if results["failures"]:
        _fail(f"{len(results['failures'])} failed; {out / 'results.json'} lists them")


def summary(results: dict[str, Any]) -> list[str]:
    """Tables for the terminal, in Markdown: each metric at the rates asked for."""
    rates = list(dict.fromkeys(row["bpp"] for row in results["at_rates"]))
    lines = []
    for metric in results["metrics"]:
        if metric["of_set"]:
            continue
        head = f"{metric['label']} at bpp"
        lines += [
            "",
            "| " + " | ".join([head, *(f"{rate:g}" for rate in rates)]) + " |",
            "|---" * (1 + len(rates)) + "|",
        ]
        for codec in results["codecs"]:
            rows = [row for row in results["at_rates"] if row["codec"] == codec["name"]]
            values = [row["metrics"][metric["name"]] for row in rows]
            measured = any(
                row["metrics"][metric["name"]] is not None for row in results["means"] if row["codec"] == codec["name"]
            )
            cells = [f"{v:.4g}" if v is not None else "not reached" if measured else "-" for v in values]
            lines.append("| " + " | ".join([codec["label"], *cells]) + " |")
    return lines


class Bar:
    """Phases with a bar and the time left on a terminal; notes on standard error anyway."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def phase(self, name: str, total: int) -> None:
        """A new bar."""
        if not sys.stderr.isatty():
            if total:
                say(f"{NAME}: {name}: {total}", sys.stderr)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
        self._task = self._bar.add_task(name, total=total)

    def step(self) -> None:
        """One more is done."""
        if self._bar:
            self._bar.advance(self._task)

    def note(self, text: str) -> None:
        """A line above the bar."""
        if self._bar:
            self._bar.console.print(f"{NAME}: {text}", markup=False, highlight=False, soft_wrap=True)
        else:
            say(f"{NAME}: {text}", sys.stderr)


if __name__ == "__main__":
    main()
