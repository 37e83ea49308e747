"""One stage of training from a composed configuration: data, network, trainer, export."""

import json
import logging
import math
import pickle
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import platformdirs
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.nn import functional as F

from nlaic.errors import NlaicError
from nlaic.export import export, save_weights
from nlaic.nets.build import Settings, build, make_settings, start
from nlaic.nets.vae import HyperpriorVAE
from nlaic.train.callbacks import Checkpoint, Report, StopAtBudget, curve
from nlaic.train.data import Crops, Pictures, load_pictures
from nlaic.train.losses import Distortion
from nlaic.train.stages import Budget, Optimisation, RateDistortion, Sampling

T = TypeVar("T")


def settings_from(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make a settings dataclass from a part of the configuration.

    Raises:
        NlaicError: if a name is not one of its fields.
    """
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise NlaicError(f"{kind.__name__.lower()}: unknown setting {unknown[0]!r}, allowed: {', '.join(known)}")
    return kind(**values)


def run(config: DictConfig) -> Path:
    """Train stage one as configured, or go on where `dir` stopped, and export; return the weights' path."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    budget = Budget(config.minutes, config.steps)
    if budget.minutes is None and budget.steps is None:
        raise NlaicError("give minutes=N or steps=N: how long to train")
    cache = Path(platformdirs.user_cache_dir("nlaic", appauthor=False))
    folder = Path(config.dir) if config.dir else cache / "runs" / f"{config.model.name}-{config.stage.name}"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    plan = _plan(plain)  # what is wrong with the settings is said before any work is done
    pictures = load_pictures(Path(config.data.root), cache / "pictures")
    for name in pictures.unreadable:
        print(f"skipped, not readable: {name}")
    kept, held_out = pictures.split(config.data.holdout)
    module = _module(plan, kept, budget)
    last = folder / "last.ckpt"
    if config.start and not last.exists():
        _start_from(module, Path(config.start))
    if last.exists():
        print(f"going on from {last}")
    trainer = _trainer(plain, folder, held_out)
    try:
        trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=False)
    except RuntimeError as error:
        if "state_dict" in str(error):
            raise NlaicError(f"{last} is a checkpoint of another model; choose another dir=") from error
        raise
    return _export(module, held_out, plain, plan, Path(config.out) if config.out else folder / "weights.safetensors")


@dataclass(frozen=True)
class Plan:
    """The parts of a configuration as settings."""

    settings: Settings
    sampling: Sampling
    optimisation: Optimisation
    distortion: Distortion


def _plan(config: dict[str, Any]) -> Plan:
    return Plan(
        make_settings(config["model"]["name"], config["model"]["settings"]),
        settings_from(Sampling, config["sampling"]),
        settings_from(Optimisation, config["optimisation"]),
        Distortion(**config["loss"]),
    )


def _module(plan: Plan, kept: Pictures, budget: Budget) -> RateDistortion:
    torch.manual_seed(plan.sampling.seed)
    net = build(plan.settings).to(memory_format=torch.channels_last)
    start(net, plan.settings, _starting_pictures(kept, plan.sampling))
    lambdas = plan.settings.lambdas
    return RateDistortion(net, plan.distortion, kept, lambdas, plan.sampling, plan.optimisation, budget)


def _start_from(module: RateDistortion, path: Path) -> None:
    """Begin with the running mean of another run's weights; its optimisers' state is left behind.

    Raises:
        NlaicError: if the checkpoint cannot be read, or is one of another model.
    """
    path = path / "last.ckpt" if path.is_dir() else path
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        own = {name.removeprefix("mean_net."): p for name, p in state.items() if name.startswith("mean_net.")}
        module.net.load_state_dict(own)
        module.mean_net.load_state_dict(own)
    except OSError as error:
        raise NlaicError(f"start: cannot read {path}: {error.strerror}") from error
    except (KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise NlaicError(f"start: {path} is not a checkpoint of this model") from error


def _trainer(config: dict[str, Any], folder: Path, held_out: Pictures) -> pl.Trainer:
    wanted = dict(config["trainer"])
    if wanted["precision"] == "auto":
        wanted["precision"] = "bf16-mixed" if bf16_is_faster() else "32-true"
    return pl.Trainer(
        **wanted,
        max_epochs=-1,  # an endless stream; `StopAtBudget` ends it
        logger=CSVLogger(str(folder), name="logs"),
        callbacks=[
            Report(held_out, config["report_minutes"]),
            Checkpoint(folder, config["checkpoint_minutes"]),
            StopAtBudget(),
        ],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def bf16_is_faster(margin: float = 1.2, rounds: int = 5) -> bool:
    """Whether a convolution of this codec's kind runs faster in bf16 here, forwards and backwards, by a probe."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    x, weight = torch.randn(8, 64, 24, 24), torch.randn(64, 64, 3, 3, requires_grad=True)

    def best(kind: torch.dtype) -> float:
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            F.conv2d(x.to(kind), weight.to(kind), padding=1).float().square().mean().backward()
            times.append(time.perf_counter() - begin)
        return min(times)

    return best(torch.float32) > margin * best(torch.bfloat16)


def _starting_pictures(pictures: Pictures, sampling: Sampling) -> list[Tensor]:
    crops = Crops(pictures, sampling.patch, 0.0, sampling.seed + 1)
    return [torch.stack([crops.sample(8 * k + i)["x"] for i in range(8)]).float() / 255 for k in range(6)]


def quality_50(net: HyperpriorVAE, pictures: Pictures, bpp: float = 0.28, count: int = 12) -> float:
    """Where between the anchors the pictures' mean estimated rate is `bpp`: the place of quality 50.

    With the default effort of the encoder files are about a tenth smaller than that.
    """
    rates = [rate for rate, _ in curve(net, pictures, count, net.rates.anchors)]
    last = net.rates.anchors - 1
    position = np.interp(math.log(bpp), np.log(rates), np.arange(last + 1))
    return float(np.clip(position, 0.3 * last, 0.7 * last))  # rates still rise everywhere with the quality


def _export(module: RateDistortion, held_out: Pictures, config: dict[str, Any], plan: Plan, out: Path) -> Path:
    """Write the running mean of the weights, with what there is to know about their training."""
    net = module.mean_net.cpu().float()
    settings, pictures = plan.settings, len(module.pictures)
    metadata = {
        "stage": config["stage"]["name"],
        "loss": json.dumps(config["loss"]),
        "optimisation": json.dumps(asdict(module.optimisation)),
        "training": f"{module.steps} steps, {module.steps * module.sampling.batch} patches of {module.sampling.patch} "
        f"from {pictures} pictures, {module.seconds / 60:.0f} minutes",
    }
    measured = _starting_pictures(module.pictures, module.sampling)[:2]
    middle = quality_50(net, held_out if len(held_out) else module.pictures) if net.rates.anchors > 1 else None
    name, lambdas = config["model"]["name"], settings.lambdas
    weights = export(net, name, settings.to_dict(), lambdas, measured, metadata, middle)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        path = save_weights(weights, out)
    except OSError as error:
        raise NlaicError(f"out: cannot write {out}: {error.strerror}") from error
    print(f"weights: {path}, {path.stat().st_size} bytes, model id {weights.model_id.hex()}")
    return path
