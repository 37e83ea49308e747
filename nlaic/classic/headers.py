"""What streams of other codecs say of the work they are, read before their decoders see them."""

import re
import struct
from collections.abc import Iterator, Sequence

from nlaic.container import read_varint
from nlaic.errors import FormatError

Size = tuple[int, int]  # width, height

MOST_SCANS = 100  # of a JPEG; encoders write up to 20, and each costs what a picture costs
MOST_UNITS = 100  # of an AV1 picture; libaom writes three
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # but those that stand alone
_SCAN, _END = b"\xda", b"\xd9"

_ONE_ITEM = re.compile(rb"\0{4}\x44\0\0\x01..\0\0\0\x01(.{4})(.{4})", re.DOTALL)  # of iloc: offset and length in bytes
_SEQUENCE_HEADER = 1  # type of an OBU


def check_size(got: Size, wanted: Size | None, name: str) -> None:
    """Refuse a stream of another size."""
    if wanted and got != wanted:
        raise FormatError(f"the {name} stream must be of {wanted[0]}x{wanted[1]} pixels, got {got[0]}x{got[1]}")


def check_sizes(got: Sequence[Size], wanted: Size | None, name: str) -> None:
    """Refuse a stream without a sequence header, or with one of another size."""
    if not got:
        raise FormatError(f"the {name} stream must have a sequence header")
    for size in got:
        check_size(size, wanted, name)


def check_scans(jpeg: bytes) -> None:
    """Refuse a JPEG file of more than MOST_SCANS scans.

    Scans in segments count too, but for those before the first, which may hold a thumbnail: decoders that look for lost
    restart markers may begin in the middle of a segment.
    """
    if jpeg.count(b"\xff" + _SCAN) <= MOST_SCANS:
        return
    scans = behind = 0  # the byte after the last segment
    for marker in _MARKER.finditer(jpeg):
        inside = marker.start() < behind
        if inside and not scans:
            continue
        if marker[1] == _END and not inside:
            return
        scans += marker[1] == _SCAN
        if scans > MOST_SCANS:
            raise FormatError(f"a JPEG must have at most {MOST_SCANS} scans, got more")
        behind = max(behind, marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big"))


def avif_sizes(file: bytes) -> list[Size]:
    """What the AV1 stream in an AVIF file says, which decoders believe, and not what the file says of it.

    Read is what libavif writes of one picture: boxes ftyp, meta and mdat, one item in one piece, reduced headers of
    still pictures, which no later header overrides (AV1 specification, 5.5.1).

    Raises:
        FormatError: of any other.
    """
    boxes = list(_boxes(file))
    if [name for name, _ in boxes] != [b"ftyp", b"meta", b"mdat"]:
        raise FormatError("the AVIF file must have the boxes ftyp, meta and mdat")
    places = [_ONE_ITEM.fullmatch(content) for name, content in _boxes(boxes[1][1][4:]) if name == b"iloc"]
    if len(places) != 1 or not places[0]:
        raise FormatError("the AVIF file must have one item in one piece")
    offset, length = (int.from_bytes(number, "big") for number in places[0].groups())
    return [_still_size(content) for kind, content in _obus(file[offset : offset + length]) if kind == _SEQUENCE_HEADER]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of ISO boxes."""
    start = 0
    while start < len(data):
        size, name = struct.unpack(">I4s", data[start : start + 8].ljust(8, b"\0"))
        if not 8 <= size <= len(data) - start:
            raise FormatError(f"a box of the AVIF file must have 8..{len(data) - start} bytes, got {size}")
        yield name, data[start + 8 : start + size]
        start += size


def _obus(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and contents of an AV1 stream's units, of which a picture has few."""
    start = 0
    for _ in range(MOST_UNITS):
        if start >= len(stream):
            return
        head = stream[start]
        start += 2 if head & 4 else 1  # with an extension or without
        size = len(stream) - start
        if head & 2:
            size, more = read_varint(stream[start : start + 8])
            start += more
        yield head >> 3 & 15, stream[start : start + size]
        start += size
    raise FormatError(f"the AVIF stream must have fewer than {MOST_UNITS} units, got more")


def _still_size(header: bytes) -> Size:
    """Of a sequence header: 3 bits, still, reduced, 5 bits, both sides' bits less one in 4 each, both less one."""
    bits = int.from_bytes(header[:8].ljust(8, b"\0"), "big")
    if not bits >> 59 & 1:
        raise FormatError("the AVIF file must have the reduced header of a still picture")
    widths, heights = (bits >> 50 & 15) + 1, (bits >> 46 & 15) + 1
    after = 46 - widths
    return (bits >> after & (1 << widths) - 1) + 1, (bits >> after - heights & (1 << heights) - 1) + 1


def avs2_sizes(stream: bytes) -> list[Size]:
    """What the sequence headers of an AVS2 stream say (IEEE 1857.4): 18 bits, then 14 for each side.

    Raises:
        FormatError: where one is cut short.
    """
    sizes = []
    for found in re.finditer(rb"\x00\x00\x01\xb0", stream):
        header = stream[found.end() : found.end() + 8]
        if len(header) < 8:
            raise FormatError("the avs2 stream ends in a sequence header")
        bits = int.from_bytes(header, "big")
        sizes.append((bits >> 32 & 0x3FFF, bits >> 18 & 0x3FFF))
    return sizes


def bpg_size(data: bytes) -> Size:
    """What the header of a BPG file says: six bytes, then width and height in groups of seven bits, the highest first.

    Raises:
        FormatError: where there is no such header.
    """
    found = re.match(rb"BPG\xfb..((?:[\x80-\xff]{0,4}[\x00-\x7f]){2})", data, re.DOTALL)
    if not found:
        raise FormatError("no BPG header")
    sides = [0]
    for byte in found[1]:
        sides[-1] = sides[-1] << 7 | byte & 0x7F
        sides += [0] * (byte < 0x80)
    return sides[0], sides[1]
