"""Training elsewhere: packed, trained in legs without what is not there, brought back in halves, gone on with here."""

import json
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from nlaic.weights import find_weights
from tests.runs import SMALL

TOOL = Path(__file__).parents[1] / "tools" / "leg.py"
NOT_THERE = ("hydra", "omegaconf", "compressai", "piq", "lpips", "platformdirs")


def leg(*words, blocked=()):
    call = ["leg.py", *map(str, words)]
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({blocked!r})); sys.argv = {call!r}"
    run = f"runpy.run_path({str(TOOL)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", f"{code}; {run}"], capture_output=True, text=True, check=False)


@pytest.fixture
def words(folder):
    return [SMALL, f"data.root={folder}", "data.holdout=0", "sampling.batch=1", "sampling.patch=64", "steps=3"]


def test_a_run_goes_there_and_comes_back(words, tmp_path):
    packed, state, out, runs = (tmp_path / name for name in ("pack", "state", "out", "runs"))
    assert leg("pack", packed, "--megabytes", 2, *words).returncode == 0
    assert packed.stat().st_size < 2e6
    first = leg("run", packed, state, out, "--minutes", 1e-6, "--part-megabytes", 0.1, blocked=NOT_THERE)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "goes on from" in first.stdout and len(list(out.iterdir())) > 1
    assert max(path.stat().st_size for path in out.iterdir()) <= 1e5
    assert leg("join", out, runs).returncode == 0
    there, here = (torch.load(place / "rd" / "last.ckpt", weights_only=False) for place in (state / "runs", runs))
    assert here["nlaic"]["steps"] == there["nlaic"]["steps"] == 1
    for name, value in there["state_dict"].items():
        torch.testing.assert_close(here["state_dict"][name], value, atol=1e-4, rtol=1e-3)
    second = [sys.executable, "-m", "nlaic.cli.train", *words, f"dir={runs / 'rd'}"]
    done = subprocess.run(second, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "going on from:" in done.stdout, done.stderr[-2000:]
    assert find_weights(str(runs / "rd" / "weights.safetensors")).metadata["training.rd"].startswith("3 steps")


def test_a_leg_starts_where_a_run_has_come_to(words, tmp_path):
    first = [sys.executable, "-m", "nlaic.cli.train", *words, f"dir={tmp_path / 'before'}"]
    assert subprocess.run(first, capture_output=True, check=False).returncode == 0
    packed = tmp_path / "pack"
    assert leg("pack", packed, "--megabytes", 20, *words, f"start={tmp_path / 'before'}").returncode == 0
    done = leg("run", packed, tmp_path / "state", tmp_path / "out", "--minutes", 1e-6, "--part-megabytes", 1)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_pack_starts_from_weights_by_name(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tiny_model))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()  # not a run
    assert runpy.run_path(str(TOOL))["_start"]("tiny") == (tiny_model.read_bytes(), ".safetensors")


def test_a_pack_holds_what_the_stages_need(words, tmp_path):
    more = ["loss=mse_lpips", f"loss.networks={tmp_path}"]
    missing = leg("pack", tmp_path / "pack", *words, *more)
    assert missing.returncode == 1 and missing.stderr.startswith("leg.py: loss: alexnet_features.safetensors")
    from safetensors.torch import save_file

    for name in ("alexnet_features", "lpips_lin_alex"):
        save_file({"features.0.weight": torch.zeros(2)}, tmp_path / f"{name}.safetensors")
    assert leg("pack", tmp_path / "pack", *words, *more).returncode == 0
    with zipfile.ZipFile(tmp_path / "pack") as archive:
        assert {"networks/alexnet_features.safetensors", "networks/lpips_lin_alex.safetensors"} <= set(
            archive.namelist()
        )
        assert json.loads(archive.read("chain.json"))["chain"]["rd"]["steps"] == 3


def test_too_little_room_is_said(words, tmp_path):
    done = leg("pack", tmp_path / "pack", "--megabytes", 0.0001, *words)
    assert done.returncode == 1 and "no picture of" in done.stderr
