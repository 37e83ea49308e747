"""How far two tables of points are apart: results.csv of `nlaic-evaluate` against anyone's, by codec.

    python tools/agreement.py MINE.csv THEIRS.csv

Both have columns codec, setting, picture, bytes and metrics; lines that begin with # are left out. Means are over the
points that both have, then of the settings' means over pictures.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

COLUMNS = ("bytes", "psnr", "ms_ssim", "lpips_squeeze", "lpips_alex")


def read(path: str) -> dict[tuple[str, float, str], dict[str, str]]:
    lines = (line for line in Path(path).read_text().splitlines() if not line.startswith("#"))
    return {(row["codec"], float(row["setting"]), row["picture"]): row for row in csv.DictReader(lines)}


def difference(column: str, mine: str, theirs: str) -> float:
    """In percent for bytes."""
    a, b = float(mine), float(theirs)
    return 100 * (a - b) / b if column == "bytes" else a - b


def main() -> None:
    mine, theirs = (read(path) for path in sys.argv[1:3])
    shared = sorted(mine.keys() & theirs.keys())
    print(f"{len(shared)} points\n")
    print("| codec | points | difference | worst point | worst mean of a setting |\n|---|---|---|---|---|")
    for codec in dict.fromkeys(key[0] for key in shared):
        keys = [key for key in shared if key[0] == codec]
        for column in COLUMNS:
            by_setting = defaultdict(list)
            for key in keys:
                if mine[key].get(column) and theirs[key].get(column):
                    by_setting[key[1]].append(difference(column, mine[key][column], theirs[key][column]))
            if by_setting:
                worst = max(abs(d) for some in by_setting.values() for d in some)
                mean = max(abs(sum(some) / len(some)) for some in by_setting.values())
                name = "bytes, %" if column == "bytes" else column
                print(f"| {codec} | {len(keys)} | {name} | {worst:.5f} | {mean:.5f} |")


if __name__ == "__main__":
    main()
