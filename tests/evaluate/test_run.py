"""Evaluations from settings to results, with codecs that do and do not work."""

import base64
import json
import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nlaic.errors import NlaicError
from nlaic.evaluate import metrics, results
from nlaic.evaluate.points import coder
from tests.conftest import smooth_picture
from tests.evaluate.conftest import Coarse


def test_points_are_real_files_and_means_are_labelled(evaluate, tmp_path):
    found, _ = evaluate()
    files = [path.stat().st_size for path in (tmp_path / "out" / "cache").rglob("*.bin")]
    assert {point["bytes"] for point in found["points"]} <= set(files)
    rows = [row for row in found["means"] if row["codec"] == "coarse" and row["setting"] == 3]
    mine = [p for p in found["points"] if p["codec"] == "coarse" and p["setting"] == 3]
    assert len(mine) == 3 and rows[0]["pictures"] == 3
    assert rows[0]["bpp_mean"] == pytest.approx(np.mean([p["bpp"] for p in mine]))
    assert rows[0]["bpp_set"] == pytest.approx(8 * sum(p["bytes"] for p in mine) / found["data"]["pixels"])
    assert rows[0]["bpp_mean"] != rows[0]["bpp_set"]
    assert rows[0]["metrics"]["psnr"] == pytest.approx(np.mean([p["metrics"]["psnr"] for p in mine]))


def test_done_points_are_not_done_again(evaluate, folder):
    first, _ = evaluate()
    count = Coarse.encoded
    (folder / "a.png").rename(folder / "renamed.png")  # the content is the key
    second, _ = evaluate()
    assert count and Coarse.encoded == count
    kept = [{key: p[key] for key in ("setting", "bytes", "encode_s", "metrics")} for p in second["points"]]
    assert all({key: p[key] for key in kept[0]} in kept for p in first["points"])


def test_another_metric_needs_no_new_file_and_another_version_does(evaluate, monkeypatch):
    evaluate()
    count = Coarse.encoded
    found, _ = evaluate(metrics=["psnr", "ssimulacra2"])
    assert Coarse.encoded == count and None not in found["points"][0]["metrics"].values()
    monkeypatch.setattr(Coarse, "version", "2")
    evaluate()
    assert Coarse.encoded > count


def test_a_damaged_record_is_measured_again(evaluate, tmp_path):
    first, _ = evaluate()
    for path in (tmp_path / "out" / "cache").rglob("*.json"):
        path.write_text("{")
    second, _ = evaluate()
    assert [p["bytes"] for p in first["points"]] == [p["bytes"] for p in second["points"]]


def test_a_failing_picture_is_reported_and_the_rest_goes_on(evaluate, folder):
    smooth_picture(240, 64).save(folder / "wide.png")
    smooth_picture(64, 240).save(folder / "high.png")
    (folder / "text.png").write_text("no picture")
    found, watch = evaluate(codecs=["fails", "jpeg"])
    reasons = {failure["picture"]: failure["reason"] for failure in found["failures"] if failure["codec"] != ""}
    assert reasons == {"wide.png": "ValueError: too wide for me", "high.png": reasons["high.png"]}
    assert "8x8 pixels of mode RGB: the picture has 64x240" in reasons["high.png"]
    assert "text.png" in {failure["picture"] for failure in found["failures"]}
    assert {row["pictures"] for row in found["means"]} == {3}  # of the other codec too: means are of the same pictures
    assert any("of 3 of 5 pictures" in text and "wide.png" in text for text in found["warnings"])
    assert any("wide.png: ValueError" in note for note in watch.notes)


def test_a_codec_without_a_version_or_colour_is_said_to_be(evaluate, refused, monkeypatch):
    found, _ = evaluate(codecs=["grey", "jpeg"])
    reason = "grey decoded 192x176 pixels of mode L: the picture has 192x176 of mode RGB"
    assert reason in {failure["reason"] for failure in found["failures"]}
    monkeypatch.delattr("tests.evaluate.conftest.Coarse.version")
    coder.cache_clear()
    assert refused(codecs=["coarse"]) == "codec 'coarse' has no version, by which its points are kept"


def test_a_codec_that_fails_on_some_pictures_is_no_better_for_it(evaluate, folder):
    """Byte for byte another codec, but for the picture that costs most: equal on the means all the same."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 240, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "wide.png")
    found, _ = evaluate(codecs=["fails", "coarse"], anchor="coarse", settings={"coarse": [2, 4, 6]})
    curves = [[row["bpp_mean"] for row in found["means"] if row["codec"] == name] for name in ("fails", "coarse")]
    assert curves[0] == curves[1]
    assert found["bd_rate"]["metrics"]["psnr"]["fails"]["mean_curve"] == pytest.approx(0, abs=1e-9)


def test_a_metric_that_fails_takes_nothing_with_it(evaluate, folder, monkeypatch):
    def measure(pair):
        if pair.reference.shape[0] == 190:
            raise np.linalg.LinAlgError("singular")
        return float("nan") if pair.reference.shape[0] == 170 else 1.0

    row = replace(metrics.METRICS["vif"], load=lambda networks: measure)
    monkeypatch.setitem(metrics.METRICS, "vif", row)
    metrics.load.cache_clear()
    found, _ = evaluate(metrics=["psnr", "vif"], settings={"jpeg": [30, 60, 90]})
    metrics.load.cache_clear()
    assert {p["picture"]: p["metrics"]["vif"] for p in found["points"]} == {
        "a.png": 1.0,
        "b.png": None,
        "below/c.png": None,
    }
    assert all(p["metrics"]["psnr"] for p in found["points"])
    reasons = {failure["reason"] for failure in found["failures"]}
    assert reasons == {"vif: LinAlgError: singular", "vif: ArithmeticError: the value is nan"}
    jpeg = [row for row in found["means"] if row["codec"] == "jpeg"]
    mine = {p["setting"]: p["bpp"] for p in found["points"] if p["codec"] == "jpeg" and p["picture"] == "a.png"}
    assert [row["bpp_of"]["vif"] for row in jpeg] == sorted(mine.values())  # of the picture that has the metric


def test_results_among_the_pictures_are_none(evaluate, folder):
    first, _ = evaluate(out=str(folder / "report"))
    smooth_picture(64, 64).save(folder / "report" / "rd-psnr.png")
    second, _ = evaluate(out=str(folder / "report"), force=True)
    assert first["data"] == second["data"]


def test_no_metric_at_all_is_an_error(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("NLAIC_NETWORKS", raising=False)
    with pytest.raises(NlaicError, match=r"none of the metrics can be had: .*alexnet_features"):
        evaluate(metrics=["lpips"], networks=str(tmp_path))


def test_what_is_missing_is_skipped_with_its_reason(evaluate):
    found, _ = evaluate(codecs=["missing", "jpeg"])
    assert {"kind": "codec", "name": "missing", "reason": "not on this machine"} in found["skipped"]
    assert [codec["name"] for codec in found["codecs"]] == ["jpeg"]


def test_a_rate_out_of_reach_is_not_reached(evaluate):
    found, _ = evaluate(codecs=["jpeg"], rates=[0.0001, 1.0], viewer={"pictures": ["a.png"], "bpp": 0.0001})
    values = {row["bpp"]: row["metrics"]["psnr"] for row in found["at_rates"]}
    assert values[0.0001] is None and values[1.0] > 20
    assert found["viewer"][0]["not_reached"] == ["jpeg"] and not found["viewer"][0]["entries"]


def test_the_viewer_gets_the_file_nearest_to_the_rate(evaluate):
    found, _ = evaluate(codecs=["jpeg"], viewer={"pictures": ["a.png"], "bpp": 1.0})
    (entry,) = found["viewer"][0]["entries"]
    picture = smooth_picture(192, 176)
    sizes = {}
    for quality in range(1, 101):
        sizes[quality] = 8 * jpeg_bytes(picture, quality) / (192 * 176)
    best = min(abs(bpp - 1) for bpp in sizes.values())
    assert abs(entry["bpp"] - 1) == pytest.approx(best) and entry["bpp"] == sizes[entry["setting"]]


@pytest.mark.parametrize("size", [(16384, 2), (2, 16384), (16383, 2)])
def test_the_viewer_shows_pictures_that_webp_does_not_hold(evaluate, folder, size):
    long = smooth_picture(*size)
    long.save(folder / "long.png")
    viewer = {"pictures": ["long.png"], "bpp": 1.0}
    found, _ = evaluate(codecs=["coarse"], anchor="coarse", settings={"coarse": [1]}, viewer=viewer)
    kind, _, content = found["viewer"][0]["image"].partition(";base64,")
    shown = Image.open(BytesIO(base64.b64decode(content)))
    assert kind == f"data:image/{shown.format.lower()}" and np.array_equal(shown, long)


def jpeg_bytes(picture, quality):
    out = BytesIO()
    picture.save(out, "JPEG", quality=quality, optimize=True)
    return len(out.getvalue())


def test_a_missing_executor_is_said_before_a_picture_is_read(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("nlaic.evaluate.run.find_pictures", lambda *_: pytest.fail("looked for"))
    assert "executor ray needs Ray: pip install" in refused(executor="ray")


def test_bad_settings_are_refused(refused, folder, tmp_path):
    assert "no such folder" in refused(data={"root": str(tmp_path / "nowhere")})
    (tmp_path / "empty").mkdir()
    assert "no picture" in refused(data={"root": str(tmp_path / "empty")})
    message = refused(codecs=["jpg"])
    assert "'jpg' is none of light" in message and "heic" in message
    message = refused(metrics=["ssim"])
    assert "'ssim' is none of psnr" in message and "fid_768" in message
    assert "allowed are speed" in refused(codecs=["avif:effort=3"])
    assert refused(codecs=["jpeg:foo=3"]) == "codec JPEG has no option 'foo': there are none"
    message = refused(codecs=["light:quality=3"])
    assert message == "codec light has no option 'quality': allowed are model, effort, realism"
    assert "has no option 'foo': allowed are rotations, model" in refused(codecs=["jpeg+restore-light:foo=1"])
    assert "has no option 'foo': there are none" in refused(codecs=["jpegli:foo=1"])
    assert "written name=value" in refused(codecs=["avif:3"])
    assert "'webp' is none of codecs" in refused(settings={"webp": [3]})
    assert "executor must be one of local, ray" in refused(executor="slurm")
    assert "none of the codecs can be had: not on this machine" in refused(codecs=["missing"])
    assert "codecs must be a list" in refused(codecs="jpeg")
    assert "settings.jpeg must be a list" in refused(settings={"jpeg": 50})
    assert "settings.jpeg must be numbers" in refused(settings={"jpeg": ["high"]})
    assert "settings.jpeg: 50.5 is none of 1 to 100 in steps of 1" in refused(settings={"jpeg": [50.5]})
    assert "rates must be above 0" in refused(rates=[0])
    assert "jobs must be a whole number from 0" in refused(jobs=-1)
    assert "viewer.pictures must be a number or a list" in refused(viewer={"pictures": "a.png", "bpp": 1})
    assert "effort must be 1 to 9, but got 2.5" in refused(codecs=["light:effort=2.5"])
    assert "codec 'avif:speed=slow'" in refused(codecs=["avif:speed=slow"])
    assert "subsampling must be one of 420, 444" in refused(codecs=["jpeg-packed:subsampling=411"])
    assert "'z.png' is none of the pictures" in refused(viewer={"pictures": ["z.png"], "bpp": 1})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"codecs": []}, "codecs must name at least one"),
        ({"codecs": ["jpeg", 5]}, "codecs must be names, but got ['jpeg', 5]"),
        ({"data": None}, "data must be settings by name, but got None"),
        ({"data": {"root": ".", "every": "abc"}}, "data.every must be a whole number from 1, or null, but got 'abc'"),
        ({"data": {"root": ".", "every": 0}}, "data.every must be a whole number from 1, or null, but got 0"),
        ({"data": {"root": ".", "limit": "abc"}}, "data.limit must be a whole number from 1, or null, but got 'abc'"),
        ({"data": {"root": ".", "limit": -1}}, "data.limit must be a whole number from 1, or null, but got -1"),
        ({"settings": 5}, "settings must be settings by name, but got 5"),
        ({"viewer": None}, "viewer must be settings by name, but got None"),
        ({"viewer": {"pictures": 1}}, "viewer.bpp must be a number above 0, but got None"),
        ({"bd_below": "abc"}, "bd_below must be a number above 0, or null, but got 'abc'"),
        ({"bd_below": 0}, "bd_below must be a number above 0, or null, but got 0"),
        ({"jobs": "abc"}, "jobs must be a whole number from 0, or null, but got 'abc'"),
        ({"executor": "slurm"}, "executor must be one of local, ray, but got 'slurm'"),
        ({"out": None}, "out=... must be given"),
    ],
)
def test_settings_are_looked_at_before_the_work(refused, monkeypatch, given, message):
    monkeypatch.setattr("nlaic.evaluate.run.find_pictures", lambda *_, **__: pytest.fail("it works already"))
    assert refused(**given) == message


def test_a_folder_may_have_a_number_for_a_name(evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate(codecs=["jpeg"], settings={"jpeg": [50]}, out=2026, cache=7, networks=0)
    assert list((tmp_path / "7").rglob("*.bin"))


def test_a_setting_or_rate_twice_is_one(evaluate):
    found, _ = evaluate(codecs=["jpeg", "jpeg"], settings={"jpeg": [10, 10.0, 30]}, rates=[0.5, 0.5, 1.0])
    assert len(found["points"]) == 6
    assert [(row["setting"], row["pictures"]) for row in found["means"]] == [(10, 3), (30, 3)]
    assert [row["bpp"] for row in found["at_rates"]] == [0.5, 1.0]


def test_an_output_folder_with_other_things_is_refused(evaluate, refused, folder, tmp_path):
    found, _ = evaluate()
    results.write_json(found, tmp_path / "out")
    evaluate()
    smooth_picture(64, 64).save(folder / "new.png")
    assert "holds results of other pictures" in refused()
    evaluate(force=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    assert "holds other files (letter.txt)" in refused(out=str(tmp_path / "home"))


def test_pictures_too_small_are_left_out_and_said(evaluate, folder):
    smooth_picture(64, 160).save(folder / "small.png")
    found, _ = evaluate(codecs=["jpeg"], metrics=["ms_ssim", "psnr"])
    values = {p["picture"]: p["metrics"]["ms_ssim"] for p in found["points"] if p["setting"] == 50}
    assert values.pop("small.png") is None and None not in values.values()
    assert any("ms_ssim needs sides from 161: 1 of 4" in text and "64x160" in text for text in found["warnings"])
    row = next(row for row in found["means"] if row["setting"] == 50)
    assert row["metrics"]["ms_ssim"] == pytest.approx(np.mean(list(values.values())))


def test_equal_pictures_and_grey_files_do_not_break_json(evaluate, folder, tmp_path):
    for path in folder.rglob("*.png"):
        path.unlink()
    Image.new("L", (176, 176), 128).save(folder / "grey.png")
    found, _ = evaluate(codecs=["coarse", "jpeg"])
    results.write_json(found, tmp_path / "out")
    again = results.read_json(tmp_path / "out")
    assert again["points"] == json.loads(json.dumps(found["points"]))
    assert max(p["metrics"]["psnr"] for p in again["points"]) == 100
