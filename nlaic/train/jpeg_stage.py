"""Stage `jpeg` of `nlaic-train`: its beginning, its lines on the way, its weights file."""

import json
from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image

from nlaic.arguments import settings_from
from nlaic.classic.jpeg.encoder import Options, encode
from nlaic.classic.jpeg.model import ARCHITECTURE, Model, load
from nlaic.errors import NlaicError
from nlaic.nets.jpeg import Jpeg, JpegSettings, VggAttention
from nlaic.train.data import Pictures
from nlaic.train.jpeg import JpegLoss, JpegObjective
from nlaic.train.jpeg_polish import polished
from nlaic.train.perceptual import Pretrained, find, read
from nlaic.train.report import Report, whole
from nlaic.train.setup import Plan
from nlaic.train.stages import Stage
from nlaic.whole import write_whole

LOOKED_AT = (10, 25, 40, 60, 80)  # qualities of the report
VGG19 = Pretrained("vgg19_features.safetensors", Path(torch.hub.get_dir()) / "checkpoints" / "vgg19-dcbb9e9d.pth")


def jpeg_stage(config: dict[str, Any], plan: Plan) -> JpegObjective:
    """Tables and attention, new or as `start` has them.

    Raises:
        NlaicError: if a setting is not known, or `start` or VGG-19's file is not what it must be.
    """
    settings = settings_from(JpegSettings, config["model"]["settings"], "model.settings")
    torch.manual_seed(plan.sampling.seed)
    net = Jpeg(settings)
    if isinstance(net.attention, VggAttention):
        found = read(find(VGG19, config["loss"]["networks"]))
        own = net.attention.features.state_dict()
        net.attention.features.load_state_dict({name: found[f"features.{name}"] for name in own})
    before = load(config["start"]) if config["start"] else None
    if before and before.knows(settings.subsampling):
        _start_from(net, before)
    return JpegObjective(net, plan.distortion, settings_from(JpegLoss, config["stage"]["settings"], "stage.settings"))


@torch.no_grad()
def _start_from(net: Jpeg, before: Model) -> None:
    rows = torch.from_numpy(before.tensors[f"{net.settings.subsampling}.tables"]).float()
    if len(rows) != net.anchors:
        raise NlaicError(f"start: the weights have {len(rows)} anchors, the model {net.anchors}")
    net.tables.set_log_steps(rows)
    prefix = f"{net.settings.subsampling}.attention."
    own = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in before.tensors.items() if k.startswith(prefix)}
    if net.attention is not None:
        try:
            net.attention.load_state_dict(own)
        except RuntimeError as error:
            raise NlaicError("start: the weights have another attention network than this model") from error


def exported(module: Stage, config: dict[str, Any], plan: Plan) -> Model:
    """The running mean as a weights file, beside what `start` has for the other subsampling."""
    net = cast(Jpeg, module.mean["net"])
    key = net.settings.subsampling
    before = load(config["start"]) if config["start"] else Model({}, {})
    tensors = {k: v for k, v in before.tensors.items() if not k.startswith(f"{key}.")}
    metadata = {k: v for k, v in before.metadata.items() if not k.startswith(f"{key}.")}
    with torch.no_grad():
        tensors[f"{key}.tables"] = net.tables.log_steps().cpu().numpy().astype(np.float16)
    if net.attention is not None:
        for name, value in net.attention.state_dict().items():
            tensors[f"{key}.attention.{name}"] = value.cpu().numpy().astype(np.float16)
    patches = module.steps * module.sampling.batch
    metadata |= {
        "architecture": ARCHITECTURE,
        f"{key}.lambdas": json.dumps(net.settings.lambdas),
        f"{key}.settings": json.dumps(net.settings.to_dict()),
        f"{key}.loss": json.dumps({"terms": config["loss"]["terms"], "scale": config["loss"]["scale"]}),
        f"{key}.rate": json.dumps(config["stage"]["settings"]),
        f"{key}.networks": json.dumps(plan.distortion.files),
        f"{key}.optimisation": json.dumps(asdict(module.optimisation)),
        f"{key}.training": f"{module.steps} steps, {patches} patches of {module.sampling.patch}, "
        f"{module.seconds / 60:.0f} minutes",
    }
    return Model(tensors, metadata)


def finished(module: Stage, config: dict[str, Any], plan: Plan) -> Model:
    """As `exported`, polished where that is asked for."""
    model, count = exported(module, config, plan), config["stage"]["settings"]["polish"]
    pictures = module.pictures[0][0]
    some = [pictures[n] for n in range(0, len(pictures), max(1, len(pictures) // max(count, 1)))][:count]
    return polished(model, config["model"]["settings"]["subsampling"], some) if some else model


def write(model: Model, out: Path) -> Path:
    """Write the file and say so.

    Raises:
        NlaicError: if it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, model.to_bytes())
    except OSError as error:
        raise NlaicError(f"out: cannot write {out}: {error.strerror}") from error
    print(f"weights: {out}, {out.stat().st_size} bytes")
    return out


class JpegReport(Report):
    """Real files of held-out pictures, `bpp:PSNR` at a few qualities, with the rounding of the training."""

    def __init__(
        self,
        held_out: Pictures,
        minutes: float | None,
        snapshot: Callable[[], Model],
        subsampling: str,
        pictures: int = 6,
    ) -> None:
        super().__init__(minutes)
        self.snapshot, self.subsampling = snapshot, subsampling
        self.pictures = [whole(held_out[n]) for n in range(min(pictures, len(held_out)))]

    def look(self, trainer: pl.Trainer, module: Any) -> str:
        """Means over the pictures."""
        model, points = self.snapshot(), []
        for quality in LOOKED_AT if self.pictures else ():
            bpp, psnr = np.mean(
                [_point(picture, model, quality, self.subsampling) for picture in self.pictures], axis=0
            )
            points.append(f"{bpp:.3f}:{psnr:.2f}")
        return " ".join(points)


def _point(picture: np.ndarray, model: Model, quality: float, subsampling: str) -> tuple[float, float]:
    rounding = "attention" if any(name.startswith(f"{subsampling}.attention.") for name in model.tensors) else "nearest"
    image = Image.fromarray(picture)
    data = encode(image, model, quality, Options(subsampling, rounding=rounding))
    decoded = np.asarray(Image.open(BytesIO(data)).convert("RGB"), float)
    mse = np.square(decoded - picture).mean()
    return 8 * len(data) / (image.width * image.height), float(-10 * np.log10(mse / 255**2))
