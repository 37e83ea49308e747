"""Zips of graphs: what is none, was damaged or made to harm, stands in no one's way."""

import io
import json
import zipfile

import numpy as np
import pytest
from onnx import TensorProto, helper

from nlaic.engine import Execution
from nlaic.errors import NlaicError
from nlaic.graph_engine import open_graphs
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


def model_of_a_file(location: str, size: int, inside: bool) -> bytes:
    """A graph that gives the bytes of a file; from the branch of a condition if `inside`."""
    tensor = TensorProto(name="taken", data_type=TensorProto.UINT8, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    out = helper.make_tensor_value_info("output", TensorProto.UINT8, [size])
    given = helper.make_tensor_value_info("y_hat", TensorProto.FLOAT, ["n"])
    nodes, initializers = [helper.make_node("Identity", ["taken"], ["output"])], [tensor]
    if inside:
        branch = helper.make_graph(nodes, "branch", [], [out], initializers)
        yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
        nodes = [yes, helper.make_node("If", ["yes"], ["output"], then_branch=branch, else_branch=branch)]
        initializers = []
    graph = helper.make_graph(nodes, "graph", [given], [out], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("absolute", [False, True])
def test_graphs_read_no_files(weights, tmp_path, monkeypatch, engine, inside, absolute):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_bytes(b"nobody's business")
    location = str(tmp_path / "secret.txt") if absolute else "secret.txt"
    manifest = {**find_graphs(weights).manifest, "parameters": {"synthesis": []}}
    graphs = Graphs(manifest, {"synthesis": model_of_a_file(location, 17, inside)})
    opened = open_graphs(weights, Execution("cpu", 1, engine=engine), graphs)
    with pytest.raises(NlaicError, match=r"graph synthesis .* does not run"):
        opened.synthesis(np.zeros(1, np.float32))


def test_a_graph_of_other_inputs_is_an_error(weights):
    graphs = find_graphs(weights)
    swapped = Graphs(
        {**graphs.manifest, "parameters": {"synthesis": graphs.parameters("mean")}},
        {"synthesis": graphs.models["mean"]},
    )
    opened = open_graphs(weights, Execution("cpu", 1, engine="onnx"), swapped)
    with pytest.raises(NlaicError, match="ONNX Runtime failed"):
        opened.synthesis(np.zeros((320, 4, 4), np.float32))
