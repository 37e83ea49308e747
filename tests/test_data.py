"""Pictures and crops for training: the same whoever takes them, from where and how they are asked for."""

from io import BytesIO
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from nlaic.train import data as module
from nlaic.train.data import AHEAD, Augmentation, Crops, Pictures, SampleNoise, in_turn, load_pictures, shares
from nlaic.train.run import run
from nlaic.weights import find_weights
from tests.conftest import smooth_picture
from tests.runs import SMALL, config


def _touched(path):
    path.touch()
    return path.name


def test_work_in_turn_is_in_order_and_little_ahead(tmp_path):
    paths = [tmp_path / str(number) for number in range(100)]
    results = in_turn(_touched, paths, 2)
    assert [next(results) for _ in range(10)] == [str(number) for number in range(10)]
    assert len(list(tmp_path.iterdir())) <= 10 + 2 * AHEAD
    assert list(results) == [str(number) for number in range(10, 100)]


def test_a_sample_has_its_own_noise():
    together = SampleNoise(3, torch.tensor([5, 6, 7]), torch.device("cpu"))(torch.zeros(3, 4, 2, 2))
    alone = SampleNoise(3, torch.tensor([7]), torch.device("cpu"))(torch.zeros(1, 4, 2, 2))
    assert torch.equal(together[2:], alone) and not torch.equal(together[0], together[1])
    many = SampleNoise(3, torch.arange(4), torch.device("cpu"))(torch.zeros(4, 5000))
    assert many.min() >= -0.5 and many.max() <= 0.5 and abs(float(many.mean())) < 0.01


def test_processes_share_every_batch():
    parts = [[list(numbers) for numbers in islice(shares(8, 4, rank, 2), 2)] for rank in range(2)]
    assert parts == [[[8, 9], [12, 13]], [[10, 11], [14, 15]]]


def test_crops_depend_on_their_number_alone(folder, tmp_path):
    pictures = load_pictures(folder, tmp_path / "memory")
    assert len(pictures) == 4 and len(pictures.unreadable) == 1
    crops, later = (Crops([(pictures, 1.0)], 64, 5.0, 3, shares(first, 2, 0, 1)) for first in (0, 6))
    *_, fourth = islice(crops, 4)
    first = next(iter(later))
    assert all(torch.equal(fourth[name], first[name]) for name in ("x", "position", "number"))
    workers = islice(DataLoader(crops, batch_size=None, num_workers=2), 4)  # the order of one process
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(workers, islice(crops, 4), strict=True))
    everything = np.concatenate([pictures[i].reshape(-1, 3) for i in range(4)])
    assert {tuple(v) for v in crops.sample(0)[0].reshape(3, -1).T.numpy()} <= {tuple(v) for v in everything}
    again = load_pictures(folder, tmp_path / "memory")
    assert np.array_equal(again[2], np.asarray(Image.open(sorted(folder.rglob("*.png"))[2]).convert("RGB")))


def test_pictures_are_learned_as_they_are_seen(tmp_path):
    """16 bits, alpha over hidden colours, a turn by EXIF; a damaged AVIF, on which Pillow raises a RuntimeError."""
    root, hidden, exif = tmp_path / "photos", smooth_picture(40, 30).convert("RGBA"), Image.Exif()
    root.mkdir()
    values = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40) * 54
    Image.fromarray(values).save(root / "a.png")
    hidden.putalpha(0)
    hidden.save(root / "b.png")
    exif[0x0112] = 6
    smooth_picture(40, 30, 1).save(root / "c.png", exif=exif)
    buffer = BytesIO()
    smooth_picture(40, 30).save(buffer, "AVIF")
    data = bytearray(buffer.getvalue())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    (root / "d.avif").write_bytes(data)
    pictures = load_pictures(root, tmp_path / "memory", workers=1)
    assert pictures.unreadable == [str(root / "d.avif")]
    assert np.array_equal(pictures[0], np.rint(values / 257)[..., None].repeat(3, -1))
    assert (pictures[1] == 255).all()
    assert np.array_equal(pictures[2], np.rot90(np.asarray(smooth_picture(40, 30, 1)), -1))


def test_pictures_of_all_suffixes_are_learned(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for suffix, format in (("gif", "GIF"), ("JFIF", "JPEG"), ("jp2", "JPEG2000"), ("qoi", "QOI")):
        smooth_picture(40, 30).save(root / f"{suffix}.{suffix}", format)
    pictures = load_pictures(root, tmp_path / "memory", workers=1)
    assert len(pictures) == 4 and pictures.unreadable == []


def test_what_was_read_in_another_way_is_read_again(folder, tmp_path, monkeypatch):
    load_pictures(folder, tmp_path / "memory")
    monkeypatch.setattr(module, "_decode", lambda *_: pytest.fail("read again"))
    load_pictures(folder, tmp_path / "memory")
    monkeypatch.setattr(module, "READING", 1)
    with pytest.raises(pytest.fail.Exception, match="read again"):
        load_pictures(folder, tmp_path / "memory")


def test_folders_are_mixed_by_their_weights():
    dark, light = (Pictures(np.full(3 * 64 * 64, v, np.uint8), [(0, 64, 64)], []) for v in (0, 255))
    crops = Crops([(dark, 1.0), (light, 3.0)], 64, 5.0, seed=1)
    bright = np.mean([float(crops.sample(n)[0].float().mean()) / 255 for n in range(800)])
    assert bright == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation("grid", False), Augmentation(rotate=True), Augmentation(flip=False, reduce=1.0)],
    ids=["random", "grid", "rotated", "reduced"],
)
def test_a_crop_is_a_part_of_its_picture(augmentation):
    rows, columns = np.mgrid[:150, :170]
    picture = torch.from_numpy(np.stack([rows, columns, 0 * rows], -1).astype(np.uint8))
    seen = set()
    for number in range(60):
        crop = augmentation(picture, 64, np.random.default_rng(number)).numpy().astype(int)
        assert crop.shape == (64, 64, 3)
        top, left = crop[..., 0].min(), crop[..., 1].min()
        seen.add((top, left))
        steps = {int(v) for axis in (0, 1) for v in np.abs(np.diff(crop[..., :2], axis=axis)).ravel()}
        assert steps <= ({0, 1} if not augmentation.reduce else {0, 1, 2, 3})
        if augmentation.crop == "grid":
            assert top % 64 == 0 and left % 64 == 0
    assert len(seen) == 4 if augmentation.crop == "grid" else len(seen) > 40


def test_held_out_pictures_are_apart(folder, tmp_path):
    kept, held = load_pictures(folder, tmp_path / "memory").split(3)
    assert len(kept) == 2 and len(held) == 2 and not set(kept.shapes) & set(held.shapes)


def test_of_a_tree_only_its_pictures_are_learned(folder, tmp_path):
    """Not what runs below it have drawn, nor links that lead nowhere; and a map that was cleaned away is made again."""
    before = load_pictures(folder, tmp_path / "memory")
    for name in ("grids", "logs"):
        (folder / "run" / "rd" / name).mkdir(parents=True)
    smooth_picture(768, 256).save(folder / "run" / "rd" / "grids" / "0000100.png")
    (folder / "gone.jpg").symlink_to(tmp_path / "none.jpg")
    after = load_pictures(folder, tmp_path / "memory")
    assert after.shapes == before.shapes
    assert sorted(after.unreadable) == sorted([*before.unreadable, str(folder / "gone.jpg")])
    for file in (tmp_path / "memory").glob("*.u8"):
        file.unlink()
    assert np.array_equal(load_pictures(folder, tmp_path / "memory")[1], before[1])


def test_pictures_that_are_too_small_are_left_out_and_said(folder, tmp_path, capsys):
    smooth_picture(40, 200).save(folder / "a small one.png")
    small = ["sampling.batch=1", "sampling.patch=64", "data.holdout=0", "steps=1", "trainer.precision=32-true"]
    words = [SMALL, f"data.root={folder}", f"dir={tmp_path}/run", *small]
    weights = find_weights(str(run(config(*words))))
    assert "left out, smaller than sampling.patch=64: 1 of 5 pictures" in capsys.readouterr().out
    assert "from 4 pictures" in weights.metadata["training.rd"]
