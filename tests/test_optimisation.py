"""How the weights move: Muon, rates over a run, the weight on the distortion."""

from itertools import pairwise

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from nlaic.train.muon import Muon, orthogonalise
from nlaic.train.objectives import lambda_at
from nlaic.train.optimisation import Optimisation
from nlaic.train.stages import Budget, Sampling, Stage


@pytest.mark.parametrize("shape", [(30, 90), (90, 30), (16, 16)])
def test_orthogonalise_against_the_singular_value_decomposition(shape):
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    out = orthogonalise(matrix, steps=5)
    s = torch.linalg.svdvals(out)
    assert s.min() > 0.3 and s.max() < 1.25
    assert torch.nn.functional.cosine_similarity(out.flatten(), (u @ vt).flatten(), 0) > 0.95


def test_muon_finds_a_minimum():
    target = torch.randn(4, 6, 3, 3)
    p = torch.nn.Parameter(torch.zeros(4, 6, 3, 3))
    optimiser = Muon([p], lr=0.1)
    for step in range(300):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
        optimiser.zero_grad()
        (p - target).square().sum().backward()
        optimiser.step()
    assert (p - target).abs().max() < 0.05


class Drift(nn.Module):
    """A parameter that is drawn to 1, a buffer that counts, and what the parameter was at every step."""

    anchors = 1

    def __init__(self):
        super().__init__()
        self.net = nn.ParameterDict({"p": nn.Parameter(torch.zeros(()))})
        self.net.count = nn.Buffer(torch.zeros(()))
        self.seen = []

    @property
    def trained(self):
        return {"net": self.net}

    def losses(self, turn, batch):
        self.seen.append(self.net["p"].item())
        self.net.count += 1
        return {"loss": (self.net["p"] - 1).square()}


def test_what_is_exported_is_a_running_mean():
    """The decay grows from a tenth to `ema`, so that the start is soon forgotten."""
    objective = Drift()
    stage = Stage(objective, [], Sampling(), Optimisation("adam", adam=0.1, warmup=1, ema=0.2), Budget(steps=3))
    batch = {"x": torch.zeros(1, 3, 8, 8), "position": torch.zeros(1), "number": torch.zeros(1, dtype=torch.long)}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(accelerator="cpu", max_steps=3, **quiet)
    trainer.fit(stage, DataLoader([batch] * 3, batch_size=None))
    values = [*objective.seen, objective.net["p"].item()]
    assert len(set(values)) == 4
    mean = values[0]
    for value, decay in zip(values[1:], (1 / 10, 2 / 11, 0.2), strict=True):
        mean = decay * mean + (1 - decay) * value
    assert stage.mean["net"]["p"].item() == pytest.approx(mean, rel=1e-5)
    assert stage.mean["net"].count == 3  # buffers are the last


def test_budget():
    assert Budget(minutes=2).progress(60, 10**6) == 0.5
    assert Budget(steps=10).progress(0, 20) == 1
    assert Budget(minutes=1, steps=10).progress(6, 9) == 0.9


def test_the_rate_warms_up_holds_and_falls():
    o = Optimisation(warmup=10, hold=0.5)
    factors = [o.factor(step / 100, step, 0) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[20] == factors[49] == 1
    assert Optimisation(warmup=0).factor(0, 0, 0) == 1
    assert factors[75] == pytest.approx(0.5) and factors[100] == 0.01


def test_the_papers_rate_halves_every_third_epoch_after_the_seventh():
    o = Optimisation(schedule="halving", epoch=1000, warmup=1, floor=0)
    epochs = [o.factor(0, 1, 1000 * epoch) for epoch in range(15)]
    assert epochs == [0.5 ** max(0, (epoch - 7) // 3) for epoch in range(15)]
    assert epochs[9] == 1 and epochs[10] == 0.5 and epochs[13] == 0.25


def test_lambda_is_log_linear_in_quality():
    assert lambda_at(torch.tensor([0.0, 2.5, 5.0]), 6, (0.001, 0.1)).tolist() == pytest.approx([0.001, 0.01, 0.1])


def test_muon_keeps_a_direction_for_some_steps():
    """Every weight has a new one in its turn, and moves by it until the next."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.zeros(4, 6)) for _ in range(3)]
    optimiser = Muon(weights, lr=0.1, momentum=0.0, every=3)
    moves = []
    for _ in range(7):
        before = [w.detach().clone() for w in weights]
        for w in weights:
            w.grad = torch.randn_like(w)
        optimiser.step()
        moves.append([w.detach() - b for w, b in zip(weights, before, strict=True)])
    for number in range(3):
        kept = [torch.allclose(a[number], b[number], atol=1e-6) for a, b in pairwise(moves)]
        assert [step for step in range(1, 7) if not kept[step - 1]] == [
            step for step in range(1, 7) if (step + number) % 3 == 0
        ]
