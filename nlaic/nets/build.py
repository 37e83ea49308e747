"""From the name of an architecture and its settings to a network."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nlaic.arguments import check_arguments
from nlaic.errors import NlaicError
from nlaic.nets.light import LightSettings, build_light, start_light
from nlaic.nets.paper import PaperSettings, build_paper, start_paper
from nlaic.nets.vae import HyperpriorVAE

Settings = LightSettings | PaperSettings
ARCHITECTURES: dict[str, type[Settings]] = {"light": LightSettings, "nlaic": PaperSettings}


def make_settings(architecture: str, values: Mapping[str, Any]) -> Settings:
    """The settings of an architecture from plain values (lists become tuples).

    Raises:
        NlaicError: if the architecture or a setting is not known, or a value not of its kind.
    """
    if architecture not in ARCHITECTURES:
        raise NlaicError(f"architecture must be one of {', '.join(ARCHITECTURES)}, but got {architecture!r}")
    check_arguments(ARCHITECTURES[architecture], values, "model.settings")
    return ARCHITECTURES[architecture](**{name: _tuples(value) for name, value in values.items()})


def build(settings: Settings) -> HyperpriorVAE:
    """An untrained network."""
    return build_light(settings) if isinstance(settings, LightSettings) else build_paper(settings)


def start(net: HyperpriorVAE, settings: Settings, pictures: list[Tensor]) -> None:
    """Measure an untrained network's starting values on a few batches [B, 3, H, W] in 0..1; changes it in place."""
    if isinstance(settings, LightSettings):
        start_light(net, settings, pictures)
    else:
        start_paper(net, pictures)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
