"""Shared fixtures: an untrained `light` as a weights file, and pictures made from noise."""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nlaic.codec import Codec, load
from nlaic.picture import open_picture

# Pictures and networks that are no part of the repository: beside it, or in $NLAIC_SHARED.
SHARED = Path(os.environ.get("NLAIC_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def at_hand(name: str) -> Path:
    """A file or folder of SHARED; a test without it is skipped."""
    if not (path := SHARED / name).exists():
        pytest.skip(f"needs {path}; $NLAIC_SHARED names another folder for {SHARED}")
    return path


def smooth_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with the spectrum of a photograph, about: noise at several sizes, enlarged and added."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for octave in range(7):
        size = (2 + width >> octave) + 1, (2 + height >> octave) + 1
        noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) * 1.6**octave
    total = (total - total.mean()) / (total.std() + 1e-9) * 45 + 120
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def batch(*pictures: Image.Image) -> torch.Tensor:
    """Pictures of one size as [B, 3, H, W] in 0..1."""
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(autouse=True)
def _nobody(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without weights of their own, whose terminal is as wide as it is: what ships is what is found."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.getbasetemp() / "nobody"))
    monkeypatch.delenv("NLAIC_WEIGHTS", raising=False)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained, small `light` with its starting values measured, exported."""
    from nlaic.export import export, save_weights
    from nlaic.nets.light import LightSettings, build_light, start_light

    torch.manual_seed(0)
    settings = LightSettings(analysis=((8, 1), (16, 1)), synthesis=((8, 1), (16, 1)), context=8)
    net = build_light(settings)
    pictures = [batch(smooth_picture(192, 128, seed), smooth_picture(192, 128, seed + 10)) for seed in range(3)]
    start_light(net, settings, pictures)
    for p in net.parameters():  # branches that start at zero get something to say, so that tests see them
        if p.ndim == 4 and not p.any():
            torch.nn.init.normal_(p, std=0.2 * p[0].numel() ** -0.5)
    weights = export(net, "light", settings.to_dict(), (settings.lambda_min, settings.lambda_max), pictures)
    return save_weights(weights, tmp_path_factory.mktemp("weights") / "tiny-00000000.safetensors")


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random networks under the names of the pretrained ones, and random weights of DISTS."""
    from safetensors.torch import save_file
    from torchvision import models

    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    makers = {"alexnet": models.alexnet, "squeezenet1_1": models.squeezenet1_1, "vgg16": models.vgg16}
    for name, make in makers.items():
        state = {f"features.{key}": value for key, value in make(weights=None).features.state_dict().items()}
        save_file(state, folder / f"{name}_features.safetensors")
    (folder / "vgg16_stage12.safetensors").symlink_to(folder / "vgg16_features.safetensors")
    alpha, beta = torch.rand(2, 1, 3 + 64 + 128 + 256 + 512 + 512, 1, 1)
    total = alpha.sum() + beta.sum()
    save_file({"alpha": alpha / total, "beta": beta / total}, folder / "dists.safetensors")
    return folder


@pytest.fixture(scope="session")
def codec(tiny_model: Path) -> Codec:
    """`tiny_model` on one thread of the processor, in the arithmetic that every processor has."""
    return load(str(tiny_model), device="cpu", threads=1, precision="fp32")


@pytest.fixture
def there_and_back(codec: Codec) -> Callable[..., tuple[Image.Image, bytes, list[str]]]:
    """As the commands do it: a file's bytes to a picture, compressed and decompressed; the picture, file and notes."""

    def go(data: bytes, strip: bool = False, **options: Any) -> tuple[Image.Image, bytes, list[str]]:
        notes: list[str] = []
        picture = open_picture(BytesIO(data), strip=strip, warn=notes.append)
        file = codec.compress(picture, 80, effort=1, strip=strip)
        return codec.decompress(file, **options), file, notes

    return go


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree of pictures, with one file that is none, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    for seed in range(4):
        smooth_picture(160 + 16 * seed, 140, seed).save(root / ("more" if seed % 2 else "") / f"{seed}.png")
    (root / "broken.jpg").write_bytes(b"not a picture")
    return root


@pytest.fixture
def kodak() -> list[Path]:
    """The Kodak pictures, where they are at hand."""
    return sorted(at_hand("data/kodak").glob("*.png"))
