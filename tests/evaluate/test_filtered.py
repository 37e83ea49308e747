"""Rows of base codecs with filters: the file's own decoder agrees, options count, what is missing is a reason."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import nlaic
from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import MissingError, parse
from tests.classic.conftest import filters  # noqa: F401
from tests.conftest import smooth_picture


def test_a_row_is_the_codecs_with_its_filter(filters):  # noqa: F811
    spec, picture = parse("jpeg+restore-light"), smooth_picture(96, 80)
    assert spec.label == "JPEG + restore-light" and spec.codec.settings == parse("jpeg").codec.settings
    coder = spec.open()
    data = coder.encode(picture, 20)
    assert np.array_equal(coder.decode(data), nlaic.decompress(data))
    turned = parse("jpeg+restore-light:rotations=1").open()
    assert turned.version != coder.version and turned.encode(picture, 20) == data
    assert not np.array_equal(turned.decode(data), coder.decode(data))
    reduced = parse("jpeg+restore-light:precision=bf16").open()
    assert reduced.version != coder.version and reduced.encode(picture, 20) == data
    difference = np.abs(np.asarray(reduced.decode(data), int) - np.asarray(coder.decode(data), int))
    assert difference.any() and difference.mean() < 0.5


def test_what_there_is_not_is_a_reason(filters):  # noqa: F811
    with pytest.raises(MissingError, match="no weights of filter colorblust for vvc"):
        parse("vvc+colorblust").open()
    with pytest.raises(NlaicError, match="filter must be one of"):
        parse("jpeg+edsr").open()
    with pytest.raises(NlaicError, match=r"is none of light"):
        parse("edsr+jpeg")


def test_the_tool_counts_what_got_worse(tmp_path, capsys, monkeypatch):
    path = Path(__file__).parents[2] / "tools" / "filters.py"
    spec = importlib.util.spec_from_file_location("filters_tool", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    metrics = [("psnr", True), ("lpips_alex", False)]
    values = {("a", "one"): (30, 0.2), ("a", "two"): (31, 0.3), ("b", "one"): (32, 0.1), ("b", "two"): (30.5, 0.5)}
    points = [
        {
            "codec": codec,
            "setting": 10.0,
            "picture": picture,
            "bpp": 0.5,
            "metrics": {"psnr": psnr, "lpips_alex": lpips},
        }
        for (codec, picture), (psnr, lpips) in values.items()
    ]
    described = [{"name": n, "label": n, "higher_is_better": h, "of_set": False} for n, h in metrics]
    results = {"points": points, "metrics": described, "codecs": [{"name": "a"}, {"name": "b"}]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    monkeypatch.setattr("sys.argv", ["filters.py", str(tmp_path / "results.json"), "a", "b"])
    tool.main()
    line = capsys.readouterr().out.splitlines()[-1]
    assert "30.500 to 31.250 | +0.750 | 1 of 2" in line and "0.250 to 0.300 | -0.050 | 1 of 2" in line
