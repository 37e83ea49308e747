"""FID and KID against pytorch-fid and torchmetrics on one randomly initialised Inception."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid import fid_score
from pytorch_fid import inception as theirs
from torchmetrics.image.kid import poly_mmd

from nlaic.evaluate import fid
from nlaic.evaluate.inception import Inception, build, load, unfold
from tests.conftest import at_hand, smooth_picture


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = build()
    for module in net.modules():  # batch norm that does something
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


def pictures_of(size):
    """Two sets of three."""
    return [[np.asarray(smooth_picture(*size, seed + start)) for seed in range(3)] for start in (0, 20)]


def saved(pictures, folder):
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:04d}.png")
    return str(folder)


@pytest.mark.parametrize(
    ("name", "dims", "size"),
    [("fid", 2048, (300, 200)), ("fid_patch", 2048, (390, 384)), ("fid_768", 768, (256, 330))],
    ids=["whole", "patch", "768"],
)
def test_fid_is_pytorch_fids(name, dims, size, net, tmp_path, monkeypatch):
    sets = pictures_of(size)
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: net.state_dict())
    row = fid.SET_METRICS[name]
    patches = [[patch for picture in pictures for patch in row.patches(picture)] for pictures in sets]
    model = theirs.InceptionV3([theirs.InceptionV3.BLOCK_INDEX_BY_DIM[dims]]).eval()
    folders = [saved(some, tmp_path / str(n)) for n, some in enumerate(patches)]
    expected = [activations(folder, model, dims) for folder in folders]
    ours = Inception(net, dims, "random")
    features = [[ours.features(np.stack(row.patches(picture))) for picture in pictures] for pictures in sets]
    for some, activation in zip(features, expected, strict=True):
        np.testing.assert_allclose(np.concatenate(some), activation, rtol=1e-4, atol=1e-5)
    if name != "fid_patch":  # the distance again: half a dozen seconds
        assert fid.fid(*features, dims) == pytest.approx(distance(*expected), rel=1e-3)


def activations(folder, model, dims):
    files = sorted(Path(folder).iterdir())
    return fid_score.get_activations(files, model, len(files), dims, "cpu", 0)


def distance(a, b):
    """The same without any root: tr sqrt(AB) is the nuclear norm of one set's deviations times the other's.

    pytorch-fid's own takes the root of a matrix that few pictures make singular, which it does not survive; where it
    does, the next test compares.
    """
    (mean_a, x), (mean_b, y) = ((some.mean(0), some - some.mean(0)) for some in (a, b))
    root = np.linalg.norm(x @ y.T, "nuc")
    return np.sum((mean_a - mean_b) ** 2) + (np.sum(x**2) + np.sum(y**2) - 2 * root) / (len(x) - 1)


def test_the_distance_is_pytorch_fids_where_that_is_well_defined():
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(300, 16)) @ rng.normal(size=(16, 16)) + shift for shift in (0, 1)]
    ours = [fid.Gaussian(16).add(s[:100]).add(s[100:]) for s in samples]
    means, covariances = [s.mean(0) for s in samples], [np.cov(s, rowvar=False) for s in samples]
    expected = fid_score.calculate_frechet_distance(means[0], covariances[0], means[1], covariances[1])
    assert fid.frechet(*ours) == pytest.approx(expected, rel=1e-8)


def test_the_distance_of_a_set_to_itself_is_zero_though_singular():
    samples = np.random.default_rng(0).normal(size=(5, 64))
    one = fid.Gaussian(64).add(samples)
    # a root of what is rounded to 1e-16 is 1e-8: 59 eigenvalues that should be 0, some 60 in size
    assert fid.frechet(one, one) == pytest.approx(0, abs=1e-4)


def test_kid_is_torchmetrics_where_all_samples_are_taken():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 8)), rng.normal(0.5, size=(40, 8))
    expected = float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b)))
    assert fid.kid([a[:10], a[10:]], [b]) == pytest.approx(expected, rel=1e-9)


def test_patches():
    picture = np.arange(512 * 768 * 3).reshape(512, 768, 3)
    assert len(fid.shifted_grids(picture)) == 6 + 2 and len(fid.dense(picture)) == 5 * 9
    np.testing.assert_array_equal(fid.shifted_grids(picture)[6], picture[128:384, 128:384])
    assert fid.shifted_grids(picture[:255]) == []


def test_folded_batch_norm_is_unfolded(net):
    state = {}
    for name, module in net.named_modules():
        if hasattr(module, "bn"):
            factor = module.bn.weight / torch.sqrt(module.bn.running_var + module.bn.eps)
            state[f"{name}.weight"] = module.conv.weight * factor[:, None, None, None]
            state[f"{name}.bias"] = module.bn.bias - module.bn.running_mean * factor
    other = build()
    unfold(state, other)
    picture = np.asarray(smooth_picture(256, 256))[None]
    a, b = (Inception(n, 768, "").features(picture) for n in (net, other))
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_the_part_of_the_network_at_hand_tells_noise_from_noise_as_documented():
    """torchmetrics documents 12.6388 for FID at 64 dimensions of two sets of noise; drawn anew, and fewer, it moves."""
    net = load(768, str(at_hand("weights"))).net
    rng = np.random.default_rng(0)
    gaussians = []
    for low, high in ((0, 200), (100, 255)):
        pictures = rng.integers(low, high, (15, 3, 299, 299), dtype=np.uint8)
        gaussian = fid.Gaussian(64)
        for part in np.array_split(pictures, 3):
            with torch.no_grad():
                x = (torch.from_numpy(part).float() - 128) / 128  # as torchmetrics does
                x = net.Conv2d_2b_3x3(net.Conv2d_2a_3x3(net.Conv2d_1a_3x3(x)))
                gaussian.add(torch.nn.functional.max_pool2d(x, 3, 2).mean((2, 3)).numpy())
        gaussians.append(gaussian)
    assert fid.frechet(*gaussians) == pytest.approx(12.64, abs=0.2)
