"""Rows of base codecs with filters: the file's own decoder agrees, options count, what is missing is a reason."""

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


def test_what_there_is_not_is_a_reason(filters):  # noqa: F811
    with pytest.raises(MissingError, match="no weights of filter colorblust for vvc"):
        parse("vvc+colorblust").open()
    with pytest.raises(NlaicError, match="filter must be one of"):
        parse("jpeg+edsr").open()
    with pytest.raises(NlaicError, match=r"is none of light"):
        parse("edsr+jpeg")
