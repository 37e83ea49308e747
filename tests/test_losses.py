"""Distances against the packages that are known for them, with the same networks put in."""

import hashlib

import lpips
import piq
import pytest
import torch
from omegaconf import OmegaConf
from piq.perceptual import VGG16_LAYERS
from torch import nn
from torchvision import models

from nlaic.errors import NlaicError
from nlaic.nets.ms_ssim import MsSsim
from nlaic.resources import resource_folder
from nlaic.train.losses import Distortion
from nlaic.train.perceptual import Dists, L2Pool, load_dists, load_lpips, vgg16
from tests.conftest import at_hand

CHANNELS = (3, 64, 128, 256, 512, 512)


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    x = torch.rand(2, 3, 16, 16).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return (x + 0.1 * torch.randn_like(x)).clamp(0, 1), x


@pytest.mark.parametrize("network", ["alex", "squeeze", "vgg"])
def test_lpips_is_the_packages(network, networks, pair):
    theirs = lpips.LPIPS(net=network, pnet_rand=True, verbose=False).eval()
    ours = load_lpips(network, str(networks))
    state = ours.trunk.features.state_dict()
    theirs.net.load_state_dict({name: state[name.split(".", 1)[1]] for name in theirs.net.state_dict()})
    x_hat, x = pair
    torch.testing.assert_close(ours(x_hat, x), theirs(x_hat, x, normalize=True).flatten(), rtol=1e-4, atol=1e-6)
    assert (ours(x, x) == 0).all()


@pytest.fixture
def piqs_dists(networks, monkeypatch):
    """piq's DISTS on our random network instead of the ones it would download."""
    from safetensors.torch import load_file

    features = models.vgg16(weights=None).features
    state = load_file(networks / "vgg16_features.safetensors")
    features.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    weights = load_file(networks / "dists.safetensors")
    model = nn.Module()
    model.features = features
    monkeypatch.setattr("piq.perceptual.vgg16", lambda **_: model)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: weights)
    return piq.DISTS(reduction="none").eval()


@pytest.mark.parametrize("size", [(128, 128), (300, 340)], ids=["patch", "large"])
def test_dists_is_piqs(size, networks, piqs_dists):
    torch.manual_seed(2)
    x = torch.rand(2, 3, *size)
    x_hat = (0.9 * x + 0.1 * torch.rand_like(x)).requires_grad_()
    ours = load_dists(5, str(networks))(x_hat, x)
    theirs = piqs_dists(x_hat, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    (a,), (b,) = (torch.autograd.grad(v.sum(), x_hat) for v in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3 * float(b.abs().max()))


def test_fewer_stages_are_dists_with_the_other_weights_at_zero(networks, pair):
    x_hat, x = pair
    whole, part = load_dists(5, str(networks)), load_dists(3, str(networks))
    kept = sum(CHANNELS[:4])
    alpha, beta = whole.alpha.clone(), whole.beta.clone()
    alpha[kept:], beta[kept:] = 0, 0
    torch.testing.assert_close(part(x_hat, x), Dists(whole.trunk, alpha, beta)(x_hat, x), rtol=1e-4, atol=1e-6)


def test_taps_are_the_last_activation_of_each_stage():
    _, taps = vgg16(5, L2Pool)
    assert taps == [int(VGG16_LAYERS[f"relu{stage}_{last}"]) for stage, last in enumerate((2, 2, 3, 3, 3), 1)]


def test_lpips_with_the_real_network():
    """The value that torchmetrics' documentation gives for ten pairs of noise, seed 42."""
    lpips_squeeze = load_lpips("squeeze", str(at_hand("weights")))
    torch.manual_seed(42)
    a, b = torch.rand(10, 3, 100, 100), torch.rand(10, 3, 100, 100)
    assert lpips_squeeze(a, b).mean() == pytest.approx(0.1005, abs=1e-4)


def test_what_was_used_is_known(networks):
    distortion = Distortion({"mse": 1.0, "lpips_alex": 1.0, "dists": 1.0}, 1.0, str(networks))
    vgg = networks / "vgg16_features.safetensors"
    assert distortion.files[vgg.name] == hashlib.sha256(vgg.read_bytes()).hexdigest()
    assert len(distortion.files) == 4 and not Distortion().files  # two networks, the weights of both distances


def test_terms_add_up_and_pretrained_networks_stay_frozen(networks, pair):
    x_hat, x = pair
    loss = Distortion({"mse": 100.0, "dists": 2.0, "lpips_alex": 0.5}, 3.0, str(networks), window=None)
    value, means = loss(x_hat, x)
    expected = 3 * (100 * means["mse"] + 2 * means["dists"] + 0.5 * means["lpips_alex"])
    torch.testing.assert_close(value.mean(), expected)
    assert not any(p.requires_grad for p in loss.parameters())
    assert not any(module.training for module in loss.train().modules())


def test_the_reference_has_no_graph_and_the_window_is_drawn_again(networks, pair):
    x_hat, x = (v.clone().requires_grad_() for v in pair)
    loss = Distortion({"lpips_alex": 1.0}, 1.0, str(networks), window=64)
    torch.manual_seed(0)
    values = torch.stack([loss(x_hat, x)[0] for _ in range(3)])
    values.sum().backward()
    assert x.grad is None and x_hat.grad.any()
    assert len(values[:, 0].unique()) > 1


def test_a_distortion_and_what_it_was_before_are_of_one_window(pair, monkeypatch):
    x_hat, x = pair
    loss = Distortion({"mse": 1.0}, 1.0, window=32)
    monkeypatch.setattr("nlaic.train.losses.WITHOUT_NETWORK", ())
    ratios = torch.stack([loss.relative(x + 2 * (x_hat - x), x, x_hat)[0] for _ in range(3)])
    torch.testing.assert_close(ratios, torch.full_like(ratios, 4.0), atol=0.05, rtol=0)


def test_the_grid_error_is_of_the_jumps_across_the_grid_alone():
    torch.manual_seed(0)
    x, error = torch.rand(2, 3, 40, 48), torch.rand(2, 3, 40, 48)
    measure = Distortion({"grid": 1.0}, scale=1.0)
    total = torch.zeros(2)
    for side in (8, 16):
        for axis in (2, 3):
            jumps = [
                (error.select(axis, n) - error.select(axis, n - 1)).square().mean((1, 2))
                for n in range(side, error.shape[axis], side)
            ]
            total += torch.stack(jumps).mean(0) / 4
    torch.testing.assert_close(measure(x + error, x)[0], total)
    blocks = error[..., :1, :1].expand_as(x).clone()
    blocks[..., 4:7] += 1  # a jump, off the grid
    assert measure(x + blocks, x)[0].abs().max() < 1e-9


def test_blockiness_is_how_much_larger_jumps_on_the_grid_are():
    torch.manual_seed(0)
    x = torch.rand(3, 3, 64, 64).cumsum(-1).cumsum(-2)
    x_hat = x + 200 * torch.rand(3, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    value = Distortion({"blockiness": 1.0}, scale=1.0)(x_hat, x)[0]
    for sample in range(3):
        squares = []
        for side in (8, 16):
            ratio = []
            for one in (x_hat[sample], x[sample]):
                jumps = {True: [], False: []}
                for n in range(1, 64):
                    jumps[n % side == 0] += [(one[:, n] - one[:, n - 1]).abs(), (one[..., n] - one[..., n - 1]).abs()]
                ratio.append(torch.stack(jumps[True]).mean() / torch.stack(jumps[False]).mean())
            squares.append(((ratio[0] / ratio[1]).log() + 0.05).square())
        error = float((x_hat[sample] - x[sample]).square().mean())
        assert float(value[sample]) == pytest.approx(error * float(sum(squares)) / 2, rel=1e-2)
        assert value[sample] > 0.1 * error
    # A picture's own jumps, at any contrast, count for next to nothing, smaller ones for nothing.
    own = Distortion({"blockiness": 1.0}, scale=1.0)(0.5 * x, x)[0]
    torch.testing.assert_close(own, 0.05**2 * (0.5 * x).square().flatten(1).mean(1), rtol=1e-2, atol=0)
    assert Distortion({"blockiness": 1.0}, scale=1.0)(x, x_hat)[0].max() == 0


def test_the_flat_error_is_that_of_blocks_without_detail():
    torch.manual_seed(0)
    detail = torch.logspace(-5, -1, 30).view(5, 6).repeat_interleave(8, 0).repeat_interleave(8, 1)
    x = 0.5 + detail * torch.randn(2, 3, 40, 48)
    error = torch.randn(2, 3, 40, 48)
    expected = torch.zeros(2, dtype=torch.float64)
    for sample, (one, off) in enumerate(zip(x.double(), error.double(), strict=True)):
        luma = 0.299 * one[0] + 0.587 * one[1] + 0.114 * one[2]
        for place in ((slice(r, r + 8), slice(c, c + 8)) for r in range(0, 40, 8) for c in range(0, 48, 8)):
            levels = 255 * luma[place]
            expected[sample] += off[:, *place].square().mean() * 4 / (4 + levels.var(correction=0)) / 30
    value = Distortion({"flat": 1.0}, scale=1.0)(x + error, x)[0]
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=0)


def test_the_colour_error_is_that_of_means_over_large_squares():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 128, 192)
    cast = torch.randn(2, 3, 2, 3)
    texture = torch.randn(2, 3, 32, 32).repeat(1, 1, 4, 6)
    texture -= texture.mean((2, 3), keepdim=True)
    x_hat = x + cast.repeat_interleave(64, 2).repeat_interleave(64, 3) + texture
    value = Distortion({"colour": 1.0}, scale=1.0)(x_hat, x)[0]
    torch.testing.assert_close(value, cast.square().mean((1, 2, 3)))
    small = Distortion({"colour": 1.0}, scale=1.0)(x_hat[..., :40, :32], x[..., :40, :32])[0]
    means = (x_hat - x)[..., :32, :32].mean((2, 3))
    torch.testing.assert_close(small, means.square().mean(1))


def test_ms_ssim_against_piq(pair):
    x_hat, x = (v.repeat_interleave(2, 2).repeat_interleave(2, 3) for v in pair)
    value, _ = Distortion({"ms_ssim": 1.0}, 1.0)(x_hat, x)
    theirs = 1 - piq.multi_scale_ssim(x_hat, x, data_range=1.0, reduction="none")
    torch.testing.assert_close(value, theirs)
    negative = (1 - x).requires_grad_()  # structures below 0: a loss that still has a gradient, and no NaN
    (worst := Distortion({"ms_ssim": 1.0}, 1.0)(negative, x)[0]).sum().backward()
    assert (worst > 0.6).all() and negative.grad.isfinite().all()


def test_ms_ssim_of_more_than_one_piece_against_piq():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 176, 400)
    x_hat = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
    theirs = 1 - piq.multi_scale_ssim(x_hat, x, data_range=1.0, reduction="none")
    torch.testing.assert_close(MsSsim()(x_hat, x), theirs)


def test_an_error_at_an_edge_weighs_what_one_inside_does():
    torch.manual_seed(0)
    x = 0.5 + 0.02 * torch.randn(1, 3, 192, 320)
    values = []
    for top, left in ((88, 152), (0, 152), (88, 0), (184, 312)):
        x_hat = x.clone()
        x_hat[..., top : top + 8, left : left + 8] += 0.05 * torch.randn(3, 8, 8)
        values.append(float(MsSsim(edges=True)(x_hat, x)[0]))
    assert max(values) < 2.5 * min(values)


@pytest.mark.parametrize(
    ("terms", "message"), [({"sharpness": 1.0}, "none of mse"), ({"dists": 1.0}, "vgg16_features.safetensors")]
)
def test_what_is_missing_is_said(terms, message, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("NLAIC_NETWORKS", raising=False)
    with pytest.raises(NlaicError, match=message):
        Distortion(terms, networks=str(tmp_path))


def test_a_file_of_another_network_is_refused(networks, tmp_path):
    (tmp_path / "vgg16_features.safetensors").symlink_to(networks / "alexnet_features.safetensors")
    with pytest.raises(NlaicError, match="is not vgg's convolutions"):
        load_dists(5, str(tmp_path))


@pytest.mark.parametrize("file", sorted((resource_folder("conf") / "loss").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_loss_of_the_configuration_gives_a_gradient(file, networks):
    settings = OmegaConf.to_container(OmegaConf.load(file)) | {"networks": str(networks)}
    loss = Distortion(**settings)
    x = torch.rand(1, 3, 192, 192)
    x_hat = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    value, means = loss(x_hat, x)
    value.sum().backward()
    assert x_hat.grad.isfinite().all() and x_hat.grad.any() and set(means) == set(settings["terms"])


@pytest.mark.parametrize(
    ("terms", "tolerance"),
    [({"ms_ssim": 1.0}, 1e-6), ({"mse": 1.0}, 1e-6), ({"lpips_alex": 1.0}, 0.05), ({"dists": 1.0}, 0.05)],
)
def test_a_loss_is_the_same_in_reduced_precision(terms, tolerance, networks):
    """Of smooth pictures, whose variances are small differences of large numbers."""
    torch.manual_seed(2)
    x = torch.nn.functional.interpolate(torch.rand(2, 3, 5, 5), 192, mode="bicubic").clamp(0, 1)
    x_hat = (x + 0.01 * torch.randn_like(x)).clamp(0, 1)
    distortion = Distortion(terms, 1.0, str(networks), None)
    wanted, _ = distortion(x_hat, x)
    with torch.autocast("cpu", torch.bfloat16):
        reduced, _ = distortion(x_hat, x)
    torch.testing.assert_close(reduced, wanted, rtol=tolerance, atol=1e-4)
