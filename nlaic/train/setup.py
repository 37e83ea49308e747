"""From a composed configuration to what a stage of training works with, before any work is done."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nlaic.arguments import check_arguments, settings_from
from nlaic.errors import NlaicError
from nlaic.export import fill, network_state, restore
from nlaic.nets.boundary import BoundarySettings
from nlaic.nets.build import Settings, build, make_settings, start
from nlaic.nets.discriminator import Discriminator
from nlaic.nets.scale import ScaleNetwork
from nlaic.nets.vae import HyperpriorVAE, Rates
from nlaic.train.checks import ALONE, boundary_network, check
from nlaic.train.data import Augmentation, Crops, Pictures
from nlaic.train.encoder import Encoder
from nlaic.train.losses import Distortion
from nlaic.train.objectives import (
    Adversarial,
    AdversarialSettings,
    Boundary,
    Discriminate,
    Objective,
    RateDistortion,
    Redecode,
)
from nlaic.train.optimisation import Optimisation
from nlaic.train.perceptual import Trunk
from nlaic.train.stages import Sampling, Stage
from nlaic.weights import Weights, find_weights

# What is in a checkpoint among other things, by what Lightning and `nlaic.train.stages` write.
CHECKPOINT = {"nlaic": dict, "state_dict": dict, "optimizer_states": list, "lr_schedulers": list, "loops": dict}
OnFiles = Redecode | Discriminate | Adversarial | Boundary  # what learns from the files of a codec that stays


@dataclass(frozen=True)
class Plan:
    """The parts of a configuration as settings, and what `start` names: weights, or a run's checkpoint.

    `identity` tells the run from others, by names of settings; a checkpoint goes on with its own alone.
    """

    stage: str
    sampling: Sampling
    optimisation: Optimisation
    augmentation: Augmentation
    distortion: Distortion
    identity: dict[str, Any]
    weights: Weights | None = None
    checkpoint: Path | None = None


def _identity(config: dict[str, Any], weights: Weights | None) -> dict[str, Any]:
    """How long, how fast and on what a run learns is not of it, nor where files lie."""
    groups = ("model", "stage", "loss") if config["stage"]["name"] in ALONE else ("stage", "loss")
    own = {f"{group}.{name}": value for group in groups for name, value in config[group].items()}
    del own["loss.networks"]
    if weights:
        own["start"] = hashlib.sha256(weights.to_bytes()).hexdigest()
    return own


def make_plan(config: dict[str, Any]) -> Plan:
    """Read a configuration; what is wrong with it is said here.

    Raises:
        NlaicError: if a setting is not known or a pretrained network is missing.
    """
    sampling, optimisation, augmentation = check(config)
    before = config["start"]
    checkpoint = checkpoint_of(before) if before else None
    if checkpoint and config["stage"]["name"] == "jpeg":
        raise NlaicError(f"start: stage jpeg begins from weights, such as {checkpoint.parent}/weights.safetensors")
    weights = _weights(before) if before and not checkpoint and config["stage"]["name"] != "jpeg" else None
    return Plan(
        config["stage"]["name"],
        sampling,
        optimisation,
        augmentation,
        settings_from(Distortion, config["loss"], "loss"),
        _identity(config, weights),
        weights,
        checkpoint,
    )


def checkpoint_of(start: str) -> Path | None:
    """The checkpoint that `start` names, by its file or by the folder of its run; None where it names weights."""
    path = Path(start)
    if (path / "last.ckpt").is_file():
        return path / "last.ckpt"
    return path if path.suffix == ".ckpt" else None


def _weights(start: str) -> Weights:
    try:
        return find_weights(start)
    except NlaicError as error:
        if Path(start).is_dir():
            raise NlaicError(f"start: {start} holds no last.ckpt, and {error}") from error
        raise


def first_stage(config: dict[str, Any], plan: Plan, kept: Pictures) -> RateDistortion:
    """Stage one, on a new network or on the plan's.

    Raises:
        NlaicError: if the weights are of another network than the configuration's.
    """
    settings, weights = make_settings(config["model"]["name"], config["model"]["settings"]), plan.weights
    torch.manual_seed(plan.sampling.seed)
    if weights is None:
        net = build(settings)
        start(net, settings, starting_pictures(kept, plan.sampling))
    else:
        if _shape(make_settings(weights.architecture, weights.settings)) != _shape(settings):
            raise NlaicError(f"start: {weights.path} holds another network than model={config['model']['name']}")
        net = restore(weights, getattr(settings, "anchors", 1))
    return RateDistortion(net.to(memory_format=torch.channels_last), plan.distortion, settings.lambdas)


def _shape(settings: Settings) -> tuple[type, dict[str, Any]]:
    """What of the settings the parameters depend on."""
    values = settings.to_dict()
    return type(settings), {name: value for name, value in values.items() if not name.startswith("lambda")}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A run's checkpoint to go on from; its tensors stay on the disk until they are looked at.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is none.
    """
    found = _unpickled(path, CHECKPOINT)
    been = found["nlaic"]
    if type(been.get("steps")) is not int or not isinstance(been.get("seconds"), int | float):
        raise ValueError("it does not say how far it is")
    if not all(0 <= been[name] < 1 << 63 for name in ("steps", "seconds")):
        raise ValueError("it is further than any run")
    return found


def _unpickled(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """What torch has saved, with these things in it; errors as of `read_checkpoint`."""
    try:
        found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # there is nothing that unpickling changed bytes does not raise
        raise ValueError(f"damaged ({type(error).__name__})") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in kinds.items()):
        raise ValueError("not of a run")
    return found


def start_from(module: Stage, path: Path) -> None:
    """Begin with the running mean of another run's weights, from its checkpoint; its optimisers' state is left behind.

    Raises:
        NlaicError: if the checkpoint cannot be read, or is one of another model.
    """
    try:
        state = _unpickled(path, {"state_dict": dict})["state_dict"]
        for turn, trained in module.objective.trained.items():
            prefix = f"mean.{turn}."
            own = {name.removeprefix(prefix): p for name, p in state.items() if name.startswith(prefix)}
            trained.load_state_dict(own)
            module.mean[turn].load_state_dict(own)
    except OSError as error:
        raise NlaicError(f"start: cannot read {path}: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:
        raise NlaicError(f"start: {path} is not a checkpoint of this model") from error


def compile_networks(objective: Objective, backend: str) -> None:
    """Run a stage's networks through `torch.compile`; their names in checkpoints stay."""
    for module in cast(nn.Module, objective).modules():
        parts: list[nn.Module] = []
        if isinstance(module, HyperpriorVAE):  # torch 2.15 compiles the scale network's padding wrongly
            parts = [part for part in module.children() if not isinstance(part, Rates | ScaleNetwork)]
        if isinstance(module, (Discriminator, Trunk)) or module in objective.trained.values():
            parts = parts or [module]
        for part in parts:
            part.compile(backend=backend)


def _trained(plan: Plan) -> Weights:
    if plan.weights is None:
        raise NlaicError(f"stage {plan.stage} works on a trained codec: start=WEIGHTS, not a run's checkpoint")
    return plan.weights


def _redecode(stage: dict[str, Any], plan: Plan) -> OnFiles:
    weights = _trained(plan)
    return Redecode(restore(weights), plan.distortion, torch.from_numpy(weights.tensors["encoder.log_lambda"][:, 0]))


def _discriminate(stage: dict[str, Any], plan: Plan) -> OnFiles:
    weights = _trained(plan)
    net = restore(weights)
    latent = {"latent": net.rates.log_step.shape[1]}
    discriminator = settings_from(Discriminator, stage["settings"] | latent, "stage.settings")
    return Discriminate(net, discriminator, stage["window"])


def _adversarial(stage: dict[str, Any], plan: Plan) -> OnFiles:
    weights = _trained(plan)
    net = restore(weights)
    state = network_state(weights, "discriminator")
    if not state:
        raise NlaicError(f"stage adversarial: {weights.path} has no discriminator; start from stage discriminator's")
    discriminator = Discriminator(net.rates.log_step.shape[1], json.loads(weights.metadata["discriminator"])["strides"])
    fill(discriminator, state, weights.path)
    settings = settings_from(AdversarialSettings, stage["settings"], "stage.settings")
    return Adversarial(net, discriminator, plan.distortion, settings, _second_decoder(weights, net))


def _boundary(stage: dict[str, Any], plan: Plan) -> OnFiles:
    weights = _trained(plan)
    net = restore(weights)
    second = _second_decoder(weights, net)
    decoders = [net.g_s, second] if second else [net.g_s]
    shape = settings_from(BoundarySettings, stage["settings"], "stage.settings")
    network = boundary_network(shape)
    if (state := network_state(weights, "boundary")) and json.loads(weights.metadata["boundary"]) == shape.to_dict():
        fill(network, state, weights.path)
    more = {name: stage[name] for name in ("relative", "step")}
    check_arguments(Boundary, more, "stage")
    return Boundary(net, decoders, network, plan.distortion, shape.sigma, **more)


def _second_decoder(weights: Weights, net: HyperpriorVAE) -> nn.Module | None:
    """The one that the weights hold, if any."""
    state = network_state(weights, "g_s_perceptual")
    if not state:
        return None
    decoder = copy.deepcopy(net.g_s)
    fill(decoder, state, weights.path)
    return decoder


@dataclass(frozen=True)
class Later:
    """A stage after the first: what makes its objective, and the network it trains, named as in a weights file."""

    objective: Callable[[dict[str, Any], Plan], OnFiles]
    trained: str


LATER = {
    "decoder": Later(_redecode, "g_s"),
    "discriminator": Later(_discriminate, "discriminator"),
    "adversarial": Later(_adversarial, "g_s_perceptual"),
    "boundary": Later(_boundary, "boundary"),
}


def later_stage(stage: dict[str, Any], plan: Plan) -> OnFiles:
    """The objective of a stage after the first, on what the encoder chooses at the stage's effort.

    Raises:
        NlaicError: if there is no such effort, or the weights are not what the stage works on.
    """
    objective = LATER[plan.stage].objective(stage, plan)
    if stage["effort"] != 1:
        objective.codec.encoder = Encoder(_trained(plan), stage["effort"])
    return objective


def starting_pictures(pictures: Pictures, sampling: Sampling) -> list[Tensor]:
    """Six batches of eight crops [8, 3, P, P] in 0..1 to measure things on, of the training's pictures."""
    crops = Crops([(pictures, 1.0)], sampling.patch, 0.0, sampling.seed + 1)
    return [crops.batch(range(8 * k, 8 * k + 8))["x"].float() / 255 for k in range(6)]
