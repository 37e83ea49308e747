"""Tables and files against arithmetic done by hand and against other programs' rules."""

import csv
import json

import bjontegaard
import numpy as np
import pytest
from PIL import Image

from nlaic.cli.evaluate import summary
from nlaic.errors import NlaicError
from nlaic.evaluate import results
from nlaic.evaluate.bd import at_rate, bd_rate, better, rising
from nlaic.evaluate.report import render, write_all

ANCHOR = [(0.1, 27.0), (0.2, 29.5), (0.4, 32.0), (0.8, 35.0)]


def test_bd_rate_of_a_curve_moved_along_the_rate_is_the_move():
    moved = [(0.8 * rate, value) for rate, value in ANCHOR]
    assert bd_rate(ANCHOR, moved) == pytest.approx(-20, abs=1e-6)
    assert bd_rate(moved, ANCHOR) == pytest.approx(25, abs=1e-6)


def test_bd_rate_agrees_with_the_classic_cubic():
    """Bjontegaard's own polynomial of third order, where both have four points."""
    test = [(0.09, 27.3), (0.19, 29.9), (0.37, 32.3), (0.75, 35.1)]
    flat = [np.array(column) for curve in (ANCHOR, test) for column in zip(*curve, strict=True)]
    assert bd_rate(ANCHOR, test) == pytest.approx(bjontegaard.bd_rate(*flat, "cubic"), abs=0.5)


def test_curves_that_do_not_meet_have_no_bd_rate():
    assert bd_rate(ANCHOR, [(rate, value + 20) for rate, value in ANCHOR]) is None
    assert bd_rate(ANCHOR, ANCHOR[:2]) is None


def test_points_that_a_cheaper_one_beats_are_left_out():
    assert rising([(0.4, 31.0), *ANCHOR, (0.3, 29.0), (0.5, 32.0)]) == ANCHOR


def test_ms_ssim_is_compared_in_decibels_and_distances_turned():
    assert better("ms_ssim", 0.99, True) == pytest.approx(20)
    assert better("lpips_alex", 0.2, False) > better("lpips_alex", 0.3, False)


def test_values_between_points_are_linear_in_the_logarithm():
    assert at_rate(ANCHOR, 0.2) == 29.5
    assert at_rate(ANCHOR, np.sqrt(0.02)) == pytest.approx((27 + 29.5) / 2)
    assert at_rate(ANCHOR, 0.09) is None and at_rate(ANCHOR, 0.81) is None


def test_bd_rate_by_both_averages(evaluate):
    found, _ = evaluate()
    table = found["bd_rate"]["metrics"]["psnr"]["coarse"]
    deltas = []
    for picture in found["data"]["pictures"]:
        curves = [
            [(p["bpp"], p["metrics"]["psnr"]) for p in found["points"] if p["codec"] == codec and p["picture"] == name]
            for codec in ("jpeg", "coarse")
            for name in [picture["name"]]
        ]
        deltas.append(bd_rate(*curves))
    known = [delta for delta in deltas if delta is not None]
    assert table["pictures"] == len(known) and table["per_picture"] == pytest.approx(np.mean(known))
    rows = [
        [(r["bpp_mean"], r["metrics"]["psnr"]) for r in found["means"] if r["codec"] == c] for c in ("jpeg", "coarse")
    ]
    assert table["mean_curve"] == pytest.approx(bd_rate(*rows))


def test_files(evaluate, tmp_path):
    found, _ = evaluate()
    out = tmp_path / "out"
    write_all(found, out)
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(found))
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert len(rows) == len(found["points"]) and float(rows[0]["bpp"]) == pytest.approx(
        found["points"][0]["bpp"], abs=1e-6
    )
    assert list(rows[0])[:6] == ["codec", "setting", "picture", "bytes", "bpp", "psnr"]
    assert (out / "rd-psnr.svg").read_text().count("<svg") == 1 and (out / "rd-psnr.png").read_bytes()[:4] == b"\x89PNG"
    for (name,) in json.loads((out / "codec-compare" / "batches.json").read_text()):
        batch = json.loads((out / "codec-compare" / name).read_text())
        assert len(batch["constant_values"]) == len(batch["constant_descriptions"])
        assert {"original_name", "encoded_size"} <= {key for one in batch["field_descriptions"] for key in one}
        assert all(len(row) == len(batch["field_descriptions"]) for row in batch["field_values"])
        assert len(batch["field_values"]) == sum(
            p["codec"] == batch["constant_values"][0].lower() for p in found["points"]
        )


def test_nothing_of_an_earlier_run_is_left(evaluate, tmp_path):
    out = tmp_path / "out"
    for settings in ({"metrics": ["psnr", "psnr_y"]}, {"codecs": ["jpeg"]}):
        write_all(evaluate(**settings)[0], out)
    assert {path.name for path in out.glob("rd-*")} == {"rd-psnr.png", "rd-psnr.svg"}
    assert {path.name for path in (out / "codec-compare").iterdir()} == {"00.json", "batches.json"}


def test_what_was_not_measured_is_not_called_out_of_reach(evaluate, folder):
    for path in folder.rglob("*.png"):
        Image.open(path).crop((0, 0, 100, 90)).save(path)
    found, _ = evaluate(metrics=["ms_ssim"])
    assert all(line.endswith("| - | - |") for line in summary(found) if line.startswith(("| Coarse", "| JPEG")))
    assert ">not reached<" not in render(found, {})


@pytest.mark.parametrize("text", ["[]", '{"schema": "other"}', "{"])
def test_other_json_is_refused(text, tmp_path):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(NlaicError, match=r"not results of this program|not JSON"):
        results.read_json(tmp_path)
