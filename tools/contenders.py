"""The codecs that tools/bench.py times, each as encode and decode; made by name, also in another process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from nlaic.codec import Codec
from nlaic.engine import Execution, open_engine
from nlaic.errors import NlaicError
from nlaic.export import export
from nlaic.nets.build import build, make_settings, start
from nlaic.nets.complexity import module_cost, network_cost
from nlaic.tiles import padded
from nlaic.weights import Weights, find_weights

PILLOW = {"jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF", "jxl": "JXL", "heic": "HEIF"}
COMPRESSAI = {"hyperprior": "bmshj2018_hyperprior", "mean": "mbt2018_mean", "cheng": "cheng2020_attn"}


@dataclass(frozen=True)
class Contender:
    """A codec.

    Attributes:
        encode: a picture to what `decode` takes.
        decode: back to a picture, or to a tensor.
        size: bytes of what was encoded.
        kmac: 1000 multiply-adds a pixel of encoding and decoding; None where it is no network.
    """

    encode: Callable[[Image.Image], Any]
    decode: Callable[[Any], Any]
    size: Callable[[Any], int] = len
    kmac: tuple[float, float] | None = None


def make(name: str, picture: Image.Image, bpp: float, execution: Execution) -> Contender:
    """A codec by its name.

    Args:
        name: `light`, `light@3` (its effort), `light@3@torch` (its engine), a weights file, `nlaic`, or a key of
            `PILLOW` or `COMPRESSAI`.
        picture: to find the quality by.
        bpp: bits a pixel wanted; networks with random weights have their own.
        execution: how our transforms run.
    """
    if name in PILLOW:
        return _pillow(PILLOW[name], picture, bpp)
    if name in COMPRESSAI:
        return _compressai(COMPRESSAI[name])
    return _ours(*name.split("@"), picture=picture, bpp=bpp, execution=execution)


def _ours(
    name: str, effort: str = "1", engine: str = "", *, picture: Image.Image, bpp: float, execution: Execution
) -> Contender:
    weights = _weights(name)
    codec = Codec(weights, open_engine(weights, replace(execution, engine=engine or execution.engine)))
    quality = _quality(lambda q: len(codec.compress(picture, q, effort=1)), picture, bpp) if name != "nlaic" else 50
    cost = network_cost(build(make_settings(weights.architecture, weights.settings)))
    encode = partial(codec.compress, quality=quality, effort=int(effort))
    return Contender(encode, codec.decompress, kmac=(cost["encode"].kmac, cost["decode"].kmac))


def _weights(name: str) -> Weights:
    """Those found by the name, or an untrained `nlaic`."""
    try:
        return find_weights(name)
    except NlaicError:
        if name != "nlaic":
            raise
    settings = make_settings(name, {})
    net = build(settings).eval()
    torch.manual_seed(0)
    pictures = [torch.rand(1, 3, 128, 128)]
    start(net, settings, pictures)
    return export(net, name, settings.to_dict(), settings.lambdas, pictures)


def _pillow(format: str, picture: Image.Image, bpp: float) -> Contender:
    if format == "JXL":
        import pillow_jxl  # noqa: F401
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()

    def encode(image: Image.Image, quality: int) -> bytes:
        buffer = BytesIO()
        image.save(buffer, format, quality=quality)
        return buffer.getvalue()

    quality = round(_quality(lambda q: len(encode(picture, round(q))), picture, bpp))
    return Contender(partial(encode, quality=quality), lambda data: np.asarray(Image.open(BytesIO(data))))


def _quality(size: Callable[[float], int], picture: Image.Image, bpp: float) -> float:
    """The quality 1..99 nearest to a rate from below."""
    low, high, limit = 1.0, 99.0, bpp * picture.width * picture.height / 8
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= limit else (low, middle)
    return low


def _compressai(name: str) -> Contender:
    from compressai import zoo

    net = getattr(zoo, name)(quality=5, pretrained=False).eval()
    net.update()

    def encode(image: Image.Image) -> dict[str, Any]:
        with torch.inference_mode():
            x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
            more = (0, padded(image.width) - image.width, 0, padded(image.height) - image.height)
            return net.compress(F.pad(x, more))

    def decode(coded: dict[str, Any]) -> torch.Tensor:
        with torch.inference_mode():
            return net.decompress(coded["strings"], coded["shape"])["x_hat"]

    def size(coded: dict[str, Any]) -> int:
        return sum(len(text) for strings in coded["strings"] for text in strings)

    both = ["h_s", *(name for name in ("context_prediction", "entropy_parameters") if hasattr(net, name))]
    stride = {"g_a": 1, "h_s": 64}
    channels = {
        "g_a": 3,
        "h_s": net.entropy_bottleneck.channels,
        "entropy_parameters": 4 * net.M if hasattr(net, "M") else 0,
    }
    latent = net.M if hasattr(net, "M") else net.N

    def part(name: str) -> nn.Module:
        module = getattr(net, name)
        if name == "context_prediction":  # it changes its weights when called: a convolution like it
            return nn.Conv2d(module.in_channels, module.out_channels, module.kernel_size, padding=module.padding)
        return module

    def cost(parts: list[str]) -> float:
        return sum(module_cost(part(p), channels.get(p, latent), stride.get(p, 16)).kmac for p in parts)

    return Contender(encode, decode, size, (cost(["g_a", "h_a", *both]), cost([*both, "g_s"])))
