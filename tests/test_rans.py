"""The coder in Python against compressai's: the same bytes, the same symbols."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlaic import entropy, rans
from nlaic.entropy import TOTAL, EntropyCoder, gaussian_mass, logistic_mass, make_tables
from nlaic.errors import FormatError

ans = pytest.importorskip("compressai.ans")


@st.composite
def messages(draw):
    """Random tables, each with at least 2^-16 for every value, and symbols of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tables, sizes, offsets = [], [], []
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.integers(2, 300))  # one alone is of 2^16, which compressai cannot hold
        cuts = np.sort(rng.choice(TOTAL - 1, count - 1, replace=False)) + 1
        tables.append([0, *cuts.tolist(), TOTAL, TOTAL])
        sizes.append(count + 2)
        offsets.append(draw(st.integers(-200, 100)))
    indexes = rng.integers(0, len(tables), draw(st.integers(4, 500)))
    places = [rng.integers(0, sizes[n] - 2) for n in indexes]
    symbols = [place + offsets[n] for place, n in zip(places, indexes.tolist(), strict=True)]
    return symbols, indexes.tolist(), (tables, sizes, offsets)


@settings(max_examples=200, deadline=None)
@given(messages(), messages())
def test_the_bytes_are_the_same_and_so_is_what_they_say(first, second):
    streams = []
    for module in (ans, rans):
        encoder = module.BufferedRansEncoder()
        for symbols, indexes, tables in (first, second):
            encoder.encode_with_indexes(symbols, indexes, *tables)
        streams.append(encoder.flush())
    assert streams[0] == streams[1]
    for module in (ans, rans):
        decoder = module.RansDecoder()
        decoder.set_stream(streams[0] + bytes(4000))
        for symbols, indexes, tables in (first, second):
            assert list(decoder.decode_stream(indexes, *tables)) == symbols


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=8, max_size=400).filter(lambda data: data[7] < 128 and any(data[4:8])))
def test_noise_is_read_alike(noise):
    tables = ([[0, 10, 60000, TOTAL, TOTAL]], [5], [-1])
    numbers, found = [0] * 200, []
    for module in (ans, rans):
        decoder = module.RansDecoder()
        decoder.set_stream(noise[: len(noise) // 4 * 4] + bytes(900))
        found.append(list(decoder.decode_stream(numbers, *tables)))
    assert found[0] == found[1]


def test_blocks_are_coded_and_refused_alike(monkeypatch):
    scales = np.array([0.1, 0.5, 3.0, 20.0])
    coder = EntropyCoder(make_tables(scales, gaussian_mass, 8), make_tables(scales, logistic_mass, 16), skip=1)
    rng = np.random.default_rng(3)
    z_index, index = rng.integers(0, 4, 5), rng.integers(0, 4, (6, 8, 8))
    z_hat = rng.integers(-9, 9, (5, 2, 2))
    r = np.where(index >= 1, rng.integers(-12, 12, index.shape), 0)
    payloads = []
    for module in (ans, rans):
        monkeypatch.setattr(entropy, "_ans", lambda module=module: module)
        payloads.append(coder.encode(z_hat, z_index, r, index))
        half_way = coder.decode_z(payloads[0], z_index, z_hat.shape, r.size)
        np.testing.assert_array_equal(half_way.z_hat, z_hat)
        np.testing.assert_array_equal(half_way.decode_y(index), r)
        for wrong in (payloads[0][:-4], payloads[0] + bytes(4), payloads[0][:-1] + bytes([payloads[0][-1] ^ 1])):
            with pytest.raises(FormatError):
                coder.decode_z(wrong, z_index, z_hat.shape, r.size).decode_y(index)
    assert payloads[0] == payloads[1]


def test_the_coder_in_python_where_words_lie_the_other_way_round(monkeypatch):
    assert entropy._ans.__wrapped__() is not rans
    monkeypatch.setattr("sys.byteorder", "big")
    assert entropy._ans.__wrapped__() is rans
