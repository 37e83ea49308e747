"""The filters that ship: pinned, small, found, and better than nothing on photographs that are none of Kodak's."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nlaic.classic.base import BASES
from nlaic.classic.coders import MissingError
from nlaic.classic.restore import Restorer
from nlaic.classic.weights import FOLDER, filters_for, find_filter, find_filter_by_id
from nlaic.errors import NlaicError
from nlaic.resources import resource_folder
from nlaic.weights import PINNED, read_weights

SHIPPED = sorted((resource_folder("weights") / FOLDER).glob("*.safetensors"))


@pytest.fixture(scope="module")
def photographs():
    data = pytest.importorskip("skimage.data")
    return [
        np.ascontiguousarray(picture[32:288, 64:320]) for picture in (data.astronaut(), data.coffee(), data.chelsea())
    ]


def test_what_ships_is_small():
    assert SHIPPED
    light = [path.stat().st_size for path in SHIPPED if path.name.startswith(("restore-light", "svac2"))]
    assert sum(light) <= 2e6 and sum(path.stat().st_size for path in SHIPPED) - sum(light) <= 8e6


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_is_found_and_helps(path, photographs, monkeypatch):
    monkeypatch.delenv("NLAIC_WEIGHTS", raising=False)
    weights = read_weights(path)
    base = BASES[weights.metadata["source"]]
    assert weights.architecture in filters_for(base.name)
    assert find_filter(weights.architecture, base.name).model_id == weights.model_id
    assert find_filter_by_id(weights.model_id).path == path
    try:
        coder = base.open()
    except MissingError as error:
        pytest.skip(str(error))
    restorer, gains = Restorer(weights), []
    middle = sum(restorer.levels) / 2
    setting = min(base.settings(), key=lambda one: abs(base.level(one) - middle))
    for photograph in photographs:
        decoded = np.asarray(coder.decode(coder.encode(Image.fromarray(photograph), setting)))
        restored = restorer.restore(decoded, base.level(setting))
        before, after = (np.square(x.astype(float) - photograph).mean() for x in (decoded, restored))
        gains.append(10 * np.log10(before / after))
    assert min(gains) > 0


def test_a_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "restore-light-jpeg-00000000.safetensors"
    path.write_bytes(BytesIO(b"something else").getvalue())
    monkeypatch.setitem(PINNED, path.name, "0" * 64)
    with pytest.raises(NlaicError, match=r"SHA-256 is .*, expected 0000"):
        read_weights(path)
