"""ONNX Runtime and OpenVINO against torch: the same transforms, the same files; graphs that hold no parameters."""

import io
import json
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import nlaic
from nlaic.codec import Codec
from nlaic.engine import Execution, open_engine
from nlaic.errors import NlaicError
from nlaic.export import export, save_weights, with_network
from nlaic.graphs import MANIFEST, SUFFIX, Graphs, find_graphs, read_graphs
from nlaic.nets.light import LightSettings, build_light
from nlaic.nets.paper import PaperSettings, build_paper, start_paper
from nlaic.onnx_engine import OnnxEngine
from nlaic.onnx_export import export_graphs
from nlaic.rates import rate_at
from nlaic.resources import resource_folder
from nlaic.side import of_rate
from nlaic.weights import ENCODING, PINNED, Weights, find_weights, read_weights
from tests.conftest import batch, smooth_picture

SHIPPED = sorted(resource_folder("weights").rglob(f"*{SUFFIX}"))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return find_weights("light")


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def graph_codec(weights, request) -> Codec:
    return Codec(weights, open_engine(weights, Execution("cpu", 1, "fp32", engine=request.param)))


@pytest.fixture(scope="module")
def onnx_codec(weights) -> Codec:
    return Codec(weights, open_engine(weights, Execution("cpu", 1, engine="onnx")))


@pytest.fixture(scope="module")
def torch_codec(weights) -> Codec:
    return Codec(weights, open_engine(weights, Execution("cpu", 1, "fp32", engine="torch")))


def pixels(codec, data, **options):
    return np.asarray(codec.decompress(data, **options)).astype(int)


@pytest.mark.parametrize("effort", [1, 2, 3, 5, 7])
def test_files_of_either_open_in_the_other(effort, graph_codec, torch_codec):
    picture = smooth_picture(300, 200, seed=effort)
    files = [codec.compress(picture, 55, effort=effort, block=(192, 128)) for codec in (graph_codec, torch_codec)]
    spread = 0.02 if effort >= 6 else 0.002  # where the search for z goes hangs by the last bits
    assert abs(len(files[0]) - len(files[1])) <= spread * len(files[0])
    for data in files:
        assert np.abs(pixels(graph_codec, data) - pixels(torch_codec, data)).max() <= 1
        part = {"region": (150, 90, 100, 60), "boundary_filter": False}
        assert np.abs(pixels(graph_codec, data, **part) - pixels(torch_codec, data, **part)).max() <= 1


@pytest.mark.parametrize("size", [(64, 64), (192, 128)])
def test_the_gradient_by_z(size, graph_codec, torch_codec):
    rate = rate_at(torch_codec.weights.tensors, 400)
    y = torch_codec.engine.analysis(np.asarray(smooth_picture(*size, seed=2)))
    given = (torch_codec.side(y, rate), y / rate.step, np.broadcast_to(rate.weight, y.shape))
    assert graph_codec.engine.searches_side
    got, expected = (c.engine.side_gradient(*given, **of_rate(c, rate)) for c in (graph_codec, torch_codec))
    np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("effort", [6, 7])
def test_graphs_exported_before_z_was_searched_for(effort, weights, onnx_codec):
    graphs = find_graphs(weights)
    models = {name: model for name, model in graphs.models.items() if name != "side_gradient"}
    codec = Codec(weights, OnnxEngine(weights, Execution(threads=1), Graphs(graphs.manifest, models)))
    assert not codec.engine.searches_side
    picture = smooth_picture(192, 128, seed=1)
    sizes = [len(codec.compress(picture, max_bytes=1500, effort=e)) for e in (5, effort)]
    assert max(sizes) <= 1500
    if effort == 6:
        assert codec.compress(picture, 40, effort=6) == codec.compress(picture, 40, effort=5)


def test_narrow_blocks_and_strips(graph_codec, torch_codec):
    data = torch_codec.compress(smooth_picture(150, 210, seed=3), 30, effort=1, block=(64, 64))
    assert np.abs(pixels(graph_codec, data) - pixels(torch_codec, data)).max() <= 1


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_the_second_decoder_and_what_lies_between(engine, weights, torch_codec):
    torch.manual_seed(1)
    other = build_light(LightSettings()).g_s  # far from the first: a mistake would show
    both = with_network(weights, "g_s_perceptual", other, {})
    data = torch_codec.compress(smooth_picture(200, 130), 50, effort=1)
    graphs = find_graphs(weights)
    codecs = [
        Codec(both, open_engine(both, Execution("cpu", 1, "fp32", engine="torch"))),
        Codec(Weights(both.tensors, both.metadata), open_engine(both, Execution("cpu", 1, "fp32", engine=engine))),
    ]
    assert graphs and graphs.fit(both)
    assert (pixels(codecs[0], data, realism=0) == pixels(torch_codec, data, realism=0)).all()
    for realism in (0.0, 0.3, 1.0):
        first, second = (pixels(codec, data, realism=realism) for codec in codecs)
        assert np.abs(first - second).max() <= 1
        assert realism == 0 or np.abs(second - pixels(codecs[1], data, realism=0)).max() > 1


def test_openvino_in_its_own_precision(weights, torch_codec):
    """bf16 where there are instructions for it: a few levels here and there, never the symbols."""
    fast = Codec(weights, open_engine(weights, Execution("cpu", 1, engine="openvino")))
    picture = smooth_picture(300, 200, seed=9)
    data = fast.compress(picture, 55)
    assert abs(len(data) - len(torch_codec.compress(picture, 55))) <= 0.02 * len(data)
    difference = np.abs(pixels(fast, data) - pixels(torch_codec, data))
    assert difference.max() <= 4 and difference.mean() < 0.5


def test_efforts_of_torch_say_so(graph_codec):
    with pytest.raises(NlaicError, match="efforts 8 and 9 need the torch engine"):
        graph_codec.compress(smooth_picture(64, 64), effort=8)


def test_a_lack_of_memory_is_one(graph_codec, monkeypatch):
    text = (
        "Non-zero status code ... void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*)"
    )

    def transform(given):
        raise graph_codec.engine.failures[0](text)

    with monkeypatch.context() as patch:
        patch.setattr(graph_codec.engine, "_transform", lambda name: transform)
        with pytest.raises(NlaicError, match="not enough memory for this picture"):
            graph_codec.compress(smooth_picture(64, 64))
        text = "something else"
        with pytest.raises(NlaicError, match=r"(ONNX Runtime|OpenVINO) failed: something else"):
            graph_codec.compress(smooth_picture(64, 64))


def test_threads_share_a_codec(graph_codec):
    data = graph_codec.compress(smooth_picture(256, 192), effort=1)
    expected = pixels(graph_codec, data)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: pixels(graph_codec, data), range(12)):
            assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_nothing_is_sent_or_kept(engine, weights, tmp_path):
    """Both would keep a number for the machine in the user's home, and events to be sent."""
    code = (
        "import socket, sys, nlaic; from PIL import Image; socket.getaddrinfo = None; "
        "nlaic.load(sys.argv[1], engine=sys.argv[2]).compress(Image.new('RGB', (64, 64))); "
        "assert 'openvino_telemetry' not in sys.modules"
    )
    left = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {name: str(tmp_path) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    subprocess.run([sys.executable, "-c", code, str(weights.path), engine], env=left | home, check=True)
    assert list(tmp_path.iterdir()) == []


# What ships


def test_what_ships_is_pinned_and_fits():
    assert {path.name for path in SHIPPED} == {name for name in PINNED if name.endswith(SUFFIX)}
    for path in SHIPPED:
        graphs = read_graphs(path)
        assert graphs.to_bytes() == path.read_bytes()
        assert graphs.fit(read_weights(path.with_name(path.name.removesuffix(SUFFIX) + ".safetensors")))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_graphs_take_every_parameter_from_the_weights_file(path):
    """By another reader of safetensors and of ONNX: all places are right, and nothing that was trained is inside."""
    graphs, file = read_graphs(path), path.with_name(path.name.removesuffix(SUFFIX) + ".safetensors")
    weights, raw, taken = read_weights(file), file.read_bytes(), set()
    for name, data in graphs.models.items():
        model = onnx.load_model_from_string(data)
        inside = [t for t in model.graph.initializer if t.data_location != TensorProto.EXTERNAL]
        trained = [v.astype(np.float32).ravel() for v in weights.tensors.values() if v.dtype == np.float16]
        for tensor in inside:  # DCT matrices and the like
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32).ravel()
            assert values.size <= 128 * 128
            assert not any(values.size == v.size > 1 and v.any() and np.array_equal(v, values) for v in trained)
        for tensor in model.graph.initializer:
            if tensor in inside:
                continue
            place = {entry.key: entry.value for entry in tensor.external_data}
            start, length = int(place["offset"]), int(place["length"])
            kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            stored = np.frombuffer(raw[start : start + length], kind).reshape(tuple(tensor.dims))
            assert place["location"] == file.name
            assert np.array_equal(stored, weights.tensors[tensor.name]) and kind == weights.tensors[tensor.name].dtype
            taken.add(tensor.name)
        assert [t.name for t in model.graph.initializer if t not in inside] == graphs.parameters(name)
    float_networks = {
        n for n in weights.tensors if n.startswith(("g_a.", "h_a.", "h_s.", "context.", "g_s.", "boundary.", "filter."))
    }
    integers = {f"scale.{n}.{part}" for n in range(4) for part in ("weight", "bias", "multiplier")}
    assert taken == float_networks | (integers & set(weights.tensors))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_ships_was_made_from_the_weights_beside_it(path):
    manifest = read_graphs(path).manifest
    if (manifest["torch"], manifest["onnx"]) != (torch.__version__, onnx.__version__):
        pytest.skip("made by other versions of torch and onnx, which write other nodes")
    weights = read_weights(path.with_name(path.name.removesuffix(SUFFIX) + ".safetensors"))
    assert export_graphs(weights).to_bytes() == path.read_bytes()


def test_unpacked_beside_the_weights_any_program_runs_them(tmp_path, weights, onnx_codec):
    (tmp_path / weights.path.name).write_bytes(weights.path.read_bytes())
    zipfile.ZipFile(weights.path.with_suffix(SUFFIX)).extractall(tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "synthesis.onnx", providers=["CPUExecutionProvider"])
    y_hat = np.random.default_rng(0).standard_normal((320, 4, 8), dtype=np.float32)
    (plain,) = session.run(None, {"y_hat": y_hat})
    assert np.array_equal(plain, onnx_codec.engine.synthesis(y_hat))


# Export


@pytest.fixture(scope="module")
def exported(tiny_model) -> Graphs:
    return export_graphs(read_weights(tiny_model))


def test_an_export_is_the_same_twice_and_does_what_torch_does(exported, tiny_model, codec, tmp_path):
    weights = read_weights(tiny_model)
    assert exported.fit(weights) and "boundary" not in exported.models
    copy = tmp_path / "mine-00000000.safetensors"
    copy.write_bytes(tiny_model.read_bytes())
    (tmp_path / f"mine-00000000{SUFFIX}").write_bytes(exported.to_bytes())
    mine, picture = nlaic.load(str(copy), engine="onnx", threads=1), smooth_picture(130, 200)
    data = mine.compress(picture, 60)
    assert np.abs(pixels(mine, data) - pixels(codec, data)).max() <= 2  # the other may run in bf16


def test_the_papers_network(tmp_path):
    """Its non-local attention too; without context and without a shortcut, so effort 3 falls to 2."""
    torch.manual_seed(0)
    settings, pictures = PaperSettings(16, 8, 16, 16), [batch(smooth_picture(192, 128, seed=1))]
    net = build_paper(settings)
    start_paper(net, pictures)
    path = save_weights(
        export(net, "nlaic", settings.to_dict(), settings.lambdas, pictures), tmp_path / "nlaic-00000000.safetensors"
    )
    weights = read_weights(path)
    mine = Codec(weights, _engine(weights, export_graphs(weights)))
    other = Codec(weights, open_engine(weights, Execution("cpu", 1, "fp32", engine="torch")))
    data = mine.compress(smooth_picture(150, 100), effort=3)
    assert mine.compress(smooth_picture(150, 100), effort=2) == data
    assert np.abs(pixels(mine, data) - pixels(other, data)).max() <= 1


def test_graphs_are_found_by_their_networks(exported, tiny_model, tmp_path, monkeypatch):
    weights = read_weights(tiny_model)
    assert find_graphs(weights) is None
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tmp_path))
    (tmp_path / f"other-00000000{SUFFIX}").write_bytes(exported.to_bytes())
    found = find_graphs(weights)
    assert found is not None and found.models == exported.models


def test_graphs_that_do_not_belong_are_refused(exported, tiny_model, tmp_path):
    weights = read_weights(tiny_model)
    with pytest.raises(NlaicError, match=r"no ONNX graphs for weights .*nlaic-export"):
        nlaic.load(str(tiny_model), engine="onnx")
    assert nlaic.load(str(tiny_model), device="cpu", threads=1).engine.name == "torch"
    copy, beside = tmp_path / "mine-00000000.safetensors", tmp_path / f"mine-00000000{SUFFIX}"
    copy.write_bytes(tiny_model.read_bytes())
    beside.write_bytes(find_weights("light").path.with_suffix(SUFFIX).read_bytes())
    with pytest.raises(NlaicError, match="not of the networks of"):
        nlaic.load(str(copy), engine="onnx")
    beside.write_bytes(b"PK no zip")
    with pytest.raises(NlaicError, match="not ONNX graphs of nlaic"):
        nlaic.load(str(copy), engine="onnx")
    shipped = tmp_path / SHIPPED[0].name
    shipped.write_bytes(exported.to_bytes())
    with pytest.raises(NlaicError, match="SHA-256"):
        read_graphs(shipped)
    wrong = Weights({**weights.tensors, "h_a.branch.0.bias": np.zeros(7, np.float16)}, weights.metadata)
    codec = Codec(wrong, _engine(wrong, exported))
    with pytest.raises(NlaicError, match="does not run on weights"):
        codec.compress(smooth_picture(64, 64))
    lacking = Weights({k: v for k, v in weights.tensors.items() if k != "g_a.dct"}, weights.metadata)
    with pytest.raises(NlaicError, match=r"light needs g_a\.dct"):
        Codec(lacking, _engine(lacking, exported)).compress(smooth_picture(64, 64))


def test_the_decoding_half_needs_no_graphs_of_its_own(onnx_codec, weights):
    data = onnx_codec.compress(smooth_picture(100, 80), 40)
    half = weights.decoding_half()
    assert not any(name.startswith(ENCODING) for name in half.tensors)
    codec = Codec(half, open_engine(half, Execution("cpu", 1, engine="onnx")))
    assert np.array_equal(pixels(codec, data), pixels(onnx_codec, data))
    with pytest.raises(NlaicError, match="decoding half"):
        codec.compress(smooth_picture(64, 64))


def _engine(weights, graphs):
    from nlaic.onnx_engine import OnnxEngine

    return OnnxEngine(weights, Execution(threads=1), graphs)


def test_signals_are_handled_after_engines_are_gone():
    """The first made is the first to go: an OpenVINO core gives its thread back the signal stack of the one before."""
    code = (
        "import gc, os, signal, nlaic; from PIL import Image\n"
        "two = [nlaic.load(engine='openvino', threads=1) for _ in range(2)]\n"
        "files = [codec.compress(Image.new('RGB', (64, 64)), effort=1) for codec in two]\n"
        "while two: two.pop(0); gc.collect()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled')); os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("missing", ["onnx", "openvino", "torch"])
def test_an_engine_that_is_not_installed(missing, weights, monkeypatch):
    monkeypatch.setattr("nlaic.engine.is_installed", lambda engine: engine != missing)
    with pytest.raises(NlaicError, match=f"the {missing} engine is not installed, which .* pip install"):
        open_engine(weights, Execution(engine=missing))
    assert open_engine(weights, Execution("cpu")).name != missing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tensorrt"}, "engine must be one of auto, onnx, openvino, torch, but got 'tensorrt'"),
        ({"device": "tpu"}, "device must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"engine": "onnx", "device": "cuda"}, "on the processor in fp32"),
        ({"engine": "onnx", "precision": "bf16"}, "on the processor in fp32"),
        ({"engine": "openvino", "device": "cuda"}, "openvino engine runs on the processor"),
        ({"engine": "openvino", "precision": "fp16"}, "no instructions for it"),
    ],
)
def test_what_cannot_be_asked_for(options, message):
    with pytest.raises(NlaicError, match=message):
        nlaic.load("light", **options)


def test_a_manifest_says_what_wrote_it(exported):
    with zipfile.ZipFile(io.BytesIO(exported.to_bytes())) as archive:
        manifest = json.loads(archive.read(MANIFEST))
    assert manifest["torch"] == torch.__version__ and manifest["onnx"] == onnx.__version__
    for model in exported.models.values():
        assert onnx.load_model_from_string(model).opset_import[0].version == manifest["opset"]


@pytest.mark.parametrize("gpu", [False, True])
def test_a_drivers_program_without_a_gpu_is_none(tmp_path, monkeypatch, gpu):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert Execution().chosen() == ("torch" if gpu else "onnx")
    assert Execution("cpu").chosen() == "onnx"
