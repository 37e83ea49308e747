"""Whether a configuration can be, before any work is done: names, kinds, ranges, and what does not go together."""

from collections.abc import Mapping
from typing import Any

import torch

from nlaic.arguments import check_arguments, settings_from
from nlaic.classic.nets.build import build_filter
from nlaic.codec import EFFORTS
from nlaic.errors import NlaicError
from nlaic.nets.boundary import BoundarySettings, LightFilter, PaperFilter, build_boundary
from nlaic.nets.build import make_settings
from nlaic.nets.discriminator import Discriminator
from nlaic.nets.jpeg import JpegSettings
from nlaic.tiles import MULTIPLE
from nlaic.train.coded import Coding
from nlaic.train.data import Augmentation
from nlaic.train.jpeg import JpegLoss
from nlaic.train.losses import Distortion, check_window, used_terms
from nlaic.train.objectives import AdversarialSettings
from nlaic.train.optimisation import Optimisation
from nlaic.train.stages import Sampling

ALONE = ("rd", "restore", "jpeg")  # stages that need nothing to begin with
AUGMENTATION = ("crop", "flip", "rotate", "reduce", "align")  # what of `data` is of crops
LENGTHS = ("minutes", "steps", "leg_minutes", "report_minutes", "checkpoint_minutes")
PRECISIONS = ("auto", "32", "32-true", "bf16-mixed")  # of gradients that are clipped, and of networks in fp32
LARGEST_SCALE = 1000.0  # of a loss beside the adversarial one, which is about 1
KEYS = {  # what each group holds that is not checked by a settings class
    "model": {"name", "settings"},
    "data": {*AUGMENTATION, "root", "mix", "cache", "holdout"},
    "logger": {"names"},
}
EVERY = {
    *("stage", "model", "loss", "optimisation", "data", "trainer", "logger", "sampling", *LENGTHS),
    *("dir", "out", "start", "compile", "links", "threads", "effort", "run"),
}
STAGE_KEYS = {
    "rd": {"settings"},
    "decoder": {"settings", "effort", "keep"},
    "discriminator": {"settings", "effort", "window"},
    "adversarial": {"settings", "effort"},
    "boundary": {"settings", "effort", "relative", "step"},
    "restore": {"source", "qualities", "passes", "pictures", "relative", "luma"},
    "jpeg": {"settings"},
}


def check(config: dict[str, Any]) -> tuple[Sampling, Optimisation, Augmentation]:
    """Look at the settings of a stage, also one whose `start` is still to be made.

    Raises:
        NlaicError: for the first that cannot be.
    """
    every = (
        settings_from(Sampling, config["sampling"], "sampling"),
        settings_from(Optimisation, config["optimisation"], "optimisation"),
        settings_from(Augmentation, {name: config["data"][name] for name in AUGMENTATION}, "data"),
    )
    if (name := config["stage"]["name"]) not in STAGE_KEYS:
        raise NlaicError(f"stage must be one of {', '.join(STAGE_KEYS)}, but got {name!r}")
    for group, known in KEYS.items():
        _check_names(group, config[group], known)
    _check_names(f"stage {name}", config["stage"], STAGE_KEYS[name] | {"name"})
    _check_names("the configuration", config, EVERY)
    if name not in ALONE and not config["start"]:
        raise NlaicError(f"stage {name} works on a trained codec: start=WEIGHTS")
    _check_stage(config)
    _check_loss(config)
    _check_numbers(config)
    _check_trainer(config)
    return every


def _check_names(group: str, values: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(values) - known):
        raise NlaicError(f"{group}: unknown setting {unknown[0]!r}, allowed: {', '.join(sorted(known))}")


def _check_stage(config: dict[str, Any]) -> None:
    """Whether the settings of a stage are what they must be."""
    stage = config["stage"]
    name, settings = stage["name"], stage.get("settings", {})
    if (effort := stage.get("effort", 1)) not in EFFORTS or isinstance(effort, bool):
        raise NlaicError(f"stage.effort must be a whole number from 1 to {EFFORTS[-1]}, but got {effort!r}")
    if name in ("rd", "decoder") and settings:
        raise NlaicError(f"stage.settings: stage {name} has none, but got {settings}")
    if not isinstance(keep := stage.get("keep", False), bool):
        raise NlaicError(f"stage.keep must be true or false, but got {keep!r}")
    window = stage.get("window", settings.get("window"))
    if window is not None and (not isinstance(window, int) or window <= 0 or window % 16):
        raise NlaicError(f"the stage's window must be a multiple of 16, but got {window!r}")
    _check_parts(config)


def _check_parts(config: dict[str, Any]) -> None:
    """Whether what a stage trains can be made."""
    stage, model = config["stage"], config["model"]
    name, settings = stage["name"], stage.get("settings", {})
    if name == "rd":
        make_settings(model["name"], model["settings"])
    elif name == "discriminator":
        settings_from(Discriminator, settings | {"latent": 1}, "stage.settings")
    elif name == "adversarial":
        settings_from(AdversarialSettings, settings, "stage.settings")
    elif name == "boundary":
        boundary_network(settings_from(BoundarySettings, settings, "stage.settings"))
    elif name == "restore":
        build_filter(model["name"], model["settings"])
        coding = {name: stage[name] for name in ("source", "qualities", "passes", "pictures")}
        settings_from(Coding, coding, "stage")
    elif name == "jpeg":
        if model["name"] != "jpeg":
            raise NlaicError(f"stage jpeg trains model=jpeg or jpeg_paper, but got {model['name']!r}")
        settings_from(JpegSettings, model["settings"], "model.settings")
        settings_from(JpegLoss, settings, "stage.settings")


def _check_loss(config: dict[str, Any]) -> None:
    loss = config["loss"]
    check_arguments(Distortion, loss, "loss")
    used_terms(loss["terms"])
    check_window(loss["window"])
    if config["stage"]["name"] == "adversarial" and loss["scale"] > LARGEST_SCALE:
        raise NlaicError(
            f"loss.scale={loss['scale']:g} leaves the adversarial loss without effect: "
            "loss=hific, or loss=mse loss.scale=152, which needs no network"
        )


def _check_trainer(config: dict[str, Any]) -> None:
    precision, backend = str(config["trainer"]["precision"]), config["compile"]
    if precision not in PRECISIONS:
        raise NlaicError(f"trainer.precision must be one of {', '.join(PRECISIONS)}, but got {precision}")
    if backend and backend not in torch.compiler.list_backends(exclude_tags=()):
        known = ", ".join(torch.compiler.list_backends())
        raise NlaicError(f"compile must be one of {known}, but got {backend!r}")


def _check_numbers(config: dict[str, Any]) -> None:
    if config["minutes"] is None and config["steps"] is None:
        raise NlaicError("give minutes=N or steps=N: how long to train")
    unit = {"boundary": 128, "restore": 16}.get(config["stage"]["name"], 64)  # four blocks of 64; the grid of 4:2:0
    if config["sampling"]["patch"] % unit:
        raise NlaicError(f"sampling.patch must be a multiple of {unit}, but got {config['sampling']['patch']}")
    for length, value in ((n, config[n]) for n in LENGTHS if config[n] is not None):
        if not (isinstance(value, int | float) and value > 0):
            raise NlaicError(f"{length} must be a number above 0, but got {value!r}")
    for setting, value, least in (("threads", config["threads"], 1), ("data.holdout", config["data"]["holdout"], 0)):
        if not isinstance(value, int) or value < least:
            raise NlaicError(f"{setting} must be a whole number from {least}, but got {value!r}")
    mix = config["data"]["mix"] or {}
    if not (isinstance(mix, dict) and all(isinstance(weight, int | float) and weight > 0 for weight in mix.values())):
        raise NlaicError(f"data.mix must be {{FOLDER: WEIGHT, ...}}, weights above 0, but got {mix!r}")


def boundary_network(shape: BoundarySettings) -> LightFilter | PaperFilter:
    """An untrained filter; an NlaicError says where it reaches too far."""
    network = build_boundary(shape)
    if network.reach > MULTIPLE:
        raise NlaicError(
            f"stage.settings.blocks={shape.blocks}: the filter reaches {network.reach} pixels, allowed: {MULTIPLE}"
        )
    return network
