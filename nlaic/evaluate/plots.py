"""Rate-distortion plots from results, PNG and SVG: rate on a log axis; marks and dashes tell codecs apart in grey."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import plugin
from nlaic.evaluate.results import rate_of
from nlaic.evaluate.store import replace

# Colours of different lightness (Okabe and Ito's, which the colour-blind tell apart), marks and dashes beside them.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7f7f7f", "#b8a800", "#6a3d9a")
MARKS = "osD^vPX<>*"
DASHES = ((), (5, 1.5), (1.5, 1.5), (6, 1.5, 1.5, 1.5), (9, 2))


def rd_plots(results: Mapping[str, Any]) -> dict[str, dict[str, bytes]]:
    """The files {metric: {"png": …, "svg": …}} of every metric that has values."""
    drawn = {}
    for metric in results["metrics"]:
        kind = "set_metrics" if metric["of_set"] else "metrics"
        rows = [row for row in results["means"] if row[kind].get(metric["name"]) is not None]
        if rows:
            drawn[metric["name"]] = _draw(results, metric, rows, kind)
    return drawn


def write_plots(drawn: Mapping[str, Mapping[str, bytes]], out: Path) -> None:
    """`rd-METRIC.png` and `.svg` in a folder, in the place of those that are there."""
    for old in (*out.glob("rd-*.png"), *out.glob("rd-*.svg")):
        old.unlink()
    for name, files in drawn.items():
        for suffix, data in files.items():
            replace(out / f"rd-{name}.{suffix}", data)


def _draw(results: Mapping[str, Any], metric: Mapping[str, Any], rows: list[Any], kind: str) -> dict[str, bytes]:
    try:
        matplotlib = plugin("matplotlib", "matplotlib")
    except NlaicError as error:
        raise NlaicError(f"plots: {error}") from error
    figure_class = plugin("matplotlib.figure", "matplotlib").Figure
    with matplotlib.rc_context({"svg.hashsalt": "nlaic", "svg.fonttype": "path", "font.size": 10}):
        figure = figure_class(figsize=(7.5, 5), layout="constrained")
        axes = figure.add_subplot()
        for number, codec in enumerate(results["codecs"]):
            values = [
                (rate_of(row, metric["name"]), row[kind][metric["name"]])
                for row in rows
                if row["codec"] == codec["name"]
            ]
            if values:
                style = {"color": COLOURS[number % 10], "marker": MARKS[number % 10], "markersize": 5}
                line = axes.plot(*zip(*sorted(values), strict=True), label=codec["label"], linewidth=1.5, **style)
                line[0].set_dashes(DASHES[number % 5])
        _finish(axes, metric, max(row["pictures"] for row in rows))
        files = {}
        for suffix, options in (("png", {"dpi": 130}), ("svg", {"metadata": {"Date": None}})):
            out = BytesIO()
            figure.savefig(out, format=suffix, **options)
            files[suffix] = out.getvalue()
    return files


def _finish(axes: Any, metric: Mapping[str, Any], pictures: int) -> None:
    ticker = plugin("matplotlib.ticker", "matplotlib")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel(f"bits per pixel (mean of {pictures} pictures)")
    axes.set_ylabel(metric["label"] + ("" if metric["higher_is_better"] else ", lower is better"))
    if metric["stand_in_for"]:
        axes.set_title(f"A stand-in: not {metric['stand_in_for']}, and not comparable with it", fontsize=10)
    axes.grid(True, which="both", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, handlelength=4)
