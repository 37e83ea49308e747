"""What exactness costs: real payloads against the estimate under floats, integers against a float scale network.

    python tools/entropy.py FOLDER [--model NAME|FILE] [--checkpoint last.ckpt] [--bpp 0.15,0.4,0.9]

`payload` over `estimate`: bytes that were written over -log2 of the likelihoods of the same symbols, skipped ones
included, under Gaussians of unrounded scales (z: logistic densities at its tables' scales).
With a checkpoint of `nlaic-train`: estimated bits with the integer scale network over those with the same weights in
floats, neither weights nor activations rounded.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import nlaic
from nlaic import container
from nlaic.block import Symbols
from nlaic.codec import Codec
from nlaic.export import Z_SCALE_MIN
from nlaic.integer import INDICES, SHIFT, IntegerScaleNetwork, _clip, _shuffle, at_quality
from nlaic.nets.build import build, make_settings
from nlaic.nets.vae import INDEX_STEP, SCALE_MIN, gaussian_bits, logistic_bits
from nlaic.rates import Rate, rate_at
from nlaic.tiles import Grid, pad, padded


def float_index(network: IntegerScaleNetwork, z_hat: np.ndarray, quality: int) -> np.ndarray:
    """The index of every symbol before it is rounded, float64 [C, h, w]."""
    z = z_hat.transpose(1, 2, 0).astype(np.int64)
    levels = _clip(((z * at_quality(network.z_multiplier, quality) + (1 << 15)) >> 16) + 128, 255)
    first, second, third, last = network.layers
    levels = _shuffle(_clip(second.requantise(_clip(first.requantise(levels), 255)), 255))
    levels = _clip(third.requantise(levels), 255)
    index = last.accumulate(levels) * last.multiplier / 2**SHIFT + at_quality(network.offset, quality) / 256
    return np.clip(index, 0, INDICES - 1).transpose(2, 0, 1)


def estimate(codec: Codec, s: Symbols, rate: Rate) -> float:
    """Bits of a block's symbols under floats."""
    index = torch.from_numpy(float_index(codec.scale, s.z_hat, rate.quality))
    y = gaussian_bits(torch.from_numpy(s.r).double(), index * INDEX_STEP + math.log(SCALE_MIN)).sum()
    z_scale = torch.from_numpy(rate.z_index.astype(float)) * INDEX_STEP + math.log(Z_SCALE_MIN)
    z = logistic_bits(torch.from_numpy(s.z_hat).double(), z_scale[:, None, None]).sum()
    return float(y + z)


def payload_over_estimate(codec: Codec, picture: Image.Image, bpp: float) -> tuple[float, float]:
    """Bits of the payload and of the estimate, of one picture near a rate."""
    file = container.unpack(codec.compress(picture, bpp=bpp))
    rate, bits, ideal = rate_at(codec.weights.tensors, file.header.quality), 0.0, 0.0
    for number, (left, top, right, bottom) in enumerate(Grid(*picture.size, file.header.block).boxes()):
        payload = file.block(number)
        bits += 8 * len(payload)
        ideal += estimate(codec, codec.decode_symbols(payload, rate, padded(bottom - top), padded(right - left)), rate)
    return bits, ideal


@torch.no_grad()
def integer_over_float(
    checkpoint: Path, codec: Codec, pictures: list[Image.Image], position: float
) -> tuple[float, float]:
    """Estimated bits per pixel with the scale network in integers and in floats."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    net = build(make_settings(codec.weights.architecture, json.loads(codec.weights.metadata["settings"])))
    net.load_state_dict({k.removeprefix("mean.net."): v for k, v in state.items() if k.startswith("mean.net.")})
    net.eval()
    sums = np.zeros(2)
    for picture in pictures:
        x = torch.tensor(pad(np.asarray(picture))).permute(2, 0, 1)[None].float() / 255
        for kind, quantise in enumerate((True, False)):
            bits = net(x, torch.tensor([float(position)]), quantise)["bits"]
            sums[kind] += float(bits["y"] + bits["z"]) / (picture.width * picture.height) / len(pictures)
    return float(sums[0]), float(sums[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="light")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--bpp", default="0.15,0.4,0.9")
    parser.add_argument("--every", type=int, default=1, help="take every N-th picture")
    arguments = parser.parse_args()
    codec = nlaic.load(arguments.model, device="cpu")
    files = sorted(p for p in arguments.folder.iterdir() if p.suffix.lower() in (".png", ".avif"))
    pictures = [Image.open(p).convert("RGB") for p in files[:: arguments.every]]
    for bpp in map(float, arguments.bpp.split(",")):
        bits, ideal = np.sum([payload_over_estimate(codec, p, bpp) for p in pictures], axis=0)
        print(f"near {bpp:g} bpp: payload {bits / 8:.0f} bytes, estimate {ideal / 8:.0f}, ratio {bits / ideal:.4f}")
    for position in (1, 2, 3, 4) if arguments.checkpoint else ():
        exact, floats = integer_over_float(arguments.checkpoint, codec, pictures, position)
        print(f"anchor {position}: {exact:.4f} bpp in integers, {floats:.4f} in floats, ratio {exact / floats:.4f}")


if __name__ == "__main__":
    main()
