"""Alpha comes back exactly, costs little where nothing can be seen, and is refused where it is damaged."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic import container
from nlaic.alpha import decode_alpha
from tests.conftest import smooth_picture
from tests.files_by_hand import saved
from tests.test_whole_picture import RNG, SIZE, TURNED, ragged_alpha


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_comes_back_exactly(mode, two, there_and_back):
    alpha = ragged_alpha() // 128 * 255 if two else ragged_alpha()
    image = smooth_picture(*SIZE).convert(mode[:-1])
    image.putalpha(Image.fromarray(alpha))
    back, file, notes = there_and_back(saved(image))
    assert back.mode == mode and notes == []
    assert np.array_equal(np.asarray(back.getchannel("A")), alpha)
    seen = alpha == 255
    difference = np.asarray(back, float)[seen][:, :-1] - np.asarray(image, float)[seen][:, :-1]
    assert np.sqrt(np.mean(difference**2)) < 15
    assert nlaic.info(file)["grey"] == (mode == "LA")


def test_alpha_that_is_opaque_is_left_out(codec):
    image = smooth_picture(*SIZE)
    assert codec.compress(image.convert("RGBA"), 50) == codec.compress(image, 50)
    assert codec.compress(image.convert("L").convert("LA"), 50) == codec.compress(image.convert("L"), 50)


def test_a_region_has_the_alpha_of_the_region(codec):
    image = smooth_picture(*SIZE)
    image.putalpha(Image.fromarray(ragged_alpha()))
    data = codec.compress(image, 50, block=(64, 64), effort=1)
    part = codec.decompress(data, region=(20, 30, 60, 25))
    assert np.array_equal(np.asarray(part), np.asarray(codec.decompress(data))[30:55, 20:80])


def test_what_cannot_be_seen_costs_little_and_makes_no_halo(codec):
    """Noise under alpha 0 costs less than half of what it would, and what is seen is as good as without it."""
    pixels = np.asarray(smooth_picture(192, 128)).copy()
    hidden = np.hypot(*(np.mgrid[0:128, 0:192] - np.array([64, 96])[:, None, None])) < 60
    noisy = pixels.copy()
    noisy[hidden] = RNG.integers(0, 256, (hidden.sum(), 3))
    image = Image.fromarray(noisy)
    image.putalpha(Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)))
    data = codec.compress(image, 60)
    assert len(data) < 0.5 * len(codec.compress(image.convert("RGB"), 60))
    error = np.asarray(codec.decompress(data).convert("RGB"), float) - pixels
    alone = np.asarray(codec.decompress(codec.compress(Image.fromarray(pixels), 60)), float) - pixels
    assert np.mean(error[~hidden] ** 2) < 1.1 * np.mean(alone[~hidden] ** 2)


def test_nothing_to_see(codec):
    noise = Image.fromarray(RNG.integers(0, 256, (*TURNED, 3), dtype=np.uint8))
    noise.putalpha(0)
    data = codec.compress(noise, 50)
    assert codec.decompress(data).getextrema()[3] == (0, 0)
    assert len(data) < len(codec.compress(noise.convert("RGB"), 50)) / 4


def test_transparent_colours_of_every_mode_are_alpha(there_and_back):
    values = RNG.integers(0, 4, TURNED, dtype=np.uint8)
    expected = np.where(values == 2, 0, 255)
    palette = Image.fromarray(values, "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    grey16 = Image.fromarray(values.astype(np.uint16) * 20000)
    bits = Image.fromarray(values == 2)
    cases = [(palette, "RGBA", 2), (Image.fromarray(values), "LA", 2), (grey16, "LA", 40000), (bits, "LA", 255)]
    for image, mode, transparent in cases:
        back, _, _ = there_and_back(saved(image, transparency=transparent))
        assert back.mode == mode
        assert np.array_equal(np.asarray(back.getchannel("A")), expected)
    colours = np.repeat(values[..., None] * 40, 3, axis=2)
    back, _, _ = there_and_back(saved(Image.fromarray(colours), transparency=(80, 80, 80)))
    assert np.array_equal(np.asarray(back.getchannel("A")), expected)
    steps = RNG.integers(0, 256, TURNED, dtype=np.uint8)
    palette.putalpha(Image.fromarray(steps))  # mode PA
    assert np.array_equal(np.asarray(open_alpha(palette)), steps)


def open_alpha(image):
    from nlaic.picture import normalized

    return normalized(image)[0].getchannel("A")


def test_sixteen_bits_with_alpha(there_and_back):
    """PNG of 16 bits, colour and grey: alpha is the upper byte."""
    for colour, samples in ((6, 4), (4, 2)):
        rows = RNG.integers(0, 65536, (*TURNED, samples), dtype=np.uint16)
        body = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
        head = struct.pack(">IIBBBBB", *SIZE, 16, colour, 0, 0, 0)
        back, _, notes = there_and_back(png_of(head, body))
        assert back.mode == ("RGBA" if samples == 4 else "LA")
        assert np.array_equal(np.asarray(back.getchannel("A")), rows[..., -1] >> 8)
        assert notes == ["16 bits a sample reduced to 8"]


def png_of(head, body):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def grey_png(width, height, depth=8, colour=0, interlace=0, rows=None):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return png_of(head, bytes(height * (width + 1)) if rows is None else rows)


DAMAGED = {
    "empty": (b"", "must be a PNG"),
    "no PNG": (b"GIF89a" + bytes(60), "must be a PNG"),
    "only the start": (grey_png(64, 64)[:20], "must be a PNG"),
    "wrong size": (grey_png(64, 65), "must be of 64x64 pixels, got 64x65"),
    "bomb": (grey_png(1 << 20, 1 << 20, rows=b""), "must be of 64x64 pixels, got 1048576x1048576"),
    "colours": (grey_png(64, 64, colour=2), "must be grey of 1 or 8 bits"),
    "16 bits": (grey_png(64, 64, depth=16), "must be grey of 1 or 8 bits, got 16"),
    "interlaced": (grey_png(64, 64, interlace=1), "must be grey"),
    "truncated": (grey_png(64, 64)[:-30], "damaged"),
    "too many rows": (grey_png(64, 64, rows=bytes(66 * 65)), "too few or too many"),
    "too few rows": (grey_png(64, 64, rows=bytes(65)), "damaged"),
    "two headers": (
        grey_png(64, 64)[:33] + grey_png(32, 32)[8:33] + grey_png(64, 64)[33:],
        "a second header says something else",
    ),
    "colours in a second header": (
        grey_png(64, 64)[:33] + grey_png(64, 64, colour=3)[8:33] + grey_png(64, 64)[33:],
        "a second header says something else",
    ),
    "pieces behind the end": (grey_png(64, 64)[:-12] + b"\0\0\0\1IDATx\0\0\0\0" * 600_000, "damaged"),
    "no zlib": (grey_png(64, 64).replace(b"\x78\x9c", b"\0\0"), "damaged"),
}


def test_pixels_without_end_are_not_unpacked(codec, monkeypatch):
    """Half a gigabyte of zeros in half a megabyte: what is unpacked is a little more than the picture has."""
    file = container.unpack(codec.compress(smooth_picture(64, 64), 50, effort=1))
    bomb = grey_png(64, 64, rows=bytes(1 << 29))
    data = container.pack(file.header, [file.block(0)], {container.ALPHA: bomb})
    unpacked = []

    class Counting:
        def __init__(self):
            self.stream = decompressobj()

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def decompress(self, *given):
            unpacked.append(len(piece := self.stream.decompress(*given)))
            return piece

    decompressobj = zlib.decompressobj
    monkeypatch.setattr("nlaic.alpha.zlib.decompressobj", Counting)
    with pytest.raises(nlaic.FormatError, match="too few or too many"):
        codec.decompress(data)
    assert 64 * 65 < sum(unpacked) < 1 << 20


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_alpha_is_refused_before_anything_is_decoded(case, codec, monkeypatch):
    content, message = DAMAGED[case]
    file = container.unpack(codec.compress(smooth_picture(64, 64), 50, effort=1))
    data = container.pack(file.header, [file.block(0)], {container.ALPHA: content})
    monkeypatch.setattr(codec, "decode_symbols", None)
    with pytest.raises(nlaic.FormatError, match=r"^section 129 \(ALPHA\).*" + message):
        codec.decompress(data)


def test_alpha_counts_before_it_is_decoded(codec, monkeypatch):
    picture = smooth_picture(128, 128).convert("RGBA")
    picture.putalpha(77)
    data = codec.compress(picture, 50, effort=1)
    needed = (4 + 64 + 2) * 128 * 128
    monkeypatch.setattr("nlaic.canvas._memory", lambda: needed)
    assert codec.decompress(data).size == (128, 128)
    monkeypatch.setattr("nlaic.canvas._memory", lambda: needed - 1)
    monkeypatch.setattr("nlaic.sections.decode_alpha", None)
    with pytest.raises(nlaic.NlaicError, match="not enough memory for a picture of 128x128"):
        codec.decompress(data)


def test_alpha_of_more_pixels_than_pillow_reads_is_not_called_damaged():
    with pytest.raises(nlaic.NlaicError, match="at most 1073741824 can be read") as refused:
        decode_alpha(grey_png(1 << 16, 1 << 15, rows=b""), 1 << 16, 1 << 15)
    assert not isinstance(refused.value, nlaic.FormatError)
