"""ONNX graphs of a codec's transforms, as `nlaic.onnx_export` writes them: found beside weights, without onnx or torch.

A zip, `<name of the weights>.onnx.zip`, its files stored or deflated, 64 MiB in all at most: a graph `<transform>.onnx`
for each transform, and `manifest.json`, of 1 MiB at most:
    architecture, settings, boundary   of the weights that they are for; boundary is null without a filter
    reach, sigma                       of the boundary filter: 0..64 in steps of 4, above 0
    reach, multiple                    of a filter (`nlaic.classic`): 0..1024, 1..64
    parameters                         of each graph: the names of the tensors of a weights file that it takes
    weights, opset, torch, onnx        the file that the parameters' places are of, and what wrote the graphs
Graphs hold no parameters. Any weights of the same architecture and settings can run on them, so weights that were
trained anew need no graphs of their own; the places (file, offset, length) are for other programs.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from nlaic.errors import NlaicError
from nlaic.seams import SIGMA_MAX, UNIT
from nlaic.tiles import MULTIPLE
from nlaic.weights import FILTER, FILTERS, Weights, files_in, read_checked, weights_folders

SUFFIX = ".onnx.zip"
MANIFEST = "manifest.json"
NAMED = {"architecture", "settings", "boundary", "parameters"}  # what is looked for in it
TRANSFORMS = {"analysis", "hyper_analysis", "mean", "synthesis"}  # what every codec has a graph for
MOST_MANIFEST, MOST = 1 << 20, 1 << 26  # bytes of a manifest, and of a zip or all that is unpacked of it
REACH_MAX = 1024  # pixels that a filter reaches: memory
# What a zip raises that is damaged or encrypted, and a manifest that is none.
FAILURES = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, RuntimeError, EOFError)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same contents


@dataclass(frozen=True)
class Graphs:
    """The contents of a zip of graphs.

    Attributes:
        manifest: see above.
        models: ONNX files by the name of their transform.
        path: where it was read from, for messages.
    """

    manifest: Mapping[str, Any]
    models: Mapping[str, bytes]
    path: Path | None = None

    def fit(self, weights: Weights) -> bool:
        """Whether they are of these weights' networks."""
        m = self.manifest
        same = m["architecture"] == weights.architecture and m["settings"] == weights.settings
        same = same and ("filter" in self.models) == (weights.codec == FILTER)
        filter = weights.metadata.get("boundary")
        return same and (filter is None or m["boundary"] == json.loads(filter))

    def parameters(self, name: str) -> list[str]:
        """Names of the tensors that a graph takes."""
        return list(self.manifest["parameters"][name])

    def to_bytes(self) -> bytes:
        """The zip: the same bytes for the same contents."""
        files = {f"{name}.onnx": model for name, model in sorted(self.models.items())}
        files[MANIFEST] = json.dumps(self.manifest, indent=1, sort_keys=True).encode()
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED, 9)
        return buffer.getvalue()


def read_graphs(path: Path) -> Graphs:
    """Read a zip of graphs.

    Raises:
        NlaicError: if it is none, or larger than any is, or one of the package's with a wrong hash.
    """
    if path.is_file() and path.stat().st_size > MOST:
        raise NlaicError(f"graphs {path}: larger than {MOST} bytes")
    data = read_checked(path)
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            manifest = json.loads(_unpacked(archive, MANIFEST, MOST_MANIFEST))
            _check(manifest)
            models, left = {}, MOST
            for name in manifest["parameters"]:
                models[name] = _unpacked(archive, f"{name}.onnx", left)
                left -= len(models[name])
    except FAILURES as error:
        raise NlaicError(f"graphs {path}: not ONNX graphs of nlaic ({error})") from error
    return Graphs(manifest, models, path)


def _unpacked(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of a zip, in no more memory than it says that it takes."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is neither stored nor deflated")
    if info.file_size > most:
        raise ValueError(f"{name} has {info.file_size} bytes, allowed: {most}")
    with archive.open(info) as file:
        return file.read(info.file_size)


def _check(manifest: Any) -> None:
    """Hold what engines look for in a manifest to what it must be.

    Raises:
        ValueError: if it is not so; TypeError where it is nothing that could be.
    """
    if missing := NAMED - set(manifest):
        raise ValueError(f"the manifest lacks {min(missing)}")
    parameters, boundary = manifest["parameters"], manifest["boundary"]
    if not isinstance(parameters, dict) or not all(_are_names(names) for names in parameters.values()):
        raise ValueError("parameters must be lists of names by the names of graphs")
    if "filter" in parameters:
        _whole(manifest, "reach", range(REACH_MAX + 1))
        _whole(manifest, "multiple", range(1, MULTIPLE + 1))
        return
    if missing := (TRANSFORMS if boundary is None else {*TRANSFORMS, "boundary"}) - set(parameters):
        raise ValueError(f"there is no graph {min(missing)}")
    if boundary is not None:
        _whole(manifest, "reach", range(0, MULTIPLE + 1, UNIT))
        if not 0 < manifest["sigma"] <= SIGMA_MAX:
            raise ValueError(f"sigma must be above 0 and at most {SIGMA_MAX:g}, but is {manifest['sigma']}")


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _whole(manifest: Mapping[str, Any], name: str, allowed: range) -> None:
    value = manifest[name]
    if type(value) is not int or value not in allowed:
        between = f" in steps of {allowed.step}" if allowed.step > 1 else ""
        raise ValueError(f"{name} must be {allowed[0]}..{allowed[-1]}{between}, but is {value!r}")


def find_graphs(weights: Weights) -> Graphs | None:
    """The graphs beside the weights, or the first others that fit them, of the places where weights are looked for;
    what cannot be read there is passed over.

    Raises:
        NlaicError: if those beside the weights are of other networks.
    """
    beside = weights.path.with_suffix(SUFFIX) if weights.path else None
    if beside and beside.is_file():
        graphs = read_graphs(beside)
        if not graphs.fit(weights):
            raise NlaicError(f"graphs {beside}: not of the networks of {weights.path}; run nlaic-export {weights.path}")
        return graphs
    for path in _candidates():
        with suppress(NlaicError):
            graphs = read_graphs(path)
            if graphs.fit(weights):
                return graphs
    return None


def _candidates() -> Iterator[Path]:
    for place in weights_folders():
        for folder in (place, place / FILTERS):
            yield from files_in(folder, SUFFIX)
