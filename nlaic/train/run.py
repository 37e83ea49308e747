"""One stage of training from a composed configuration: data, network, trainer, export."""

import copy
import json
import logging
import math
import pickle
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from nlaic.errors import NlaicError
from nlaic.export import export, save_weights, with_network, without_network
from nlaic.nets.build import make_settings
from nlaic.nets.precision import bf16_is_faster
from nlaic.nets.vae import HyperpriorVAE
from nlaic.train.callbacks import Checkpoint, Progress, StopAtBudget
from nlaic.train.data import Pictures, load_pictures
from nlaic.train.objectives import Objective
from nlaic.train.report import Report, estimated_bpp
from nlaic.train.setup import (
    LATER,
    Plan,
    compile_networks,
    first_stage,
    make_plan,
    start_from,
    starting_pictures,
)
from nlaic.train.stages import Budget, Stage
from nlaic.weights import Weights, find_weights, user_folder

NOISE = (  # warnings that say nothing about a run
    ".*isinstance.treespec",  # Lightning's own use of torch
    "Found .* module.s. in eval mode",  # frozen parts are meant to be
    "The 'train_dataloader' does not have many workers",  # crops come from memory
)


def run(config: dict[str, Any]) -> Path | None:
    """Train one stage as configured, or go on where `dir` stopped, and export at its end.

    Args:
        config: what `conf/train.yaml` composes to, as plain values.

    Returns:
        the weights' path; None where `leg_minutes` were over first.

    Raises:
        NlaicError: if a setting, a picture folder, a checkpoint or a pretrained network is not what it must be.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    if config["minutes"] is None and config["steps"] is None:
        raise NlaicError("give minutes=N or steps=N: how long to train")
    folder = Path(
        config["dir"] or user_folder("cache") / "runs" / f"{config['model']['name']}-{config['stage']['name']}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config["threads"])
    plan = make_plan(config)  # what is wrong with the settings is said before any work is done
    for file, digest in plan.distortion.files.items():
        print(f"loss over {file}, SHA-256 {digest}")
    source = find_weights(config["start"]) if plan.stage != "rd" else None
    kept, held_out = _pictures(config)
    module = _stage(config, plan, kept, source)
    last = folder / "last.ckpt"
    if config["start"] and source is None and not last.exists():
        start_from(module, Path(config["start"]))
    if config["compile"]:
        compile_networks(module.objective, config["compile"])

    def snapshot() -> Weights:
        return _exported(module, config, plan, source)

    report = Report(held_out, config["report_minutes"], snapshot, folder / "grids")
    callbacks = [
        report,
        Checkpoint(folder, config["checkpoint_minutes"]),
        Progress(),
        StopAtBudget(config["leg_minutes"]),
    ]
    trainer = _trainer(config, folder, callbacks)
    _fit(trainer, module, last)
    out = Path(config["out"]) if config["out"] else folder / "weights.safetensors"
    if module.progress < 1:
        print(f"stopped after {config['leg_minutes']:.1f} minutes; the same command goes on from {last}")
        return None
    if not trainer.is_global_zero:
        return out
    return _write(_exported(module, config, plan, source, held_out if len(held_out) else kept[0][0]), out)


def _pictures(config: dict[str, Any]) -> tuple[list[tuple[Pictures, float]], Pictures]:
    """Those to train on with the weight of each folder, and those held out."""
    data, folders = config["data"], []
    cache = Path(data["cache"] or user_folder("cache") / "pictures")
    for root, weight in {data["root"]: 1.0, **data["mix"]}.items():
        folders.append((load_pictures(Path(root), cache), float(weight)))
        for name in folders[-1][0].unreadable:
            print(f"skipped, not readable: {name}")
    kept, held_out = folders[0][0].split(data["holdout"])
    folders[0] = (kept, 1.0)
    if (count := sum(len(one) for one, _ in folders)) < (batch := config["sampling"]["batch"]):
        raise NlaicError(f"sampling.batch is {batch}, but there are only {count} pictures to train on")
    return folders, held_out


def _stage(config: dict[str, Any], plan: Plan, kept: list[tuple[Pictures, float]], source: Weights | None) -> Stage:
    if source is None:
        objective: Objective = first_stage(config, plan, kept[0][0])
    else:
        objective = LATER[plan.stage].objective(source, config["stage"]["settings"], plan)
    budget = Budget(config["minutes"], config["steps"])
    return Stage(objective, kept, plan.sampling, plan.optimisation, budget, plan.augmentation)


def _fit(trainer: pl.Trainer, module: Stage, last: Path) -> None:
    """Train to the end of the budget, from the checkpoint where there is one."""
    if last.exists():
        try:
            print(f"going on from {last}, step {torch.load(last, mmap=True, weights_only=True)['nlaic']['steps']}")
        except (OSError, EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
            raise NlaicError(f"{last} is damaged or no checkpoint; remove it or choose another dir=") from error
    try:
        trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=False)
    except RuntimeError as error:
        if "state_dict" in str(error):
            raise NlaicError(f"{last} is a checkpoint of another model; choose another dir=") from error
        raise


def _trainer(config: dict[str, Any], folder: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    wanted = dict(config["trainer"])
    if wanted["precision"] == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        wanted["precision"] = "bf16-mixed" if bf16_is_faster(device, backward=True) else "32-true"
    loggers = [_logger(name, folder / "logs") for name in config["logger"]["names"]]
    try:
        return pl.Trainer(
            **wanted,
            max_epochs=-1,  # an endless stream; `StopAtBudget` ends it
            logger=loggers,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise NlaicError(f"trainer: {error}".splitlines()[0]) from error


def _logger(name: str, folder: Path) -> Logger:
    """A logger by its name; what it needs is imported only now."""
    if name == "csv":
        return CSVLogger(str(folder), name="csv")
    if name == "tensorboard":
        return TensorBoardLogger(str(folder), name="tensorboard")
    if name == "wandb":
        return WandbLogger(project="nlaic", save_dir=str(folder))
    raise NlaicError(f"logger.names: csv, tensorboard or wandb, but got {name!r}")


def quality_50(net: HyperpriorVAE, pictures: Pictures, bpp: float = 0.28, count: int = 12) -> float:
    """Where between the anchors the pictures' mean estimated rate is `bpp`: the place of quality 50.

    With the default effort of the encoder files are about a tenth smaller than that.
    """
    last = net.rates.anchors - 1
    places, some = range(last + 1), [pictures[n] for n in range(min(count, len(pictures)))]
    rates = [np.mean([estimated_bpp(net, picture, 100 * place / last) for picture in some]) for place in places]
    position = np.interp(math.log(bpp), np.log(rates), places)
    return float(np.clip(position, 0.3 * last, 0.7 * last))  # rates still rise everywhere with the quality


def _metadata(module: Stage, config: dict[str, Any], networks: dict[str, str]) -> dict[str, str]:
    """What there is to know about a stage, by its name."""
    name, patches = config["stage"]["name"], module.steps * module.sampling.batch
    pictures = sum(len(one) for one, _ in module.pictures)
    return {
        "stage": name,
        f"loss.{name}": json.dumps({"terms": config["loss"]["terms"], "scale": config["loss"]["scale"]}),
        f"networks.{name}": json.dumps(networks),
        f"optimisation.{name}": json.dumps(asdict(module.optimisation)),
        f"training.{name}": f"{module.steps} steps, {patches} patches of {module.sampling.patch} from {pictures} "
        f"pictures, {module.seconds / 60:.0f} minutes",
    }


def _exported(
    module: Stage, config: dict[str, Any], plan: Plan, source: Weights | None, pictures: Pictures | None = None
) -> Weights:
    """The running mean of what was trained, as weights: a new codec, or `source` with one network more.

    A codec's quality 50 is where `pictures` take the rate meant for it, or half-way.
    """
    copied = {name: copy.deepcopy(network).cpu().float() for name, network in module.mean.items()}
    metadata = _metadata(module, config, plan.distortion.files)
    if source is not None:
        stage = LATER[config["stage"]["name"]]
        metadata[stage.prefix] = json.dumps(config["stage"]["settings"])
        if stage.prefix == "g_s_perceptual":
            source = without_network(source, "discriminator")
        return with_network(source, stage.prefix, copied[stage.trained], metadata)
    net = cast(HyperpriorVAE, copied["net"])
    name = config["model"]["name"]
    settings = make_settings(name, config["model"]["settings"])
    measured = starting_pictures(module.pictures[0][0], module.sampling)[:2]
    middle = quality_50(net, pictures) if pictures and net.rates.anchors > 1 else None
    return export(net, name, settings.to_dict(), settings.lambdas, measured, metadata, middle)


def _write(weights: Weights, out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        path = save_weights(weights, out)
    except OSError as error:
        raise NlaicError(f"out: cannot write {out}: {error.strerror}") from error
    print(f"weights: {path}, {path.stat().st_size} bytes, model id {weights.model_id.hex()}")
    return path
