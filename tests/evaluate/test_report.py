"""The report: from the JSON alone, and in a browser."""

import html
import json
import re
import shutil
import subprocess

import pytest

from nlaic.evaluate.report import number, write_all, write_report
from nlaic.evaluate.results import read_json

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Uses the page as a person would and writes down what it sees.
ERRORS = "<script>window.seen = {errors: []}; onerror = m => { seen.errors.push(String(m)); };</script>"
VISITOR = """<script>addEventListener("load", () => setTimeout(() => {
  const cut = () => $("left").style.clipPath, transform = () => $("image-left").style.transform;
  const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key}));
  seen.loaded = [...document.images].every(image => image.complete && image.naturalWidth > 0);
  seen.size = [$("image-left").naturalWidth, $("image-left").naturalHeight];
  seen.cuts = [cut()];
  slider.value = 250; slider.dispatchEvent(new Event("input")); seen.cuts.push(cut());
  press("ArrowRight"); seen.cuts.push(cut());
  seen.zooms = [transform()];
  press("+"); seen.zooms.push(transform());
  stage.dispatchEvent(new WheelEvent("wheel", {deltaY: -200, cancelable: true})); seen.zooms.push(transform());
  press("0"); seen.zooms.push(transform());
  seen.right = [$("image-right").src.length, $("tag-right").textContent];
  press("."); seen.right.push($("image-right").src.length, $("tag-right").textContent);
  seen.left = $("image-left").src.length;
  press("n");
  setTimeout(() => {
    seen.second = [$("picture").value, $("image-left").src.length, $("image-left").naturalWidth];
    seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    const written = Object.assign(document.createElement("pre"), {id: "seen", textContent: JSON.stringify(seen)});
    document.body.replaceChildren(written);
  }, 300);
}, 300));</script>"""


@pytest.fixture
def found(evaluate, tmp_path):
    found, _ = evaluate(viewer={"pictures": 3, "bpp": 1.5})
    write_all(found, tmp_path / "out")
    return found


def test_the_report_is_one_file_that_loads_nothing(found, tmp_path):
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page) and "@import" not in page and "url(" not in page
    assert "default-src 'none'" in page
    for picture in found["data"]["pictures"]:
        assert picture["name"] in page


def test_it_is_built_again_from_the_json_alone(found, tmp_path):
    before = (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "out" / "results.json", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "out")
    assert write_report(read_json(tmp_path / "elsewhere"), tmp_path / "elsewhere").read_text() == before


def test_names_cannot_become_markup(found, tmp_path):
    evil = "</script><b onclick=x>&"
    found["viewer"][0]["picture"] = evil
    found["failures"].append({"codec": evil, "setting": None, "picture": evil, "reason": evil})
    page = write_report(found, tmp_path / "out").read_text()
    assert evil not in page and page.count("</script>") == 1 and html.escape(evil, quote=False) in page


def test_stand_ins_are_called_so(found, tmp_path):
    found["metrics"][0] |= {"label": "dists_2 (stand-in)", "stand_in_for": "DISTS"}
    page = write_report(found, tmp_path / "out").read_text()
    assert "<b>dists_2 (stand-in)</b> is not DISTS" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 500], ids=["desk", "phone"])
def test_in_a_browser(width, found, tmp_path):
    page = (tmp_path / "out" / "report.html").read_text()
    visited = tmp_path / "visited.html"
    visited.write_text(page.replace("<style>", ERRORS + "<style>", 1).replace("</body>", VISITOR + "</body>"))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=20000"]
    command = [CHROMIUM, *flags, profile, f"--window-size={width},800", "--dump-dom", visited.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    match = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    seen = json.loads(html.unescape(match[1]))
    assert seen["errors"] == [] and seen["loaded"] and seen["overflow"] <= 0
    first, second = found["data"]["pictures"][:2]
    assert seen["size"] == [first["width"], first["height"]]
    assert len(set(seen["cuts"])) == 3
    assert len(set(seen["zooms"][:3])) == 3 and seen["zooms"][3] == seen["zooms"][0]
    assert seen["right"][0] != seen["right"][2] and seen["right"][1] != seen["right"][3]
    assert seen["second"][0] == second["name"] and seen["second"][1] != seen["left"]
    assert seen["second"][2] == second["width"]


def test_numbers():
    assert [number(v) for v in (None, 0.0, 12345.6, 0.123456, 31.4159)] == ["-", "0", "12350", "0.1235", "31.42"]
