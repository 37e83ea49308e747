"""One stage of training from a composed configuration: data, network, trainer, export."""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import CSVLogger

from nlaic.errors import NlaicError
from nlaic.nets.light import LightSettings, build_light, start
from nlaic.train.callbacks import Checkpoint, Report, StopAtBudget
from nlaic.train.data import Crops, Pictures, load_pictures
from nlaic.train.losses import Distortion
from nlaic.train.stages import Budget, Optimisation, RateDistortion, Sampling

T = TypeVar("T")


def settings_from(kind: type[T], values: Any) -> T:
    """Make a settings dataclass from a part of the configuration; unknown names are an error."""
    plain = OmegaConf.to_container(values, resolve=True) if isinstance(values, DictConfig) else dict(values)
    assert isinstance(plain, dict)
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(plain) - known:
        raise NlaicError(f"{kind.__name__}: unknown setting {sorted(unknown)}, allowed: {sorted(known)}")
    return kind(**{k: _tuples(v) for k, v in plain.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def run(config: DictConfig) -> None:
    """Train one stage and export its weights."""
    folder = Path(config.dir or Path(platformdirs.user_cache_dir("nlaic")) / "runs" / f"{config.model.name}-rd")
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    cache = Path(platformdirs.user_cache_dir("nlaic")) / "pictures"
    pictures = load_pictures(Path(config.data.root), cache)
    for name in pictures.unreadable:
        print(f"skipped, not readable: {name}")
    kept, held_out = pictures.split(config.data.holdout)
    sampling = settings_from(Sampling, config.sampling)
    settings = settings_from(LightSettings, config.model.settings)
    torch.manual_seed(sampling.seed)
    net = build_light(settings).to(memory_format=torch.channels_last)
    last = folder / "last.ckpt"
    if not last.exists():
        start(net, settings, _starting_pictures(kept, sampling))
    module = RateDistortion(
        net,
        Distortion(**config.loss),
        kept,
        (settings.lambda_min, settings.lambda_max),
        sampling,
        settings_from(Optimisation, config.optimisation),
        Budget(config.minutes, config.steps),
    )
    trainer = pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        precision=config.trainer.precision,
        max_epochs=1,
        logger=CSVLogger(str(folder), name="logs"),
        log_every_n_steps=config.trainer.log_every,
        callbacks=[
            Report(held_out, config.report_minutes),
            Checkpoint(folder, config.checkpoint_minutes),
            StopAtBudget(),
        ],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=False)


def _starting_pictures(pictures: Pictures, sampling: Sampling) -> list[torch.Tensor]:
    crops = Crops(pictures, sampling.patch, 0.0, sampling.seed + 1)
    return [torch.stack([crops.sample(8 * k + i)["x"] for i in range(8)]).float() / 255 for k in range(6)]
