"""Files, colour profiles and EXIF put together byte by byte."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import ImageCms


def linear_profile():
    """lcms's sRGB with its curves replaced by the straight line: what a linear-light picture carries."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", data, 128)[0]
    for entry in range(count):
        tag, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * entry)
        if tag == b"rTRC":
            data[offset : offset + size] = b"curv" + bytes(8) + bytes(size - 12)  # no points: identity
        if tag == b"desc":
            data[offset + 28 : offset + size] = "linear".encode("utf-16-be").ljust(size - 28, b"\0")
    return bytes(data)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows):
    """A PNG put together by hand."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(pixels, tags):
    """A TIFF put together by hand: the pixels, then a directory of whole numbers, {tag: values}."""
    start, far, entries = 8 + len(pixels), b"", b""
    for tag, values in sorted(tags.items()):
        content = struct.pack(f"<{len(values)}I", *values)
        place = struct.pack("<I", start + 6 + 12 * len(tags) + len(far))
        entries += struct.pack("<HHI", tag, 4, len(values)) + (content if len(values) == 1 else place)
        far += content if len(values) > 1 else b""
    return struct.pack("<4sI", b"II*\0", start) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4) + far


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def saved(image, format="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def matrix_profile(primaries, white=(0.3127, 0.3290), name="wide"):
    """A profile (ICC version 2, matrix and sRGB's curve as a gamma of 2.2) of primaries given as (x, y), in bytes."""

    def xyz(x, y):
        return np.array([x / y, 1, (1 - x - y) / y])

    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])  # Bradford
    d50 = np.array([0.9642, 1.0, 0.8249])
    columns = np.stack([xyz(*p) for p in primaries], axis=1)
    columns = columns * np.linalg.solve(columns, xyz(*white))
    adapt = np.linalg.inv(cone) @ np.diag(cone @ d50 / (cone @ xyz(*white))) @ cone
    numbers = [np.rint(c * 65536).astype(int) for c in (adapt @ columns).T]
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" + bytes(78)}
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + struct.pack(">3i", *np.rint(d50 * 65536).astype(int))
    for letter, column in zip("rgb", numbers, strict=True):
        tags[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + struct.pack(">3i", *column)
        tags[f"{letter}TRC".encode()] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    return _profile(b"RGB ", tags)


def _profile(space, tags):
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += struct.pack(">4sII", tag, place + len(body), len(content))
        body += content
    head = struct.pack(">I4xI4s4s4s12x4s24x3i", 0, 0x02400000, b"mntr", space, b"XYZ ", b"acsp", 63190, 65536, 54061)
    data = head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(data)) + data[4:]


P3 = matrix_profile([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)], name="Display P3")


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


GREY = _profile(
    b"GRAY",
    {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.2 * 256)) + b"\0\0",
    },
)


def camera_exif(orientation=6, order="<", thumbnail=True):
    """EXIF as a camera writes it: maker, orientation, exposure, a note of its own, then a thumbnail at the end."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]

    def entry(tag, kind, count, value):
        fixed = struct.pack(f"{order}H2x", value) if kind == 3 else struct.pack(f"{order}I", value)
        return struct.pack(f"{order}HHI", tag, kind, count) + fixed

    ifd0, exif_at, note, maker = 8, 8 + 2 + 36 + 4, b"secret\xff\0note", b"Maker of cameras\0"
    texts = exif_at + 2 + 24 + 4
    first = struct.pack(f"{order}H", 3) + entry(0x010F, 2, len(maker), texts) + entry(0x0112, 3, 1, orientation)
    first += entry(0x8769, 4, 1, exif_at)
    below = struct.pack(f"{order}H", 2) + entry(0x8827, 3, 1, 400) + entry(0x927C, 7, len(note), texts + len(maker))
    end = texts + len(maker) + len(note)
    last = struct.pack(f"{order}H", 2) + entry(0x0201, 4, 1, end + 30) + entry(0x0202, 4, 1, 4000) + bytes(4)
    link = struct.pack(f"{order}I", end if thumbnail else 0)
    tail = last + bytes(range(250)) * 16 if thumbnail else b""
    return b"Exif\0\0" + mark + struct.pack(f"{order}I", ifd0) + first + link + below + bytes(4) + maker + note + tail
