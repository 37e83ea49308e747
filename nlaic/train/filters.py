"""The stage `restore`: a filter behind a codec, from its configuration to its weights."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from nlaic.arguments import check_arguments
from nlaic.classic.base import base_named
from nlaic.classic.export import export_filter, filter_network
from nlaic.classic.nets.build import as_filter, build_filter, complete
from nlaic.classic.nets.light import RestoreLight, start_restore
from nlaic.classic.nets.mvgl import Mvgl
from nlaic.errors import NlaicError
from nlaic.nets.layers import RGB_TO_YCBCR
from nlaic.train.coded import Coding, load_coded
from nlaic.train.data import Batch, Pictures
from nlaic.train.losses import Distortion
from nlaic.train.objectives import Losses
from nlaic.train.report import Report
from nlaic.weights import Weights

STARTING = 96  # pictures that are looked at before training
HELD_OUT = 40  # pictures of the report
CROP = 256  # of them, at most, on either side
SIDE = 16  # filters work on multiples of this many pixels


class Restoration(nn.Module):
    """The distortion of filtered pictures.

    Args:
        network: the filter.
        distortion: see `losses.Distortion`.
        relative: divide each crop's distortion by what it was before the filter, so that every quality counts alike.
        luma: compare luma alone.
    """

    anchors = 2  # levels are 0..1

    def __init__(self, network: nn.Module, distortion: Distortion, *, relative: bool, luma: bool) -> None:
        super().__init__()
        self.network, self.distortion, self.relative = network, distortion, relative
        weights = torch.tensor(RGB_TO_YCBCR[0] if luma else np.eye(3), dtype=torch.float32).reshape(-1, 3)
        self.seen = nn.Buffer(weights, persistent=False)

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """The filter."""
        return {"filter": self.network}

    def losses(self, turn: str, batch: Batch) -> Losses:
        """See `Objective`; pictures lie together with their originals."""
        coded, original = batch.x.chunk(2, dim=1)
        filtered = as_filter(self.network)(coded, batch.position).float()
        with torch.autocast(coded.device.type, enabled=False):  # bf16 has no room for what a filter changes in a pixel
            before, after, target = (torch.einsum("bchw,sc->bshw", x, self.seen) for x in (coded, filtered, original))
            if self.relative:
                distortion, distances = self.distortion.relative(after, target, before)
            else:
                distortion, distances = self.distortion(after, target)
        gain = 10 * torch.log10(_mse(before, target) / _mse(after.detach(), target))
        return {"loss": distortion.mean(), "gain_db": gain.mean(), **distances}


def _mse(a: Tensor, b: Tensor) -> Tensor:
    """[B]."""
    return (a - b).square().flatten(1).mean(1) + 1e-7


def restoration(
    config: dict[str, Any], distortion: Distortion, weights: Weights | None, pictures: Pictures
) -> Restoration:
    """The objective of a configuration: a new filter with its starting values measured, or the weights' to go on with.

    Where these were trained behind another codec, the usual errors are measured anew.

    Raises:
        NlaicError: if the weights are of another filter.
    """
    stage, name = config["stage"], config["model"]["name"]
    more = {name: stage[name] for name in ("relative", "luma")}
    check_arguments(Restoration, more, "stage")
    if weights is not None:
        settings = [complete(name, values) for values in (weights.settings, config["model"]["settings"])]
        if weights.architecture != name or settings[0] != settings[1]:
            raise NlaicError(f"start: {weights.path} holds another filter than model={name}")
        network = filter_network(weights).requires_grad_(True)
    else:
        network = build_filter(name, config["model"]["settings"])
    if isinstance(network, Mvgl) and weights is None:
        network.mean.copy_(torch.stack([original.mean((0, 2, 3)) for _, original, _ in _pairs(pictures)]).mean(0))
    if isinstance(network, RestoreLight) and (weights is None or weights.metadata["source"] != stage["source"]):
        start_restore(network, _pairs(pictures))
    return Restoration(network, distortion, **more)


def _pairs(pictures: Pictures, most: int = STARTING) -> list[tuple[Tensor, Tensor, float]]:
    """`_pair` of about so many pictures, evenly over those that are large enough."""
    large = [number for number, shape in enumerate(pictures.shapes) if min(shape[1:]) >= SIDE]
    return [_pair(pictures, number) for number in large[:: max(len(large) // most, 1)]]


def _pair(pictures: Pictures, number: int) -> tuple[Tensor, Tensor, float]:
    """Decoded and original [1, 3, H, W], a part of the picture that is a multiple of 16, and the level."""
    both = pictures[number][:CROP, :CROP]
    height, width = (side // SIDE * SIDE for side in both.shape[:2])
    x = torch.from_numpy(np.ascontiguousarray(both[:height, :width])).permute(2, 0, 1)[None].float() / 255
    return x[:, :3], x[:, 3:], pictures.levels[pictures.shapes[number][0]]


def coded_pictures(
    config: dict[str, Any], kept: Pictures, held_out: Pictures, cache: Path
) -> tuple[Pictures, Pictures]:
    """Those to train on and those held out, coded as the stage says.

    Raises:
        NlaicError: if a setting is not possible, or a picture cannot be coded.
    """
    stage, data = config["stage"], config["data"]
    if data["reduce"] or data["mix"]:
        raise NlaicError(
            "stage restore takes pictures as they were coded, from data.root alone: no data.reduce, data.mix"
        )
    own = {name: stage[name] for name in ("source", "qualities", "passes", "pictures")}
    check_arguments(Coding, own, "stage")
    coding = Coding(**own | {"qualities": tuple(stage["qualities"])})
    some = Coding(stage["source"], coding.qualities, 1, HELD_OUT)
    workers = config["threads"]
    return load_coded(kept, coding, cache, workers), load_coded(held_out, some, cache, workers)


def filter_weights(network: nn.Module, config: dict[str, Any], metadata: dict[str, str]) -> Weights:
    """What the stage leaves."""
    stage, model = config["stage"], config["model"]
    own = {
        "architecture": model["name"],
        "settings": json.dumps(model["settings"]),
        "source": stage["source"],
        "qualities": json.dumps(list(stage["qualities"])),
        "coder": base_named(stage["source"]).open().version,
    }
    return export_filter(network, metadata | own)


class FilterReport(Report):
    """PSNR of held-out pictures before the filter and after it."""

    def __init__(self, held_out: Pictures, minutes: float | None) -> None:
        super().__init__(minutes)
        self.pairs = _pairs(held_out, HELD_OUT)

    def look(self, trainer: pl.Trainer, module: Any) -> str:
        """Means over the pictures."""
        return held_out_line(copy.deepcopy(module.mean["filter"]).float().cpu(), self.pairs)


@torch.no_grad()
def held_out_line(network: nn.Module, pairs: list[tuple[Tensor, Tensor, float]]) -> str:
    """Means of PSNR in RGB before and after, and how many pictures got worse."""
    if not pairs:
        return ""
    values = []
    for coded, original, level in pairs:
        filtered = as_filter(network.eval())(coded, torch.tensor([level])).clamp(0, 1)
        values.append([float(-10 * torch.log10(_mse(x, original).mean())) for x in (coded, filtered)])
    before, after = np.mean(values, axis=0)
    worse = sum(b < a for a, b in values)
    return f"held out {before:.2f} to {after:.2f} dB ({after - before:+.3f}), worse {worse} of {len(values)}"
