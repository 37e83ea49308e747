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
    points: [{codec, setting, picture, bytes, bpp, encode_s, decode_s, decoded (sha256), metrics {name: value}}]
    means: a row a codec and setting, over `pictures` pictures:
        bpp_mean: mean of the pictures' bpp; bpp_set: all bytes over all pixels, as challenges count
        bytes, encode_s, decode_s (means), metrics {name: mean}, set_metrics {name: distance between the sets}
    at_rates: [{codec, bpp, metrics {name: value or null: rate not reached}}], on the curve of means
    bd_rate: {anchor, metrics: {name: {codec: {per_picture, pictures, mean_curve}}}}, percent
        per_picture: mean over `pictures` of each picture's BD-rate; mean_curve: BD-rate between the curves of means
    viewer: [{picture, bpp, image, entries: [{codec, setting, bpp, bytes, image}], not_reached: [codec]}]
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


def means(points: Sequence[Point], pictures: Mapping[str, Picture]) -> list[dict[str, Any]]:
    """A row a codec and setting, in the order of the codecs and of their rates."""
    groups: dict[tuple[str, float], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.codec, point.setting].append(point)
    order = {codec: number for number, codec in enumerate(dict.fromkeys(point.codec for point in points))}
    rows = []
    for (codec, setting), group in groups.items():
        size = sum(point.bytes for point in group)
        row = {
            "codec": codec,
            "setting": setting,
            "pictures": len(group),
            "bpp_mean": mean(point.bpp for point in group),
            "bpp_set": 8 * size / sum(pictures[point.picture].pixels for point in group),
            "bytes": size,
            "encode_s": mean(point.encode_s for point in group),
            "decode_s": mean(point.decode_s for point in group),
            "metrics": {name: mean(point.metrics[name] for point in group) for name in group[0].metrics},
            "set_metrics": {},
        }
        rows.append(row)
    return sorted(rows, key=lambda row: (order[row["codec"]], row["bpp_mean"]))


def curve(rows: Iterable[Mapping[str, Any]], codec: str, metric: str, rate: str) -> list[tuple[float, float]]:
    """(bpp, value) of a codec, where there is a value; `rate` names the column."""
    values = [(row[rate], row["metrics"].get(metric)) for row in rows if row["codec"] == codec]
    return [(bpp, value) for bpp, value in values if value is not None]


def table_at_rates(rows: Sequence[dict[str, Any]], metrics: Sequence[str], rates: Sequence[float]) -> list[Any]:
    """Each metric of each codec at each rate, on the curve of means."""
    codecs = list(dict.fromkeys(row["codec"] for row in rows))
    return [
        {
            "codec": codec,
            "bpp": rate,
            "metrics": {name: at_rate(curve(rows, codec, name, "bpp_mean"), rate) for name in metrics},
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
    by_picture: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for point in points:
        by_picture[point.picture].append({"codec": point.codec, "bpp": point.bpp, "metrics": point.metrics})
    codecs = [codec for codec in dict.fromkeys(point.codec for point in points) if codec != anchor]
    table: dict[str, Any] = {}
    for name, higher in metrics.items():

        def delta(some: Sequence[Mapping[str, Any]], codec: str, rate: str, name: str = name, up: bool = higher) -> Any:
            pair = [
                [(bpp, better(name, v, up)) for bpp, v in curve(some, which, name, rate)] for which in (anchor, codec)
            ]
            return bd_rate(below(pair[0], limit), pair[1])

        table[name] = {}
        for codec in codecs:
            values = [delta(some, codec, "bpp") for some in by_picture.values()]
            table[name][codec] = {
                "per_picture": mean(values),
                "pictures": sum(value is not None for value in values),
                "mean_curve": delta(rows, codec, "bpp_mean"),
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
