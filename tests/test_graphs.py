"""Zips of graphs: what is none, was damaged or made to harm, stands in no one's way."""

import io
import json
import zipfile

import pytest

from nlaic.errors import NlaicError
from nlaic.graphs import MANIFEST, SUFFIX, Graphs, find_graphs, read_graphs
from nlaic.weights import Weights, find_weights


@pytest.fixture(scope="module")
def weights() -> Weights:
    return find_weights("light")


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def damaged(data: bytes) -> bytes:
    """A zip with changes in its first file, which begins behind its name."""
    start = data.index(MANIFEST.encode()) + len(MANIFEST) + 12
    return data[:start] + bytes(byte ^ 0x5A for byte in data[start : start + 48]) + data[start + 48 :]


def lies(data: bytes, name: str, size: int) -> bytes:
    """A zip whose directory says another size of one of its files."""
    entry = data.rindex(name.encode()) - 46  # of the directory's entry, before the name
    return data[: entry + 24] + size.to_bytes(4, "little") + data[entry + 28 :]


@pytest.fixture(scope="module")
def shipped(weights) -> dict[str, bytes]:
    with zipfile.ZipFile(weights.path.with_suffix(SUFFIX)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


BIG = b" " * (1 << 21)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_made_by_others_is_read(shipped, tmp_path, method):
    path = tmp_path / f"mine{SUFFIX}"
    path.write_bytes(zipped(shipped, method))
    assert read_graphs(path).models == {n.removesuffix(".onnx"): m for n, m in shipped.items() if n != MANIFEST}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda files: damaged(zipped(files, zipfile.ZIP_LZMA)), "neither stored nor deflated"),
        (lambda files: damaged(zipped(files, zipfile.ZIP_BZIP2)), "neither stored nor deflated"),
        (lambda files: damaged(zipped(files)), ""),
        (lambda files: zipped(files | {MANIFEST: files[MANIFEST] + BIG}), r"manifest\.json has \d+ bytes, allowed"),
        (lambda files: lies(zipped(files | {MANIFEST: files[MANIFEST] + BIG}), MANIFEST, 5000), ""),
        (lambda files: zipped(files | {"mean.onnx": BIG * 16, "synthesis.onnx": BIG * 17}), r"\.onnx has \d+ bytes"),
        (lambda files: zipped(files | {MANIFEST: b"[" * 200_000}), ""),
        (lambda files: zipped(files | {MANIFEST: b"5"}), ""),
        (lambda files: zipped({n: m for n, m in files.items() if n != "mean.onnx"}), r"mean\.onnx"),
        (lambda files: zipped(files) + bytes(1 << 26), "larger than"),
    ],
)
def test_zips_that_are_none_or_packed_to_harm_are_passed_over(make, message, shipped, weights, tmp_path, monkeypatch):
    _is_passed_over(make(shipped), message, weights, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *(({"reach": reach}, "reach must be 0..64 in steps of 4") for reach in ("x", 24.5, -9, 10**9, 10, 68, True)),
        *(({"sigma": sigma}, "sigma must be") for sigma in (0, -1.0, float("inf"), float("nan"), 10**400)),
        ({"sigma": "x"}, ""),
        *(({"parameters": given}, "parameters must be") for given in (["mean"], {"mean": 5}, {"mean": [5]})),
        ({"parameters": {"mean": []}}, "there is no graph analysis"),
        ({"parameters": {name: [] for name in ("analysis", "hyper_analysis", "mean", "synthesis")}}, "graph boundary"),
        ({"parameters": {"filter": []}, "multiple": 0}, "multiple must be 1..64"),
        ({"parameters": {"filter": []}, "multiple": 1, "reach": 1 << 30}, r"reach must be 0\.\.1024"),
    ],
)
def test_manifests_that_cannot_be_are_passed_over(changed, message, shipped, weights, tmp_path, monkeypatch):
    manifest = json.dumps(json.loads(shipped[MANIFEST]) | changed).encode()
    _is_passed_over(zipped(shipped | {MANIFEST: manifest}), message, weights, tmp_path, monkeypatch)


def _is_passed_over(data, message, weights, tmp_path, monkeypatch):
    (tmp_path / f"a{SUFFIX}").write_bytes(data)
    with pytest.raises(NlaicError, match=rf"graphs .*{message}"):
        read_graphs(tmp_path / f"a{SUFFIX}")
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tmp_path))
    found = find_graphs(Weights(weights.tensors, weights.metadata))
    assert found is not None and found.path == weights.path.with_suffix(SUFFIX)


def test_graphs_of_a_filter_are_for_no_codec(weights, tmp_path):
    graphs = find_graphs(weights)
    other = Graphs(graphs.manifest, {"filter": b""})
    assert graphs.fit(weights) and not other.fit(weights)
