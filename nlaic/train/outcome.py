"""What a stage leaves: weights, and in them what there is to know about how they were made."""

import copy
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from nlaic.errors import NlaicError
from nlaic.export import export, save_weights, with_gain, with_network, with_second_decoder, without_network
from nlaic.nets.build import make_settings
from nlaic.nets.vae import HyperpriorVAE
from nlaic.train.data import Pictures
from nlaic.train.filters import filter_weights
from nlaic.train.report import estimated_bpp, whole
from nlaic.train.setup import LATER, Plan, starting_pictures
from nlaic.train.stages import Stage
from nlaic.weights import Weights


def quality_50(net: HyperpriorVAE, pictures: Pictures, bpp: float = 0.28, count: int = 12) -> float:
    """Where between the anchors the pictures' mean estimated rate is `bpp`: the place of quality 50.

    With the default effort of the encoder files are about a tenth smaller than that.
    """
    last = net.rates.anchors - 1
    places, some = range(last + 1), [whole(pictures[n]) for n in range(min(count, len(pictures)))]
    rates = [np.mean([estimated_bpp(net, picture, 100 * place / last) for picture in some]) for place in places]
    position = np.interp(math.log(bpp), np.log(rates), places)
    return float(np.clip(position, 0.3 * last, 0.7 * last))  # rates still rise everywhere with the quality


def _metadata(module: Stage, config: dict[str, Any], networks: dict[str, str]) -> dict[str, str]:
    """What there is to know about a stage, by its name."""
    name, patches = config["stage"]["name"], module.steps * module.sampling.batch
    pictures = sum(len(one) for one, _ in module.pictures)
    effort = {f"effort.{name}": str(config["stage"]["effort"])} if "effort" in config["stage"] else {}
    return effort | {
        "stage": name,
        f"loss.{name}": json.dumps({"terms": config["loss"]["terms"], "scale": config["loss"]["scale"]}),
        f"networks.{name}": json.dumps(networks),
        f"optimisation.{name}": json.dumps(asdict(module.optimisation)),
        f"training.{name}": f"{module.steps} steps, {patches} patches of {module.sampling.patch} from {pictures} "
        f"pictures, {module.seconds / 60:.0f} minutes",
    }


def exported(module: Stage, config: dict[str, Any], plan: Plan, pictures: Pictures | None = None) -> Weights:
    """The running mean of what was trained, as weights: a new codec, or the plan's with one network more.

    A codec's quality 50 is where `pictures` take the rate meant for it, or half-way.
    """
    copied = {name: copy.deepcopy(network).cpu().float() for name, network in module.mean.items()}
    metadata = _metadata(module, config, plan.distortion.files)
    if plan.stage == "restore":
        return filter_weights(copied["filter"], config, metadata)
    measured = starting_pictures(module.pictures[0][0], module.sampling)[:2]
    if plan.stage != "rd":
        name, source = LATER[plan.stage].trained, plan.weights
        assert source is not None
        if settings := config["stage"]["settings"]:
            metadata[name] = json.dumps(settings)
        if name == "g_s_perceptual":
            source = without_network(source, "discriminator")
        if config["stage"].get("keep"):
            source = with_second_decoder(source)
        weights = with_network(source, name, copied[name], metadata)
        return with_gain(weights, measured) if name == "g_s" else weights
    net = cast(HyperpriorVAE, copied["net"])
    name = config["model"]["name"]
    settings = make_settings(name, config["model"]["settings"])
    middle = quality_50(net, pictures) if pictures and net.rates.anchors > 1 else None
    return export(net, name, settings.to_dict(), settings.lambdas, measured, metadata, middle)


def write(weights: Weights, out: Path) -> Path:
    """Write the file and say so.

    Raises:
        NlaicError: if it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        path = save_weights(weights, out)
    except OSError as error:
        raise NlaicError(f"out: cannot write {out}: {error.strerror}") from error
    print(f"weights: {path}, {path.stat().st_size} bytes, model id {weights.model_id.hex()}")
    return path
