"""A JPEG encoder that has learned nothing: the tables that training begins with, and a network of noise."""

import json

import pytest
import torch

from nlaic.classic.jpeg.model import Model
from nlaic.nets.jpeg import Jpeg, JpegSettings


def untrained(subsampling: str, **settings) -> Jpeg:
    torch.manual_seed(3)
    net = Jpeg(JpegSettings(subsampling, width=8, **settings))
    if net.attention is not None:
        for name, p in net.attention.named_parameters():
            if name.endswith("last.weight"):
                torch.nn.init.normal_(p, std=0.5)
    return net.eval()


def model_of(*nets: Jpeg) -> Model:
    tensors, metadata = {}, {"architecture": "jpeg"}
    for net in nets:
        key = net.settings.subsampling
        tensors[f"{key}.tables"] = net.tables.log_steps().detach().numpy()
        metadata[f"{key}.lambdas"] = json.dumps(net.settings.lambdas)
        for name, value in net.attention.state_dict().items() if net.attention is not None else ():
            tensors[f"{key}.attention.{name}"] = value.numpy()
    return Model(tensors, metadata)


@pytest.fixture(scope="session")
def jpeg_model() -> Model:
    return model_of(untrained("420"), untrained("444"))
