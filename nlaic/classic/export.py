"""Filters to weights files and back, by torch."""

from torch import nn

from nlaic.classic.nets.build import build_filter
from nlaic.classic.weights import check_filter
from nlaic.export import fill, network_state, with_network
from nlaic.weights import FILTER, Weights

PREFIX = "filter"  # of the tensors


def export_filter(network: nn.Module, metadata: dict[str, str]) -> Weights:
    """The weights of a network on the processor; `metadata` holds what is listed above but `codec`."""
    return with_network(Weights({}, {"codec": FILTER, "skip": "0"}), PREFIX, network, metadata)


def filter_network(weights: Weights) -> nn.Module:
    """The network of a filter's weights, ready to be run.

    Raises:
        NlaicError: if the weights are those of a codec, or of another network than they say.
    """
    check_filter(weights)
    network = build_filter(weights.architecture, weights.settings)
    fill(network, network_state(weights, PREFIX), weights.path)
    return network.requires_grad_(False).eval()
