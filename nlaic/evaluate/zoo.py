"""The models of CompressAI's zoo, where their weights have been downloaded before."""

import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import Codec, MissingError, installed, plugin

MULTIPLE = 64  # sides that every model of the zoo takes

# Name and how many qualities it has.
MODELS = {
    "bmshj2018-factorized": 8,
    "bmshj2018-hyperprior": 8,
    "mbt2018-mean": 8,
    "mbt2018": 8,
    "cheng2020-anchor": 6,
    "cheng2020-attn": 6,
}


class ZooCoder:
    """A model of the zoo; the setting is its quality, 1 the lowest rate.

    The file: width, height and the latents' sides (u16), the length of each string (u32), then the strings.

    Args:
        name: of the architecture.
        metric: `mse` or `ms-ssim`: what it was trained for.
        pretrained: False makes untrained networks, for tests.
    """

    def __init__(self, name: str, metric: str = "mse", pretrained: bool = True) -> None:
        self.zoo = plugin("compressai.zoo.image", "compressai")
        self.name, self.metric, self.pretrained = name, metric, pretrained
        self.nets: dict[int, Any] = {}
        every = range(1, MODELS[name] + 1)
        self.settings = [quality for quality in every if not pretrained or self._file(quality).is_file()]
        if not self.settings:
            raise MissingError(f"no weights of {name} ({metric}) in {self._file(1).parent}")
        self.version = f"{installed('compressai')} {metric}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """Padded at the right and below by repeating the last pixels."""
        import torch

        height, width = (-(-side // MULTIPLE) * MULTIPLE for side in (image.height, image.width))
        space = ((0, height - image.height), (0, width - image.width), (0, 0))
        x = torch.from_numpy(np.pad(np.asarray(image), space, mode="edge")).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            out = self._net(int(quality)).compress(x)
        strings = [parts[0] for parts in out["strings"]]
        head = struct.pack("<BB4H", int(quality), len(strings), *image.size, *out["shape"])
        return head + struct.pack(f"<{len(strings)}I", *map(len, strings)) + b"".join(strings)

    def decode(self, data: bytes) -> Image.Image:
        """Cut to the picture's size."""
        import torch

        quality, count, width, height, *shape = struct.unpack_from("<BB4H", data)
        lengths, at, strings = struct.unpack_from(f"<{count}I", data, 10), 10 + 4 * count, []
        for length in lengths:
            strings.append([data[at : at + length]])
            at += length
        with torch.no_grad():
            x_hat = self._net(quality).decompress(strings, shape)["x_hat"][0]
        pixels = (x_hat.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        return Image.fromarray(pixels[:height, :width])

    def _net(self, quality: int) -> Any:
        if quality not in self.nets:
            if not 1 <= quality <= MODELS[self.name]:
                raise NlaicError(f"{self.name} has qualities 1..{MODELS[self.name]}, but setting is {quality}")
            if self.pretrained and not self._file(quality).is_file():
                raise NlaicError(f"no weights of {self.name} {quality}: {self._file(quality)} is missing")
            make = self.zoo.model_architectures[self.name]
            if self.pretrained:  # the file is there, so nothing is downloaded
                net = self.zoo._load_model(self.name, self.metric, quality, True, False)
            else:
                net = make(*self.zoo.cfgs[self.name][quality])
            net.eval().update()
            self.nets[quality] = net
        return self.nets[quality]

    def _file(self, quality: int) -> Path:
        import torch

        urls = self.zoo.model_urls[self.name]
        if self.metric not in urls:
            raise NlaicError(f"{self.name} has metrics {', '.join(urls)}, but got {self.metric!r}")
        return Path(torch.hub.get_dir()) / "checkpoints" / urls[self.metric][quality].rpartition("/")[2]


ROWS = tuple(
    Codec(
        name,
        f"CompressAI {name}",
        partial(ZooCoder, name),
        tuple(range(1, count + 1)),
        (1, count, 1),
        "number of the weights",
    )
    for name, count in MODELS.items()
)
