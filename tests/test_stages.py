"""The stages after the first: what they train, what they leave alone, and that their weights are a codec."""

import copy
import json
import math
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nlaic.codec import load
from nlaic.container import unpack
from nlaic.errors import NlaicError
from nlaic.export import export, restore
from nlaic.nets.boundary import BoundarySettings, build_boundary
from nlaic.nets.discriminator import Discriminator
from nlaic.nets.light import LightSettings, build_light
from nlaic.nets.vae import uniform_noise
from nlaic.rates import rate_at
from nlaic.tiles import pad
from nlaic.train.data import Batch
from nlaic.train.encoder import Encoder
from nlaic.train.losses import Distortion
from nlaic.train.objectives import Adversarial, AdversarialSettings, Boundary, Discriminate, Redecode
from nlaic.train.outcome import quality_50
from nlaic.train.run import run
from nlaic.weights import NOT_IN_ID, find_weights
from tests.conftest import batch, smooth_picture
from tests.runs import config, short_run

MSE = Distortion()


@pytest.fixture
def net(tiny_model):
    return restore(find_weights(str(tiny_model)))


@pytest.fixture
def discriminator(net):
    torch.manual_seed(0)
    return Discriminator(net.rates.log_step.shape[1])


@pytest.fixture
def x():
    pictures = batch(smooth_picture(128, 128, 1), smooth_picture(128, 128, 2))
    return Batch(pictures, torch.tensor([8.0, 13.0]), uniform_noise)


@pytest.mark.parametrize("quality", [0, 300, 650, 1000])
def test_restored_weights_code_what_the_codec_codes(tiny_model, quality):
    """The floats of a weights file play its integers: y_hat is the decoder's, but for a symbol now and then."""
    codec = load(str(tiny_model), device="cpu", threads=1)
    pixels = pad(np.asarray(smooth_picture(192, 128, seed=4)))
    rate = rate_at(codec.weights.tensors, quality)
    expected = codec.decoded(codec.symbols(codec.engine.analysis(pixels), rate), rate) / rate.step
    net = restore(codec.weights).eval()
    position = torch.tensor([quality / 1000 * (net.rates.anchors - 1)])
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        y_hat = net.latents(x, position)[0][0].numpy() / rate.step
    assert np.mean(np.abs(y_hat - expected) > 0.02) < 2e-3


@pytest.mark.parametrize("middle", [1.3, 2.0])
def test_restored_rates_are_those_that_were_exported(middle):
    """Wherever quality 50 has been put: anchors are equally spaced in the logarithm of lambda, rows in quality."""
    settings = LightSettings(anchors=5)
    net = build_light(settings).requires_grad_(False)
    torch.manual_seed(0)
    net.rates.log_step.add_(torch.linspace(0, 3, 5)[:, None] ** 1.5)
    weights = export(net, "light", settings.to_dict(), settings.lambdas, [batch(smooth_picture(64, 64))], middle=middle)
    at_50 = net.rates.at(net.rates.log_step, torch.tensor([middle])).flatten()
    np.testing.assert_allclose(rate_at(weights.tensors, 500).step.ravel(), at_50.exp(), rtol=1e-5)
    restored = restore(weights, 5).rates
    torch.testing.assert_close(restored.log_step, net.rates.log_step, atol=0.05, rtol=0)
    torch.testing.assert_close(restored.log_scale, net.rates.log_scale, atol=0.05, rtol=0)


@pytest.mark.parametrize(("least", "position"), [(0.1, 2.5 * math.log(2.8)), (1e-3, 3.5), (0.5, 1.5)])
def test_quality_50_is_where_the_mean_rate_is_the_one_meant(monkeypatch, least, position):
    """Two pictures of different rates, whose mean goes from `least` at quality 0 to e^2 times that at 100."""
    monkeypatch.setattr(
        "nlaic.train.outcome.estimated_bpp",
        lambda net, picture, quality: least * float(picture.mean()) * math.exp(quality / 50),
    )
    pictures = [np.full((64, 64, 3), level, np.float32) for level in (0.4, 1.6)]
    assert quality_50(build_light(), pictures) == pytest.approx(position, abs=1e-6)


def test_frozen_parts_stay_frozen_whatever_is_asked_for(net, discriminator):
    objective = Adversarial(net, discriminator, MSE, AdversarialSettings())
    objective.train()
    assert not any(module.training for module in objective.codec.modules())
    assert not any(module.training for module in objective.discriminator.modules())
    assert all(module.training for module in objective.decoder.modules())
    assert not any(p.requires_grad for part in (objective.codec, objective.discriminator) for p in part.parameters())
    alternating = Adversarial(net, discriminator, MSE, AdversarialSettings(alternate=True)).train()
    assert alternating.discriminator.training and all(p.requires_grad for p in alternating.discriminator.parameters())


@pytest.mark.parametrize("turn", ["g_s_perceptual", "discriminator"])
def test_a_turn_moves_its_own_network_alone(net, discriminator, x, turn):
    objective = Adversarial(net, discriminator, MSE, AdversarialSettings(alternate=True)).train()
    objective.losses(turn, x)["loss"].backward()
    moved = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    own = {"g_s_perceptual": "decoder.", "discriminator": "discriminator."}[turn]
    assert all(name.startswith(own) and gradient.isfinite().all() for name, gradient in moved.items())
    assert len(moved) == len(list(objective.trained[turn].parameters()))


@pytest.mark.parametrize("effort", [1, 2, 4])
def test_what_the_encoder_chooses_is_what_files_hold(tiny_model, net, x, effort):
    codec = load(str(tiny_model), device="cpu", threads=1, engine="torch")
    y_hat, bpp = Encoder(codec.weights, effort)(x.x, x.position, net.rates.anchors)
    pictures = (255 * x.x).round().byte().permute(0, 2, 3, 1).numpy()
    for picture, position, latent, rate in zip(pictures, x.position, y_hat, bpp, strict=True):
        quality = round(100 * position.item() / (net.rates.anchors - 1), 1)
        data = codec.compress(Image.fromarray(picture), quality, effort=effort)
        assert rate.item() == pytest.approx(8 * unpack(data).within(0, len) / 128**2)
        expected = np.asarray(codec.decompress(data, realism=0, boundary_filter=False), float)
        np.testing.assert_allclose(codec.engine.synthesis(latent.numpy()), expected, atol=1)


def test_decoders_learn_from_what_the_encoder_chooses(tiny_model, net, discriminator, x):
    objective = Adversarial(net, discriminator, MSE, AdversarialSettings(alternate=True)).train()
    rounded, _ = objective.codec(x.x, x.position)
    calls = objective.codec.encoder = Mock(side_effect=Encoder(find_weights(str(tiny_model)), 3))
    again = Batch(x.x.clone(), x.position, x.noise)
    for turn in objective.trained:
        objective.losses(turn, again)
    assert calls.call_count == 1  # a step's turns see the same files
    chosen, _ = objective.codec(again.x, x.position)
    assert not torch.equal(chosen, rounded)


def test_a_second_decoder_is_where_the_tuned_one_starts(net, discriminator, x):
    second = copy.deepcopy(net.g_s)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.mul_(1.01)
    objective = Adversarial(net, discriminator, MSE, AdversarialSettings(), second)
    for ours, theirs in zip(objective.decoder.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours is not theirs


class Recorder(nn.Module):
    """Keeps what it is asked to judge."""

    def forward(self, pictures, y_hat):
        self.seen = pictures, y_hat
        return pictures.mean((1, 2, 3))


@pytest.mark.parametrize("turn", ["g_s_perceptual", "discriminator"])
def test_a_window_is_one_place_in_pictures_and_latents(net, x, turn):
    objective = Adversarial(net, Recorder(), MSE, AdversarialSettings(alternate=True, window=64))
    y_hat, _ = objective.codec(x.x, x.position)
    x_hat = objective.decoder(y_hat).detach()
    whole = x_hat if turn == "g_s_perceptual" else torch.cat((x.x, x_hat))
    latents = y_hat if turn == "g_s_perceptual" else torch.cat((y_hat, y_hat))
    places = set()
    for seed in range(6):
        torch.manual_seed(seed)
        objective.losses(turn, x)
        pictures, seen = objective.discriminator.seen
        assert seen.shape[-2:] == (4, 4)
        at = [(i, j) for i in range(5) for j in range(5) if torch.equal(seen, latents[..., i : i + 4, j : j + 4])]
        ((i, j),) = at
        torch.testing.assert_close(pictures, whole[..., 16 * i : 16 * i + 64, 16 * j : 16 * j + 64])
        places.add((i, j))
    assert len(places) > 2


def test_the_discriminator_learns(net, discriminator, x):
    objective = Discriminate(net, discriminator, window=64).train()
    optimiser = torch.optim.Adam(discriminator.parameters(), 1e-4, betas=(0.5, 0.9))
    before = None
    for _ in range(50):
        losses = objective.losses("discriminator", x)
        before = before or losses["loss"].item()
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    assert losses["loss"] < 0.96 * before
    assert losses["d_real"] > losses["d_fake"]


def test_the_adversarial_term_is_weighed(net, discriminator, x):
    terms = []
    for weight in (0.0, 2.0):
        losses = Adversarial(net, discriminator, MSE, AdversarialSettings(weight)).losses("g_s_perceptual", x)
        terms.append((losses["loss"], losses["adversarial"]))
    torch.testing.assert_close(terms[1][0] - terms[0][0], 2 * terms[1][1])


def test_an_untrained_filter_gains_nothing_and_learns(net, x):
    network = build_boundary(BoundarySettings(channels=16, blocks=1))
    objective = Boundary(net, [net.g_s], network, MSE).train()
    losses = objective.losses("boundary", x)
    assert losses["gain_db"] == 0
    losses["loss"].backward()
    assert network.last.weight.grad.any()
    assert all(p.grad is None for p in objective.codec.parameters())


def test_steps_across_boundaries_are_weighed(net, x):
    """On top of the distortion, the error of the jumps there over what it was: 1 for an untrained filter."""
    terms = []
    for step in (0.0, 0.5):
        network = build_boundary(BoundarySettings(channels=16, blocks=1))
        objective = Boundary(net, [net.g_s], network, MSE, relative=True, step=step)
        terms.append(objective.losses("boundary", x)["loss"].item())
    assert terms[0] == pytest.approx(1, abs=0.02) and terms[1] - terms[0] == pytest.approx(0.5, abs=0.01)


def later(name, folder, out, start, *more):
    common = [f"stage={name}", f"start={start}", f"data.root={folder}", "data.holdout=4", f"dir={out}", "steps=2"]
    return run(config(*common, "sampling.batch=1", "sampling.patch=128", "trainer.precision=32-true", *more))


@pytest.mark.parametrize("kind", ["adversarial", "adversarial_safe"])
def test_four_stages_make_one_file(folder, tmp_path, kind):
    first = short_run(folder, tmp_path / "rd", 4)
    second = later("discriminator", folder, tmp_path / "d", first)
    third = later(kind, folder, tmp_path / "a", second, "loss.scale=1")
    fourth = later("boundary", folder, tmp_path / "b", third, "stage.settings.channels=8", "stage.settings.blocks=1")
    a, b = find_weights(str(first)), find_weights(str(fourth))
    assert a.model_id == b.model_id
    for name, tensor in a.tensors.items():
        np.testing.assert_array_equal(tensor, b.tensors[name])
    added = {name.partition(".")[0] for name in set(b.tensors) - set(a.tensors)}
    assert added == {"g_s_perceptual", "boundary"} and all(f"{name}." in NOT_IN_ID for name in added)
    assert json.loads(b.metadata["boundary"])["channels"] == 8 and "training.adversarial" in b.metadata
    picture = smooth_picture(150, 90, seed=9)
    one, four = load(str(first)), load(str(fourth))
    data = one.compress(picture, 60)
    assert four.compress(picture, 60) == data
    faithful, natural, between = (np.asarray(four.decompress(data, realism=r), float) for r in (0, 1, 0.5))
    np.testing.assert_array_equal(faithful, np.asarray(one.decompress(data)))
    assert 0 < np.abs(natural - faithful).mean() < 30
    assert np.abs(between - faithful).mean() < np.abs(natural - faithful).mean()


def test_a_checkpoint_goes_on_with_the_weights_that_it_began_with_alone(folder, tmp_path):
    first, second = (short_run(folder, tmp_path / name, 1, f"sampling.seed={name}") for name in ("1", "2"))
    later("decoder", folder, tmp_path / "d", first)
    with pytest.raises(NlaicError, match=r"began with other weights than start= names; choose another dir="):
        later("decoder", folder, tmp_path / "d", second)
    assert later("decoder", folder, tmp_path / "d", first).exists()


def test_the_decoder_again(folder, tmp_path):
    first = short_run(folder, tmp_path / "rd", 4)
    second = later("decoder", folder, tmp_path / "one", first)
    third = later("decoder", folder, tmp_path / "two", second, "stage.keep=false", "stage.effort=3")
    a, b, c = (find_weights(str(one)) for one in (first, second, third))
    assert a.model_id == b.model_id == c.model_id
    assert (b.metadata["effort.decoder"], c.metadata["effort.decoder"]) == ("1", "3")
    for before, after in ((a, b), (b, c)):
        changed = {n for n, tensor in before.tensors.items() if not np.array_equal(tensor, after.tensors[n])}
        assert "encoder.gain" in changed and all(name.startswith("g_s.") for name in changed - {"encoder.gain"})
    for name in a.tensors:
        if name.startswith("g_s."):  # what the first began with is kept, and the second leaves it alone
            np.testing.assert_array_equal(a.tensors[name], c.tensors[name.replace("g_s.", "g_s_perceptual.", 1)])


def test_a_look_at_the_boundary_filter_sees_what_it_does(folder, tmp_path, capsys):
    """A filter that is wrecked says so; the discriminator changes nothing that could be looked at."""
    smooth_picture(256, 192).save(folder / "00.png")  # held out: it has seams
    first = short_run(folder, tmp_path / "rd", 4)
    capsys.readouterr()
    wild = ["optimisation=adam", "optimisation.adam=0.3", "optimisation.warmup=1", "report_minutes=1e-6"]
    later("boundary", folder, tmp_path / "b", first, *wild, "stage.settings.channels=8", "stage.settings.blocks=1")
    line = next(line for line in capsys.readouterr().out.splitlines() if "patches/s" in line)
    points = line.split()[-6:]
    gains = [float(point.partition("(")[2].rstrip(")")) for point in points]
    assert min(gains) < -1
    later("discriminator", folder, tmp_path / "d", first, "report_minutes=1e-6")
    line = next(line for line in capsys.readouterr().out.splitlines() if "patches/s" in line)
    assert "(" not in line and ":" not in line and not (tmp_path / "d" / "grids").exists()


def test_the_decoder_weighs_qualities_as_the_weights_were_trained(net, x):
    """Where lambda's logarithm is no straight line over the anchors."""
    losses = []
    for bend in (0.0, 0.7):
        line = torch.linspace(-8.0, -2.0, net.rates.anchors)
        line[2] += bend
        objective, batch = Redecode(net, MSE, line), replace(x, position=torch.full_like(x.position, 1.5))
        losses.append(objective.losses("g_s", batch)["loss"].item())
    weights = [np.exp(-8 + 6 * 1.5 / (net.rates.anchors - 1) + bend / 2) for bend in (0.0, 0.7)]
    expected = (weights[1] / weights[0]) ** (1 - 0.35)  # the power that makes all qualities' losses about equal
    assert losses[1] / losses[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage=discriminator"], "start=WEIGHTS"),
        (["stage=adversarial", "start={model}", "sampling.patch=64", "loss.scale=1"], "has no discriminator"),
        (["stage=boundary", "start={model}", "sampling.patch=64"], "multiple of 128"),
        (["stage=decoder", "stage.effort=0", "start={model}"], "stage.effort must be a whole number from 1 to 9"),
        (["stage=discriminator", "stage.window=50", "start={model}"], "window must be a multiple of 16"),
        (["stage=adversarial_safe", "stage.settings.window=0", "start={model}"], "window must be a multiple of 16"),
        (["stage=decoder", "stage.keep=maybe", "start={model}"], "stage.keep must be true or false, but got 'maybe'"),
        (["stage=boundary", "sampling.patch=128", "stage.step=much", "start={model}"], "stage.step must be a number"),
        (["stage=discriminator", "stage.settings.strides=[2,2]", "start={model}"], "strides must be 4 numbers from 1"),
        (["stage=boundary", "sampling.patch=128", "stage.settings.kind=big", "start={model}"], "kind must be one of"),
        (["stage=boundary", "sampling.patch=128", "stage.settings.blocks=63", "start={model}"], "reaches 68 pixels"),
        (["stage=discriminator", "stage.settings.strides=wide", "start={model}"], "strides must be .a whole number"),
        (["stage=boundary", "start=/nowhere.safetensors", "sampling.patch=128"], "nowhere"),
    ],
)
def test_what_cannot_work_is_one_clear_error(folder, tmp_path, tiny_model, overrides, message):
    words = [word.format(model=tiny_model) for word in overrides]
    with pytest.raises(NlaicError, match=message):
        run(config(f"data.root={folder}", f"dir={tmp_path}/run", "steps=1", "sampling.batch=1", *words))
