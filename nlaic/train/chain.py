"""Several stages one after the other, each starting from the weights of the one before."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlaic.errors import NlaicError
from nlaic.train.checks import check
from nlaic.train.losses import network_files, used_terms
from nlaic.train.perceptual import find
from nlaic.whole import write_whole


@dataclass(frozen=True)
class Link:
    """One stage of a chain.

    Attributes:
        name: of its folder.
        overrides: of the configuration, as on the command line.
        share: of the chain's minutes.
        epochs: its length where no minutes are given, of `optimisation.epoch` patches each.
    """

    name: str
    overrides: Sequence[str] = field(default_factory=list)
    share: float | None = None
    epochs: float | None = None


def compose_chain(
    config: dict[str, Any], words: Sequence[str], compose: Callable[[list[str]], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The configuration of each link of a chain, by its name.

    Args:
        config: with `links`, `dir`, and `minutes` (each link takes its share), `steps` (each link takes all of them),
            both (whichever end first), or neither (each link takes its epochs).
        words: overrides of the whole chain, as on the command line.
        compose: makes a configuration from overrides.

    Raises:
        NlaicError: if `dir` is missing, or nothing says how long a link is.
    """
    if not config["dir"]:
        raise NlaicError("a chain of stages needs dir=RUN, for a folder for each")
    if (single := Path(config["dir"]) / "last.ckpt").exists():
        raise NlaicError(f"dir: {single} is of a run of one stage; a chain needs a folder of its own")
    own = ("dir=", "out=", "start=", "minutes=", "steps=")
    words = [word for word in words if not word.startswith(own)]
    chain = {}
    for link in (Link(**link) for link in config["links"]):
        folder = Path(config["dir"]) / link.name
        own_settings = {"dir": str(folder), "links": [], **_length(config, link)}
        chain[link.name] = compose([*link.overrides, *words]) | own_settings
    if not chain:
        raise NlaicError("a chain of stages needs at least one link")
    return chain


def run_chain(
    chain: Mapping[str, dict[str, Any]], run: Callable[[dict[str, Any]], Path | None], start: str | None = None
) -> Path | None:
    """Run the links of a chain from behind the last one whose weights are there already.

    Args:
        chain: configuration of each link, from `compose_chain`.
        run: trains one stage; None where it stopped before its end.
        start: what the first link starts from.

    Returns:
        the weights of the last link, or None where a link stopped before its end.

    Raises:
        NlaicError: if a setting cannot be, or a network that one of the losses needs is missing, before the first link
            begins.
    """
    names = list(chain)
    files = {name: Path(config["dir"]) / "weights.safetensors" for name, config in chain.items()}
    done = max((number for number, name in enumerate(names) if files[name].exists()), default=-1)
    weights = files[names[done]] if done >= 0 else None
    if weights:
        print(f"done: {', '.join(names[: done + 1])}, {weights}")
    for name in names[done + 1 :]:
        check(chain[name] | {"start": start or "the link before"})
        _find_networks(chain[name]["loss"])
    began = time.monotonic()
    for name in names[done + 1 :]:
        before, leg = weights or start, chain[name]["leg_minutes"]
        if leg and name != names[done + 1]:  # the first one that is trained has all of it
            leg -= (time.monotonic() - began) / 60
            if leg <= 0:
                print(f"stopped before {name}; the same command goes on from {before}")
                return None
        print(f"{name}:", flush=True)
        weights = run(chain[name] | {"start": str(before) if before else None, "leg_minutes": leg})
        if weights is None:
            return None
    return weights


def copy_weights(weights: Path, out: Path) -> None:
    """Copy a chain's weights to a file, or into a folder.

    Raises:
        NlaicError: if it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out / weights.name if out.is_dir() else out, weights.read_bytes())
    except OSError as error:
        raise NlaicError(f"out: cannot write {out}: {error.strerror}") from error


def _find_networks(loss: dict[str, Any]) -> None:
    """Whether the pretrained networks of a loss are there."""
    for term in used_terms(loss["terms"]):
        for file in network_files(term):
            find(file, loss["networks"])


def _length(config: dict[str, Any], link: Link) -> dict[str, Any]:
    """How long a link is, by names of settings."""
    minutes, steps = config["minutes"], config["steps"]
    if minutes is not None and link.share is not None:
        return {"minutes": minutes * link.share, "steps": steps}
    if steps is not None:
        return {"minutes": None, "steps": steps}
    if link.epochs is None:
        raise NlaicError(f"give minutes=N: link {link.name} is a share of them")
    return {
        "minutes": None,
        "steps": round(link.epochs * config["optimisation"]["epoch"] / config["sampling"]["batch"]),
    }
