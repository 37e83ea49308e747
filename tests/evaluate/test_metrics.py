"""Each metric against another implementation or a published value."""

import numpy as np
import piq
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from nlaic.errors import NlaicError
from nlaic.evaluate import inception, metrics
from nlaic.evaluate.codecs import MissingError
from nlaic.evaluate.metrics import METRICS, PSNR_MOST, Pair, choose, load
from tests.conftest import at_hand, smooth_picture


@pytest.fixture(scope="module")
def pair() -> Pair:
    reference = np.asarray(smooth_picture(200, 176))
    noise = np.random.default_rng(1).normal(0, 8, reference.shape)
    return Pair(reference, np.clip(reference + noise, 0, 255).round().astype(np.uint8))


def test_psnr_is_scikit_images(pair):
    theirs = peak_signal_noise_ratio(pair.reference, pair.decoded)
    assert load("psnr", None)(pair) == pytest.approx(theirs, abs=1e-9)
    assert load("psnr", None)(Pair(pair.reference, pair.reference)) == PSNR_MOST


def test_ms_ssim_is_piqs(pair):
    assert load("ms_ssim", None)(pair) == pytest.approx(float(piq.multi_scale_ssim(*pair.unit)), abs=1e-4)


def test_psnr_y_is_that_of_pillows_luma(pair):
    grey = [np.asarray(Image.fromarray(p).convert("F")) for p in (pair.reference, pair.decoded)]  # not rounded
    assert load("psnr_y", None)(pair) == pytest.approx(peak_signal_noise_ratio(*grey, data_range=255), abs=1e-3)


def test_psnr_of_chroma_is_that_of_pillows():
    """Errors that two of R, G and B share, so that the signs count; Pillow's values are rounded to whole levels."""
    reference, noise = np.full((64, 64, 3), 128, np.uint8), np.random.default_rng(0).integers(-40, 41, (64, 64, 1))
    for shared in ([1, 1, 0], [1, 0, 1], [0, 1, 1]):
        decoded = (reference + noise * shared).astype(np.uint8)
        chroma = [np.asarray(Image.fromarray(p).convert("YCbCr"))[..., 1:] for p in (reference, decoded)]
        theirs = peak_signal_noise_ratio(*chroma, data_range=255)
        assert load("psnr_chroma", None)(Pair(reference, decoded)) == pytest.approx(theirs, abs=0.05)


@pytest.mark.parametrize("name", METRICS)
def test_more_noise_is_worse(name, pair, networks):
    noise = np.random.default_rng(2).normal(0, 20, pair.reference.shape)
    worse = Pair(pair.reference, np.clip(pair.reference + noise, 0, 255).astype(np.uint8))
    try:
        measure = load(name, str(networks))
    except MissingError as error:
        pytest.skip(str(error))
    assert (measure(pair) > measure(worse)) == METRICS[name].higher_is_better
    assert measure(pair) != measure(worse)


def test_equal_pictures_have_the_best_vmaf(pair):
    try:
        measure = load("vmaf", None)
    except MissingError as error:
        pytest.skip(str(error))
    assert measure(Pair(pair.reference, pair.reference)) > 97  # of one picture, without motion, it stops short of 100


def test_vif_knows_which_picture_is_the_reference():
    """More contrast than the original has is more than all of its information; less is less."""
    reference = np.asarray(smooth_picture(96, 96))
    more = np.clip(128 + (reference.astype(float) - 128) * 1.3, 0, 255).astype(np.uint8)
    vif = load("vif", None)
    assert vif(Pair(more, reference)) < 1 < vif(Pair(reference, more))


def test_a_standard_without_its_network_is_not_called_by_its_name(tmp_path, monkeypatch):
    networks = str(at_hand("weights"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    chosen, skipped = choose(["psnr", "dists", "lpips"], networks)
    assert [metric.name for metric in chosen] == ["psnr", "dists_2", "lpips_alex"]
    assert chosen[1].stand_in_for == "DISTS" and "stand-in" in chosen[1].label
    assert skipped[0].name == "dists" and "vgg16_features" in skipped[0].reason


def test_lpips_is_wired_in_the_right_order_and_range(kodak, pair):
    """The same network through the package's own code is held in test_losses; here the wiring: order and range."""
    measure = load("lpips_squeeze", str(at_hand("weights")))
    picture = Image.open(kodak[0])
    reference = np.asarray(picture)
    assert measure(Pair(reference, reference)) == 0
    small = np.asarray(picture.resize((96, 64)).resize(picture.size))
    assert 0.3 < measure(Pair(reference, small)) < 1


def test_without_networks_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("NLAIC_NETWORKS", raising=False)
    chosen, skipped = choose(["lpips"], str(tmp_path))
    assert not chosen and "alexnet_features.safetensors" in skipped[0].reason
    with pytest.raises(NlaicError):
        load("dists", str(tmp_path))


def test_damaged_networks_are_skipped_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.delenv("NLAIC_NETWORKS", raising=False)
    for name in ("alexnet_features", "lpips_lin_alex", "inception_fid_to_mixed7a_fp16"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"junk")
    chosen, skipped = choose(["lpips"], str(tmp_path))
    assert not chosen and "alexnet_features.safetensors holds no tensors" in skipped[0].reason
    with pytest.raises(NlaicError, match="is not the Inception"):
        inception.load(768, str(tmp_path))


def test_other_heads_are_another_version(tmp_path, monkeypatch):
    monkeypatch.delenv("NLAIC_NETWORKS", raising=False)
    (tmp_path / "alexnet_features.safetensors").write_bytes(b"one")
    versions = set()
    for heads in (b"one", b"two"):
        (tmp_path / "lpips_lin_alex.safetensors").write_bytes(heads)
        metrics._hash.cache_clear()
        versions.add(metrics.METRICS["lpips_alex"].version(str(tmp_path)))
    metrics._hash.cache_clear()
    assert len(versions) == 2
