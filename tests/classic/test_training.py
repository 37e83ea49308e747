"""Stage restore: pictures are coded by the real codec, a short run learns, and its weights are a filter that runs."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from nlaic.classic.base import BASES
from nlaic.classic.nets.build import build_filter
from nlaic.classic.restore import Restorer
from nlaic.errors import NlaicError
from nlaic.nets.ms_ssim import MsSsim
from nlaic.resources import resource_folder
from nlaic.train.coded import Coding, load_coded
from nlaic.train.data import Augmentation, Crops, load_pictures
from nlaic.train.filters import Restoration
from nlaic.train.losses import Distortion
from nlaic.train.objectives import Batch
from nlaic.train.run import run
from nlaic.weights import read_weights
from tests.conftest import batch, smooth_picture
from tests.runs import config

SMALL = "model.settings={channels:12,blocks:1}"


def by_pillow(pixels, quality):
    out = BytesIO()
    Image.fromarray(np.asarray(pixels)).save(out, "JPEG", quality=quality, optimize=True)
    return np.asarray(Image.open(BytesIO(out.getvalue())))


def test_pictures_lie_beside_what_the_codec_made_of_them(folder, tmp_path):
    pictures = load_pictures(folder, tmp_path / "memory")
    coding = Coding("jpeg", (10, 60), passes=2)
    coded = load_coded(pictures, coding, tmp_path / "memory")
    settings = coding.settings(8)
    assert len(coded) == 8 and len(set(settings)) > 4 and min(settings) >= 10 and max(settings) <= 60
    for number, setting in enumerate(settings):
        both, original = coded[number], pictures[number % 4]
        assert np.array_equal(both[..., 3:], original)
        assert np.array_equal(both[..., :3], by_pillow(original, int(setting)))
        assert coded.levels[coded.shapes[number][0]] == BASES["jpeg"].level(setting)
    again = load_coded(pictures, coding, tmp_path / "memory")
    assert again.shapes == coded.shapes and np.array_equal(again.pixels, coded.pixels)
    assert len(load_coded(pictures, Coding("jpeg", (10, 60), pictures=3), tmp_path / "memory")) == 3


def test_no_held_out_pictures_are_no_coded_ones(folder, tmp_path):
    none = load_pictures(folder, tmp_path / "memory").split(0)[1]
    assert len(load_coded(none, Coding("jpeg", (10, 60)), tmp_path / "memory")) == 0


def test_crops_of_coded_pictures_keep_to_the_codecs_grid(folder, tmp_path):
    pictures = load_pictures(folder, tmp_path / "memory")
    coded = load_coded(pictures, Coding("jpeg", (5, 5)), tmp_path / "memory")
    crops = Crops([(coded, 1.0)], 64, 1.0, 3, augmentation=Augmentation(flip=False, align=16))
    for number in range(12):
        crop, level = crops.sample(number)
        assert level == BASES["jpeg"].level(5) and crop.shape == (6, 64, 64)
        luma = crop[:3].float().mean(0)
        jumps = luma.diff(dim=1).abs().mean(0)
        assert jumps[7::8].mean() > 1.2 * jumps[3::8].mean()  # blocks of 8 begin where the crop does


@pytest.mark.parametrize("qualities", [(5,), (0, 50), (10, 101)])
def test_settings_that_are_none_are_refused(qualities):
    with pytest.raises(NlaicError, match=r"stage\.qualities|quality of jpeg"):
        Coding("jpeg", qualities)


def short_run(folder, out, *more):
    words = [f"data.root={folder}", "data.holdout=4", f"dir={out}", "sampling.batch=2", "sampling.patch=64"]
    return run(config("run=restore-light", *words, "trainer.precision=32-true", "optimisation.warmup=2", *more))


def test_a_short_run_learns_and_its_weights_are_a_filter(folder, tmp_path, capsys):
    path = short_run(folder, tmp_path / "run", SMALL, "steps=150", "stage.qualities=[10,30]", "optimisation.muon=3e-3")
    assert "held out" in capsys.readouterr().out
    weights, picture = read_weights(path), np.asarray(smooth_picture(128, 96, 30))
    assert weights.metadata["source"] == "jpeg" and "150 steps" in weights.metadata["training.restore"]
    coded = by_pillow(picture, 15)
    restored = Restorer(weights).restore(coded, BASES["jpeg"].level(15))
    before, after = (np.square(x.astype(float) - picture).mean() for x in (coded, restored))
    assert after < before
    more = short_run(folder, tmp_path / "more", SMALL, "steps=2", "stage.qualities=[10,30]", f"start={path}")
    assert (
        np.abs(read_weights(more).tensors["filter.first.weight"] - weights.tensors["filter.first.weight"]).max() < 0.1
    )


def test_what_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(NlaicError, match=r"no data\.reduce, data\.mix"):
        short_run(folder, tmp_path / "a", SMALL, "steps=1", "data.reduce=0.5")
    with pytest.raises(NlaicError, match=r"sampling\.patch must be a multiple of 16"):
        short_run(folder, tmp_path / "b", SMALL, "steps=1", "sampling.patch=40")
    for setting, message in (
        ("stage.pictures=0", "stage.pictures must be at least 1"),
        ("stage.qualities=40", r"stage.qualities must be \[a number, a number\], but got 40"),
        ("stage.luma=off_", "stage.luma must be true or false"),
    ):
        with pytest.raises(NlaicError, match=message):
            short_run(folder, tmp_path / "e", SMALL, "steps=1", setting)
    first = short_run(folder, tmp_path / "c", SMALL, "steps=1")
    with pytest.raises(NlaicError, match="holds another filter"):
        short_run(folder, tmp_path / "d", "steps=1", f"start={first}")


@pytest.mark.parametrize("reduced", [False, True])  # the network may run in bf16; an untrained one changes nothing
def test_luma_is_compared_alone_where_asked(reduced):
    x, target = batch(smooth_picture(32, 32, 1)), batch(smooth_picture(32, 32, 2))
    net = build_filter("svac2", {})
    work = Batch(torch.cat((x, target), 1), torch.zeros(1), torch.rand_like)
    objective = Restoration(net, Distortion({"mse": 1.0}, scale=1.0), relative=False, luma=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        loss = objective.losses("filter", work)
    weights = torch.tensor([0.299, 0.587, 0.114])
    with torch.no_grad():
        error = torch.einsum("bchw,c->bhw", net(x, torch.zeros(1)) - target, weights)
    assert float(loss["loss"].detach()) == pytest.approx(float(error.square().mean()), rel=1e-5)


def test_small_crops_have_fewer_scales():
    from piq import multi_scale_ssim

    measure = MsSsim()
    for side, scales in ((64, 3), (128, 4), (256, 5)):
        weights = measure.weights(side)
        assert len(weights) == scales and sum(weights) == pytest.approx(1, abs=1e-3)
        x, y = batch(smooth_picture(side, side)), batch(smooth_picture(side, side, 1))
        mixed = 0.9 * x + 0.1 * y
        expected = float(multi_scale_ssim(mixed, x, data_range=1.0, scale_weights=torch.tensor(weights)))
        assert float(1 - measure(mixed, x)) == pytest.approx(expected, abs=2e-3)


def test_a_picture_smaller_than_a_block_ends_no_run(folder, tmp_path, capsys):
    for name in ("0000.png", "zzzz.png"):  # the first is held out
        smooth_picture(12, 8).save(folder / name)
    short_run(folder, tmp_path / "run", SMALL, "steps=2", "report_minutes=1e-6", "stage.qualities=[10,30]")
    assert "held out" in capsys.readouterr().out


def test_filters_that_ship_can_be_gone_on_with(folder, tmp_path):
    """Settings that came later have the values that such a filter was made with."""
    start = sorted((resource_folder("weights") / "filters").glob("restore-light-jpeg-*.safetensors"))[0]
    assert short_run(folder, tmp_path / "run", "steps=1", "stage.qualities=[10,30]", f"start={start}").exists()
