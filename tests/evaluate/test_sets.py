"""Distances between sets within an evaluation, on features that need no network."""

from dataclasses import replace
from operator import itemgetter

import numpy as np
import pytest
from PIL import Image

from nlaic.errors import NlaicError
from nlaic.evaluate import fid, inception
from nlaic.evaluate.codecs import parse
from nlaic.evaluate.results import rate_of
from nlaic.evaluate.sets import nearest_rows
from tests.conftest import smooth_picture


class Colours:
    """Means and deviations of a picture's three channels."""

    dims, name, calls = 6, "colours", 0

    def features(self, pictures):
        Colours.calls += len(pictures)
        return np.concatenate((pictures.mean((1, 2)), pictures.std((1, 2))), 1).astype(np.float32)


@pytest.fixture
def colours(monkeypatch):
    def load(dims, networks):
        if dims != 6:
            raise NlaicError("the network is missing")
        return Colours()

    monkeypatch.setattr(inception, "load", load)
    for name in ("fid_768", "kid_768"):
        row = replace(fid.SET_METRICS[name], dims=6, patches=fid.whole, smallest=64)
        monkeypatch.setitem(fid.SET_METRICS, name, row)


def test_fid_and_kid_of_a_run(colours, evaluate, folder):
    found, watch = evaluate(codecs=["jpeg"], metrics=["psnr", "fid", "kid"], rates=[1.0])
    (row,) = [row for row in found["means"] if row["set_metrics"]]
    assert row["setting"] == nearest_rows(found["means"], [1.0], itemgetter("bpp_mean"))[0]["setting"]
    pictures = [Image.open(path) for path in sorted(folder.rglob("*.png"))]
    coder = parse("jpeg").open()
    decoded = [coder.decode(coder.encode(picture, row["setting"])) for picture in pictures]
    sets = [[Colours().features(np.asarray(p)[None]) for p in some] for some in (pictures, decoded)]
    expected = fid.fid(*sets, 6)
    assert expected > 0.01 and row["set_metrics"]["fid_768"] == pytest.approx(expected, rel=1e-6)
    assert row["set_metrics"]["kid_768"] == pytest.approx(fid.kid(*sets), rel=1e-6)
    assert {one["name"] for one in found["skipped"]} == {"fid", "fid_patch", "kid"}
    labels = {metric["name"]: metric["stand_in_for"] for metric in found["metrics"] if metric["of_set"]}
    assert labels == {"fid_768": "FID", "kid_768": "KID"}
    assert "fid_768 from 3 samples: below 2048 the estimate is biased" in found["warnings"]
    assert any("2 sets of 3 patches, about" in note for note in watch.notes)


def test_features_are_kept(colours, evaluate):
    evaluate(codecs=["jpeg"], metrics=["fid"], rates=[1.0])
    calls = Colours.calls
    evaluate(codecs=["jpeg"], metrics=["fid", "kid"], rates=[1.0])
    assert Colours.calls == calls > 0


def test_pictures_without_a_patch_are_said(colours, evaluate, monkeypatch):
    monkeypatch.setitem(fid.SET_METRICS, "fid_768", replace(fid.SET_METRICS["fid_768"], smallest=256))
    found, _ = evaluate(codecs=["jpeg"], metrics=["fid"])
    reason = {"kind": "metric", "name": "fid_768", "reason": "no picture has sides from 256"}
    assert reason in found["skipped"] and not any(row["set_metrics"] for row in found["means"])


def test_a_rate_that_no_setting_is_near_has_no_distance():
    rows = [{"codec": "a", "bpp_mean": bpp} for bpp in (0.1, 0.2, 0.4)]
    assert nearest_rows(rows, [0.19, 0.21, 0.45, 2.0], itemgetter("bpp_mean")) == [rows[1], rows[2]]
    rows[0] |= {"own": 2.1}
    assert nearest_rows(rows, [2.0], lambda row: row.get("own")) == [rows[0]]


def test_the_rate_of_a_distance_is_that_of_its_pictures(colours, evaluate, folder, monkeypatch):
    monkeypatch.setitem(fid.SET_METRICS, "fid_768", replace(fid.SET_METRICS["fid_768"], smallest=200))
    smooth_picture(320, 256, 7).save(folder / "large.png")
    smooth_picture(200, 200, 8).save(folder / "square.png")
    found, _ = evaluate(codecs=["jpeg"], metrics=["psnr", "fid"], rates=[1.0])
    (row,) = [row for row in found["means"] if row["set_metrics"].get("fid_768") is not None]
    large = {one["name"] for one in found["data"]["pictures"] if min(one["width"], one["height"]) >= 200}
    own = [p["bpp"] for p in found["points"] if p["setting"] == row["setting"] and p["picture"] in large]
    assert 2 <= len(own) < row["pictures"] and rate_of(row, "fid_768") == pytest.approx(np.mean(own))
