"""The whole way into a JPEG file: targets, tuning, attention, pictures of all kinds."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from nlaic.classic.jpeg.attention import ROWS, Attention
from nlaic.classic.jpeg.blocks import analyse
from nlaic.classic.jpeg.encoder import Options, encode
from nlaic.classic.jpeg.files import read_levels
from nlaic.classic.jpeg.model import Model, as_tables, load
from nlaic.classic.jpeg.rounding import thoughtful
from nlaic.classic.jpeg.tuning import cost, tune
from nlaic.errors import NlaicError
from tests.classic.conftest import model_of, untrained
from tests.conftest import smooth_picture


def opened(data):
    image = Image.open(BytesIO(data))
    image.load()
    return image


def test_numpys_network_is_torchs():
    net = untrained("420")
    planes = analyse(np.asarray(smooth_picture(48, 16 * ROWS + 40)))
    scaled = [c / 10 for c in planes.coefficients]
    with torch.no_grad():
        expected = net.attention(None, [torch.from_numpy(c).flatten(-2)[None] for c in scaled])
    found = Attention({name: p.detach().numpy() for name, p in net.attention.named_parameters()})(scaled, planes)
    for mine, theirs in zip(found, expected, strict=True):
        assert np.allclose(mine.reshape(theirs.shape), theirs, atol=1e-5)
        assert mine.std() > 0.004 and mine.min() >= 0 and mine.max() <= 1


def test_sizes_rise_with_the_quality(jpeg_model):
    picture = smooth_picture(160, 120)
    for subsampling in ("420", "444"):
        sizes = [len(encode(picture, jpeg_model, q, Options(subsampling))) for q in range(0, 101, 10)]
        assert sizes == sorted(sizes) and sizes[-1] > 4 * sizes[0]


def test_targets_are_kept(jpeg_model):
    picture = smooth_picture(160, 120)
    whole = len(encode(picture, jpeg_model, 60))
    for options in (Options(), Options(tune=3)):
        data = encode(picture, jpeg_model, options=options, max_bytes=whole)
        assert 0.95 * whole < len(data) <= whole
        assert len(encode(picture, jpeg_model, options=options, bpp=1.0)) <= 160 * 120 / 8
    smallest = len(encode(picture, jpeg_model, 0))
    assert len(encode(picture, jpeg_model, options=Options(tune=4), max_bytes=smallest)) <= smallest
    with pytest.raises(NlaicError, match=f"target of 90 bytes cannot be met: the smallest file has {smallest} bytes"):
        encode(picture, jpeg_model, max_bytes=90)


def test_metadata_counts_for_the_target(jpeg_model):
    picture = smooth_picture(160, 120)
    exif = Image.Exif()
    exif[0x010E] = "long " * 200
    picture.info["exif"] = exif.tobytes()
    data = encode(picture, jpeg_model, max_bytes=3000)
    assert len(data) <= 3000 and opened(data).getexif()[0x010E].startswith("long")


def test_tuning_lowers_what_it_says(jpeg_model):
    planes = analyse(np.asarray(smooth_picture(256, 192)))
    price, before = jpeg_model.price("420", 40), jpeg_model.log_steps("420", 40)

    def cost_of(log_steps):
        tables = as_tables(log_steps)
        return cost(planes, tables, thoughtful(planes, tables, price), price)

    heard = []
    after = tune(planes, before, price, 12, heard.append)
    assert cost_of(after) < 0.995 * cost_of(before)
    assert heard == sorted(heard) and heard[-1] == 1


def test_the_slope_of_tuning_is_that_of_the_cost(jpeg_model):
    """By differences, where steps are fine enough for a derivative: a tenth up and down for one frequency."""
    from nlaic.classic.jpeg.tuning import _change

    planes = analyse(np.asarray(smooth_picture(512, 384)))
    price, here = jpeg_model.price("420", 50), jpeg_model.log_steps("420", 50)

    def cost_of(log_steps):
        tables = np.exp(log_steps)
        return cost(planes, tables, thoughtful(planes, tables, price), price)

    levels = thoughtful(planes, np.exp(here), price)
    change = _change(planes, np.exp(here), levels, price)
    for place in ((0, 0, 1), (0, 1, 0), (0, 1, 1)):
        moved = np.zeros_like(here)
        moved[place] = 0.1
        slope = (cost_of(here + moved) - cost_of(here - moved)) / 0.2
        assert np.sign(change[place]) == -np.sign(slope)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "I;16", "YCbCr"])
def test_pictures_of_all_kinds(mode, jpeg_model):
    source = smooth_picture(45, 37)
    picture = source.convert("L").convert("I").convert("I;16") if mode == "I;16" else source.convert(mode)
    if mode.endswith("A"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    notes = []
    shown = opened(encode(picture, jpeg_model, 90, warn=notes.append))
    assert shown.size == (45, 37) and shown.mode == ("L" if mode in ("L", "LA", "1", "I;16") else "RGB")
    assert bool(notes) == (mode in ("RGBA", "LA", "I;16"))
    if mode == "RGBA":
        assert min(shown.getpixel((22, 0))) > 225  # white where nothing was


def test_one_pixel_and_narrow_ones(jpeg_model):
    for size in ((1, 1), (1, 40), (200, 2)):
        data = encode(smooth_picture(*size), jpeg_model, 70)
        assert opened(data).size == size


def test_orientation_is_in_the_pixels(jpeg_model):
    picture = smooth_picture(60, 40)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    source = BytesIO()
    picture.save(source, "JPEG", quality=95, exif=exif)
    shown = opened(encode(Image.open(source), jpeg_model, 90))
    assert shown.size == (40, 60)
    assert shown.getexif()[0x010F] == "maker" and shown.getexif().get(0x0112, 1) == 1


def test_the_paper_way_is_tables_and_attention_alone(jpeg_model):
    """Eq. 5 by hand: the nearest integers of F * A / Q."""
    picture = smooth_picture(64, 48)
    data = encode(picture, jpeg_model, 50, Options("444", "default", "attention"))
    levels = read_levels(data)
    planes = analyse(np.asarray(picture), "444")
    scaled = [c / levels.tables[min(n, 1)] for n, c in enumerate(planes.coefficients)]
    maps = jpeg_model.attention("444")([c.astype(np.float32) for c in scaled], planes)
    for found, x, a in zip(levels.planes, scaled, maps, strict=True):
        assert np.array_equal(found, np.rint(x.astype(np.float32) * a))
    plain = read_levels(encode(picture, jpeg_model, 50, Options("444", rounding="nearest")))
    assert np.array_equal(plain.planes[0], np.rint(scaled[0]))


def test_the_papers_network_runs_where_its_weights_are(tmp_path):
    net = untrained("444", attention="vgg19", anchors=1, lambda_min=0.01, lambda_max=0.01)
    model = model_of(net)
    picture = smooth_picture(40, 33)
    shown = opened(encode(picture, model, 50, Options("444", rounding="attention")))
    assert shown.size == (40, 33)


def test_refusals(jpeg_model, tmp_path):
    picture = smooth_picture(20, 20)
    with pytest.raises(NlaicError, match=r"quality must be 0\.\.100, but got 101"):
        encode(picture, jpeg_model, 101)
    with pytest.raises(NlaicError, match="subsampling must be one of 420, 444, but got '422'"):
        Options("422")
    with pytest.raises(NlaicError, match="tune must be at least 0, but got -1"):
        Options(tune=-1)
    with pytest.raises(NlaicError, match="tuned for rounding thoughtful, but got 'nearest'"):
        Options(rounding="nearest", tune=4)
    only = Model({k: v for k, v in jpeg_model.tensors.items() if k.startswith("420")}, jpeg_model.metadata)
    with pytest.raises(NlaicError, match="subsampling 444 is not in them, allowed: 420"):
        encode(picture, only, 50, Options("444"))
    with pytest.raises(NlaicError, match="JPEG holds sides up to 65500"):
        encode(Image.new("L", (65536, 1)), jpeg_model)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(NlaicError, match="not a safetensors file"):
        load(str(tmp_path / "x.safetensors"))
    priceless = {k: v for k, v in jpeg_model.metadata.items() if k != "420.lambdas"}
    flat = {**jpeg_model.tensors, "420.tables": jpeg_model.tensors["420.tables"][:, :1]}
    for name, model in (
        ("420.lambdas", Model(jpeg_model.tensors, priceless)),
        ("420.tables has the shape", Model(flat, jpeg_model.metadata)),
    ):
        (tmp_path / f"{name}.safetensors").write_bytes(model.to_bytes())
        with pytest.raises(NlaicError, match=f"incomplete or damaged .*{name}"):
            load(str(tmp_path / f"{name}.safetensors"))


def test_a_weights_file_comes_back(jpeg_model, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(jpeg_model.to_bytes())
    picture = smooth_picture(40, 40)
    assert encode(picture, load(str(path)), 50) == encode(picture, jpeg_model, 50)


@pytest.mark.parametrize("coding", ["progressive", "optimised", "default"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_components_are_numbered_as_jfif_has_it(coding, mode, jpeg_model):
    data = encode(smooth_picture(70, 50).convert(mode), jpeg_model, 50, Options(coding=coding))
    image = Image.open(BytesIO(data))
    image.load()
    assert data[6:10] == b"JFIF" and [layer[0] for layer in image.layer] == [1, 2, 3][: len(mode)]


def test_a_picture_without_memory_for_it_is_refused(jpeg_model, monkeypatch):
    monkeypatch.setattr("nlaic.canvas._memory", lambda: 72 * 70 * 50 - 1)
    with pytest.raises(NlaicError, match="not enough memory for a picture of 70x50"):
        encode(smooth_picture(70, 50), jpeg_model, 50)
