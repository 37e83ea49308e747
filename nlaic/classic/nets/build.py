"""From the name of a filter to a network."""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any, Protocol, cast

from torch import Tensor, nn

from nlaic.classic.nets.colorblust import ColorBlust
from nlaic.classic.nets.light import RestoreLight
from nlaic.classic.nets.mvgl import Mvgl
from nlaic.classic.nets.svac2 import Svac2
from nlaic.errors import NlaicError
from nlaic.nets.transforms import picture


class Filter(Protocol):
    """What all filters are, beside being an `nn.Module`."""

    reach: int  # pixels that a pixel of the output depends on, in each direction
    multiple: int  # what the sides of a picture must be multiples of, and the grid that blocks begin on

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1, coded at levels [B] (0 the finest, 1 the coarsest), to filtered ones."""


FILTERS: dict[str, Callable[..., nn.Module]] = {
    "mvgl-a": partial(Mvgl, blocks=32, channels=96),
    "mvgl-b": partial(Mvgl, blocks=8, channels=96),
    "mvgl-c": partial(Mvgl, blocks=32, channels=48),
    "colorblust": ColorBlust,
    "colorblust-narrow": partial(ColorBlust, channels=16),
    "svac2": Svac2,
    "restore-light": RestoreLight,
}


def build_filter(architecture: str, settings: Mapping[str, Any]) -> nn.Module:
    """An untrained filter; see `Filter`. Settings are those of its class, in the place of the paper's.

    Raises:
        NlaicError: if the architecture or a setting of it is not known.
    """
    if architecture not in FILTERS:
        raise NlaicError(f"filter must be one of {', '.join(FILTERS)}, but got {architecture!r}")
    try:
        return FILTERS[architecture](**settings)
    except TypeError as error:
        raise NlaicError(f"settings of {architecture}: {error}") from error


def complete(architecture: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a filter with those that were left out."""
    return {name: one.default for name, one in signature(FILTERS[architecture]).parameters.items()} | dict(settings)


class InLevels(nn.Module):
    """A filter as an engine runs it: pixels uint8 [h, w, 3] and their level [1] to float32 [h, w, 3] of 0..255."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.filter = network

    def forward(self, pixels: Tensor, level: Tensor) -> Tensor:
        """See the class."""
        return (self.filter(picture(pixels), level).float() * 255)[0].permute(1, 2, 0)


def as_filter(network: nn.Module) -> Filter:
    """The same object under its other type."""
    return cast(Filter, network)
