"""The studies as programs."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import smooth_picture

TOOL = Path(__file__).resolve().parents[2] / "tools" / "jpeg_studies.py"


@pytest.fixture
def run(monkeypatch, capsys):
    """The program with these words: what it prints."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        runpy.run_path(str(TOOL), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_proxy_and_maps(run, tmp_path, jpeg_model):
    (tmp_path / "m.safetensors").write_bytes(jpeg_model.to_bytes())
    (tmp_path / "pictures").mkdir()
    smooth_picture(96, 80).save(tmp_path / "pictures" / "a.png")
    said = run("proxy", tmp_path / "pictures", tmp_path / "p.png", "--model", tmp_path / "m.safetensors")
    rows = [[float(word) for word in line.split() if word.replace(".", "").isdigit()] for line in said.splitlines()]
    assert len(rows) == 6 and [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert [row[-1] for row in rows] == sorted(row[-1] for row in rows)
    run("maps", tmp_path / "pictures" / "a.png", tmp_path / "m.png", "--model", tmp_path / "m.safetensors")
    assert Image.open(tmp_path / "m.png").size == (5 * 96, 80)
    assert Image.open(tmp_path / "p.png").size[0] > 300
