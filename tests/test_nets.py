"""The networks in floats: shapes, the untrained `light`, rates, the two-pass mean, attention, scales and bits."""

import math

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from nlaic.errors import NlaicError
from nlaic.nets.layers import RGB_TO_YCBCR, dct_coefficients, dct_kernels, from_blocks, to_blocks
from nlaic.nets.light import BAND_EDGES, LEAST_LUMA, Lap, LightSettings, build_light, start_light
from nlaic.nets.paper import NonLocal, PaperSettings, PlainBlock, build_paper
from nlaic.nets.vae import HyperpriorVAE, Rates, first_pass, gaussian_bits, logistic_bits

SMALL_PAPER = PaperSettings(
    main=16, outer=8, hyper_wide=12, hyper=8
)  # every width its own, so that no two can be swapped


def smooth_pictures(seed: int, count: int = 2, height: int = 128, width: int = 128) -> Tensor:
    """Random pictures [count, 3, height, width] in 0..1 with more energy at low frequencies, as photographs have."""
    generator = torch.Generator().manual_seed(seed)
    result = torch.zeros(count, 3, height, width)
    for size, weight in ((4, 0.5), (16, 0.25), (64, 0.1)):
        noise = torch.rand(count, 3, size, size, generator=generator) - 0.5
        result += weight * F.interpolate(noise, (height, width), mode="bicubic")
    return (0.5 + result).clamp(0, 1)


@pytest.fixture(scope="module")
def started() -> HyperpriorVAE:
    torch.manual_seed(0)
    net = build_light()
    start_light(net, LightSettings(), [smooth_pictures(1), smooth_pictures(2)])
    return net.eval()


@pytest.fixture(scope="module")
def small_paper() -> HyperpriorVAE:
    torch.manual_seed(0)
    return build_paper(SMALL_PAPER).eval()


# --- shapes


@pytest.mark.parametrize("size", [(64, 64), (128, 192)])
@pytest.mark.parametrize("name", ["started", "small_paper"])
def test_shapes(name, size, request):
    net: HyperpriorVAE = request.getfixturevalue(name)
    latent, hyper = net.rates.log_step.shape[1], net.rates.z_mean.shape[1]
    height, width = size
    x, position = torch.rand(2, 3, height, width), torch.zeros(2)
    with torch.no_grad():
        y = net.g_a(x)
        z, z_step = net.hyper(y, position)
        index, mean = net.index(z.round(), z_step, position), net.mean(z.round(), z_step)
        out = net(x, position)
    assert y.shape == index.shape == mean.shape == (2, latent, height // 16, width // 16)
    assert z.shape == (2, hyper, height // 64, width // 64)
    assert index.min() >= 0 and index.max() <= 63
    assert out["x_hat"].shape == x.shape and out["x_hat"].isfinite().all()
    assert all(out["bits"][part].shape == (2,) and (out["bits"][part] > 0).all() for part in ("y", "z"))


def test_paper_widths_and_settings():
    s = PaperSettings()
    assert s.to_dict() == {
        "main": 192,
        "outer": 96,
        "hyper_wide": 192,
        "hyper": 128,
        "anchors": 1,
        "lambda_": s.lambda_,
    }
    net = build_paper(SMALL_PAPER)
    assert (net.rates.log_step == 0).all() and net.context is None  # steps of 1 at the start


@pytest.mark.parametrize(
    ("name", "least"), [("main", 2), ("outer", 1), ("hyper_wide", 2), ("hyper", 1), ("anchors", 1)]
)
def test_paper_widths_have_a_least(name, least):
    values = {"main": 4, "outer": 4, "hyper_wide": 4, "hyper": 4}
    net = build_paper(PaperSettings(**{**values, name: least})).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 64, 64), torch.zeros(1))["x_hat"].shape == (1, 3, 64, 64)
    with pytest.raises(NlaicError, match=f"settings.{name} must be at least {least}, but got {least - 1}"):
        PaperSettings(**{**values, name: least - 1})


def test_paper_trains():
    torch.manual_seed(0)
    net = build_paper(SMALL_PAPER)
    with torch.no_grad():  # layers that start at zero keep the gradient from those before them
        for p in net.parameters():
            p.add_(0.01 * torch.randn_like(p))
        net.rates.log_z_step.fill_(-6.0)  # untrained, z is so small that with steps of 1 z_hat is zero everywhere
    out = net(smooth_pictures(3), torch.zeros(2))
    (F.mse_loss(out["x_hat"], smooth_pictures(3)) + 1e-4 * sum(b.sum() for b in out["bits"].values())).backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # A constant added to every score of one query changes no softmax, so the key's bias learns nothing.
    assert [name for name in missing if not name.endswith("phi.bias")] == []


def test_plain_block_is_the_papers():
    block, x = PlainBlock(4), torch.randn(1, 4, 8, 8)
    inner = F.relu(F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1))
    expected = x + F.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), expected)


# --- the untrained `light`


def test_the_fewest_coefficients_leave_no_band_empty():
    radii = sorted(math.hypot(u, v) for u in range(16) for v in range(16))
    assert radii[LEAST_LUMA - 2] < BAND_EDGES[-1] <= radii[LEAST_LUMA - 1]
    settings = LightSettings(LEAST_LUMA, 1, ((1, 0), (1, 0)), ((1, 0), (1, 0)), context=1, fine=1, anchors=1)
    net = build_light(settings)
    start_light(net, settings, [smooth_pictures(1)])
    with torch.no_grad():
        assert net(smooth_pictures(2), torch.zeros(2))["x_hat"].isfinite().all()


def test_started_light_is_a_codec(started):
    x = smooth_pictures(7, count=1)
    psnr, bits = [], []
    for position in (0.0, 1.5, 2.5, 4.0, 5.0):
        with torch.no_grad():
            out = started(x, torch.tensor([position]))
        psnr.append(-10 * math.log10(F.mse_loss(out["x_hat"], x).item()))
        bits.append(sum(b.item() for b in out["bits"].values()))
    assert psnr == sorted(psnr) and bits == sorted(bits)
    assert psnr[0] > 20 and psnr[-1] > 33 and psnr[-1] > psnr[0] + 10
    assert bits[-1] / x[0, 0].numel() < 2  # bits a pixel


def test_start_measures_scales_that_fit(started):
    # With scales as they are the residuals cost less than with every scale half or twice as large.
    x, position = smooth_pictures(8), torch.full((2,), 3.0)
    with torch.no_grad():
        y = started.g_a(x) / started.rates.at(started.rates.log_step, position).exp()
        z, z_step = started.hyper(y, position)
        index = started.index(z.round(), z_step, position)
    log_scale = math.log(0.1) + index * math.log(1000) / 63
    cost = {shift: gaussian_bits(y.round(), log_scale + shift).sum().item() for shift in (-0.7, 0.0, 0.7)}
    assert cost[0.0] < cost[-0.7] and cost[0.0] < cost[0.7]


# --- the DCT shortcut


def test_all_coefficients_reconstruct_exactly():
    analysis, synthesis = dct_kernels(dct_coefficients(256, 256))
    assert analysis.shape == synthesis.shape == (768, 3, 16, 16)
    x = torch.rand(2, 3, 32, 48)
    y = F.conv2d(x, analysis, stride=16)
    torch.testing.assert_close(F.conv_transpose2d(y, synthesis, stride=16), x, atol=1e-5, rtol=0)


def test_dct_agrees_with_scipy():
    coefficients = dct_coefficients(256, 256)
    analysis, _ = dct_kernels(coefficients)
    block = np.random.default_rng(0).random((3, 16, 16))
    y = F.conv2d(torch.from_numpy(block)[None].float(), analysis, stride=16)[0, :, 0, 0].numpy()
    ycbcr = np.einsum("ij,jhw->ihw", RGB_TO_YCBCR, block)
    expected = scipy.fft.dctn(ycbcr, axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(y, [expected[c] for c in coefficients], atol=1e-5)


def test_untrained_transforms_are_convolutions_with_the_dct():
    """Against torch's own, whose blocks are its kernel's stride."""
    net, x = build_light(), torch.rand(2, 3, 48, 64)
    y = net.g_a(x)
    torch.testing.assert_close(y, F.conv2d(x - 0.5, net.g_a.dct, stride=16), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net.g_s(y), F.conv_transpose2d(y, net.g_s.dct, stride=16) + 0.5, atol=1e-5, rtol=1e-5)


def test_blocks_are_pixels_unshuffled():
    x = torch.rand(2, 3, 16, 24)
    blocks = to_blocks(x, 8)
    assert torch.equal(blocks.permute(0, 3, 1, 2), F.pixel_unshuffle(x, 8)) and torch.equal(from_blocks(blocks, 8), x)


def test_coefficients_rise_in_frequency():
    coefficients = dct_coefficients(256, 32)
    assert len(set(coefficients)) == len(coefficients) == 320
    assert coefficients[0] == (0, 0, 0) and coefficients[256] == (1, 0, 0) and coefficients[288] == (2, 0, 0)
    radii = [math.hypot(u, v) for _, u, v in coefficients[:256]]
    assert radii == sorted(radii)


# --- rates


@pytest.mark.parametrize(("bits", "law"), [(gaussian_bits, scipy.stats.norm), (logistic_bits, scipy.stats.logistic)])
@pytest.mark.parametrize(("dtype", "most", "tolerance"), [(torch.float64, 25, 1e-6), (torch.float32, 10, 1e-3)])
def test_bits_agree_with_scipy(bits, law, dtype, most, tolerance):
    r, log_scale = torch.meshgrid(torch.linspace(-8, 8, 33), torch.linspace(math.log(0.1), 4.6, 12), indexing="ij")
    scale = log_scale.double().exp().numpy()
    lower, upper = -np.abs(r.double().numpy()) - 0.5, -np.abs(r.double().numpy()) + 0.5  # the tail keeps its digits
    with np.errstate(divide="ignore"):
        expected = -np.log2(law.cdf(upper / scale) - law.cdf(lower / scale))
    got = bits(r.to(dtype), log_scale.to(dtype)).double().numpy()
    sound = expected < most
    assert sound.sum() > 250
    np.testing.assert_allclose(got[sound], expected[sound], atol=tolerance)
    assert np.isfinite(got).all() and got.max() <= 30


@pytest.mark.parametrize("bits", [gaussian_bits, logistic_bits])
def test_probabilities_sum_to_one(bits):
    r = torch.arange(-200, 201, dtype=torch.float64)
    for scale in (0.1, 1.0, 7.0):
        assert torch.exp2(-bits(r, torch.tensor(math.log(scale), dtype=torch.float64))).sum().item() == pytest.approx(
            1, abs=1e-5
        )


def test_rates_interpolate_between_anchors():
    rates = Rates(2, 3, 3)
    table = torch.tensor([[0.0, 1.0], [10.0, 2.0], [30.0, 4.0]])
    got = rates.at(table, torch.tensor([0.0, 0.5, 1.0, 1.75, 2.0]))
    assert got.shape == (5, 2, 1, 1)
    expected = [[0, 1], [5, 1.5], [10, 2], [25, 3.5], [30, 4]]
    torch.testing.assert_close(got[:, :, 0, 0], torch.tensor(expected, dtype=torch.float32))
    one = Rates(2, 3, 1)
    torch.testing.assert_close(one.at(table[:1], torch.zeros(2))[:, :, 0, 0], table[:1].expand(2, 2))


# --- the lapped transform


@torch.no_grad()
def test_the_lap_mixes_sixteen_pixels_around_each_boundary():
    torch.manual_seed(1)
    lap, x = Lap(), torch.rand(2, 3, 48, 64)
    assert torch.equal(lap(x), x)  # untrained
    lap.matrix.normal_(std=0.3)
    expected = x.double()
    for axis, boundaries in ((-1, (16, 32, 48)), (-2, (16, 32))):
        for boundary in boundaries:
            around = expected.narrow(axis, boundary - 8, 16)
            around.copy_((around.transpose(axis, -1) @ lap.matrix.double()).transpose(axis, -1))
    torch.testing.assert_close(lap(x).double(), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lap(x), lap(x.float()))


@torch.no_grad()
def test_an_orthogonal_lap_is_undone_by_its_transpose():
    torch.manual_seed(2)
    there, back, x = Lap(), Lap(), torch.rand(1, 3, 32, 96)
    torch.nn.init.orthogonal_(there.matrix)
    back.matrix.copy_(there.matrix.T)
    torch.testing.assert_close(there(x).mT, there(x.mT), rtol=0, atol=1e-5)  # rows and columns commute
    torch.testing.assert_close(back(there(x)), x, rtol=0, atol=1e-5)


# --- the two-pass mean


@pytest.fixture(scope="module")
def with_context() -> HyperpriorVAE:
    torch.manual_seed(0)
    net = build_light(LightSettings(luma=84, chroma=4, context=8)).eval()
    assert net.context is not None
    with torch.no_grad():
        for p in net.context.parameters():
            p.normal_(std=0.3)
    return net


def test_first_pass_is_a_checkerboard():
    first = first_pass(torch.zeros(1, 5, 3, 4))
    assert first.shape == (1, 1, 3, 4)
    assert first[0, 0].int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]


@torch.no_grad()
def test_second_pass_values_never_reach_a_mean(with_context):
    y_hat, mean = torch.randn(2, 2, 92, 6, 10)
    changed = torch.where(first_pass(mean), y_hat, y_hat + torch.randn_like(y_hat))
    assert torch.equal(with_context.refine(y_hat, mean), with_context.refine(changed, mean))


@torch.no_grad()
def test_first_pass_means_never_depend_on_y_hat(with_context):
    mean = torch.randn(2, 92, 6, 10)
    first = first_pass(mean).expand_as(mean)
    refined = [with_context.refine(torch.randn_like(mean), mean) for _ in range(2)]
    assert torch.equal(refined[0][first], mean[first]) and torch.equal(refined[1][first], mean[first])
    assert (refined[0][~first] != refined[1][~first]).all()  # while the others do look at their neighbours


def test_without_a_context_the_mean_stays(small_paper):
    mean = torch.randn(1, 16, 4, 4)
    assert small_paper.refine(torch.randn_like(mean), mean) is mean


# --- attention


@pytest.fixture()
def non_local() -> NonLocal:
    torch.manual_seed(0)
    module = NonLocal(16)
    torch.nn.init.normal_(module.out.weight)
    return module


def plain_non_local(module: NonLocal, x: Tensor) -> Tensor:
    theta, phi, g = (layer(x).flatten(2) for layer in (module.theta, module.phi, module.g))  # (B, C/2, N)
    weights = torch.softmax(torch.einsum("bcn,bcm->bnm", theta, phi), dim=2)
    seen = torch.einsum("bnm,bcm->bcn", weights, g)
    return x + module.out(seen.view(x.shape[0], -1, *x.shape[2:]))


def test_fused_attention_is_the_formula(non_local):
    x = torch.randn(2, 16, 5, 9)
    got, expected = (f.clone().requires_grad_() for f in (x, x))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        out = non_local(got.contiguous(memory_format=memory_format))
        reference = plain_non_local(non_local, expected)
        torch.testing.assert_close(out, reference, atol=1e-5, rtol=1e-5)
    out.square().sum().backward()
    reference.square().sum().backward()
    torch.testing.assert_close(got.grad, expected.grad, atol=1e-4, rtol=1e-4)


def test_attention_never_holds_the_map_of_pairs(non_local):
    # The fused kernel alone is allowed: it raises where its conditions are not met, instead of falling back.
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        non_local(torch.randn(1, 16, 8, 8)).sum().backward()


def test_attention_starts_as_the_identity():
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(NonLocal(8)(x), x)


# --- scales and bits


def test_carried_scales_follow_the_energy(started):
    # The start of the scale network undoes the rotation of h_a: louder latents get larger indices.
    position = torch.full((1,), 3.0)
    y = started.g_a(smooth_pictures(9, count=1)) / started.rates.at(started.rates.log_step, position).exp()
    indices = []
    with torch.no_grad():
        for gain in (0.5, 1.0, 2.0):
            z, z_step = started.hyper(y * gain, position)
            indices.append(started.index(z.round(), z_step, position).mean().item())
    assert indices[0] + 1 < indices[1] < indices[2] - 1


@pytest.mark.parametrize("bits", [gaussian_bits, logistic_bits])
def test_a_symbol_far_outside_its_scale_says_so(bits):
    r = torch.tensor([40.0, -40.0], requires_grad=True)
    log_scale = torch.full((2,), -2.0, requires_grad=True)
    bits(r, log_scale).sum().backward()
    assert (log_scale.grad < -10).all() and r.grad[0] > 10 and r.grad[1] < -10
