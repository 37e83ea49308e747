"""Several stages one after the other, each starting from the weights of the one before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlaic.errors import NlaicError


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


def run_chain(
    config: dict[str, Any],
    words: Sequence[str],
    compose: Callable[[list[str]], dict[str, Any]],
    run: Callable[[dict[str, Any]], Path],
) -> Path:
    """Run the links of a configuration; those whose weights are there already are not run again.

    Args:
        config: with `links`; `dir` holds a folder for each.
        words: what was overridden on the command line, for every link.
        compose: a configuration from overrides.
        run: one stage.

    Returns:
        the weights of the last link; a copy goes to `out` where that is given.

    Raises:
        NlaicError: if `dir` is missing, or nothing says how long a link is.
    """
    if not config["dir"]:
        raise NlaicError("a chain of stages needs dir=RUN, for a folder for each")
    own = ("dir=", "out=", "start=", "minutes=", "steps=")
    words = [word for word in words if not word.startswith(own)]
    weights: Path | None = None
    links = [Link(**link) for link in config["links"]]
    for link in links:
        folder = Path(config["dir"]) / link.name
        done = folder / "weights.safetensors"
        if done.exists():
            print(f"{link.name}: done, {done}")
        else:
            print(f"{link.name}:", flush=True)
            start = weights or config["start"]
            more = [*_length(config, link), f"dir={folder}", "links=[]", *([f"start={start}"] if start else [])]
            done = run(compose([*link.overrides, *words, *more]))
        weights = done
    if weights is None:
        raise NlaicError("a chain of stages needs at least one link")
    if config["out"]:
        Path(config["out"]).write_bytes(weights.read_bytes())
    return weights


def _length(config: dict[str, Any], link: Link) -> list[str]:
    """How long a link is, as overrides."""
    if config["steps"] is not None:
        return [f"steps={config['steps']}"]
    if config["minutes"] is not None and link.share is not None:
        return [f"minutes={config['minutes'] * link.share}"]
    if link.epochs is None:
        raise NlaicError(f"give minutes=N: link {link.name} is a share of them")
    return [f"steps={round(link.epochs * config['optimisation']['epoch'] / config['sampling']['batch'])}"]
