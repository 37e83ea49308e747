"""A set at a rate that no single setting of a codec meets: part of the pictures at one setting, the rest at the next.

    nlaic-evaluate data.root=DIR out=report 'codecs=[vvc,vvc+FILTER]' '+settings={vvc:[38,37,36],vvc+FILTER:[38,37,36]}'
    python tools/mixed.py report/results.json 0.15

As ColorBlust's Table 1 (section 4.4): of the two settings around the rate, the finer one for as many pictures, in the
order of their names, as the bytes allow. A row a codec: bits per pixel of the set, each metric's mean, seconds to
decode a picture.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Point = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("bpp", type=float, help="of all pictures together: their bits over their pixels")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text())
    metrics = [metric for metric in results["metrics"] if not metric["of_set"]]
    print("| | settings | bpp | " + " | ".join(metric["label"] for metric in metrics) + " | seconds |")
    print("|" + "---|" * (4 + len(metrics)))
    for codec in results["codecs"]:
        points = [point for point in results["points"] if point["codec"] == codec["name"]]
        if chosen := mixed(points, arguments.bpp):
            print(row(codec["label"], chosen, metrics))


def mixed(points: list[Point], bpp: float) -> list[Point]:
    """One point for each picture; none where all settings lie on one side of the rate."""
    settings: dict[float, dict[str, Point]] = {}
    for point in points:
        settings.setdefault(point["setting"], {})[point["picture"]] = point
    for coarse, fine in pairwise(sorted(settings.values(), key=lambda one: rate(list(one.values())))):
        if rate(list(coarse.values())) <= bpp < rate(list(fine.values())):
            names = sorted(coarse)
            choices = [
                [(fine if n < count else coarse)[name] for n, name in enumerate(names)] for count in range(len(names))
            ]
            return max((one for one in choices if rate(one) <= bpp), key=rate)
    return []


def rate(points: list[Point]) -> float:
    """Bits of all pictures over their pixels."""
    return sum(8 * point["bytes"] for point in points) / sum(8 * point["bytes"] / point["bpp"] for point in points)


def row(label: str, points: list[Point], metrics: list[dict[str, Any]]) -> str:
    """One line of the table."""
    settings = [point["setting"] for point in points]
    counts = ", ".join(f"{settings.count(one)} at {one:g}" for one in sorted(set(settings)))
    means = [f"{np.mean([point['metrics'][metric['name']] for point in points]):.4f}" for metric in metrics]
    seconds = f"{np.mean([point['decode_s'] for point in points]):.2f}"
    return "| " + " | ".join([label, counts, f"{rate(points):.4f}", *means, seconds]) + " |"


if __name__ == "__main__":
    main()
