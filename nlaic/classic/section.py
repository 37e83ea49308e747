"""The section BASE of a `.nlaic` file: a picture by a codec that people already have, and the filter behind it.

Its content, of tag 0x82 (`nlaic.container`, whose words these are):

```
base codec   u8     1 JPEG, 2 WebP, 3 AVIF, 4 HEIC (HEVC), 5 HEVC intra, 6 VVC, 7 AVS2, 8 BPG
filter       u8     0 none, 1..3 MVGL's A..C, 4 ColorBlust's, 5 SVAC2's, 6 restore-light, 7 ColorBlust's, narrow
scale        u8     0: one stream. 1, 2, 3: two streams, the first of the picture reduced to 1/2, 1/4, 1/8 of its sides,
                    rounded up; other values are reserved
first length varint where scale is not 0: bytes of the first stream, which follows
stream       the rest. For 1 to 4 and 8 a file as the codec has them, without metadata; for 5 to 7 a u8, then one intra
             picture as a raw stream (Annex B for HEVC and VVC; AVS2's as libxavs2 writes it). The u8 is 1 where the
             stream's last column is to be cut off, plus 2 for its last row: 4:2:0 has even sides
```

Where there are two streams, the picture is the first, enlarged to the header's size by Pillow's bicubic filter, plus
the second, minus 128, clipped to 0..255 (`nlaic.classic.scales`).

In such a file the header's numbers mean: `model id` the first 8 bytes of the SHA-256 over the filter's weights
(`nlaic.weights`, read with `skip` 0 and the codec id `filter`), zeros where the filter is 0; `quality` the base codec's
own setting in tenths; `block width` and `height` the least that make as few blocks as can be. All payloads are empty.
A JPEG has at most 100 scans; an AVIF file has the boxes ftyp, meta and mdat alone, one item in one piece, and in its
AV1 stream the reduced headers of still pictures: so the stream's size is known before it is decoded.
Of the streams 1 to 4 and 8 the colours are those of the file; 5 to 7 are BT.709, full range but for AVS2. The decoded
picture must be of the header's size; the filter, if any, works on it in 8 bits, at the level that
`nlaic.classic.base` makes of the setting; then come grey, alpha and metadata as in any other file. A reader that has
not the filter's weights may show the picture without it when it is told to, and not otherwise.
"""

from dataclasses import dataclass

from nlaic import container
from nlaic.classic.base import BASES, NUMBERS, Base, base_numbered
from nlaic.classic.scales import FACTORS
from nlaic.container import ANY_PIXELS, BASE, READABLE, UNIT, Container, Header
from nlaic.errors import FormatError

HEAD = 3  # bytes before the stream
NO_FILTER = bytes(container.MODEL_ID_BYTES)


@dataclass(frozen=True)
class BasePicture:
    """What the section says.

    Attributes:
        base: the codec.
        filter: name of the filter; None where there is none.
        stream: the codec's bytes.
        scale: 0, or by which power of 2 the picture of another stream is reduced, which comes first.
        first: that stream.
    """

    base: Base
    filter: str | None
    stream: bytes
    scale: int = 0
    first: bytes = b""

    def content(self) -> bytes:
        """Of the section."""
        head = bytes([self.base.number, NUMBERS[self.filter] if self.filter else 0, self.scale])
        return head + (container.varint(len(self.first)) + self.first if self.scale else b"") + self.stream


def has_base(data: bytes, max_pixels: int = ANY_PIXELS) -> bool:
    """Whether the picture of a file comes from a base codec. Its header alone is looked at."""
    return BASE in container.unpack(data, max_pixels=max_pixels, known_required=READABLE, salvage=True).tags


def pack_base(
    picture: BasePicture, size: tuple[int, int], setting: float, model_id: bytes, grey: bool, sections: dict[int, bytes]
) -> bytes:
    """Write a file.

    Args:
        picture: the section.
        size: (width, height) in pixels.
        setting: of the base codec.
        model_id: of the filter's weights, `NO_FILTER` without.
        grey: the picture has no colours.
        sections: what there is beside it, by tag.
    """
    most = 1024 * UNIT
    width, height = (min(-(-side // UNIT) * UNIT, most) for side in size)
    header = Header(*size, model_id, round(10 * setting), (width, height), grey)
    return container.pack(header, [b""] * header.blocks, {**sections, BASE: picture.content()})


def read_base(data: bytes, max_pixels: int) -> tuple[Container, BasePicture]:
    """A file and its section.

    Raises:
        FormatError: if the file is damaged, has no such section, or one of a codec or filter that is not known.
    """
    file = container.unpack(data, max_pixels=max_pixels, known_required=READABLE)
    if BASE not in file.sections:
        raise FormatError("the picture does not come from a base codec: there is no section BASE")
    for number, length in enumerate(file.block_lengths):
        file.block(number)
        if length:
            raise FormatError(f"block {number}: of a picture by a base codec it must be empty, got {length} bytes")
    return file, _parse(file.sections[BASE])


def describe_base(file: Container) -> dict[str, str | None]:
    """Plain facts for `nlaic.info`."""
    picture = _parse(file.sections[BASE])
    return {"codec": picture.base.name, "filter": picture.filter}


def _parse(content: bytes) -> BasePicture:
    if len(content) <= HEAD:
        raise FormatError(f"section BASE must have more than {HEAD} bytes, got {len(content)}")
    base, filters = base_numbered(content[0]), {number: name for name, number in NUMBERS.items()}
    if base is None:
        known = ", ".join(f"{one.number} {one.name}" for one in BASES.values())
        raise FormatError(
            f"section BASE: base codec must be one of {known}, got {content[0]}: a newer program is needed"
        )
    if content[1] and content[1] not in filters:
        raise FormatError(
            f"section BASE: filter must be 0..{max(filters)}, got {content[1]}: a newer program is needed"
        )
    filter, scale, rest = filters.get(content[1]), content[2], content[HEAD:]
    if not scale:
        return BasePicture(base, filter, rest)
    if scale > max(FACTORS):
        raise FormatError(f"section BASE: scale must be 0..{max(FACTORS)}, got {scale}: a newer program is needed")
    length, start = container.read_varint(rest)
    if start + length >= len(rest):
        raise FormatError(
            f"section BASE: the first stream must have at most {len(rest) - start - 1} bytes, got {length}"
        )
    return BasePicture(base, filter, rest[start + length :], scale, rest[start : start + length])
