"""One file, the same symbols: whatever threads, precision, memory format and instruction sets either side runs with."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import smooth_picture

WORKER = Path(__file__).with_name("exact_worker.py")
QUALITY = 60


@dataclass(frozen=True)
class Setting:
    """A way to run the codec, and how far its pixels may be from those of the first: a level, or 48 dB."""

    options: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    reduced: bool = False


SETTINGS = {
    "two threads": Setting({"threads": 2}),
    "channels last": Setting({"execution": {"channels_last": True}}),
    "without oneDNN": Setting({"onednn": False}),
    "bf16": Setting({"execution": {"precision": "bf16"}}, reduced=True),
    "what is fastest here": Setting({"execution": {"precision": "auto"}}, reduced=True),
    "matmul medium": Setting({"matmul": "medium"}, reduced=True),  # products in bf16 where the processor has it
    "oneDNN SSE4.1": Setting(environment={"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "oneDNN AVX2": Setting(environment={"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "ATen default": Setting(environment={"ATEN_CPU_CAPABILITY": "default"}),
    "OpenBLAS Nehalem": Setting(environment={"OPENBLAS_CORETYPE": "Nehalem"}),
    "OpenBLAS Haswell, two threads": Setting({"threads": 2}, {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2"}),
    "NumPy without AVX": Setting(
        environment={
            "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2 FMA3"
        }
    ),
    "GPU": Setting({"execution": {"device": "cuda"}}, reduced=True),  # convolutions in TF32
    "old and bf16": Setting(
        {"execution": {"precision": "bf16", "channels_last": True}},
        {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        reduced=True,
    ),
}


def run(folder: Path, common: dict, setting: Setting, base: Path | None) -> dict:
    folder.mkdir()
    options = {**common, **setting.options, "folder": str(folder), "base": str(base) if base else None}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **setting.environment}
    command = [sys.executable, "-W", "ignore", str(WORKER), json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        "mine": dict(np.load(folder / "mine.npz")),
        "base": dict(np.load(folder / "base.npz")),
        "pixels": np.load(folder / "pixels.npy").astype(float),
    }


@pytest.fixture(scope="module")
def reference(tiny_model, tmp_path_factory):
    """The first machine: its options, its file, what it decoded."""
    folder = tmp_path_factory.mktemp("exact")
    picture = folder / "picture.png"
    smooth_picture(300, 200, seed=5).save(picture)
    common = {"model": str(tiny_model), "picture": str(picture), "quality": QUALITY}
    return folder, common, run(folder / "first", common, Setting(), None)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", SETTINGS)
def test_decodes_to_the_same_symbols(reference, name):
    folder, common, first = reference
    setting = SETTINGS[name]
    if name == "GPU" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    other = run(folder / name.replace(" ", "-"), common, setting, folder / "first" / "mine.nlaic")
    assert same(other["base"], first["base"]), "the other machine read other symbols"
    difference = np.abs(other["pixels"] - first["pixels"])
    if setting.reduced:
        assert np.mean(difference**2) <= 255**2 / 10**4.8  # 48 dB
    else:
        assert difference.max() <= 1

    # And back: the first machine decodes the other's file to what the other decoded.
    back = run(
        folder / f"{name.replace(' ', '-')}-back", common, Setting(), folder / name.replace(" ", "-") / "mine.nlaic"
    )
    assert same(back["base"], other["mine"])


def test_the_picture_has_something_to_code(reference):
    _, _, first = reference
    symbols = np.concatenate([v.ravel() for k, v in first["base"].items() if k.startswith("r")])
    assert np.mean(symbols != 0) > 0.02
    assert len({int(i) for k, v in first["base"].items() if k.startswith("index") for i in np.unique(v)}) > 20
