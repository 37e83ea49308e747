"""Files made to harm: one FormatError each, soon, and with no more memory than the file itself gives reason for."""

import contextlib
import random
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlaic
from nlaic.container import Header, pack, unpack
from nlaic.rates import rate_at
from nlaic.tiles import Grid
from tests.conftest import smooth_picture
from tests.test_container import HUGE, MOST, crc

SIZE, BLOCK = (200, 100), (128, 64)  # 2 x 2 blocks


@pytest.fixture(scope="module")
def data(codec):
    return codec.compress(smooth_picture(*SIZE), 30, effort=1, block=BLOCK)


@pytest.fixture(scope="module")
def decoded(codec, data):
    return np.asarray(codec.decompress(data))


def blocks(data):
    file = unpack(data)
    return file.header, [file.block(number) for number in range(file.header.blocks)]


def start(codec, size=b"\x40\x40", sides=b"\x01\x01"):
    """A header up to its table, of the codec's own model."""
    return b"\x8bNLC\1\0" + size + codec.weights.model_id + b"\xf4\x01" + sides


def repacked(data, **changes):
    header, payloads = blocks(data)
    return pack(Header(**vars(header) | changes), payloads)


ATTACKS = {  # name: how to make it from the codec and a sound file
    "empty": lambda codec, data: b"",
    "one byte": lambda codec, data: data[:1],
    "magic alone": lambda codec, data: data[:4],
    "length bomb: a block": lambda codec, data: crc(start(codec) + b"\0" + HUGE) + crc(b"x"),
    "length bomb: a section": lambda codec, data: crc(start(codec) + b"\x01\x01" + HUGE + b"\x01") + crc(b"x"),
    "length bomb: 64 sections": lambda codec, data: crc(
        start(codec) + b"\x40" + b"".join(bytes([tag]) + HUGE for tag in range(64)) + b"\x01"
    ),
    "block bomb": lambda codec, data: crc(start(codec, MOST * 2) + b"\0") + bytes(100),
    "size bomb": lambda codec, data: crc(start(codec, MOST * 2, b"\x80\x08\x80\x08") + b"\0" + b"\x08" * 65536),
    "varint of six bytes": lambda codec, data: crc(start(codec, b"\x80\x80\x80\x80\x80\x01\x40") + b"\0\x01"),
    "varint of 33 bits": lambda codec, data: crc(start(codec, b"\xff\xff\xff\xff\x1f\x40") + b"\0\x01"),
    "varint without end": lambda codec, data: data[:6] + b"\xff" * 1000,
    "overlong varint": lambda codec, data: crc(start(codec, b"\xc0\x00\x40") + b"\0\x03") + crc(b"abc"),
    "section twice": lambda codec, data: crc(start(codec) + b"\x02\x01\x00\x01\x00\x03") + crc(b"") * 2 + crc(b"abc"),
    "blocks overlap: fewer bytes than lengths": lambda codec, data: data[:-9],
    "a block is missing": lambda codec, data: data[: -4 - len(blocks(data)[1][3])],
    "blocks in another order": lambda codec, data: data.replace(
        crc(blocks(data)[1][0]) + crc(blocks(data)[1][1]), crc(blocks(data)[1][1]) + crc(blocks(data)[1][0])
    ),
    "trailing byte": lambda codec, data: data + b"\0",
    "the file twice": lambda codec, data: data * 2,
    "another model": lambda codec, data: repacked(data, model_id=b"12345678"),
    "a narrower picture in as many blocks": lambda codec, data: repacked(data, width=190),
    "another quality": lambda codec, data: repacked(data, quality=990),
    "payloads are empty": lambda codec, data: pack(blocks(data)[0], [b""] * 4),
    "payloads are zeros": lambda codec, data: pack(blocks(data)[0], [bytes(80)] * 4),
    "payloads are ones": lambda codec, data: pack(blocks(data)[0], [b"\xff" * 80] * 4),
    "payloads are states alone": lambda codec, data: pack(blocks(data)[0], [p[:8] for p in blocks(data)[1]]),
    "payloads are cut": lambda codec, data: pack(blocks(data)[0], [p[:-4] for p in blocks(data)[1]]),
    "payloads are cut within a word": lambda codec, data: pack(blocks(data)[0], [p[:-1] for p in blocks(data)[1]]),
    "payloads go on": lambda codec, data: pack(blocks(data)[0], [p + bytes(400) for p in blocks(data)[1]]),
    "payloads are noise": lambda codec, data: pack(
        blocks(data)[0], [p[:8] + random.Random(0).randbytes(4000) for p in blocks(data)[1]]
    ),
    "a required section": lambda codec, data: pack(*blocks(data), {0xFE: b"?"}),
    "all wrong checksums": lambda codec, data: data.replace(data[-4:], b"\0\0\0\0"),
}


REASONS = {  # what the error must say: an attack that is refused for something else attacks nothing
    "empty": "not a .nlaic file",
    "one byte": "not a .nlaic file",
    "magic alone": "truncated, version",
    "length bomb: a block": "length of block 0",
    "length bomb: a section": "length of section 1",
    "length bomb: 64 sections": "length of section 0",
    "block bomb": r"width \* height",
    "size bomb": r"width \* height",
    "varint of six bytes": "width must be a varint",
    "varint of 33 bits": "width must be 1",
    "varint without end": "width must be a varint",
    "overlong varint": "in its shortest form",
    "section twice": "above the last",
    "blocks overlap: fewer bytes than lengths": "length of block 3",
    "a block is missing": "length of block 3",
    "blocks in another order": "block 0 .* CRC-32",
    "trailing byte": "nothing may follow",
    "the file twice": "nothing may follow",
    "another model": "of model 3132",
    "a narrower picture in as many blocks": "block 1 .* last symbol",
    "another quality": "last symbol",
    "payloads are empty": "sound state",
    "payloads are zeros": "sound state",
    "payloads are ones": "sound state",
    "payloads are states alone": "last symbol",
    "payloads are cut": "last symbol",
    "payloads are cut within a word": "sound state",
    "payloads go on": "last symbol",
    "payloads are noise": "last symbol",
    "a required section": "section 254 is required",
    "all wrong checksums": "block 3 .* CRC-32",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_one_error(name, codec, data):
    attack = ATTACKS[name](codec, data)
    assert attack != data
    begin = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(nlaic.FormatError, match=REASONS[name]) as caught:
        codec.decompress(attack)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 5_000_000 and time.perf_counter() - begin < 5
    with contextlib.suppress(nlaic.FormatError):
        codec.salvage(attack, max_pixels=1 << 24)


def test_a_picture_too_large_for_this_machine_is_refused_before_it_is_made(codec, monkeypatch):
    """At the limit of pixels, in one block: its transforms alone would need more than there is."""
    bomb = pack(Header(32768, 32768, codec.weights.model_id, 500, (65536, 65536)), [bytes(4) + b"\1\0\0\0"])
    monkeypatch.setattr("nlaic.canvas._memory", lambda: 16e9)
    with pytest.raises(nlaic.NlaicError, match=r"not enough memory for a picture of 32768x32768 pixels \(73\.01 GB\)"):
        codec.decompress(bomb)


def test_bad_blocks_of_a_large_picture_cost_no_picture(codec, monkeypatch):
    noise = bytes(4) + b"\1\0\0\0"
    data = pack(Header(16384, 16384, codec.weights.model_id, 500, (1024, 1024)), [noise] * 256)
    monkeypatch.setattr("PIL.Image.new", None)
    with pytest.raises(nlaic.FormatError, match="block 0 "):
        codec.decompress(data)


def test_truncation_at_every_byte(codec, data):
    for size in range(len(data)):
        with pytest.raises(nlaic.FormatError):
            unpack(data[:size])
        with pytest.raises(nlaic.FormatError):
            codec.decompress(data[:size])
        with pytest.raises(nlaic.FormatError):
            nlaic.info(data[:size])


def test_no_change_of_a_byte_and_no_cut_is_silent(codec, data):
    """Some hundreds; `tools/damage.py` does more."""
    rng = random.Random(0)
    for number in range(400):
        place = rng.randrange(len(data)) if number % 2 else rng.randrange(unpack(data).header_bytes)
        changed = data[:place] + bytes([data[place] ^ rng.randrange(1, 256)]) + data[place + 1 :]
        with pytest.raises(nlaic.FormatError):
            codec.decompress(changed)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_repaired_is_refused_or_has_its_one_form(codec, data, draw):
    """Payloads changed under right checksums: an error, or what the encoder writes for what was decoded."""
    header, payloads = blocks(data)
    number = draw.draw(st.integers(0, 3))
    payload = bytearray(payloads[number])
    for _ in range(draw.draw(st.integers(1, 3))):
        payload[draw.draw(st.integers(0, len(payload) - 1))] = draw.draw(st.integers(0, 255))
    changed = pack(header, [*payloads[:number], bytes(payload), *payloads[number + 1 :]])
    salvaged = codec.salvage(changed)
    assert salvaged.blocks in ((), (number,)) and salvaged.picture.size == SIZE
    if salvaged.blocks:
        return
    rate = rate_at(codec.weights.tensors, header.quality)
    size = Grid(header.width, header.height, header.block).padded_size(number)
    s = codec.decode_symbols(bytes(payload), rate, *size)
    assert codec.coder.encode(s.z_hat, rate.z_index, s.r, s.index) == bytes(payload)
