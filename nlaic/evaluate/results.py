"""What an evaluation leaves: results.json (the schema below), results.csv, and files for the codec-compare viewer.

results.json, schema `nlaic-evaluate/1`; a number that was not computed is null:

    schema, created (UTC), command, config      what was asked for
    versions, machine, seeds                    what it ran on
    data: root, pictures [{name, width, height, sha256 (of the pixels)}], pixels
    codecs: [{name, label, setting (what the number is), version}]
    metrics: [{name, label, higher_is_better, stand_in_for (a standard that this is not, or ""), of_set}]
    skipped: [{kind (codec | metric), name, reason}]
    failures: [{codec, setting, picture, reason}]
    warnings: [text]
    points: [{codec, setting, picture, bytes, bpp, encode_s, decode_s, decoded (sha256), metrics {name: value},
        failed {metric: reason}}]
    means: a row a codec and setting, over the `pictures` pictures that every codec did at every setting:
        bpp_mean: mean of the pictures' bpp; bpp_set: all bytes over all pixels, as challenges count
        bytes, encode_s, decode_s (means), metrics {name: mean}, set_metrics {name: distance between the sets}
        bpp_of: {name: mean bpp of the pictures that have the metric everywhere}, where some have not
    at_rates: [{codec, bpp, metrics {name: value or null: rate not reached}}], on the curve of means
    bd_rate: {anchor, below, metrics: {name: {codec: {per_picture, pictures, mean_curve}}}}, percent
        below: of the anchor's curve the part up to so many bits a pixel counts; null: all of it
        per_picture: mean over `pictures` of each picture's BD-rate; mean_curve: BD-rate between the curves of means
    viewer: [{picture, bpp, image, entries: [{codec, setting, bpp, bytes, image}], not_reached [codec], failed [codec]}]
        image: the pixels as a data URI, lossless WebP
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from nlaic.errors import NlaicError
from nlaic.evaluate.bd import at_rate, bd_rate, below, better
from nlaic.evaluate.points import Picture, Point
from nlaic.evaluate.store import replace

SCHEMA = "nlaic-evaluate/1"
JSON = "results.json"


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that there are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def common(points: Iterable[Point], metric: str | None = None) -> set[str]:
    """Names of the pictures that every codec and setting has, with a value of the metric where one is named."""
    rows: dict[tuple[str, float], set[str]] = defaultdict(set)
    for point in points:
        if metric is None or point.metrics[metric] is not None:
            rows[point.codec, point.setting].add(point.picture)
    return set.intersection(*rows.values()) if rows else set()


def means(points: Sequence[Point], pictures: Mapping[str, Picture]) -> list[dict[str, Any]]:
    """A row a codec and setting, in the order of the codecs and of their rates; all are of the same pictures."""
    everywhere = common(points)
    groups: dict[tuple[str, float], list[Point]] = defaultdict(list)
    for point in points:
        if point.picture in everywhere:
            groups[point.codec, point.setting].append(point)
    names = list(points[0].metrics) if points else []
    with_value = {name: everywhere & common(points, name) for name in names}
    order = {codec: number for number, codec in enumerate(dict.fromkeys(point.codec for point in points))}
    rows = []
    for (codec, setting), group in groups.items():
        size = sum(point.bytes for point in group)
        of = {name: [point for point in group if point.picture in some] for name, some in with_value.items()}
        row = {
            "codec": codec,
            "setting": setting,
            "pictures": len(group),
            "bpp_mean": mean(point.bpp for point in group),
            "bpp_set": 8 * size / sum(pictures[point.picture].pixels for point in group),
            "bytes": size,
            "encode_s": mean(point.encode_s for point in group),
            "decode_s": mean(point.decode_s for point in group),
            "metrics": {name: mean(point.metrics[name] for point in some) for name, some in of.items()},
            "bpp_of": {name: mean(p.bpp for p in some) for name, some in of.items() if len(some) < len(group)},
            "set_metrics": {},
        }
        rows.append(row)
    return sorted(rows, key=lambda row: (order[row["codec"]], row["bpp_mean"]))


def rate_of(row: Mapping[str, Any], metric: str) -> float:
    """Mean bits per pixel of the pictures that a row's value of a metric is of."""
    rate = row.get("bpp_of", {}).get(metric)  # results of older versions have none
    return float(row["bpp_mean"] if rate is None else rate)


Points = list[tuple[float, float]]


def curve(rows: Iterable[Mapping[str, Any]], codec: str, metric: str) -> Points:
    """(bpp, value) of a codec on the means, where there is a value."""
    values = [(rate_of(row, metric), row["metrics"][metric]) for row in rows if row["codec"] == codec]
    return [(bpp, value) for bpp, value in values if value is not None]


def table_at_rates(rows: Sequence[dict[str, Any]], metrics: Sequence[str], rates: Sequence[float]) -> list[Any]:
    """Each metric of each codec at each rate, on the curve of means."""
    codecs = list(dict.fromkeys(row["codec"] for row in rows))
    return [
        {
            "codec": codec,
            "bpp": rate,
            "metrics": {name: at_rate(curve(rows, codec, name), rate) for name in metrics},
        }
        for codec in codecs
        for rate in rates
    ]


def bd_table(
    points: Sequence[Point],
    rows: Sequence[dict[str, Any]],
    metrics: Mapping[str, bool],
    anchor: str,
    limit: float | None = None,
) -> dict[str, Any]:
    """BD-rate of every codec against the anchor, by both ways of averaging; `metrics` say whether higher is better.

    With `limit` only the anchor's part up to so many bits a pixel counts.
    """
    of_pictures: dict[tuple[str, str, str], Points] = defaultdict(list)
    for point in points:
        for name, value in point.metrics.items():
            if value is not None:
                of_pictures[name, point.codec, point.picture].append((point.bpp, value))
    codecs = [codec for codec in dict.fromkeys(point.codec for point in points) if codec != anchor]
    pictures = list(dict.fromkeys(point.picture for point in points))
    table: dict[str, Any] = {}
    for name, higher in metrics.items():

        def delta(first: Points, second: Points, name: str = name, higher: bool = higher) -> float | None:
            one, other = ([(bpp, better(name, value, higher)) for bpp, value in some] for some in (first, second))
            return bd_rate(below(one, limit), other)

        table[name] = {}
        for codec in codecs:
            values = [delta(of_pictures[name, anchor, p], of_pictures[name, codec, p]) for p in pictures]
            table[name][codec] = {
                "per_picture": mean(values),
                "pictures": sum(value is not None for value in values),
                "mean_curve": delta(curve(rows, anchor, name), curve(rows, codec, name)),
            }
    return {"anchor": anchor, "below": limit, "metrics": table}


def write_json(results: Mapping[str, Any], out: Path) -> None:
    """results.json; no NaN or infinity gets into it."""
    replace(out / JSON, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Results of an earlier run; `path` is the file or its folder.

    Raises:
        NlaicError: if it is no file of this schema.
    """
    path = path / JSON if path.is_dir() else path
    try:
        results = json.loads(path.read_text())
    except OSError as error:
        raise NlaicError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise NlaicError(f"{path}: not JSON ({error})") from error
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise NlaicError(f"{path}: not results of this program (schema {SCHEMA})")
    return results


def write_csv(results: Mapping[str, Any], out: Path) -> None:
    """results.csv: codec, setting, picture, bytes, bpp, the metrics of a picture, seconds."""
    names = [metric["name"] for metric in results["metrics"] if not metric["of_set"]]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["codec", "setting", "picture", "bytes", "bpp", *names, "encode_s", "decode_s"])
    for point in results["points"]:
        values = ["" if point["metrics"].get(name) is None else f"{point['metrics'][name]:.6f}" for name in names]
        head = [point["codec"], f"{point['setting']:g}", point["picture"], point["bytes"], f"{point['bpp']:.6f}"]
        writer.writerow([*head, *values, f"{point['encode_s']:.4f}", f"{point['decode_s']:.4f}"])
    replace(out / "results.csv", text.getvalue().encode())


def write_codec_compare(results: Mapping[str, Any], out: Path) -> None:
    """One batch a codec for webmproject's codec-compare, and the list of them that it loads."""
    names = [metric["name"] for metric in results["metrics"] if not metric["of_set"]]
    labels = {metric["name"]: metric["label"] for metric in results["metrics"]}
    theirs = {"ms_ssim": "msssim", "lpips_alex": "lpips"}  # names that the viewer knows
    folder, batches = out / "codec-compare", []
    for old in folder.glob("*.json"):
        old.unlink()
    for number, codec in enumerate(results["codecs"]):
        batch = {
            "constant_descriptions": [
                {"name": "Name of this batch"},
                {"codec": "Name of the codec used to generate this data"},
                {"version": "Version of the codec used to generate this data"},
                {"time": "Timestamp of when this data was generated"},
            ],
            "constant_values": [codec["label"], codec["name"], codec["version"], results["created"]],
            "field_descriptions": [
                {"original_name": "Original image file name"},
                {"quality": f"Compression {codec['setting']} parameter"},
                {"width": "Pixel columns in the original image"},
                {"height": "Pixel rows in the original image"},
                {"encoded_size": "Size of the encoded image file in bytes"},
                {"encoding_time": "Encoding duration in seconds"},
                {"decoding_time": "Decoding duration in seconds"},
                *({theirs.get(name, name): f"Distortion metric {labels[name]}"} for name in names),
            ],
            "field_values": _batch_rows(results, codec["name"], names),
        }
        file = f"{number:02d}.json"
        replace(folder / file, json.dumps(batch).encode())
        batches.append([file])
    replace(folder / "batches.json", json.dumps(batches).encode())


def _batch_rows(results: Mapping[str, Any], codec: str, names: Sequence[str]) -> list[list[Any]]:
    sizes = {picture["name"]: (picture["width"], picture["height"]) for picture in results["data"]["pictures"]}
    return [
        [
            point["picture"],
            point["setting"],
            *sizes[point["picture"]],
            point["bytes"],
            point["encode_s"],
            point["decode_s"],
            *(point["metrics"][name] for name in names),
        ]
        for point in results["points"]
        if point["codec"] == codec and None not in point["metrics"].values()
    ]
