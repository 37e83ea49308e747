"""From a trained network to a weights file: integers, tables and half-precision networks, made once.

The only place where scales and densities become integers; nothing is computed at load.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nlaic.entropy import Tables, gaussian_mass, logistic_mass, make_tables
from nlaic.errors import NlaicError
from nlaic.integer import OFFSET_SHIFT, SHIFT, Z_SHIFT
from nlaic.nets.build import build, make_settings
from nlaic.nets.scale import BIAS_UNIT, ScaleLayer
from nlaic.nets.vae import INDEX_STEP, LEVELS_PER_UNIT, SCALE_MIN, SCALES, SKIP, Z_SCALE_MIN, HyperpriorVAE, Rates
from nlaic.visibility import PYRAMID
from nlaic.weights import CODECS, SUFFIX, Weights
from nlaic.whole import write_whole

ROWS_PER_ANCHOR = 4  # rows of the file for each span between two anchors: integers are interpolated linearly
REACH = {"y": 8.0, "z": 16.0}  # of a table, in scales
NETWORKS = ("g_a", "h_a", "h_s", "context", "g_s")  # the float networks of a codec
ROWS = ("rates.log_step", "rates.log_z_step", "rates.z_index", "rates.offset", "encoder.z_mean")


def export(
    net: HyperpriorVAE,
    architecture: str,
    settings: Mapping[str, object],
    lambdas: tuple[float, float],
    pictures: list[Tensor],
    metadata: Mapping[str, str] | None = None,
    middle: float | None = None,
) -> Weights:
    """Make the weights of a network.

    Args:
        net: on the processor.
        architecture: `light` or `nlaic`.
        settings: plain values of its settings.
        lambdas: at the lowest and the highest quality.
        pictures: a few [B, 3, H, W] in 0..1, sides multiples of 64, to measure the decoder's gain on.
        metadata: what else there is to say.
        middle: position between the anchors of quality 50; None: the middle.
    """
    training = net.training
    net.eval()
    tensors = {f"scale.{n}.{k}": v for n, layer in enumerate(net.scale.layers) for k, v in _integers(layer).items()}
    tensors |= _rows(net, lambdas, middle)
    for kind, tables in (("y", _tables(SCALE_MIN, "y")), ("z", _tables(Z_SCALE_MIN, "z"))):
        tensors |= {f"tables.{kind}.frequencies": tables.frequencies, f"tables.{kind}.bounds": tables.bounds}
    for part in NETWORKS:
        network = getattr(net, part)
        tensors |= _half(network, f"{part}.") if network is not None else {}
    tensors["encoder.gain"] = synthesis_gain(net, pictures)
    net.train(training)
    text = {"codec": CODECS[-1], "architecture": architecture, "settings": json.dumps(settings), "skip": str(SKIP)}
    return Weights(tensors, text | dict(metadata or {}))


def with_network(weights: Weights, prefix: str, network: nn.Module, metadata: Mapping[str, str]) -> Weights:
    """Add a network that y_hat does not depend on, or put it in the place of an older one: the model id stays."""
    kept = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith(f"{prefix}.")}
    return Weights(kept | _half(network, f"{prefix}."), dict(weights.metadata) | dict(metadata))


def with_second_decoder(weights: Weights) -> Weights:
    """The decoder as the second one too, where there is none."""
    state = {n: t for n, t in weights.tensors.items() if n.startswith("g_s.")}
    second = {n.replace("g_s.", "g_s_perceptual.", 1): t for n, t in state.items()}
    return Weights(second | dict(weights.tensors), weights.metadata)


def with_gain(weights: Weights, pictures: list[Tensor]) -> Weights:
    """The decoder's gain measured again, as `export` does: after the decoder has changed."""
    gain = synthesis_gain(restore(weights), pictures)
    return Weights({**weights.tensors, "encoder.gain": gain}, weights.metadata)


def without_network(weights: Weights, prefix: str) -> Weights:
    """Leave a network out."""
    kept = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith(f"{prefix}.")}
    return Weights(kept, weights.metadata)


def network_state(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The state of one network of a weights file, float32, names without the prefix; empty where it is not there."""
    return {
        name.removeprefix(f"{prefix}."): torch.from_numpy(tensor.astype(np.float32))
        for name, tensor in weights.tensors.items()
        if name.startswith(f"{prefix}.")
    }


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path | None, strict: bool = True) -> None:
    """Put what weights hold into a network; an NlaicError where they hold another one."""
    try:
        network.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        raise NlaicError(f"weights {path}: {str(error).splitlines()[-1].strip()}") from error


@torch.no_grad()
def restore(weights: Weights, anchors: int | None = None) -> HyperpriorVAE:
    """The codec of a weights file in floats, to train on: `export` backwards.

    Args:
        weights: of any stage.
        anchors: how many qualities own parameters, equally spaced in the logarithm of lambda, as when they were
            trained; None: those of the file's rows, equally spaced in quality.
    """
    weights.check_codec()
    net = build(make_settings(weights.architecture, weights.settings))
    state = {f"{part}.{k}": v for part in NETWORKS for k, v in network_state(weights, part).items()}
    fill(net, state, weights.path, strict=False)
    for number, layer in enumerate(net.scale.layers):
        integers, bias, multiplier = (
            torch.from_numpy(weights.tensors[f"scale.{number}.{part}"].astype(np.float64))
            for part in ("weight", "bias", "multiplier")
        )
        step = multiplier / 2**SHIFT
        layer.start.zero_()
        layer.weight.copy_(integers * step[:, None, None, None])
        real = (bias + integers.sum((2, 3)) @ layer.centre_in.double()) * step
        layer.bias.copy_((real - layer.centre_out) / BIAS_UNIT)
    rows = {name: torch.from_numpy(weights.tensors[name].astype(np.float32)) for name in ROWS}
    if anchors:
        log_lambda = weights.tensors["encoder.log_lambda"][:, 0]
        places = np.interp(np.linspace(log_lambda[0], log_lambda[-1], anchors), log_lambda, np.arange(len(log_lambda)))
        rows = {name: _at_places(table, places) for name, table in rows.items()}
    steps, z_steps = rows["rates.log_step"], rows["rates.log_z_step"]
    net.rates = Rates(steps.shape[1], z_steps.shape[1], len(steps))
    net.rates.log_step.copy_(steps)
    net.rates.log_z_step.copy_(z_steps)
    net.rates.z_mean.copy_(rows["encoder.z_mean"])
    net.rates.log_scale.copy_(rows["rates.offset"] / 2**OFFSET_SHIFT * INDEX_STEP + math.log(SCALE_MIN))
    net.rates.log_z_scale.copy_(rows["rates.z_index"] * INDEX_STEP + math.log(Z_SCALE_MIN))
    return net


def _at_places(rows: Tensor, places: np.ndarray) -> Tensor:
    """Rows [R, C] between which places [K] lie, interpolated: [K, C]."""
    low = np.minimum(places.astype(int), max(len(rows) - 2, 0))
    high, share = np.minimum(low + 1, len(rows) - 1), torch.from_numpy(places - low)[:, None].float()
    return torch.lerp(rows[low], rows[high], share)


def save_weights(weights: Weights, target: Path) -> Path:
    """Write the file, whole or not at all; a folder as target means `<architecture>-<sha8>.safetensors` in it."""
    data = weights.to_bytes()
    if target.is_dir():
        import hashlib

        target = target / f"{weights.architecture}-{hashlib.sha256(data).hexdigest()[:8]}{SUFFIX}"
    write_whole(target, data)
    return target


def _half(network: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    state = network.state_dict()
    return {prefix + k: v.detach().cpu().contiguous().numpy().astype(np.float16) for k, v in state.items()}


@torch.no_grad()
def _integers(layer: ScaleLayer) -> dict[str, np.ndarray]:
    """A layer of the scale network as `nlaic.integer` wants it: levels without their centres, bias folded."""
    weight, step = layer.quantised_weight()
    weight, step = weight.double(), step.double().flatten()
    real = BIAS_UNIT * layer.bias.double() + layer.centre_out.double()
    bias = real / step - (weight.sum((2, 3)) @ layer.centre_in.double())
    multiplier = step * 2**SHIFT
    if multiplier.max() >= 2**31 or bias.abs().max() >= 2**31:
        raise NlaicError("the scale network cannot be written in integers: a weight is too large")
    return {
        "weight": weight.round().to(torch.int8).numpy(),
        "bias": bias.round().to(torch.int32).numpy(),
        "multiplier": multiplier.round().to(torch.int32).numpy(),
    }


@torch.no_grad()
def _rows(net: HyperpriorVAE, lambdas: tuple[float, float], middle: float | None) -> dict[str, np.ndarray]:
    """What moves with the quality, at equally spaced qualities."""
    rates, last = net.rates, net.rates.anchors - 1
    count = last * ROWS_PER_ANCHOR + 1
    position = torch.linspace(0, last, count)
    if middle is not None:  # a parabola through the ends and `middle`
        share = position / max(1, last)
        position = last * share + (4 * middle - 2 * last) * share * (1 - share)

    def rows(table: Tensor) -> np.ndarray:
        return rates.at(table, position)[:, :, 0, 0].double().numpy()

    def integers(values: np.ndarray, factor: float) -> np.ndarray:
        return np.rint(values * factor).astype(np.int32)

    z_index = np.clip(np.rint((rows(rates.log_z_scale) - math.log(Z_SCALE_MIN)) / INDEX_STEP), 0, SCALES - 1)
    offset = (rows(rates.log_scale) - math.log(SCALE_MIN)) / INDEX_STEP
    log_z_step = rows(rates.log_z_step)
    return {
        "rates.log_step": rows(rates.log_step).astype(np.float32),
        "rates.log_z_step": log_z_step.astype(np.float32),
        "rates.z_multiplier": integers(np.exp(log_z_step), LEVELS_PER_UNIT * 2**Z_SHIFT),
        "rates.z_index": z_index.astype(np.uint8),
        "rates.offset": integers(offset, 2**OFFSET_SHIFT),
        "encoder.z_mean": rows(rates.z_mean).astype(np.float32),
        "encoder.log_lambda": np.interp(position, (0, max(1, last)), np.log(lambdas)).astype(np.float32)[:, None],
    }


def _tables(lowest: float, kind: str) -> Tables:
    scales = lowest * np.exp(INDEX_STEP * np.arange(SCALES))
    return make_tables(scales, gaussian_mass if kind == "y" else logistic_mass, REACH[kind])


def synthesis_gain(net: HyperpriorVAE, pictures: list[Tensor]) -> np.ndarray:
    """How much squared error a squared error of 1 in each channel of y makes, float32 [5, C]: in the picture, and in
    means over 2x2, 4x4, 8x8 and 16x16 of its pixels.

    The mean squared norm of the Jacobian's columns, by its transpose on random signs (Hutchinson's estimator).
    """
    generator = torch.Generator().manual_seed(0)
    total, count = torch.zeros(PYRAMID, net.rates.log_step.shape[1], dtype=torch.float64), 0
    for x in pictures:
        with torch.no_grad():
            y = net.g_a(x)
        y.requires_grad_()
        with torch.enable_grad():
            x_hat = net.g_s(y)
            for scale in range(PYRAMID):
                signs = torch.randint(2, x_hat.shape, generator=generator) * 2 - 1
                (gradient,) = torch.autograd.grad((x_hat * signs).sum(), y, retain_graph=scale < PYRAMID - 1)
                total[scale] += gradient.double().square().mean((0, 2, 3))
                x_hat = F.avg_pool2d(x_hat, 2)
        count += 1
    return (total / count).float().numpy()
