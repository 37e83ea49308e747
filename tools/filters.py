"""What a filter gains at each setting of its codec, from an evaluation's results.json.

    nlaic-evaluate data.root=DIR out=report 'codecs=[jpeg,jpeg+restore-light]' 'metrics=[psnr,psnr_y]' \\
        '+settings={jpeg:[10,30,50],jpeg+restore-light:[10,30,50]}'
    python tools/filters.py report/results.json jpeg jpeg+restore-light

A row a setting: bits per pixel, each metric before and after the filter (means over the pictures), the gain (above 0 is
better), and in how many pictures the filter made it worse.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("plain")
    parser.add_argument("filtered")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text())
    metrics = [metric for metric in results["metrics"] if not metric["of_set"]]
    plain, filtered = (points_of(results, name) for name in (arguments.plain, arguments.filtered))
    print("| setting | bpp | " + " | ".join(f"{m['label']} | gain | worse" for m in metrics) + " |")
    print("|" + "---|" * (2 + 3 * len(metrics)))
    for setting in sorted({setting for setting, _ in plain}):
        pairs = [(plain[key], filtered[key]) for key in plain if key[0] == setting and key in filtered]
        if pairs:
            print(row(setting, pairs, metrics))


def points_of(results: dict[str, Any], codec: str) -> dict[tuple[float, str], dict[str, Any]]:
    """By setting and picture."""
    found = {(p["setting"], p["picture"]): p for p in results["points"] if p["codec"] == codec}
    if not found:
        raise SystemExit(f"{codec} is none of {', '.join(one['name'] for one in results['codecs'])}")
    return found


def row(setting: float, pairs: list[tuple[dict[str, Any], dict[str, Any]]], metrics: list[dict[str, Any]]) -> str:
    """One line of the table."""
    cells = [f"{setting:g}", f"{np.mean([a['bpp'] for a, _ in pairs]):.3f}"]
    for metric in metrics:
        values = np.array([[one["metrics"][metric["name"]] for one in pair] for pair in pairs])
        gains = (values[:, 1] - values[:, 0]) * (1 if metric["higher_is_better"] else -1)
        before, after = values.mean(0)
        cells += [f"{before:.3f} to {after:.3f}", f"{gains.mean():+.3f}", f"{(gains < 0).sum()} of {len(gains)}"]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
