"""One stage of training from a composed configuration: data, network, trainer, export."""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from nlaic.errors import NlaicError
from nlaic.nets.precision import bf16_is_faster
from nlaic.train import jpeg_stage
from nlaic.train.callbacks import Checkpoint, Divergence, Progress, StopAtBudget
from nlaic.train.data import GRIDS, LOGS, Pictures, load_pictures
from nlaic.train.filters import FilterReport, coded_pictures, restoration
from nlaic.train.objectives import Objective
from nlaic.train.outcome import exported, write
from nlaic.train.report import CodecReport, Report
from nlaic.train.setup import Plan, compile_networks, first_stage, later_stage, make_plan, read_checkpoint, start_from
from nlaic.train.stages import Budget, Stage
from nlaic.weights import user_folder

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
        KeyboardInterrupt: after Ctrl-C and a last checkpoint.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    plan = make_plan(config)  # what is wrong with the settings is said before any work is done
    folder = Path(config["dir"] or _default_folder(config, plan))
    loggers = _loggers(config["logger"]["names"], folder / LOGS)
    _make("dir", folder)
    if not (folder / "last.ckpt").exists() and (links := sorted(folder.glob("*/last.ckpt"))):
        raise NlaicError(f"dir: {folder} holds other runs, {links[0]} is one; give run= to go on with a chain")
    torch.set_num_threads(config["threads"])
    for file, digest in plan.distortion.files.items():
        print(f"loss over {file}, SHA-256 {digest}")
    kept, held_out = _pictures(config)
    last = folder / "last.ckpt"
    module = _stage(config, plan, kept, begin=not last.exists())
    report = _report(config, plan, module, held_out, folder)
    stop, divergence = StopAtBudget(config["leg_minutes"]), Divergence()
    checkpoint = Checkpoint(folder, config["checkpoint_minutes"], divergence)
    trainer = _trainer(config, loggers, [report, divergence, checkpoint, Progress(), stop])
    with stop.on_interrupt():
        _fit(trainer, module, last)
    if module.progress < 1:
        print(f"stopped at step {module.steps}; the same command goes on from {last}")
        if stop.interrupted:
            raise KeyboardInterrupt
        return None
    out = Path(config["out"]) if config["out"] else folder / "weights.safetensors"
    if trainer.is_global_zero and plan.stage == "jpeg":
        out = jpeg_stage.write(jpeg_stage.finished(module, config, plan), out)
    elif trainer.is_global_zero:
        weights = exported(module, config, plan, held_out if len(held_out) else kept[0][0])
        if isinstance(report, FilterReport):
            print(f"{module.steps} steps  {report.look(trainer, module)}")
        out = write(weights, out)
    trainer.strategy.barrier()  # the next link of a chain starts from what the first process has written
    return out


def _default_folder(config: dict[str, Any], plan: Plan) -> Path:
    """Of the user's cache, another one for every run."""
    root = str(Path(config["data"]["root"]).resolve())
    own = json.dumps([plan.identity, config["start"], root, config["data"]["mix"]], sort_keys=True)
    name = f"{config['model']['name']}-{plan.stage}-{hashlib.sha256(own.encode()).hexdigest()[:8]}"
    return user_folder("cache") / "runs" / name


def _make(setting: str, folder: Path) -> None:
    """Make a folder that a setting names."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NlaicError(f"{setting}: cannot make {folder}: {error.strerror}") from error


def _pictures(config: dict[str, Any]) -> tuple[list[tuple[Pictures, float]], Pictures]:
    """Those to train on with the weight of each folder, and those held out."""
    data, folders = config["data"], []
    cache = Path(data["cache"] or user_folder("cache") / "pictures")
    _make("data.cache", cache)
    for root, weight in {data["root"]: 1.0, **(data["mix"] or {})}.items():
        folders.append((load_pictures(Path(str(root)), cache), float(weight)))
        for name in folders[-1][0].unreadable:
            print(f"skipped, not readable: {name}")
    kept, held_out = folders[0][0].split(data["holdout"])
    if not len(kept):
        raise NlaicError(
            f"data.holdout={data['holdout']} leaves none of {len(held_out)} pictures to train on; "
            "data.holdout=0 holds out none"
        )
    if config["stage"]["name"] == "restore":
        kept, held_out = coded_pictures(config, kept, held_out, cache)
    folders[0] = (kept, 1.0)
    patch, every = config["sampling"]["patch"], sum(len(one) for one, _ in folders)
    folders = [(one.at_least(patch), weight) for one, weight in folders]
    if small := every - sum(len(one) for one, _ in folders):
        print(f"left out, smaller than sampling.patch={patch}: {small} of {every} pictures")
    if (count := sum(len(one) for one, _ in folders)) < (batch := config["sampling"]["batch"]):
        raise NlaicError(
            f"sampling.batch is {batch}, but there are only {count} pictures to train on: sampling.batch={count}"
        )
    return folders, held_out


def _stage(config: dict[str, Any], plan: Plan, kept: list[tuple[Pictures, float]], begin: bool) -> Stage:
    """The stage, at its beginning where there is no checkpoint to come."""
    if plan.stage == "jpeg":
        objective: Objective = jpeg_stage.jpeg_stage(config, plan)
    elif plan.stage == "rd":
        objective = first_stage(config, plan, kept[0][0])
    elif plan.stage == "restore":
        torch.manual_seed(plan.sampling.seed)
        objective = restoration(config, plan.distortion, plan.weights, kept[0][0])
    else:
        objective = later_stage(config["stage"], plan)
    budget = Budget(config["minutes"], config["steps"])
    module = Stage(objective, kept, plan.sampling, plan.optimisation, budget, plan.augmentation, plan.identity)
    if begin and plan.checkpoint:
        start_from(module, plan.checkpoint)
    if config["compile"]:
        compile_networks(module.objective, config["compile"])
    return module


def _report(config: dict[str, Any], plan: Plan, module: Stage, held_out: Pictures, folder: Path) -> Report:
    """The callback that tells of the run."""
    minutes = config["report_minutes"]
    if plan.stage == "jpeg":
        subsampling = config["model"]["settings"]["subsampling"]
        return jpeg_stage.JpegReport(held_out, minutes, lambda: jpeg_stage.exported(module, config, plan), subsampling)
    if plan.stage == "restore":
        return FilterReport(held_out, minutes)
    seams = plan.stage == "boundary"
    looked_at = 0 if plan.stage == "discriminator" else 6  # it leaves what is decoded as it was
    effort, grids = config["stage"].get("effort", 1), folder / GRIDS
    return CodecReport(
        held_out, minutes, lambda: exported(module, config, plan), grids, effort, seams=seams, pictures=looked_at
    )


def _fit(trainer: pl.Trainer, module: Stage, last: Path) -> None:
    """Train to the end of the budget, from the checkpoint where there is one."""
    if last.exists():
        try:
            been = read_checkpoint(last)["nlaic"]
        except (OSError, ValueError) as error:
            raise NlaicError(f"{last} is damaged or no checkpoint; remove it or choose another dir=") from error
        over = module.budget.progress(been["seconds"], been["steps"]) >= 1
        print(f"{'finished before' if over else 'going on from'}: {last}, step {been['steps']}")
    try:
        trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=False)
    except MisconfigurationException as error:
        raise NlaicError(f"trainer: {error}".splitlines()[0]) from error
    except RuntimeError as error:
        if "state_dict" in str(error):
            raise NlaicError(f"{last} is a checkpoint of another model; choose another dir=") from error
        raise
    except ValueError as error:
        if "parameter group" in str(error):
            raise NlaicError(f"{last} is a checkpoint of another optimisation.kind; choose another dir=") from error
        raise


def _trainer(config: dict[str, Any], loggers: list[Logger], callbacks: list[pl.Callback]) -> pl.Trainer:
    wanted = dict(config["trainer"])
    if wanted["precision"] == "auto":
        device = "cuda" if wanted["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
        wanted["precision"] = "bf16-mixed" if bf16_is_faster(device, backward=True) else "32-true"
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


def _loggers(names: list[str], folder: Path) -> list[Logger]:
    """Loggers by their names; what they need is imported only now."""
    kinds: dict[str, Callable[[], Logger]] = {
        "csv": lambda: CSVLogger(str(folder), name="csv"),
        "tensorboard": lambda: TensorBoardLogger(str(folder), name="tensorboard"),
        "wandb": lambda: WandbLogger(project="nlaic", save_dir=str(folder)),
    }
    if not isinstance(names, list) or set(names) - set(kinds):
        raise NlaicError(f"logger.names must be a list of csv, tensorboard, wandb, but got {names!r}")
    loggers = []
    for name in names:
        try:
            loggers.append(kinds[name]())
        except ImportError as error:
            raise NlaicError(f"logger.names: {name} is missing: pip install {name}") from error
    return loggers
