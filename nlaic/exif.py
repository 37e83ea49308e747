"""EXIF as bytes: what a picture keeps of it once its pixels are upright.

EXIF is a small TIFF file: a header, then directories (IFD) of entries of 12 bytes, tag, type, count and a value or its
place. Cameras' own notes point into it by absolute places, so it is altered where it is and not written anew: the
orientation becomes 1, or its entry is taken out, and the directory of the thumbnail, the second of the chain, is no
longer pointed to. Where nothing but that directory and what it points to stands at the end, which is the custom, the
end is cut off; where more stands behind it, its pixels become zeros.
"""

import struct
from collections.abc import Iterator

PREFIX = b"Exif\0\0"  # in JPEG and in Pillow's `info`, not in PNG and in .nlaic
ORIENTATION = 0x0112
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_POINTERS = frozenset({0x8769, 0x8825, 0xA005, 0x014A})  # to directories: Exif, GPS, interoperability, further ones
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes by type
_JPEG, _STRIPS = (0x0201, 0x0202), (0x0111, 0x0117)  # place and size of a thumbnail, compressed or not
_DIRECTORIES = 16  # at most: cameras write five
_INTEGERS = {3: "H", 4: "I"}  # types that an orientation may have


def upright(exif: bytes) -> bytes:
    """EXIF, with its prefix or without, to the same without it, with orientation 1 and without the thumbnail.

    Empty where it holds nothing but an orientation. Raises ValueError where it is damaged.
    """
    data = bytearray(exif.removeprefix(PREFIX))
    try:
        return _upright(data, _BYTE_ORDERS[bytes(data[:4])])
    except (struct.error, KeyError) as error:
        raise ValueError("no sound TIFF structure") from error


def without_orientation(exif: bytes) -> bytes:
    """EXIF, with its prefix or without, to the same without it and without orientation; nothing else is moved.

    Empty where it holds nothing but an orientation. Raises ValueError where it is damaged.
    """
    data = bytearray(exif.removeprefix(PREFIX))
    try:
        order = _BYTE_ORDERS[bytes(data[:4])]
        (first,) = struct.unpack_from(f"{order}I", data, 4)
        tags = [tag for tag, _, _, _ in _entries(data, order, first)]
    except (struct.error, KeyError) as error:
        raise ValueError("no sound TIFF structure") from error
    places = range(first + 2, first + 2 + 12 * len(tags), 12)
    kept = [data[place : place + 12] for tag, place in zip(tags, places, strict=True) if tag != ORIENTATION]
    link = first + 2 + 12 * len(tags)
    end = min(link + 4, len(data))
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + data[link:end]
    data[first:end] = directory.ljust(end - first, b"\0")
    return bytes(data) if kept else b""


def _upright(data: bytearray, order: str) -> bytes:
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    entries = list(_entries(data, order, first))
    if all(tag == ORIENTATION for tag, _, _, _ in entries):
        return b""
    for tag, kind, _, place in entries:
        if tag == ORIENTATION:
            struct.pack_into(f"{order}{_INTEGERS[kind]}", data, place, 1)
    link = first + 2 + 12 * len(entries)
    if link + 4 <= len(data):
        (thumbnail,) = struct.unpack_from(f"{order}I", data, link)
        struct.pack_into(f"{order}I", data, link, 0)
        end = _end(data, order, first, set())
        found = _thumbnail(data, order, thumbnail)
        if thumbnail >= end and found and found[0] >= end and any(data[found[2] :]):  # cameras' notes stand behind it
            data[found[0] : found[1]] = bytes(found[1] - found[0])
        elif thumbnail >= end:
            del data[end:]
    return bytes(data)


def _thumbnail(data: bytearray, order: str, start: int) -> tuple[int, int, int] | None:
    """Where a thumbnail's pixels begin and end, and where all of it ends; None where that cannot be told."""
    try:
        values = {
            tag: struct.unpack_from(f"{order}{_INTEGERS[kind]}", data, place)[0]
            for tag, kind, size, place in _entries(data, order, start)
            if tag in (*_JPEG, *_STRIPS) and size <= 4
        }
        place, size = next(pair for pair in (_JPEG, _STRIPS) if pair[0] in values)
        end = values[place] + values[size]
        return values[place], end, max(end, _end(data, order, start, set()))
    except (struct.error, KeyError, StopIteration, ValueError):
        return None


def _entries(data: bytearray, order: str, start: int) -> Iterator[tuple[int, int, int, int]]:
    """(tag, type, bytes of the value, place of the value) of a directory."""
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, place)
        size = _SIZES.get(kind, 1) * number
        yield tag, kind, size, place + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, place + 8)[0]


def _end(data: bytearray, order: str, start: int, seen: set[int]) -> int:
    """Where a directory and all that it points to ends."""
    seen.add(start)
    if len(seen) > _DIRECTORIES:
        raise ValueError("too many directories")
    entries = list(_entries(data, order, start))
    end = start + 2 + 12 * len(entries) + 4
    for tag, _, size, place in entries:
        end = max(end, place + size)
        if tag in _POINTERS and size == 4:
            (below,) = struct.unpack_from(f"{order}I", data, place)
            if below not in seen:
                end = max(end, _end(data, order, below, seen))
    return end
