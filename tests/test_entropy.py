"""Tables and coder: properties, an independent rANS, and what must be refused."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import logistic, norm

from nlaic.entropy import TOTAL, EntropyCoder, Tables, gaussian_mass, logistic_mass, make_tables
from nlaic.errors import FormatError, NlaicError

SCALES = np.array([0.1, 0.17, 0.6, 3.0, 25.0])
Y, Z = make_tables(SCALES, gaussian_mass, 8), make_tables(SCALES[1:], logistic_mass, 16)
CODER = EntropyCoder(Y, Z, skip=1)


def table(tables, number):
    ends = np.cumsum(2 * tables.bounds.astype(int) + 1)
    return tables.frequencies[ends[number] - 2 * tables.bounds[number] - 1 : ends[number]].astype(int)


@pytest.mark.parametrize(("tables", "density", "scales"), [(Y, norm, SCALES), (Z, logistic, SCALES[1:])])
def test_tables_are_the_density(tables, density, scales):
    for number, scale in enumerate(scales):
        frequencies, bound = table(tables, number), int(tables.bounds[number])
        assert frequencies.sum() == TOTAL and frequencies.min() >= 1 and bound >= 8 * scale + 16
        assert np.array_equal(frequencies, frequencies[::-1]) or abs(frequencies - frequencies[::-1]).max() <= 1
        k = np.arange(-bound, bound + 1)
        exact = (density.cdf(k + 0.5, scale=scale) - density.cdf(k - 0.5, scale=scale)) * TOTAL
        # Every slot gives up its share of the ones that the tails need, no more.
        assert np.all(np.abs(frequencies - exact) <= 2 + exact * len(k) / TOTAL)


def rans_decode(payload, tables, cumulative):
    """rANS with a 64-bit state and 32-bit words, from its description (Duda, https://arxiv.org/abs/1311.2540)."""
    words = [int.from_bytes(payload[i : i + 4], "little") for i in range(0, len(payload), 4)]
    state, position, out = words[0] | words[1] << 32, 2, []
    for number in tables:
        slot = state & 0xFFFF
        symbol = next(i for i, upper in enumerate(cumulative[number][1:]) if slot < upper)
        low, high = cumulative[number][symbol], cumulative[number][symbol + 1]
        state = (high - low) * (state >> 16) + slot - low
        if state < 1 << 31:
            state, position = state << 32 | words[position], position + 1
        out.append(symbol - (len(cumulative[number]) - 3) // 2)
    return out, state


def draw_block(seed, shape=(4, 2, 2), channels=6):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(SCALES), (channels, 4, 4)).astype(np.uint8)
    bound = Y.bounds[index]
    r = np.clip(np.rint(rng.normal(size=index.shape) * SCALES[index] * rng.choice([1, 9])), -bound, bound).astype(
        np.int32
    )
    r[index < CODER.skip] = 0
    z_index = rng.integers(0, len(SCALES) - 1, shape[0])
    z_bound = Z.bounds[z_index][:, None, None]
    z_hat = np.clip(rng.integers(-30, 31, shape), -z_bound, z_bound).astype(np.int32)
    return z_hat, z_index, r, index


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_round_trip_and_independent_decoder(seed):
    z_hat, z_index, r, index = draw_block(seed)
    payload = CODER.encode(z_hat, z_index, r, index)
    decoder = CODER.decode_z(payload, z_index, z_hat.shape, r.size)
    assert np.array_equal(decoder.z_hat, z_hat)
    assert np.array_equal(decoder.decode_y(index), r)

    coded = index >= CODER.skip
    order = [("z", int(t)) for t in np.repeat(z_index, 4)] + [("y", int(t)) for t in index[coded]]
    cumulative = {("z", i): c for i, c in enumerate(Z.lists[0])} | {("y", i): c for i, c in enumerate(Y.lists[0])}
    symbols, state = rans_decode(payload, order, cumulative)
    assert symbols == [*z_hat.ravel().tolist(), *r[coded].tolist()]
    assert state == 1 << 31  # the state that the encoder started from


def test_payload_costs_what_the_frequencies_say():
    z_hat, z_index, r, index = draw_block(1, (4, 8, 8))
    rng = np.random.default_rng(0)
    index = rng.integers(0, len(SCALES), (64, 32, 32)).astype(np.uint8)
    r = np.where(index < 1, 0, np.rint(rng.normal(size=index.shape) * SCALES[index])).astype(np.int32)
    ideal = sum(
        16 - math.log2(table(Y, i)[v + Y.bounds[i]]) for i, v in zip(index[index >= 1], r[index >= 1], strict=True)
    )
    ideal += sum(
        16 - math.log2(table(Z, t)[v + Z.bounds[t]]) for t, v in zip(np.repeat(z_index, 64), z_hat.ravel(), strict=True)
    )
    size = 8 * len(CODER.encode(z_hat, z_index, r, index))
    assert ideal <= size <= ideal * 1.001 + 64


def test_bits_are_those_of_the_frequencies():
    bits = Y.bits(20)
    assert bits.shape == (len(SCALES), 41)
    for number in range(len(SCALES)):
        bound, frequencies = int(Y.bounds[number]), table(Y, number)
        for value in range(-20, 21):
            expected = 16 - math.log2(frequencies[value + bound]) if abs(value) <= bound else math.inf
            assert bits[number, value + 20] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("payload", [b"", b"1234567", bytes(8), bytes(80), b"\xff" * 16, bytes(4) + b"\x01" + bytes(4)])
def test_unsound_payloads_are_refused(payload):
    with pytest.raises(FormatError, match="state"):
        CODER.decode_z(payload, np.zeros(4, int), (4, 2, 2), 100)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=8, max_size=60))
def test_random_payloads_stay_within_the_tables_and_are_refused_at_their_end(noise):
    payload = noise[:4] + b"\x01\x00\x00\x00" + noise[8 : len(noise) // 4 * 4]  # a sound first state, then anything
    z_index = np.array([0, 1, 2, 3])
    decoder = CODER.decode_z(payload, z_index, (4, 3, 3), 6 * 16)
    assert np.all(np.abs(decoder.z_hat) <= Z.bounds[z_index][:, None, None])
    index = np.arange(96).reshape(6, 4, 4).astype(np.uint8) % len(SCALES)
    with pytest.raises(FormatError, match="does not end"):
        decoder.decode_y(index)


def decode(payload, block, index=None):
    z_hat, z_index, r, own = block
    return CODER.decode_z(payload, z_index, z_hat.shape, r.size).decode_y(own if index is None else index)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_decoded_is_what_the_encoder_writes(seed):
    """A bit changed, a word lost, added or moved: refused, or the one payload of other symbols."""
    z_hat, z_index, r, index = block = draw_block(seed)
    payload, rng = CODER.encode(*block), np.random.default_rng(seed)
    assert np.array_equal(decode(payload, block), r)
    others = [payload[:n] + bytes([payload[n] ^ 1 << rng.integers(8)]) + payload[n + 1 :] for n in range(len(payload))]
    for place in range(0, len(payload) + 1, 4):
        head, tail = payload[:place], payload[place:]
        others += [head + b"\xff" * 4 + tail, head + bytes(4) + tail, tail[4:] + head[:4], head[:-4]]
    refused = 0
    for other in others:
        try:
            half_way = CODER.decode_z(other, z_index, z_hat.shape, r.size)
            assert CODER.encode(half_way.z_hat, z_index, half_way.decode_y(index), index) == other
        except FormatError:
            refused += 1
    assert refused > 0.6 * len(others)


@pytest.mark.parametrize("seed", range(20))
def test_symbols_read_with_other_tables_are_found_at_the_end(seed):
    block = draw_block(seed)
    index = np.where(block[3] < CODER.skip, block[3], 1 + block[3] % (len(SCALES) - 1))
    with pytest.raises(FormatError, match="does not end"):
        decode(CODER.encode(*block), block, index)


def test_the_smallest_payload_ends_in_its_first_state():
    """Symbols that cost next to nothing: no word is written but the state."""
    z_hat, r = np.zeros((4, 1, 1), np.int32), np.zeros((2, 1, 1), np.int32)
    block = z_hat, np.zeros(4, int), r, np.zeros((2, 1, 1), np.uint8)
    payload = CODER.encode(*block)
    assert len(payload) == 8
    assert np.array_equal(decode(payload, block), r)


def test_more_symbols_than_there_is_room_for_and_numbers_of_no_table_are_refused():
    z_hat, z_index, r, index = draw_block(0)
    payload = CODER.encode(z_hat, z_index, r, index)
    with pytest.raises(NlaicError, match="at most 95, got 96"):
        CODER.decode_z(payload, z_index, z_hat.shape, 95).decode_y(index)
    with pytest.raises(FormatError, match=r"table numbers must be 0\.\.4, got 9"):
        CODER.decode_z(payload, z_index, z_hat.shape, 96).decode_y(index + 5)
    with pytest.raises(FormatError, match=r"table numbers must be 0\.\.3, got 4"):
        CODER.decode_z(payload, z_index * 0 + 4, z_hat.shape, 96)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.data())
def test_symbols_other_than_those_that_were_written_are_noticed(seed, data):
    """Read by other tables, with a word more or fewer: never in silence. (Damage is the CRC-32's to find.)"""
    z_hat, z_index, r, index = draw_block(seed)
    place = data.draw(st.integers(0, r.size - 1))
    r.flat[place] = 0  # the tails of two tables may be the same interval, the middles are not
    payload = CODER.encode(z_hat, z_index, r, index)
    changed = index.copy()
    changed.flat[place] = (changed.flat[place] + data.draw(st.integers(1, len(SCALES) - 1))) % len(SCALES)
    cases = [(payload, changed), (payload + bytes(4), index)]
    for wrong, by in cases + [(payload[:-4], index)] * (len(payload) > 8):
        with pytest.raises(FormatError, match=r"does not end|sound state"):
            CODER.decode_z(wrong, z_index, z_hat.shape, r.size).decode_y(by)


def test_the_package_that_the_coder_comes_from_can_be_imported_after_it():
    pytest.importorskip("compressai")
    program = "from nlaic.entropy import _ans; _ans(); import compressai.ans; compressai.ans.RansDecoder()"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_too_few_symbols_are_refused():
    empty = np.zeros((2, 1, 1), np.int32)
    with pytest.raises(NlaicError, match="at least 4"):
        CODER.encode(np.zeros((3, 1, 1), np.int32), np.zeros(3, int), empty, np.zeros((2, 1, 1), np.uint8))


@pytest.mark.parametrize(
    ("frequencies", "bounds"),
    [([TOTAL // 2, 1, TOTAL // 2], [1]), ([TOTAL - 1, 0, 1], [1]), ([1, TOTAL - 2, 1], [2]), ([], [0])],
)
def test_unsound_tables_are_refused(frequencies, bounds):
    with pytest.raises(FormatError):
        Tables(np.array(frequencies, np.uint16), np.array(bounds, np.int32))
