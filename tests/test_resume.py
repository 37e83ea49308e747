"""Training that was stopped, killed or begun elsewhere goes on."""

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nlaic.errors import NlaicError
from nlaic.train.chain import compose_chain
from nlaic.train.run import run
from nlaic.train.setup import CHECKPOINT, make_plan, read_checkpoint
from nlaic.weights import find_weights
from tests.runs import SMALL, command, config, short_run


def test_a_finished_run_is_exported_again_and_not_trained_on(folder, tmp_path, capsys):
    first = short_run(folder, tmp_path / "run", 2).read_bytes()
    again = short_run(folder, tmp_path / "run", 2).read_bytes()
    assert "finished before: " in capsys.readouterr().out
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["nlaic"]["steps"] == 2
    assert again == first


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(folder, tmp_path):
    whole = short_run(folder, tmp_path / "whole", 6, "optimisation.hold=1")
    short_run(folder, tmp_path / "parts", 3, "optimisation.hold=1")
    parts = short_run(folder, tmp_path / "parts", 6, "optimisation.hold=1")
    assert whole.read_bytes()[-1000:] == parts.read_bytes()[-1000:]
    a, b = (torch.load(p.parent / "last.ckpt", weights_only=False)["state_dict"] for p in (whole, parts))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_goes_on_from_leg_to_leg(folder, tmp_path, capsys):
    words = [SMALL, f"data.root={folder}", "data.holdout=4", "sampling.batch=1", "sampling.patch=64"]
    settings = config(*words, "steps=4", f"dir={tmp_path}/run")
    legs = [run(settings | {"leg_minutes": 1e-6}) for _ in range(3)]
    assert legs == [None] * 3 and "goes on from" in capsys.readouterr().out
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["nlaic"]["steps"] == 3
    assert run(settings | {"leg_minutes": 10}).exists()


def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(folder, tmp_path):
    """`kill -9` somewhere between two of its checkpoints, then the same command again: equal bit for bit."""
    words = ["steps=9", "checkpoint_minutes=1e-4", "sampling.batch=2"]
    subprocess.run(command(folder, tmp_path / "whole", *words), check=True, capture_output=True)
    killed = command(folder, tmp_path / "killed", *words)
    with subprocess.Popen(killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "killed" / "last.ckpt").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    seen = torch.load(tmp_path / "killed" / "last.ckpt", weights_only=False)["nlaic"]["steps"]
    assert 0 < seen <= 9
    subprocess.run(killed, check=True, capture_output=True)
    a, b = (torch.load(tmp_path / run / "last.ckpt", weights_only=False) for run in ("whole", "killed"))
    assert a["nlaic"]["steps"] == b["nlaic"]["steps"] == 9
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])
    for ours, theirs in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        for number, state in ours["state"].items():
            assert all(
                torch.equal(torch.as_tensor(v), torch.as_tensor(theirs["state"][number][k])) for k, v in state.items()
            )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_a_checkpoint_to_go_on_from(folder, tmp_path, number):
    words = command(folder, tmp_path / "run", "steps=100000", "sampling.batch=1", "report_minutes=1e-4")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "patches/s" not in process.stdout.readline():  # it trains
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == 130 and "Traceback" not in err
    steps = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["nlaic"]["steps"]
    assert f"stopped at step {steps}; the same command goes on" in out and steps > 0


def test_rates_are_those_of_the_start_that_goes_on(folder, tmp_path):
    short_run(folder, tmp_path / "run", 2)
    before = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["state_dict"]
    words = ["optimisation.muon=0", "optimisation.adam=0", "optimisation.muon_every=1"]
    short_run(folder, tmp_path / "run", 4, *words)
    after = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)
    assert after["nlaic"]["steps"] == 4
    assert all(torch.equal(before[n], p) for n, p in after["state_dict"].items() if n.startswith("objective.net.g_"))
    with pytest.raises(NlaicError, match=r"checkpoint of another optimisation.kind; choose another dir="):
        short_run(folder, tmp_path / "run", 6, "optimisation=adam")


def test_a_checkpoint_of_a_gpu_goes_on_without_one(folder, tmp_path, monkeypatch):
    short_run(folder, tmp_path / "run", 2)
    monkeypatch.setattr("torch.serialization.location_tag", lambda _: "cuda:0")
    file = tmp_path / "run" / "last.ckpt"
    torch.save(torch.load(file, weights_only=False), file)
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(file, weights_only=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert short_run(folder, tmp_path / "run", 3).exists()


def checkpoint_of(path, **changed):
    """What is looked at in a checkpoint, with tensors, at step 3."""
    names = {name: kind() for name, kind in CHECKPOINT.items()}
    tensors = {"mean.net.a": torch.arange(5.0), "objective.b": torch.ones(2, 3)}
    torch.save({**names, "state_dict": tensors, "nlaic": {"steps": 3, "seconds": 1.5}, **changed}, path)
    return path


@pytest.mark.parametrize(
    "changed",
    [
        *({"nlaic": been} for been in (5, [1], {}, {"steps": 1}, {"steps": None, "seconds": None})),
        *({"nlaic": {"steps": 1, "seconds": seconds}} for seconds in ("x", float("nan"), float("inf"), -1.0, 10**400)),
        *({"nlaic": {"steps": steps, "seconds": 1.0}} for steps in ("x", 1.5, -1, 10**400)),
        *({name: None} for name in CHECKPOINT),
    ],
    ids=lambda changed: str(changed)[:60],
)
def test_what_is_no_checkpoint_of_a_run_is_told(tmp_path, changed):
    assert read_checkpoint(checkpoint_of(tmp_path / "last.ckpt"))["nlaic"]["steps"] == 3
    with pytest.raises(ValueError, match=r"not of a run|how far it is|further than any run"):
        read_checkpoint(checkpoint_of(tmp_path / "last.ckpt", **changed))


@pytest.mark.parametrize("content", [[1], {"nlaic": 5}], ids=str)
def test_neither_goes_a_run_on_from_it_nor_begins(folder, tmp_path, content):
    (tmp_path / "run").mkdir()
    torch.save(content, tmp_path / "run" / "last.ckpt")
    with pytest.raises(NlaicError, match="is damaged or no checkpoint; remove it or choose another dir="):
        short_run(folder, tmp_path / "run", 2)
    with pytest.raises(NlaicError, match=r"start: .*last\.ckpt is not a checkpoint of this model"):
        short_run(folder, tmp_path / "other", 2, f"start={tmp_path}/run")


def test_a_run_starts_from_a_weights_file(folder, tmp_path):
    first = short_run(folder, tmp_path / "first", 6)
    second = short_run(
        folder, tmp_path / "second", 1, f"start={first}", "optimisation.floor=0", "optimisation.warmup=1000000000"
    )
    before, after = (torch.load(p.parent / "last.ckpt", weights_only=False)["state_dict"] for p in (first, second))
    for name in (n for n in before if n.startswith("mean.net.g_")):
        torch.testing.assert_close(after[name], before[name], atol=2e-3, rtol=2e-3)  # half precision
    assert all(before[name].shape == after[name].shape for name in before)
    a, b = (find_weights(str(path)).tensors["rates.log_step"] for path in (first, second))
    np.testing.assert_allclose(a[[0, -1]], b[[0, -1]], atol=1e-3)


def test_a_run_starts_from_another_ones_weights(folder, tmp_path):
    first = short_run(folder, tmp_path / "first", 6).parent
    second = short_run(
        folder, tmp_path / "second", 1, f"start={first}", "optimisation.floor=0", "optimisation.warmup=1000000000"
    )
    before, after = (torch.load(p / "last.ckpt", weights_only=False)["state_dict"] for p in (first, second.parent))
    for name in (n for n in before if n.startswith("mean.net.")):
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)


def test_a_folder_is_a_run_where_it_has_a_checkpoint(tiny_model, tmp_path, monkeypatch):
    """Such as that of `nlaic-evaluate ... out=tiny`, which has none."""
    monkeypatch.setenv("NLAIC_WEIGHTS", str(tiny_model))
    monkeypatch.chdir(tmp_path)
    settings = config("data.root=photos", "steps=1", "start=tiny")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "report.html").write_text("")
    plan = make_plan(settings)
    assert plan.weights.path == tiny_model and plan.checkpoint is None
    (tmp_path / "tiny" / "last.ckpt").write_bytes(b"")
    plan = make_plan(settings)
    assert plan.weights is None and plan.checkpoint == Path("tiny/last.ckpt")
    (tmp_path / "runs").mkdir()
    with pytest.raises(NlaicError, match=r"start: runs holds no last.ckpt, and no weights named 'runs'"):
        make_plan(settings | {"start": "runs"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("model.settings.lambda_max=0.2", r"began with model.settings=.*'lambda_max': 0.1"),
        ("+loss.terms.grid=1", r"began with loss.terms=\{'mse': 1.0\}"),
    ],
)
def test_a_run_goes_on_as_the_run_that_it_was(folder, tmp_path, changed, said):
    short_run(folder, tmp_path / "run", 2)
    checkpoint = (tmp_path / "run" / "last.ckpt").read_bytes()
    with pytest.raises(NlaicError, match=said + ".*; choose another dir="):
        short_run(folder, tmp_path / "run", 4, changed)
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == checkpoint
    assert short_run(folder, tmp_path / "run", 3, "optimisation.muon=1e-4", "report_minutes=null").exists()


def test_without_a_folder_another_run_has_another_one(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [SMALL, f"data.root={folder}", "data.holdout=4", "sampling.batch=1", "sampling.patch=64", "steps=1"]
    places = [run(config(*words, *more)) for more in ([], [], ["loss=mae"], ["model.settings.lambda_max=0.2"])]
    assert places[0] == places[1] and len(set(places)) == 3


def test_a_chain_and_a_run_do_not_share_a_folder(folder, tmp_path):
    words = [SMALL, f"data.root={folder}", "data.holdout=4", "sampling.batch=1", "sampling.patch=64", "steps=1"]
    run(config(*words, f"dir={tmp_path}/chain/rd"))
    with pytest.raises(NlaicError, match=r"dir: .*chain holds other runs, .*rd/last.ckpt is one"):
        run(config(*words, f"dir={tmp_path}/chain"))
    whole = ["run=light", *words, f"dir={tmp_path}/chain/rd"]
    with pytest.raises(NlaicError, match=r"last.ckpt is of a run of one stage"):
        compose_chain(config(*whole), whole, lambda words: config(*words))
