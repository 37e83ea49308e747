"""Weights files: found by name, path and model id; what the id covers; what is refused."""

import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from nlaic import graphs, load
from nlaic import weights as module
from nlaic.classic import weights as filters
from nlaic.errors import NlaicError
from nlaic.export import with_second_decoder
from nlaic.graphs import find_graphs
from nlaic.resources import resource_folder
from nlaic.tensors import CODEC, ENCODER, NETWORKS
from nlaic.weights import NOT_IN_ID, PINNED, Weights, find_by_model_id, find_weights, read_weights
from tests.conftest import smooth_picture

SHIPPED = sorted(resource_folder("weights").glob("*.safetensors"))


def test_what_ships_is_pinned():
    files = [path for path in resource_folder("weights").rglob("*") if path.suffix in {".safetensors", ".zip"}]
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == PINNED
    assert all(path.stem.endswith(PINNED[path.name][:8]) for path in files if path.suffix == ".safetensors")


def test_codecs_that_ship_are_small_and_can_be_opened():
    assert SHIPPED
    for path in SHIPPED:
        assert path.stat().st_size <= 20e6
        read_weights(path).scale_network()
        read_weights(path).entropy_coder()


def test_found_by_name_path_and_model_id(tiny_model, tmp_path, monkeypatch):
    weights = read_weights(tiny_model)
    assert find_weights(tiny_model).model_id == weights.model_id
    copy = tmp_path / "mine-12345678.safetensors"
    copy.write_bytes(tiny_model.read_bytes())
    for place in (copy, tmp_path):
        monkeypatch.setenv("NLAIC_WEIGHTS", str(place))
        assert find_weights("mine").path == copy
        assert find_by_model_id(weights.model_id).path == copy
    monkeypatch.delenv("NLAIC_WEIGHTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data" / "nlaic" / "weights").mkdir(parents=True)
    copy.rename(tmp_path / "data" / "nlaic" / "weights" / copy.name)
    assert find_weights("mine").model_id == weights.model_id
    with pytest.raises(NlaicError, match=str(tmp_path / "data")):
        find_weights("absent")
    with pytest.raises(NlaicError, match=r"0102030405060708.*data"):
        find_by_model_id(bytes(range(1, 9)))


def test_a_name_goes_before_a_file_that_is_called_so(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tiny_model))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_bytes(b"a list of things to buy")
    assert find_weights("tiny").path == tiny_model
    for place in ("./tiny", tmp_path / "tiny", Path("tiny")):
        with pytest.raises(NlaicError, match="tiny: not a safetensors file"):
            find_weights(place)
    (tmp_path / "other").write_bytes(tiny_model.read_bytes())
    assert find_weights("other").path == Path("other")  # no weights have that name


def test_what_is_no_weights_file_stands_in_no_ones_way(tiny_model, tmp_path, monkeypatch):
    (tmp_path / "mine.safetensors").write_bytes(tiny_model.read_bytes())
    save_file({"x": np.zeros(1)}, tmp_path / "foreign.safetensors")
    save_torch({"x": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "brain.safetensors")
    (tmp_path / "foreign.onnx.zip").write_bytes(b"no zip")
    for name, manifest, method in (("less", b"{}", 0), ("packed", b"{}", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / f"{name}.onnx.zip", "w", method) as archive:
            archive.writestr("manifest.json", manifest)
    packed = bytearray((tmp_path / "packed.onnx.zip").read_bytes())
    packed[packed.index(b"manifest.json") + len("manifest.json")] ^= 0xFF  # no deflate any more
    (tmp_path / "packed.onnx.zip").write_bytes(packed)
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tmp_path))
    weights = find_by_model_id(read_weights(tiny_model).model_id)
    assert weights.path == tmp_path / "mine.safetensors"
    find_graphs(weights)
    with pytest.raises(NlaicError, match=r"0102030405060708.*brain.safetensors: not made by nlaic.*foreign"):
        find_by_model_id(bytes(range(1, 9)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes that are files")
@pytest.mark.parametrize(
    ("looked_at", "folder", "suffix"),
    [
        (module._candidates, "", ".safetensors"),
        (graphs._candidates, "", ".onnx.zip"),
        (filters._candidates, "filters", ".safetensors"),
    ],
)
def test_pipes_and_folders_in_a_folder_are_passed_over(tmp_path, monkeypatch, looked_at, folder, suffix):
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tmp_path))
    (tmp_path / folder).mkdir(exist_ok=True)
    os.mkfifo(tmp_path / folder / f"a{suffix}")
    (tmp_path / folder / f"b{suffix}").mkdir()
    (tmp_path / folder / f"c{suffix}").write_bytes(b"")
    (tmp_path / folder / f"d{suffix}").symlink_to(f"c{suffix}")
    assert [path.name for path in looked_at() if tmp_path in path.parents] == [f"c{suffix}", f"d{suffix}"]


def test_the_id_covers_all_that_y_hat_depends_on(tiny_model):
    weights = read_weights(tiny_model)

    def changed(name: str) -> bytes:
        tensor = np.array(weights.tensors[name])
        tensor.reshape(-1).view(np.uint8)[-1] ^= 1
        return Weights({**weights.tensors, name: tensor}, weights.metadata).model_id

    for name in weights.tensors:
        free = name.startswith(("g_a.", "h_a.", "g_s.", "encoder."))
        assert (changed(name) == weights.model_id) == free, name
    assert Weights(weights.tensors, {**weights.metadata, "skip": "6"}).model_id != weights.model_id
    assert Weights(weights.tensors, {**weights.metadata, "licence": "x"}).model_id == weights.model_id


def test_the_id_is_that_of_the_bytes_in_the_file(tiny_model):
    """On a machine of the other byte order too, whose arrays these are, and whatever they are a view of."""
    weights = read_weights(tiny_model)
    other = {name: tensor.astype(tensor.dtype.newbyteorder(">")) for name, tensor in weights.tensors.items()}
    assert any(tensor.dtype.str.startswith(">") for tensor in other.values())
    strided = {name: np.asfortranarray(tensor) for name, tensor in weights.tensors.items()}
    assert {Weights(tensors, weights.metadata).model_id for tensors in (other, strided)} == {weights.model_id}
    data = tiny_model.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    digest = hashlib.sha256(weights.metadata["skip"].encode())
    kinds = {"I8": "|i1", "U8": "|u1", "U16": "<u2", "I32": "<i4", "F16": "<f2", "F32": "<f4"}
    for name, entry in sorted(json.loads(data[8:start]).items()):
        if name != "__metadata__" and not name.startswith(NOT_IN_ID):
            digest.update(f"{name} {kinds[entry['dtype']]} {tuple(entry['shape'])}".encode())
            digest.update(data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
    assert digest.digest()[:8] == weights.model_id


def test_weights_without_a_codec_are_of_codec_1_and_unknown_ones_are_refused(tiny_model):
    weights = read_weights(tiny_model)
    assert weights.metadata["codec"] == "1"
    older = Weights(weights.tensors, {name: text for name, text in weights.metadata.items() if name != "codec"})
    assert older.model_id == weights.model_id and older.entropy_coder().skip == weights.entropy_coder().skip
    newer = Weights(weights.tensors, {**weights.metadata, "codec": "7"})
    assert newer.model_id != weights.model_id
    for part in (newer.scale_network, newer.entropy_coder):
        with pytest.raises(NlaicError, match="codec '7', this program decodes 1"):
            part()


def test_reading_and_writing_again_changes_nothing(tiny_model, tmp_path):
    weights, copy = read_weights(tiny_model), tmp_path / "copy.safetensors"
    copy.write_bytes(weights.to_bytes())
    again = read_weights(copy)
    assert again.metadata == weights.metadata and again.tensors.keys() == weights.tensors.keys()
    for name, tensor in weights.tensors.items():
        assert tensor.dtype == again.tensors[name].dtype and np.array_equal(tensor, again.tensors[name])


def test_what_cannot_be_weights_is_refused(tiny_model, tmp_path, monkeypatch):
    bad = tmp_path / "bad-00000000.safetensors"
    bad.write_bytes(b"not weights")
    with pytest.raises(NlaicError, match="not a safetensors file"):
        find_weights(bad)
    with pytest.raises(NlaicError, match=r"none\.safetensors"):
        find_weights(tmp_path / "none.safetensors")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, bad)
    with pytest.raises(NlaicError, match="architecture, settings, skip"):
        find_weights(bad)
    monkeypatch.setattr(module, "PINNED", {bad.name: "0" * 64})
    with pytest.raises(NlaicError, match="SHA-256"):
        find_weights(bad)


def test_the_decoding_half_decodes_and_does_not_compress(tiny_model, tmp_path):
    whole = load(str(tiny_model), device="cpu", threads=1)
    data = whole.compress(smooth_picture(100, 70), 60)
    path = tmp_path / "tiny-decoder-00000000.safetensors"
    path.write_bytes(whole.weights.decoding_half().to_bytes())
    half = load(str(path), device="cpu", threads=1)
    assert half.weights.model_id == whole.weights.model_id
    assert half.decompress(data).tobytes() == whole.decompress(data).tobytes()
    with pytest.raises(NlaicError, match="decoding half"):
        half.compress(smooth_picture(100, 70))


def test_weights_that_lack_a_tensor_are_refused(tiny_model):
    from nlaic.torch_engine import TorchEngine

    weights = read_weights(tiny_model)
    tensors = {k: v for k, v in weights.tensors.items() if k != "g_s.dct"}
    with pytest.raises(NlaicError, match=r"g_s\.dct"):
        TorchEngine(Weights(tensors, weights.metadata))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"skip": "x"}, "skip must be 0..64, but is 'x'"),
        ({"skip": "-3"}, "skip must be"),
        ({"skip": "9" * 5000}, "skip must be"),
        ({"settings": "{"}, r"incomplete or damaged \("),
        ({"settings": "[" * 200_000}, r"incomplete or damaged \("),
        ({"settings": '{"luma": 1e999}'}, r"luma must be a whole number"),
    ],
)
def test_metadata_that_say_nothing_are_refused(tiny_model, tmp_path, changed, message):
    weights = read_weights(tiny_model)
    path = tmp_path / "bad.safetensors"
    path.write_bytes(Weights(weights.tensors, {**weights.metadata, **changed}).to_bytes())
    with pytest.raises(NlaicError, match=message):
        load(str(path), engine="torch")


def _as(kind):
    return lambda tensor: tensor.astype(kind)


def _full(value, kind=None):
    return lambda tensor: np.full(tensor.shape, value, kind or tensor.dtype)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rates.z_index", _full(-5, np.int32), r"rates.z_index must be uint8 \[\d+, 128\], but is int32"),
        ("rates.z_index", _full(200), "rates.z_index must be 0..63, but is 200"),
        ("rates.z_multiplier", lambda rows: rows[:0], "rates.z_multiplier must be"),
        ("rates.offset", lambda rows: rows[:, :7], "must be"),
        ("rates.log_step", lambda rows: rows[:, :5], "rates.log_step must be"),
        ("rates.log_step", _as(np.int8), "rates.log_step must be float32"),
        ("rates.log_step", _full(np.nan), "rates.log_step must be numbers"),
        ("rates.log_z_step", _full(1e9), "rates.log_z_step must be numbers of magnitudes up to 80"),
        ("tables.y.bounds", _as(np.uint16), "tables.y.bounds must be int32"),
        ("tables.z.bounds", lambda bounds: bounds[:10], r"tables.z.bounds must be int32 \[64\]"),
        ("tables.y.frequencies", lambda values: values[:, None], "tables.y.frequencies must be uint16"),
        ("scale.0.weight", lambda weight: weight + np.float32(0.3), "scale.0.weight must be int8"),
        ("scale.0.weight", lambda weight: np.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1))), "scale.0.weight must be"),
        ("scale.1.multiplier", _full(2**62, np.int64), "scale.1.multiplier must be int32"),
        ("scale.2.weight", lambda weight: weight[:, 1:], r"scale.1 must have \d+ outputs"),
        ("encoder.gain", lambda gain: gain[:, :3], "encoder.gain must be"),
        ("encoder.gain", lambda gain: gain[[0] * 6], "encoder.gain must have at most 5 rows"),
        ("encoder.log_lambda", lambda rows: rows[:, 0], "encoder.log_lambda must be"),
        ("encoder.z_mean", _full(np.inf), "encoder.z_mean must be numbers"),
        ("g_a.dct", _as(np.float32), "g_a.dct must be float16"),
        ("h_s.branch.0.bias", _full(np.nan), "h_s.branch.0.bias holds values that are not finite"),
        ("g_s.dct", _full(-np.inf), "g_s.dct holds values that are not finite"),
        ("g_s.branch.0.bias", lambda bias: bias[:3], "g_s.branch.0.bias"),
        ("g_s_perceptual.branch.0.bias", lambda bias: bias[:3], "g_s_perceptual.branch.0.bias must be there as"),
        *(
            (name, None, f"{name} is missing")
            for name in ("rates.log_step", "rates.offset", "scale.3.bias", "tables.z.bounds", "encoder.gain")
        ),
        ("g_s_perceptual.branch.0.bias", None, "g_s_perceptual.branch.0.bias must be there as"),
    ],
)
def test_tensors_are_held_to_the_specification(tiny_model, tmp_path, name, change, message):
    weights = with_second_decoder(read_weights(tiny_model))
    tensors = dict(weights.tensors)
    tensor = tensors.pop(name)
    path = tmp_path / "bad.safetensors"
    path.write_bytes(Weights(tensors | ({name: change(tensor)} if change else {}), weights.metadata).to_bytes())
    with pytest.raises(NlaicError, match=rf"weights .*bad\.safetensors: .*{message}"):
        load(str(path), engine="torch")


def test_all_that_is_stored_is_held_to_something(tiny_model):
    held = (*CODEC, *ENCODER, *NETWORKS)
    for path in (tiny_model, *SHIPPED):
        assert all(name.startswith(held) for name in read_weights(path).tensors)


def test_weights_of_older_files_have_one_row_of_gain(tiny_model, tmp_path):
    weights = read_weights(tiny_model)
    path = tmp_path / "older.safetensors"
    older = {**weights.tensors, "encoder.gain": weights.tensors["encoder.gain"][0]}
    path.write_bytes(Weights(older, weights.metadata).to_bytes())
    codec = load(str(path), device="cpu", threads=1)
    assert codec.decompress(codec.compress(smooth_picture(64, 64))).size == (64, 64)


def test_the_same_contents_are_the_same_bytes(tiny_model):
    weights = find_weights(str(tiny_model))
    backwards = Weights(dict(reversed(weights.tensors.items())), dict(reversed(weights.metadata.items())))
    assert weights.to_bytes() == backwards.to_bytes() == tiny_model.read_bytes()
