"""ONNX graphs of a codec's transforms, as `nlaic.onnx_export` writes them: found beside weights, without onnx or torch.

A zip, `<name of the weights>.onnx.zip`: a graph `<transform>.onnx` for each transform, and `manifest.json`:
    architecture, settings, boundary   of the weights that they are for; boundary is null without a filter
    reach, sigma                       of the boundary filter; of a filter (`nlaic.classic`) its reach and its multiple
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
from nlaic.weights import FILTERS, Weights, files_in, read_checked, weights_folders

SUFFIX = ".onnx.zip"
MANIFEST = "manifest.json"
NAMED = {"architecture", "settings", "boundary", "parameters"}  # what is looked for in it
# What a zip raises that is damaged, encrypted, or packed in a way that Python does not know.
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
        NlaicError: if it is none, or one of the package's with a wrong hash.
    """
    data = read_checked(path)
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            models = {name: archive.read(f"{name}.onnx") for name in manifest["parameters"]}
        if missing := NAMED - set(manifest):
            raise ValueError(f"the manifest lacks {min(missing)}")
    except FAILURES as error:
        raise NlaicError(f"graphs {path}: not ONNX graphs of nlaic ({error})") from error
    return Graphs(manifest, models, path)


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
