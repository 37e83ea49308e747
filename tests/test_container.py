"""The container: what is written is read again, and nothing damaged is read in silence."""

import json
import struct
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlaic import container
from nlaic.container import Header, describe, pack, unpack
from nlaic.errors import FormatError, NlaicError

ID = bytes(range(8))
HEADER = Header(130, 70, ID, 325, (128, 64))  # 2 x 2 blocks
BLOCKS = [b"one", b"", b"three", b"4"]
SECTIONS = {container.EXIF: b"exif", 0x55: b""}
SMALL = pack(HEADER, BLOCKS, SECTIONS)
ALL_REQUIRED = frozenset(range(0x80, 0x100))


def crc(data):
    return data + struct.pack("<I", zlib.crc32(data))


def head(size=b"\x40\x40", block=b"\x01\x01", sections=b"\x00", lengths=b"\x03", start=b"\x8bNLC\1\0", quality=500):
    """A header with its CRC, in bytes: by default of one block of 64 x 64 with 3 bytes."""
    return crc(start + size + ID + struct.pack("<H", quality) + block + sections + lengths)


BODY = crc(b"abc")


def read_all(data):
    read = unpack(data, known_required=ALL_REQUIRED)
    return read, [read.block(number) for number in range(read.header.blocks)]


@st.composite
def pictures(draw):
    block = draw(st.tuples(st.integers(1, 1024), st.integers(1, 1024)))
    block = (block[0] * 64, block[1] * 64)
    columns, rows = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    width = columns * block[0] - draw(st.integers(0, block[0] - 1))
    height = rows * block[1] - draw(st.integers(0, block[1] - 1))
    header = Header(width, height, draw(st.binary(min_size=8, max_size=8)), draw(st.integers(0, 1000)), block)
    payload = st.binary(max_size=300)
    blocks = draw(st.lists(payload, min_size=columns * rows, max_size=columns * rows))
    header = replace(header, grey=draw(st.booleans()))
    return header, blocks, draw(st.dictionaries(st.integers(0, 255), payload, max_size=8))


@settings(max_examples=80, deadline=None)
@given(pictures())
def test_round_trip(picture):
    header, blocks, sections = picture
    data = pack(header, blocks, sections)
    read = unpack(data, max_pixels=1 << 48, known_required=ALL_REQUIRED)
    assert (read.version, read.header, read.sections) == (1, header, sections)
    assert list(read.sections) == sorted(sections)
    assert [read.block(number) for number in range(header.blocks)] == blocks
    assert read.block_lengths == tuple(map(len, blocks))
    assert read.header_bytes == len(data) - sum(len(part) + 4 for part in (*blocks, *sections.values()))


def test_golden_bytes():
    header = struct.pack("<4sBB", b"\x8bNLC", 1, 0)
    header += b"\xac\x02" + b"\x46"  # 300 x 70
    header += struct.pack("<8sH", ID, 1000)
    header += b"\x02\x01"  # blocks of 128 x 64: 3 x 2 of them
    header += b"\x02" + b"\x01\x03" + b"\x82\x00"  # an ICC profile of 3 bytes, an empty base
    header += b"\x02\x00\x00\x00\xc8\x01\x01"  # payloads
    header += struct.pack("<I", zlib.crc32(header))
    payloads = [b"ab", b"", b"", b"", b"x" * 200, b"c"]
    expected = header + crc(b"icc") + crc(b"") + b"".join(map(crc, payloads))

    sections = {container.BASE: b"", container.ICC: b"icc"}
    assert pack(Header(300, 70, ID, 1000, (128, 64)), payloads, sections) == expected
    read, blocks = read_all(expected)
    assert read.header == Header(300, 70, ID, 1000, (128, 64))
    assert (read.header.columns, read.header.rows, read.header.blocks) == (3, 2, 6)
    assert read.sections == sections
    assert blocks == payloads
    assert read.header_bytes == len(header)


def test_the_crc_is_the_one_of_the_specification():
    """Bit by bit, from the docstring's words."""
    value = 0xFFFFFFFF
    for byte in b"abc":
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    assert b"abc" + struct.pack("<I", value ^ 0xFFFFFFFF) == BODY


def test_at_most_40_bytes_beside_the_payload():
    data = pack(Header(768, 512, ID, 500, (2048, 1024)), [bytes(8000)])
    assert len(data) - 8000 <= 40
    assert describe(unpack(data))["overhead_bytes"] == len(data) - 8000


@pytest.mark.parametrize("size", range(len(SMALL)))
def test_truncation(size):
    with pytest.raises(FormatError, match="truncated" if size >= 4 else "not a .nlaic file"):
        unpack(SMALL[:size])


@pytest.mark.parametrize("byte", range(len(SMALL)))
def test_no_flipped_bit_is_silent(byte):
    for bit in range(8):
        data = bytearray(SMALL)
        data[byte] ^= 1 << bit
        with pytest.raises(FormatError):
            read_all(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([0, 4, 6, 8, 18, 20]), st.booleans())
def test_noise_raises_nothing_but_format_errors(noise, kept, sound):
    data = head()[:kept] + noise
    try:
        read, blocks = read_all(crc(data) if sound else data)
    except FormatError:
        return
    assert pack(read.header, blocks, read.sections) == (crc(data) if sound else data)


def test_a_damaged_block_leaves_the_others_readable():
    data = bytearray(SMALL)
    data[-5] ^= 1  # "4"
    read = unpack(bytes(data))
    assert [read.block(number) for number in range(3)] == BLOCKS[:3]
    with pytest.raises(FormatError, match=rf"^byte {len(data) - 5}: block 3 \(column 1, row 1\) is damaged"):
        read.block(3)


@pytest.mark.parametrize("number", [-1, 4])
def test_block_numbers(number):
    with pytest.raises(NlaicError, match=rf"0\.\.3, got {number}"):
        unpack(SMALL).block(number)


MOST = b"\xff\xff\xff\x07"  # 2^24 - 1
HUGE = b"\xff\xff\xff\xff\x0f"  # 2^32 - 1
REFUSED = {
    "empty": (b"", "not a .nlaic file.*got nothing"),
    "another format": (b"\x89PNG\r\n\x1a\n" + bytes(60), "^byte 0: not a .nlaic file"),
    "newer version": (head(start=b"\x8bNLC\x03\0") + BODY, "^byte 4: version 3, this program reads 1"),
    "version 0": (head(start=b"\x8bNLC\0\0") + BODY, "^byte 4: version 0, from before the format was frozen"),
    "flags": (head(start=b"\x8bNLC\1\x80") + BODY, r"^byte 5: flags must be 0\.\.1, got 128"),
    "no width": (head(size=b"\x00\x40") + BODY, r"^byte 6: width must be 1\.\.16777215, got 0"),
    "no height": (head(size=b"\x40\x00") + BODY, r"^byte 7: height must be"),
    "too wide": (head(size=b"\x80\x80\x80\x08\x40") + BODY, "^byte 6: width must be .* got 16777216"),
    "too many pixels": (
        head(size=b"\x80\x80\x02\x81\x80\x02") + BODY,
        "^byte 6: .*at most 1073741824, got 32768 . 32769",
    ),
    "quality": (head(quality=1001) + BODY, r"^byte 16: quality must be 0\.\.1000, got 1001"),
    "no block width": (head(block=b"\x00\x01") + BODY, r"^byte 18: block width must be 64\.\.65536 .* got 0"),
    "block too high": (head(block=b"\x01\x81\x08") + BODY, "^byte 19: block height must be .* got 65600"),
    "sections": (head(sections=b"\x41") + BODY, r"^byte 20: number of sections must be 0\.\.64, got 65"),
    "same tag twice": (head(sections=b"\x02\x01\x00\x01\x00") + crc(b"") * 2 + BODY, "^byte 23: section tag .* got 1"),
    "tags descend": (
        head(sections=b"\x02\x02\x00\x01\x00") + crc(b"") * 2 + BODY,
        "^byte 23: .* above the last, 2, got 1",
    ),
    "section too long": (head(sections=b"\x01\x01" + HUGE) + BODY, r"^byte 22: .*: length of section 1 \(ICC\)"),
    "block too long": (
        head(lengths=HUGE) + BODY,
        r"^byte 21: .*: length of block 0 \(column 0, row 0\) .* got 4294967295",
    ),
    "block one too long": (head(lengths=b"\x04") + BODY, r"^byte 21: .*: length .* at most 3 .* got 4"),
    "too many blocks": (head(size=MOST + b"\x40") + BODY, "^byte 24: .*: number of blocks .* at most 1 .* 262144 x 1"),
    "overlong varint": (head(size=b"\xc0\x00\x40") + BODY, "^byte 6: width must be a varint in its shortest form"),
    "overlong zero": (head(lengths=b"\x80\x00") + BODY, "^byte 21: length must be a varint in its shortest form"),
    "varint of six bytes": (head(lengths=b"\x80\x80\x80\x80\x80\x01") + BODY, "^byte 21: length .* at most 5 bytes"),
    "varint of 33 bits": (head(lengths=b"\xff\xff\xff\xff\x1f") + BODY, r"^byte 21: length must be 0\.\.4294967295"),
    "header ends": (head()[:12], "^byte 8: the file is truncated, model id needs 8"),
    "header damaged": (head()[:-1] + b"!" + BODY, "^byte 0: header is damaged"),
    "section damaged": (head(sections=b"\x01\x01\x00") + b"!!!!" + BODY, r"^byte 28: section 1 \(ICC\) is damaged"),
    "trailing data": (head() + BODY + b"\0", "^byte 33: nothing may follow the last block, got 1 bytes"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(data, message):
    with pytest.raises(FormatError, match=message) as caught:
        unpack(data)
    assert "\n" not in str(caught.value)


def test_the_example_that_the_refused_ones_are_made_of_is_sound():
    assert read_all(head() + BODY) == (unpack(head() + BODY), [b"abc"])
    assert unpack(head(lengths=b"\x80\x01") + crc(bytes(128))).block(0) == bytes(128)


@pytest.mark.parametrize(
    "data",
    [
        head(size=MOST * 2, lengths=b"") + bytes(50),
        head(sections=b"\x01\x01" + HUGE) + BODY,
        head(lengths=HUGE) + BODY,
    ],
    ids=["blocks", "section", "payload"],
)
def test_bombs_allocate_nothing(data):
    tracemalloc.start()
    with pytest.raises(FormatError):
        unpack(data, max_pixels=1 << 48)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_the_limit_of_pixels_is_the_callers():
    assert unpack(SMALL, max_pixels=130 * 70).header == HEADER
    with pytest.raises(FormatError, match=r"at most 9099, got 130 \* 70"):
        unpack(SMALL, max_pixels=130 * 70 - 1)


def test_unknown_sections():
    optional = pack(HEADER, BLOCKS, {0x7F: b"later"})
    assert unpack(optional).sections == {0x7F: b"later"}
    assert unpack(optional).block(2) == b"three"
    required = pack(HEADER, BLOCKS, {container.ALPHA: b"a", 0xF0: b"f"})
    with pytest.raises(FormatError, match=r"section 129 \(ALPHA\) is required"):
        unpack(required, known_required=frozenset())
    with pytest.raises(FormatError, match="section 240 is required"):
        unpack(required)
    assert len(unpack(required, known_required=frozenset({container.ALPHA, 0xF0})).sections) == 2


def test_the_largest_values_are_written_and_read():
    header = Header((1 << 24) - 1, 1, ID, 1000, (65536, 65536))
    sections = {tag: b"" for tag in range(64)}
    read = unpack(pack(header, [b""] * 256, sections))
    assert (read.header, read.sections) == (header, sections)


GOOD = {"width": 64, "height": 64, "model_id": ID, "quality": 0, "block": (64, 64)}
BAD_FIELDS = [
    ("width", 0),
    ("width", 1 << 24),
    ("width", 64.0),
    ("height", 0),
    ("height", 1 << 24),
    ("model_id", b"seven b"),
    ("quality", -1),
    ("quality", 1001),
    ("block", (0, 64)),
    ("block", (64, 96)),
    ("block", (65600, 64)),
]


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS)
def test_pack_refuses_a_field_out_of_range(name, value):
    with pytest.raises(NlaicError, match=rf"{name.replace('_', ' ')}.* must be .*, got "):
        pack(Header(**GOOD | {name: value}), [b""])


@pytest.mark.parametrize(
    ("blocks", "sections", "message"),
    [
        ([], None, "number of blocks must be 1 x 1, got 0"),
        ([b"", b""], None, "number of blocks must be 1 x 1, got 2"),
        ([range(1 << 32)], None, r"length of block 0 \(column 0, row 0\) must be 0\.\.4294967295"),
        ([b""], {256: b""}, "section tag must be"),
        ([b""], {-1: b""}, "section tag must be"),
        ([b""], {1: range(1 << 32)}, r"length of section 1 \(ICC\) must be"),
        ([b""], {tag: b"" for tag in range(65)}, "number of sections must be"),
    ],
)
def test_pack_refuses_parts_out_of_range(blocks, sections, message):
    with pytest.raises(NlaicError, match=message):
        pack(Header(**GOOD), blocks, sections)


def test_describe_adds_up_and_is_json():
    facts = describe(unpack(SMALL))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["overhead_bytes"] + facts["payload_bytes"] + sum(facts["sections"].values()) == len(SMALL)
    del facts["overhead_bytes"]
    assert facts == {
        "version": 1,
        "width": 130,
        "height": 70,
        "grey": False,
        "model_id": "0001020304050607",
        "quality": 32.5,
        "block": [128, 64],
        "blocks": 4,
        "payload_bytes": 9,
        "sections": {"EXIF": 4, "85": 0},
    }
