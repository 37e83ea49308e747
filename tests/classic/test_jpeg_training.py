"""The differentiable pipeline against the encoder's numbers, its gradients against definitions; stage `jpeg`."""

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from nlaic.classic.jpeg.blocks import analyse, dequantised, synthesise
from nlaic.classic.jpeg.encoder import Options, encode
from nlaic.classic.jpeg.model import as_tables, load
from nlaic.classic.jpeg.rounding import nearest
from nlaic.classic.jpeg.symbols import count, in_zigzag
from nlaic.classic.jpeg.tuning import cost
from nlaic.errors import NlaicError
from nlaic.nets.jpeg import JpegSettings
from nlaic.nets.rounding import SharpRound, ThirdOrderRound
from nlaic.train.data import Batch
from nlaic.train.jpeg import JpegLoss, JpegObjective, _AcCosts, code_bits, paper_rate
from nlaic.train.jpeg_polish import polished
from nlaic.train.losses import Distortion
from nlaic.train.run import run
from tests.classic.conftest import model_of, untrained
from tests.conftest import batch, smooth_picture
from tests.runs import config


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("subsampling", ["420", "444"])
def test_the_pipeline_is_the_encoder_and_the_decoder(subsampling, reduced):
    net = untrained(subsampling, attention="none")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        net.tables.log_step.copy_(net.tables.log_steps().exp().round().log())  # a file holds integers
        x = batch(smooth_picture(64, 48))
        out = net(x, torch.tensor([4.0]))
    tables = as_tables(net.tables.log_steps()[4].detach().numpy())
    planes = analyse(np.asarray(smooth_picture(64, 48)), subsampling)
    levels = nearest(planes, tables)
    assert all(
        np.mean(mine.reshape(-1) != theirs.numpy().reshape(-1)) < 1e-3
        for mine, theirs in zip(levels, out["levels"], strict=True)
    )
    shown = np.clip(synthesise(dequantised(planes, levels, tables)), 0, 255)
    assert np.abs(shown - 255 * out["x_hat"][0].permute(1, 2, 0).numpy()).mean() < 0.05


def test_the_third_order_gradient_has_the_sign_that_learns():
    x = torch.linspace(-2.37, 2.31, 49, dtype=torch.float64, requires_grad=True)
    rounded = ThirdOrderRound.apply(x)
    assert torch.equal(rounded, x.round())
    rounded.sum().backward()
    at = x.detach()
    smooth = [(t.round() + (t - t.round()) ** 3) for t in (at + 1e-6, at - 1e-6)]
    assert torch.allclose(x.grad, (smooth[0] - smooth[1]) / 2e-6, atol=1e-5)
    assert x.grad.min() >= 0


def test_the_sharp_gradient_is_one_in_the_mean():
    x = torch.linspace(-0.5, 6.5, 70_001, dtype=torch.float64, requires_grad=True)
    SharpRound.apply(x).sum().backward()
    for middle in range(7):
        inside = (x - middle).abs() < 0.5
        assert x.grad[inside].mean() == pytest.approx(1, abs=0.07)
    assert x.grad[(x.abs() < 0.3)].max() < 0.05


def test_bits_are_those_that_the_encoder_counts():
    net = untrained("420", attention="none")
    with torch.no_grad():
        out = net(batch(smooth_picture(192, 128)), torch.tensor([5.0]))
    _, bits = code_bits(out["levels"], out["scaled"])
    zigzag = [in_zigzag(q[0].numpy().astype(int)) for q in out["levels"]]
    counts = [count(zigzag[:1]), count(zigzag[1:])]
    ac = [count([np.where(np.arange(64) > 0, q, 0) for q in part]) for part in (zigzag[:1], zigzag[1:])]
    smallest = sum(c.bits() for c in ac)
    assert smallest < float(bits) < 1.3 * sum(c.bits() for c in counts)


def test_slopes_are_what_one_level_more_costs():
    """The bits of a block's symbols with the same codes, level by level."""
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.laplace(0, 0.5, (1, 40, 63))).float()
    z = x.round()
    costs = _AcCosts(z)
    table = costs.costs[0].view(64, 12)

    def bits(row):
        places = np.flatnonzero(row)
        before = np.append(-1, places)
        runs = zip(before, places, strict=False)
        total = sum(float(table[p - b - 1, abs(int(row[p])).bit_length()]) for b, p in runs)
        return total + (float(table[0, 0]) if row[62] == 0 else 0)

    slopes = costs.slopes(x)[0].numpy()
    for block, place in zip(rng.integers(0, 40, 60), rng.integers(0, 62, 60), strict=True):
        row = z[0, block].numpy().copy()
        lower = np.floor(abs(float(x[0, block, place])))
        below, above = row.copy(), row.copy()
        below[place], above[place] = lower, lower + 1
        assert slopes[block, place] == pytest.approx(bits(above) - bits(below), abs=2e-3)


def test_the_papers_rate_is_eq_10():
    net = untrained("444")
    with torch.no_grad():
        out = net(batch(smooth_picture(64, 48), smooth_picture(64, 48, 1)), torch.tensor([2.0, 6.0]))
    rate = paper_rate(out, JpegLoss("paper", alpha=10.0, beta=1.0))
    for n in range(2):
        luma, chroma = out["tables"][n]
        expected = 10 * ((1 / luma).sum() + (1 / chroma).sum())
        expected += out["attention"][0][n].mean() + out["attention"][1][n].mean()
        assert rate[n] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"rounding": "third_order", "start": "uniform"}], ids=["ours", "paper"])
def test_everything_that_is_trained_feels_the_loss(settings):
    net = untrained("444", **settings)
    objective = JpegObjective(net, Distortion(), JpegLoss("paper" if settings else "codes"))
    work = Batch(batch(smooth_picture(64, 64)), torch.tensor([4.5]), torch.zeros_like)
    loss = objective.losses("net", work)["loss"]
    gradients = torch.autograd.grad(loss, list(objective.trained["net"].parameters()))
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_dearer_bits_make_coarser_tables():
    """Descent on one picture at one lambda, and at a tenth of it."""
    steps = []
    for lambda_ in (0.02, 0.002):
        net = untrained("444", attention="none", anchors=1, lambda_min=lambda_, lambda_max=lambda_)
        with torch.no_grad():
            net.tables.log_step.fill_(3.0)
        objective = JpegObjective(net, Distortion(), JpegLoss(balance=0.0))
        optimiser = torch.optim.Adam(net.parameters(), 0.05)
        work = Batch(batch(smooth_picture(128, 128)), torch.zeros(1), torch.zeros_like)
        for _ in range(40):
            optimiser.zero_grad()
            objective.losses("net", work)["loss"].backward()
            optimiser.step()
        steps.append(net.tables.log_steps().mean().item())
    assert steps[1] > steps[0] + 0.1


def short(folder, out, *more):
    words = ["stage=jpeg", "model=jpeg", "optimisation=jpeg", "loss=mse", f"data.root={folder}", "data.holdout=4"]
    words += [f"dir={out}", "sampling.batch=2", "sampling.patch=64", "trainer.precision=32-true", "steps=4"]
    return run(config(*words, "model.settings.width=8", *more))


def test_a_run_makes_weights_that_encode(folder, tmp_path):
    first = short(folder, tmp_path / "420", "report_minutes=1e-9")
    both = short(folder, tmp_path / "444", "model.settings.subsampling='444'", f"start={first}")
    model = load(str(both))
    assert model.knows("420") and model.knows("444")
    assert np.array_equal(model.tensors["420.tables"], load(str(first)).tensors["420.tables"])
    assert "4 steps, 8 patches" in model.metadata["444.training"] and json.loads(model.metadata["444.lambdas"])
    picture = smooth_picture(60, 50)
    for subsampling in ("420", "444"):
        assert Image.open(BytesIO(encode(picture, model, 30, Options(subsampling)))).size == (60, 50)


def test_a_run_begins_where_another_ended(folder, tmp_path):
    first = short(folder, tmp_path / "a")
    again = short(folder, tmp_path / "b", f"start={first}", "optimisation.adam=1e-9")
    a, b = (load(str(path)).tensors for path in (first, again))
    assert all(np.allclose(a[name], b[name], atol=2e-3) for name in a)
    with pytest.raises(NlaicError, match="start: the weights have 10 anchors, the model 3"):
        short(folder, tmp_path / "c", f"start={first}", "model.settings.anchors=3")


def test_polished_tables_cost_less():
    model = model_of(untrained("420", anchors=2, lambda_min=0.001, lambda_max=0.01))
    pictures = [np.asarray(smooth_picture(160, 120, seed)) for seed in range(2)]
    better = polished(model, "420", pictures)
    assert np.array_equal(better.tensors["420.tables"], model.tensors["420.tables"])
    for quality in (0, 100):
        price, sums = model.price("420", quality), []
        for one in (model, better):
            tables = as_tables(one.log_steps("420", quality, "nearest"))
            planes = [analyse(picture) for picture in pictures]
            sums.append(sum(cost(p, tables, nearest(p, tables), price) for p in planes))
        assert sums[1] < 0.995 * sums[0]


def test_settings_that_make_no_sense():
    with pytest.raises(NlaicError, match="subsampling must be 444"):
        JpegSettings("420", attention="vgg19")
    with pytest.raises(NlaicError, match="rounding must be one of"):
        JpegSettings(rounding="up")
    with pytest.raises(NlaicError, match=r"settings.anchors must be at least 1, but got 0"):
        JpegSettings(anchors=0)
    with pytest.raises(NlaicError, match="rate must be one of codes, paper"):
        JpegLoss("entropy")


def test_the_papers_configuration_without_vgg(folder, tmp_path):
    """Its tables move by 0.1 a step: 1e-6 over 1e-5."""
    words = ["stage=jpeg", "model=jpeg_paper", "optimisation=jpeg_paper", "loss=mse", f"data.root={folder}"]
    words += ["stage.settings.rate=paper", "stage.settings.balance=0", "sampling.batch=2", "sampling.patch=64"]
    words += ["trainer.precision=32-true", "model.settings.attention=none", "data.holdout=4"]
    path = run(config(*words, f"dir={tmp_path}/run", "steps=20"))
    steps = np.exp(load(str(path)).tensors["444.tables"].astype(float))
    assert steps.min() >= 0.99 and 1.5 < steps.mean() < 4.1
    with pytest.raises(NlaicError, match="vgg19_features"):
        run(config(*words[:-2], "data.holdout=4", f"dir={tmp_path}/other", "steps=2"))
