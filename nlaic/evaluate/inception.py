"""The FID network: Inception-v3 of 2015-12-05 as the package `pytorch-fid` builds it, from a file that is at hand.

Its features at 2048 dimensions are the standard. Where only the first part of the network is at hand, those at 768 (the
package's own `dims=768`) stand in, and every name says so.
"""

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import MissingError, plugin
from nlaic.evaluate.metrics import ENVIRONMENT

if TYPE_CHECKING:
    import torch
    from torch import nn

WHOLE = "pt_inception-2015-12-05-6726825d.pth"  # the file that pytorch-fid downloads
PART = "inception_fid_to_mixed7a_fp16.safetensors"  # convolutions with their batch norm folded in, to Mixed_7a
SIDE = 299
BLOCKS = {
    768: ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    2048: ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}


def build() -> "nn.Module":
    """Inception-v3 with pytorch-fid's changes, its weights random."""
    theirs = plugin("pytorch_fid.inception", "pytorch-fid")
    torchvision = plugin("torchvision", "torchvision")
    net = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    for name, inputs, pool in (("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)):
        setattr(net, name, theirs.FIDInceptionA(inputs, pool_features=pool))
    for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        setattr(net, name, theirs.FIDInceptionC(768, channels_7x7=width))
    net.Mixed_7b, net.Mixed_7c = theirs.FIDInceptionE_1(1280), theirs.FIDInceptionE_2(2048)
    return net.eval().requires_grad_(False)


@dataclass(frozen=True)
class Inception:
    """The network up to its features of `dims`.

    Attributes:
        net: of `build`.
        dims: 768 or 2048.
        name: tells one file from another.
    """

    net: Any
    dims: int
    name: str

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] to float32 [N, dims]."""
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            x = torch.tensor(pictures).permute(0, 3, 1, 2).float() / 255
            x = 2 * F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False) - 1
            return np.asarray(self._run(x).mean((2, 3)).numpy())

    def _run(self, x: "torch.Tensor") -> "torch.Tensor":
        from torch.nn import functional as F

        net = self.net
        x = F.max_pool2d(net.Conv2d_2b_3x3(net.Conv2d_2a_3x3(net.Conv2d_1a_3x3(x))), 3, 2)
        x = F.max_pool2d(net.Conv2d_4a_3x3(net.Conv2d_3b_1x1(x)), 3, 2)
        for dims, blocks in BLOCKS.items():
            if dims <= self.dims:
                for block in blocks:
                    x = getattr(net, block)(x)
        return x


def unfold(state: Mapping[str, "torch.Tensor"], net: "nn.Module") -> None:
    """Fill the convolutions of a `state` whose batch norm is folded in: what is left of it adds the bias alone.

    Raises:
        NlaicError: if a convolution up to the features of 768 is missing.
    """
    import torch

    for name, module in net.named_modules():
        if not hasattr(module, "bn"):
            continue
        if f"{name}.weight" not in state:
            if name.startswith(("Conv2d", *BLOCKS[768])):
                raise NlaicError(f"{PART} lacks {name}.weight")
            continue
        with torch.no_grad():
            module.conv.weight.copy_(state[f"{name}.weight"])
            module.bn.bias.copy_(state[f"{name}.bias"])
            module.bn.weight.fill_(1.0)
            module.bn.running_mean.zero_()
            module.bn.running_var.fill_(1.0 - module.bn.eps)


def find(dims: int, networks: str | None) -> Path:
    """The first file that exists: in the folder of networks, in $NLAIC_NETWORKS, where pytorch-fid keeps it.

    Raises:
        MissingError: if there is none.
    """
    import torch

    file = WHOLE if dims == 2048 else PART
    places = [Path(folder).expanduser() / file for folder in (networks, os.environ.get(ENVIRONMENT)) if folder]
    for path in (*places, Path(torch.hub.get_dir()) / "checkpoints" / WHOLE):
        if path.is_file():
            return path
    raise MissingError(f"no {file} in networks=DIR or ${ENVIRONMENT}, nor {WHOLE} where pytorch-fid keeps it")


@lru_cache(maxsize=2)
def load(dims: int, networks: str | None) -> Inception:
    """The network from the folder of networks, $NLAIC_NETWORKS or torch's cache.

    Raises:
        NlaicError: if its file is not there, or something else.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = find(dims, networks)
    net = build()
    try:
        if path.name == PART:
            unfold({name: value.float() for name, value in load_file(path).items()}, net)
        else:
            net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise NlaicError(f"{path} is not the Inception of pytorch-fid, or is damaged") from error
    return Inception(net, dims, f"{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}-{dims}")
