"""The `.nlaic` format, version 1, frozen: this page is the specification of the file around its payloads.

With three other pages it is complete, for a decoder of symbols to be written from them and the weights file alone
(`tools/reference_decoder.py` is one): `nlaic.weights` the weights file, the model id and the ids of codecs,
`nlaic.entropy` the payload of a block, `nlaic.integer` the table indices. All that they say is exact: every reader
finds the same symbols. What pictures are made of the symbols by is float, said at the end of `nlaic.weights`, and not
normative to the bit. `tests/golden` holds files to try a reader on.

All integers are little-endian. A *varint* is an unsigned LEB128 number: seven bits a byte, the lowest first, bit 7 set
in every byte but the last; below 2^32, so at most 5 bytes, and in its shortest form (the last of several bytes is not
0). A *CRC-32* is a u32, zlib's and PNG's: reflected polynomial 0xEDB88320, initial value and final xor 0xFFFFFFFF.

```
header    magic           4 bytes   8B 4E 4C 43, "\\x8bNLC"
          version         u8        1; the layout below is that of version 1 only
          flags           u8        bit 0: grey; the other bits are reserved, and 0
          width           varint    pixels, 1..2^24-1
          height          varint    pixels, 1..2^24-1; a reader may limit width * height (2^30 by default)
          model id        8 bytes   which weights y_hat depends on (`nlaic.weights`)
          quality         u16       tenths, 0..1000
          block width     varint    in units of 64 pixels, 1..1024
          block height    varint    in units of 64 pixels, 1..1024
          sections        varint    their number S, 0..64
          S times: tag    u8        strictly ascending: each tag at most once
                   length varint    bytes of the section, its CRC-32 not counted
          N times: length varint    bytes of the block's payload, its CRC-32 not counted
          CRC-32          u32       of everything above, from the first byte of the magic
sections  S times: content, then its CRC-32, in the order of the table
blocks    N times: payload, then its CRC-32, in the order of the table
```

The file ends with the last CRC-32: fewer bytes are an error, and so are more. The number of blocks is
N = ceil(width / block width) * ceil(height / block height), with the block's size in pixels. Blocks stand in row-major
order: block n is in column n mod C and row n div C, where C = ceil(width / block width). Blocks of the last column and
row hold what is left of the picture, so a reader needs memory for the picture's part of a block, never for all of it.
A section may be empty. What a payload means belongs to the codec of the weights that the model id names: for codec 1
`nlaic.entropy` says it, in which each side of a block is rounded up to a multiple of 64 pixels.

Tags with bit 7 set are required: where a reader does not know one, the picture would be another, and it refuses the
file. Others are optional and skipped where unknown, though their CRC-32 is checked:

```
1     ICC       the colour profile of the picture, of kind RGB, or GRAY in a grey one; without it the colours are sRGB
2     EXIF      a TIFF structure, as in PNG's eXIf; its orientation is 1 or absent
3     XMP       an XMP packet
0x81  ALPHA     a PNG of colour type 0, 1 or 8 bits, not interlaced, of the picture's width and height: how opaque each
                pixel is (not premultiplied); what colour pixels of alpha 0 have means nothing
0x82  BASE      the picture by a codec that people already have, and a filter behind it (`nlaic.classic.section`)
```
The blocks of a grey picture are those of one of R = G = B; of what is decoded, each pixel is the luma
0.299 R + 0.587 G + 0.114 B, rounded.

A reader holds every length against the bytes that exist before it allocates: N blocks need at least 5 N bytes (a length
of one byte and a CRC-32 each). A file has one form only: writing again what was read gives the same bytes.

How the format may grow. Every file of version 1 stays readable, with the weights that it names:
- another payload or another network is another codec id in other weights, with model ids of their own; codecs that
  were once released stay decodable, and a reader refuses a codec id that it does not know;
- more beside the picture is a new tag: optional where the picture is the same without it, required where it is not;
- a bit of the flags that was reserved may get a meaning; a reader refuses a file with one that it does not know;
- another layout of the header would be version 2. Files of version 0 came from before version 1 was frozen and are
  refused.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from numbers import Real
from typing import Any, TypeVar

from nlaic.errors import FormatError, NlaicError

MAGIC = b"\x8bNLC"
VERSION = 1
UNFROZEN = 0  # the version of files from before
MAX_PIXELS = 1 << 30  # what a reader accepts unless told otherwise
ANY_PIXELS = 1 << 48  # more than a header can say
GREY = 1  # flag
UNIT = 64  # block sizes are multiples of this many pixels
SIDES = range(UNIT, 1024 * UNIT + 1, UNIT)  # of blocks
REQUIRED = 0x80  # this bit of a tag: a reader that does not know the section refuses the file
ICC, EXIF, XMP, ALPHA, BASE = 1, 2, 3, 0x81, 0x82
KNOWN = frozenset({ALPHA})  # of the required ones: what `nlaic.codec` interprets
READABLE = KNOWN | {BASE}  # what the package does
SECTION_NAMES = {ICC: "ICC", EXIF: "EXIF", XMP: "XMP", ALPHA: "ALPHA", BASE: "BASE"}

Result = TypeVar("Result")

MODEL_ID_BYTES, CRC_BYTES, VARINT_BYTES = 8, 4, 5
RANGES = {  # of every number in the header, held by the writer and by the reader
    **dict.fromkeys(("width", "height"), range(1, 1 << 24)),
    **dict.fromkeys(("block width", "block height"), SIDES),
    **{"flags": range(2), "quality": range(1001), "length": range(1 << 32)},
    **{"number of sections": range(65), "section tag": range(256)},
}


@dataclass(frozen=True)
class Header:
    """What the file says of its picture. `pack` checks the ranges."""

    width: int
    height: int
    model_id: bytes  # 8 bytes
    quality: int  # in tenths, 0..1000
    block: tuple[int, int]  # (width, height) in pixels, multiples of 64
    grey: bool = False

    @property
    def columns(self) -> int:
        """Blocks side by side."""
        return -(-self.width // self.block[0])

    @property
    def rows(self) -> int:
        """Blocks one below the other."""
        return -(-self.height // self.block[1])

    @property
    def blocks(self) -> int:
        """How many blocks the picture has."""
        return self.columns * self.rows


@dataclass(frozen=True)
class Container:
    """A file whose header and sections are known to be sound; its blocks are checked one by one, by `block`."""

    header: Header
    version: int
    sections: dict[int, bytes]  # tag to content, in the file's order, unknown optional ones included
    header_bytes: int  # with the header's CRC-32
    block_lengths: tuple[int, ...]  # bytes of each payload
    _block_starts: tuple[int, ...] = field(repr=False)
    _data: bytes = field(repr=False)
    damage: tuple[str, ...] = ()  # what `salvage` left out, a line each
    tags: frozenset[int] = frozenset()  # of all sections, those that `salvage` left out too

    def block(self, number: int) -> bytes:
        """Payload of one block, numbered row by row from 0; a FormatError where its CRC-32 does not fit."""
        if number not in range(self.header.blocks):
            raise NlaicError(f"block number must be 0..{self.header.blocks - 1}, got {number}")
        start, length = self._block_starts[number], self.block_lengths[number]
        return _verified(self._data, start, length, _block_name(self.header, number))

    def within(self, number: int, read: Callable[[bytes], Result]) -> Result:
        """What `read` makes of a block's payload; its FormatError is led by the place and the name of the block."""
        payload = self.block(number)
        try:
            return read(payload)
        except FormatError as error:
            place = f"byte {self._block_starts[number]}: {_block_name(self.header, number)}"
            raise FormatError(f"{place}: {error}") from error


def pack(header: Header, blocks: Sequence[bytes], sections: Mapping[int, bytes] | None = None) -> bytes:
    """Write a file: a payload for each block, row by row, and sections by tag, in any order.

    A NlaicError names what is out of range. The number of pixels is not limited: what is too much, a reader decides.
    """
    sections = sections or {}
    head = _pack_header(header)
    _check("number of sections", len(sections))
    for tag, content in sections.items():
        _check("section tag", tag)
        _check("length", len(content), of=_section_name(tag))
    if len(blocks) != header.blocks:
        raise NlaicError(f"number of blocks must be {header.columns} x {header.rows}, got {len(blocks)}")
    for number, payload in enumerate(blocks):
        _check("length", len(payload), of=_block_name(header, number))

    table = sorted(sections.items())
    head += varint(len(table)) + b"".join(bytes([tag]) + varint(len(content)) for tag, content in table)
    head += b"".join(varint(len(payload)) for payload in blocks)
    parts = (head, *(content for _, content in table), *blocks)
    return b"".join(piece for part in parts for piece in (part, zlib.crc32(part).to_bytes(CRC_BYTES, "little")))


def unpack(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    known_required: frozenset[int] = KNOWN,
    salvage: bool = False,
) -> Container:
    """Read a file: everything is checked but the blocks' CRC-32, which `Container.block` checks.

    A FormatError says what is wrong and where. Refused, too: pictures with width * height above `max_pixels`, and
    required sections other than those in `known_required`, which the caller interprets. With `salvage` the header
    alone must be sound: damaged sections are left out, and the file may end anywhere behind it.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise NlaicError(f"data must be the bytes of a file, but got {type(data).__name__}: read the file first")
    if not (isinstance(max_pixels, Real) and max_pixels > 0):
        raise NlaicError(f"max_pixels must be a number above 0, but got {max_pixels!r}")
    data = bytes(data)
    reader = _Reader(data, whole=not salvage)
    version = _read_version(reader)
    header = _read_header(reader, max_pixels)
    table = _read_table(reader)
    lengths = _read_block_lengths(reader, header)
    _verified(data, 0, reader.position, "header")
    header_bytes = position = reader.position + CRC_BYTES

    sections, damage = {}, []
    for tag, length in table.items():
        if tag & REQUIRED and tag not in known_required:
            raise FormatError(f"byte {position}: {_section_name(tag)} is required, but this program does not know it")
        try:
            sections[tag] = _verified(data, position, length, _section_name(tag))
        except FormatError as error:
            if not salvage:
                raise
            damage.append(str(error))
        position += length + CRC_BYTES
    *starts, end = accumulate((length + CRC_BYTES for length in lengths), initial=position)
    if end != len(data) and not salvage:
        raise FormatError(f"byte {end}: nothing may follow the last block, got {len(data) - end} bytes")
    if end < len(data):
        damage.append(f"byte {end}: {len(data) - end} bytes follow the last block")
    return Container(
        header, version, sections, header_bytes, lengths, tuple(starts), data, tuple(damage), frozenset(table)
    )


def describe(container: Container) -> dict[str, Any]:
    """Plain facts, ready for JSON. Payload, sections and overhead (header, every CRC-32) add up to a sound file."""
    header, sections = container.header, container.sections
    return {
        "version": container.version,
        "width": header.width,
        "height": header.height,
        "grey": header.grey,
        "model_id": header.model_id.hex(),
        "quality": header.quality / 10,
        "block": list(header.block),
        "blocks": header.blocks,
        "payload_bytes": sum(container.block_lengths),
        "sections": {SECTION_NAMES.get(tag, str(tag)): len(content) for tag, content in sections.items()},
        "overhead_bytes": container.header_bytes + CRC_BYTES * (len(sections) + header.blocks),
    }


class _Reader:
    """A place in the header. `left` is what it may still take: the parts known to follow the header are set aside.

    Args:
        data: the file.
        whole: these parts must be there.
    """

    def __init__(self, data: bytes, *, whole: bool) -> None:
        self.data, self.whole, self.position, self.left = data, whole, 0, len(data) - CRC_BYTES

    def take(self, count: int, name: str) -> bytes:
        if count > self.left:
            raise FormatError(f"byte {self.position}: the file is truncated, {name} needs {count} more")
        self.position += count
        self.left -= count
        return self.data[self.position - count : self.position]

    def number(self, name: str, count: int = 0, unit: int = 1) -> int:
        """A number held against its range: of `count` bytes, or a varint for 0."""
        start = self.position
        value = int.from_bytes(self.take(count, name), "little") if count else self._varint(name)
        _check(name, value * unit, at=start)
        return value * unit

    def length(self, name: str) -> int:
        """The length of a part, which is set aside with its CRC-32."""
        start, value = self.position, self.number("length")
        if not self.whole:
            return value
        if value + CRC_BYTES > self.left:
            allowed = f"at most {max(self.left - CRC_BYTES, 0)} (the file ends there)"
            raise FormatError(
                f"byte {start}: the file is truncated or damaged: length of {name} must be {allowed}, got {value}"
            )
        self.left -= value + CRC_BYTES
        return value

    def _varint(self, name: str) -> int:
        start, value = self.position, 0
        for place in range(VARINT_BYTES):
            byte = self.take(1, name)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte == 0 and place:
                raise FormatError(f"byte {start}: {name} must be a varint in its shortest form, got a last byte of 0")
            if byte < 0x80:
                return value
        raise FormatError(f"byte {start}: {name} must be a varint of at most {VARINT_BYTES} bytes, got more")


def _read_version(reader: _Reader) -> int:
    start = reader.data[: len(MAGIC)]
    if start != MAGIC:
        raise FormatError(
            f"byte 0: not a .nlaic file: it must start with {MAGIC.hex()}, got {start.hex() or 'nothing'}"
        )
    version = reader.take(len(MAGIC) + 1, "version")[-1]
    if version == UNFROZEN:
        raise FormatError(
            f"byte {len(MAGIC)}: version {UNFROZEN}, from before the format was frozen; this program reads {VERSION}, "
            "compress the picture again"
        )
    if version != VERSION:
        raise FormatError(f"byte {len(MAGIC)}: version {version}, this program reads {VERSION}")
    return version


def _read_header(reader: _Reader, max_pixels: int) -> Header:
    grey = bool(reader.number("flags", 1) & GREY)
    start, width, height = reader.position, reader.number("width"), reader.number("height")
    if width * height > max_pixels:
        raise FormatError(f"byte {start}: width * height must be at most {max_pixels}, got {width} * {height}")
    model_id, quality = reader.take(MODEL_ID_BYTES, "model id"), reader.number("quality", 2)
    block = reader.number("block width", unit=UNIT), reader.number("block height", unit=UNIT)
    return Header(width, height, model_id, quality, block, grey)


def _read_table(reader: _Reader) -> dict[int, int]:
    table: dict[int, int] = {}  # tag to length
    for _ in range(reader.number("number of sections")):
        start, tag = reader.position, reader.number("section tag", 1)
        if table and tag <= max(table):
            raise FormatError(f"byte {start}: section tag must be above the last, {max(table)}, got {tag}")
        table[tag] = reader.length(_section_name(tag))
    return table


def _read_block_lengths(reader: _Reader, header: Header) -> tuple[int, ...]:
    room = reader.left // (1 + CRC_BYTES * reader.whole)
    if header.blocks > room:
        grid = f"{header.columns} x {header.rows}"
        raise FormatError(
            f"byte {reader.position}: the file is truncated or damaged: "
            f"number of blocks must be at most {room} (the file ends there), got {grid}"
        )
    return tuple(reader.length(_block_name(header, number)) for number in range(header.blocks))


def _verified(data: bytes, start: int, length: int, name: str) -> bytes:
    """The bytes, held against the CRC-32 behind them."""
    part, stored = data[start : start + length], data[start + length : start + length + CRC_BYTES]
    if len(stored) < CRC_BYTES:
        there = max(len(data) - start, 0)
        raise FormatError(f"byte {start}: the file is truncated, {name} needs {length + CRC_BYTES} bytes, got {there}")
    got = zlib.crc32(part).to_bytes(CRC_BYTES, "little")
    if got != stored:
        raise FormatError(f"byte {start}: {name} is damaged: its CRC-32 must be {stored.hex()}, got {got.hex()}")
    return part


def _pack_header(header: Header) -> bytes:
    width, height = header.block
    numbers = {"width": header.width, "height": header.height, "quality": header.quality}
    for name, value in (numbers | {"block width": width, "block height": height}).items():
        _check(name, value)
    if len(header.model_id) != MODEL_ID_BYTES:
        raise NlaicError(f"model id must be {MODEL_ID_BYTES} bytes, got {len(header.model_id)}")
    start = (
        MAGIC + bytes([VERSION, GREY * header.grey]) + varint(header.width) + varint(header.height) + header.model_id
    )
    return start + header.quality.to_bytes(2, "little") + varint(width // UNIT) + varint(height // UNIT)


def _check(name: str, value: int, *, of: str = "", at: int | None = None) -> None:
    """Hold a number that is to be written, or that was read at a byte, against its range."""
    allowed = RANGES[name]
    if isinstance(value, int) and value in allowed:
        return
    steps = f" in steps of {allowed.step}" if allowed.step > 1 else ""
    text = f"{name}{of and f' of {of}'} must be {allowed[0]}..{allowed[-1]}{steps}, got {value}"
    raise NlaicError(text) if at is None else FormatError(f"byte {at}: {text}")


def varint(value: int) -> bytes:
    """A number as this format writes it."""
    low = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
    return low + varint(value >> 7) if value > 0x7F else low


def read_varint(data: bytes) -> tuple[int, int]:
    """A varint at the beginning of some bytes, and how many it takes; a FormatError where there is none."""
    reader = _Reader(data + bytes(CRC_BYTES), whole=True)
    return reader.number("length"), reader.position


def _block_name(header: Header, number: int) -> str:
    return f"block {number} (column {number % header.columns}, row {number // header.columns})"


def _section_name(tag: int) -> str:
    return f"section {tag} ({SECTION_NAMES[tag]})" if tag in SECTION_NAMES else f"section {tag}"
