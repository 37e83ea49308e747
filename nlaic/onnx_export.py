"""From a weights file to ONNX graphs that take their parameters from it.

Each transform of `nlaic.nets.transforms` becomes a graph of its own, of any picture size. Parameters are external
data: each names the weights file, its offset and its length there, is half precision or integers as in the file, and
is cast to float32 in the graph. So nothing is stored twice. The graphs go into one zip (`nlaic.graphs`); unpacked
beside the weights file they are ordinary ONNX files for any program.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnxscript import optimizer
from torch import Tensor, nn

from nlaic.classic.export import filter_network
from nlaic.classic.nets.build import InLevels, as_filter
from nlaic.engine import Execution
from nlaic.errors import NlaicError
from nlaic.graphs import Graphs
from nlaic.nets.transforms import Boundary, transforms
from nlaic.onnx_engine import OnnxEngine
from nlaic.torch_engine import load_filter, load_network
from nlaic.weights import FILTER, Weights

OPSET = 20
IR_VERSION = 10  # what ONNX Runtime 1.20 reads
ANY = torch.export.Dim.DYNAMIC
SIZES = (128, 192), (256, 128)  # height and width of pictures: the first is traced, both are checked
FOLDED, FOLDED_TO = 64, 4096  # values of what is computed while exporting: shapes and the like
FREE = {  # axes of any size, of every input
    **dict.fromkeys(("pixels", "strip"), (0, 1)),
    **dict.fromkeys(("y", "y_hat", "mean", "z_hat", "weight"), (1, 2)),
    **{"rows": (0,), "columns": (0,)},
    **dict.fromkeys(("quality", "level", "z_step", "z_index", "offset", "skip"), ()),
}
DIFFERENCE = 2e-4  # between torch and a graph, over the largest value; pixels: one level


def export_graphs(weights: Weights) -> Graphs:
    """Write the graphs of a weights file, and check them against torch on random inputs.

    Raises:
        NlaicError: if the weights do not come from a file, or a graph says something else than torch.
    """
    if weights.path is None:
        raise NlaicError("graphs need weights that are a file: parameters are looked for there")
    modules, manifest = _filter(weights) if weights.codec == FILTER else _codec(weights)
    inputs = {name: [_inputs(name, weights, size) for size in SIZES] for name in modules}
    places = _places(weights.path)
    models = {name: _with_places(_traced(module, inputs[name][0]), weights, places) for name, module in modules.items()}
    for name, module in modules.items():
        if lost := {n for n, _ in module.named_parameters()} - set(_external(models[name])):
            raise NlaicError(f"graph {name}: holds {min(lost)} itself")
    manifest |= {
        "weights": weights.path.name,
        "opset": OPSET,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "parameters": {name: _external(model) for name, model in models.items()},
    }
    graphs = Graphs(manifest, {name: model.SerializeToString(deterministic=True) for name, model in models.items()})
    engine = OnnxEngine(weights, Execution(threads=1), graphs)
    for name, module in modules.items():
        _check(engine, name, module, inputs[name])
    return graphs


def _codec(weights: Weights) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The transforms of a codec, and the beginning of the manifest."""
    modules = transforms(load_network(weights), weights.scale_network())
    manifest: dict[str, Any] = {"architecture": weights.architecture, "settings": weights.settings, "boundary": None}
    if "boundary" in weights.metadata:
        network, sigma = load_filter(weights)
        modules["boundary"] = Boundary(network)
        manifest |= {"boundary": json.loads(weights.metadata["boundary"]), "reach": network.reach, "sigma": sigma}
    return modules, manifest


def _filter(weights: Weights) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The same of a filter behind a decoder."""
    network = filter_network(weights)
    shape = {"reach": as_filter(network).reach, "multiple": as_filter(network).multiple}
    manifest = {"architecture": weights.architecture, "settings": weights.settings, "boundary": None}
    return {"filter": InLevels(network)}, manifest | shape


def _inputs(name: str, weights: Weights, size: tuple[int, int]) -> dict[str, Tensor]:
    """Random inputs of a transform for a picture of some height and width."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    h, w = height // 16, width // 16
    pixels = torch.randint(256, (height, width, 3), dtype=torch.uint8, generator=generator)
    if name == "filter":
        return {"pixels": pixels, "level": torch.tensor([0.37])}
    latent, hyper = len(weights.tensors["rates.offset"][0]), len(weights.tensors["rates.z_index"][0])
    y, mean = torch.randn(2, latent, h, w, generator=generator)
    z_hat = torch.randn(hyper, h // 4, w // 4, generator=generator)
    inside = torch.arange(height) < 0.8 * height, torch.arange(width) < 0.9 * width
    return {
        "analysis": {"pixels": pixels},
        "hyper_analysis": {"y": y},
        "mean": {"z_hat": z_hat},
        "refine": {"y_hat": y, "mean": mean},
        "synthesis": {"y_hat": y},
        "pull": {"y_hat": y, "pixels": pixels, "rows": inside[0].float(), "columns": inside[1].float()},
        "side_gradient": {
            **{"z_hat": z_hat, "y": 4 * y, "weight": mean.square()},
            **{name: torch.full((hyper, 1, 1), value) for name, value in (("z_step", 0.7), ("z_index", 40.0))},
            **{"offset": torch.full((latent, 1, 1), 18.0), "skip": torch.tensor([5.0])},
        },
        "boundary": {"strip": pixels[: height // 2, : width // 3].clone(), "quality": torch.tensor([0.37])},
    }[name]


def _traced(module: nn.Module, inputs: Mapping[str, Tensor]) -> onnx.ModelProto:
    """The module as a graph, parameters inside, without where it was traced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["output"],
            dynamic_shapes=tuple(dict.fromkeys(FREE[name], ANY) for name in inputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    parameters = {name for name, _ in module.named_parameters()}

    def shape_alone(node: Any) -> bool | None:
        """No parameter is folded into something else."""
        return False if any(value is not None and value.name in parameters for value in node.inputs) else None

    optimizer.fold_constants(
        program.model, input_size_limit=FOLDED, output_size_limit=FOLDED_TO, should_fold=shape_alone
    )
    optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    model.ir_version = IR_VERSION
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length of every tensor in a safetensors file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    tensors = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (8 + size + start, stop - start) for name, (start, stop) in tensors.items()}


def _with_places(model: onnx.ModelProto, weights: Weights, places: Mapping[str, tuple[int, int]]) -> onnx.ModelProto:
    """Put the places of parameters where the parameters are, and a cast behind each that is a float."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name not in weights.tensors:
            continue
        stored, is_float = weights.tensors[tensor.name], tensor.data_type == TensorProto.FLOAT
        kind = helper.np_dtype_to_tensor_dtype(stored.dtype)
        if tuple(tensor.dims) != stored.shape or kind != (TensorProto.FLOAT16 if is_float else tensor.data_type):
            expected = "half precision" if is_float else "integers of the type expected,"
            raise NlaicError(f"weights {weights.path}: {tensor.name} must be of {expected} {tuple(tensor.dims)}")
        offset, length = places[tensor.name]
        for field in ("raw_data", "float_data", "int32_data"):
            tensor.ClearField(field)
        tensor.data_type, tensor.data_location = kind, TensorProto.EXTERNAL
        assert weights.path is not None
        for key, value in (("location", weights.path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        if is_float:
            casts.append(helper.make_node("Cast", [tensor.name], [_cast(tensor.name)], to=TensorProto.FLOAT))
    parameters = {node.input[0] for node in casts}
    for node in model.graph.node:
        node.input[:] = [_cast(name) if name in parameters else name for name in node.input]
    nodes = [*casts, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    model.graph.ClearField("value_info")
    return model


def _cast(name: str) -> str:
    return f"{name} as float32"


def _external(model: onnx.ModelProto) -> list[str]:
    return [t.name for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]


def _check(engine: OnnxEngine, name: str, module: nn.Module, inputs: Sequence[Mapping[str, Tensor]]) -> None:
    """Hold a graph against the module."""
    for given in inputs:
        with torch.inference_mode():
            expected = module(*given.values()).numpy()
        got = engine.run(name, **{key: x.numpy() for key, x in given.items()})
        worst = np.abs(got.astype(np.float64) - expected).max()
        limit = 1 if expected.dtype == np.uint8 else DIFFERENCE * np.abs(expected).max()
        if got.shape != expected.shape or worst > limit:
            raise NlaicError(f"graph {name}: differs from torch by {worst:g}, allowed: {limit:g}")
