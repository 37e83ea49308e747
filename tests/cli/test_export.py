"""`nlaic-export`: the graphs beside the weights, and what is wrong in one line."""

import sys
from pathlib import Path

from nlaic.graphs import SUFFIX, find_graphs, read_graphs
from nlaic.weights import read_weights


def test_graphs_are_written_beside_the_weights_and_found(folder, run, tiny_model):
    Path("mine.safetensors").write_bytes(tiny_model.read_bytes())
    code, out, err = run("export mine.safetensors")
    assert (code, err) == (0, []) and out[0].startswith(f"mine{SUFFIX}  7 graphs  ")
    weights = read_weights(Path("mine.safetensors"))
    assert read_graphs(Path(f"mine{SUFFIX}")).fit(weights) and find_graphs(weights) is not None
    assert run("export mine.safetensors")[0] == 1


def test_what_is_wrong(folder, run, tiny_model, monkeypatch):
    code, _, err = run("export none.safetensors")
    assert code == 1 and len(err) == 1 and "none.safetensors" in err[0]
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "nlaic.onnx_export", raising=False)
    code, _, err = run(f"export {tiny_model} -o x.zip")
    assert code == 1 and err[0].endswith("onnx is missing: pip install 'nlaic[export]'") and not Path("x.zip").exists()
