"""CompressAI's own evaluation runs on this codec and finds what the files say."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nlaic.codec import load
from nlaic.evaluate.compressai_model import CompressAIModel
from tests.conftest import batch, smooth_picture

SIZE = (200, 180)  # MS-SSIM needs more than 160


@pytest.fixture
def model(tiny_model):
    return CompressAIModel(load(str(tiny_model), device="cpu", threads=1, engine="torch"), 60, effort=1)


@pytest.fixture
def photos(tmp_path):
    files = [tmp_path / f"{k}.png" for k in range(2)]
    for k, file in enumerate(files):
        smooth_picture(*SIZE, seed=k).save(file)
    return files


@pytest.mark.parametrize("half", [False, True])
def test_eval_model_measures_files(model, photos, half):
    program = pytest.importorskip("compressai.utils.eval_model.__main__")
    found = program.eval_model(
        model, Path(), photos[0].parent, photos, architecture="nlaic", half=half, per_image=False
    )
    bpp, psnr = [], []
    for file in photos:  # eval_model pads with black on all sides to multiples of 64
        picture, padded = Image.open(file), Image.new("RGB", (256, 192))
        padded.paste(picture, (28, 6))
        data = model.codec.compress(padded, 60, effort=1)
        back = np.asarray(model.codec.decompress(data), float)[6:186, 28:228]
        bpp.append(8 * len(data) / (200 * 180))
        psnr.append(10 * math.log10(255**2 / np.mean((back - np.asarray(picture)) ** 2)))
    assert found["bpp"] == pytest.approx(np.mean(bpp))
    assert found["psnr-rgb"] == pytest.approx(np.mean(psnr), abs=0.02 if half else 1e-3)
    assert 0.5 < found["ms-ssim-rgb"] < 1


def test_estimates_are_close_to_files(model, photos):
    program = pytest.importorskip("compressai.utils.eval_model.__main__")
    found = program.eval_model(
        model, Path(), photos[0].parent, photos, entropy_estimation=True, architecture="nlaic", half=False,
        per_image=False,
    )  # fmt: skip
    files = [model.codec.compress(Image.open(file), 60, effort=1) for file in photos]
    real = 8 * sum(map(len, files)) / (2 * 200 * 180)
    assert real - 0.015 < found["bpp"] < real  # header and the coder's end: 50 bytes of each
    back = [np.asarray(model.codec.decompress(data), float) for data in files]
    errors = [np.mean((b - np.asarray(Image.open(f))) ** 2) for b, f in zip(back, photos, strict=True)]
    assert found["psnr-rgb"] == pytest.approx(np.mean([10 * math.log10(255**2 / e) for e in errors]), abs=1e-3)


def test_a_batch(model):
    x = batch(smooth_picture(70, 50), smooth_picture(70, 50, seed=1))
    coded = model.compress(x)
    assert len(coded["strings"][0]) == 2 and coded["shape"] == (1, 2)
    x_hat = model.decompress(**coded)["x_hat"]
    assert x_hat.shape == x.shape
    assert torch.allclose(x_hat, model(x)["x_hat"], atol=1.01 / 255)
