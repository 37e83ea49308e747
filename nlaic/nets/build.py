"""From the name of an architecture and its settings to a network."""

from collections.abc import Mapping
from typing import Any

from nlaic.errors import NlaicError
from nlaic.nets.light import LightSettings, build_light
from nlaic.nets.paper import PaperSettings, build_paper
from nlaic.nets.vae import HyperpriorVAE

ARCHITECTURES = {"light": (LightSettings, build_light), "nlaic": (PaperSettings, build_paper)}


def make_settings(architecture: str, values: Mapping[str, Any]) -> LightSettings | PaperSettings:
    """The settings of an architecture from plain values (lists become tuples).

    Raises:
        NlaicError: if the architecture or a setting is not known.
    """
    if architecture not in ARCHITECTURES:
        raise NlaicError(f"architecture must be one of {', '.join(ARCHITECTURES)}, but got {architecture!r}")
    kind = ARCHITECTURES[architecture][0]
    try:
        return kind(**{name: _tuples(value) for name, value in values.items()})
    except TypeError as error:
        raise NlaicError(f"settings of {architecture}: {error}") from error


def build(architecture: str, values: Mapping[str, Any]) -> HyperpriorVAE:
    """An untrained network of that architecture."""
    settings = make_settings(architecture, values)
    return build_light(settings) if isinstance(settings, LightSettings) else build_paper(settings)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
