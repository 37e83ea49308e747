"""report.html from results alone: one file with plots, tables and a viewer; it loads nothing from anywhere."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlaic.evaluate import plots, results
from nlaic.evaluate.codecs import plugin
from nlaic.evaluate.store import replace

TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_all(found: Mapping[str, Any], out: Path) -> None:
    """Every file of an evaluation: results.json and .csv, plots, codec-compare, report.html."""
    results.write_json(found, out)
    results.write_csv(found, out)
    results.write_codec_compare(found, out)
    write_report(found, out)


def write_report(found: Mapping[str, Any], out: Path) -> Path:
    """The plots and the report; both again at any time from `results.read_json`."""
    drawn = plots.rd_plots(found)
    plots.write_plots(drawn, out)
    path = out / "report.html"
    replace(path, render(found, drawn).encode())
    return path


def render(found: Mapping[str, Any], drawn: Mapping[str, Mapping[str, bytes]]) -> str:
    """The page."""
    jinja2 = plugin("jinja2", "jinja2")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "percent": percent}
    labels = {codec["name"]: codec["label"] for codec in found["codecs"]}
    images = {
        name: f"data:image/svg+xml;base64,{base64.b64encode(files['svg']).decode()}" for name, files in drawn.items()
    }
    page = environment.from_string(TEMPLATE.read_text())
    return str(page.render(r=found, labels=labels, plots=images, viewer=_script_json(found["viewer"], labels)))


def _script_json(viewer: Any, labels: Mapping[str, str]) -> str:
    """The viewer's data for inside <script>: nothing in it can end the script."""
    shown = [
        one | {"entries": [e | {"label": labels.get(e["codec"], e["codec"])} for e in one["entries"]]} for one in viewer
    ]
    return json.dumps(shown).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def number(value: float | None, digits: int = 4) -> str:
    """So many significant digits; a dash where there is none."""
    if value is None:
        return "-"
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text else text


def percent(value: float | None) -> str:
    """With its sign."""
    return "-" if value is None else f"{value:+.1f} %"
