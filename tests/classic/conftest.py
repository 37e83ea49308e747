"""Small filters with something to say, as weights files where the package looks for them; an untaught JPEG encoder."""

import json

import numpy as np
import pytest
import torch

from nlaic import container
from nlaic.classic.coders import MissingError
from nlaic.classic.export import export_filter
from nlaic.classic.file import BaseEncoder, parse_pair
from nlaic.classic.jpeg.model import Model
from nlaic.classic.nets.build import build_filter
from nlaic.classic.weights import FOLDER
from nlaic.export import save_weights
from nlaic.nets.jpeg import Jpeg, JpegSettings

SMALL = {
    "mvgl-c": '{"blocks": 2, "channels": 8}',
    "svac2": "{}",
    "restore-light": '{"channels": 16, "blocks": 1, "fine": 4}',
}
SMALL_COLORBLUST = '{"channels": 8, "blocks": 1}'  # which looks at the whole picture: blocks differ


def small_filter(name, source, seed=0):
    """Weights of an untrained filter whose every layer does something."""
    settings = SMALL.get(name, SMALL_COLORBLUST)
    torch.manual_seed(seed)
    network = build_filter(name, json.loads(settings))
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3 if name == "svac2" else 0.08)
    return export_filter(
        network, {"architecture": name, "settings": settings, "source": source, "qualities": "[5, 95]"}
    )


@pytest.fixture
def filters(tmp_path, monkeypatch):
    """A folder of weights: restore-light and svac2 behind JPEG, mvgl-c behind HEIC."""
    place = tmp_path / "weights"
    (place / FOLDER).mkdir(parents=True)
    for name, source in (("restore-light", "jpeg"), ("svac2", "jpeg"), ("mvgl-c", "heic")):
        save_weights(small_filter(name, source), place / FOLDER / f"{name}-{source}-00000000.safetensors")
    monkeypatch.setenv("NLAIC_WEIGHTS", str(place))
    return place


def rms(a, b):
    """Root of the mean squared difference of two pictures."""
    return float(np.sqrt(np.square(np.asarray(a, float) - np.asarray(b, float)).mean()))


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


def encoder(text):
    try:
        return BaseEncoder(parse_pair(text))
    except MissingError as error:
        pytest.skip(str(error))


def rewritten(data, change):
    """A sound file around another content of BASE."""
    file = container.unpack(data, known_required=frozenset({container.BASE}))
    sections = {container.BASE: change(file.sections[container.BASE])}
    return container.pack(file.header, [b""] * file.header.blocks, sections)
