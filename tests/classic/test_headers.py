"""What streams say of the work they are: read before a decoder sees them, against streams that lie."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic.classic.headers import MOST_SCANS, MOST_UNITS, avif_sizes, avs2_sizes, bpg_size, check_scans
from nlaic.classic.programs import BpgCoder
from nlaic.errors import FormatError, NlaicError
from nlaic.picture import read_picture
from tests.classic.conftest import encoder, rewritten
from tests.conftest import smooth_picture


def written(image: Image.Image, format: str, **options) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    """Of a JPEG file."""
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


PROGRESSIVE = written(smooth_picture(96, 80), "JPEG", progressive=True)
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
FIRST_SCAN = PROGRESSIVE.index(b"\xff\xda")
MANY = b"\xff\xda" * 2 * MOST_SCANS


@pytest.mark.parametrize(
    "more",
    [
        LAST_SCAN * MOST_SCANS,
        segment(0xFE, b"\xff\xd9") + LAST_SCAN * MOST_SCANS,  # an end that is none
        segment(0xFE, segment(0xFE, bytes(500))[:9]) + segment(0xFE, b"\xff\xd9") + LAST_SCAN * MOST_SCANS,
        segment(0xFE, MANY),  # in which a decoder that lost a restart marker may begin
    ],
    ids=["scans", "behind an end in a segment", "behind a segment in a segment", "in a segment"],
)
def test_a_jpeg_of_many_scans_is_refused_before_they_are_decoded(more, monkeypatch):
    many = PROGRESSIVE[:-2] + more + b"\xff\xd9"
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    with pytest.raises(FormatError, match=f"a JPEG must have at most {MOST_SCANS} scans"):
        nlaic.decompress(rewritten(encoder("jpeg").compress(smooth_picture(96, 80)), lambda head: head[:3] + many))
    with pytest.raises(NlaicError, match=f"a JPEG must have at most {MOST_SCANS} scans"):
        read_picture(BytesIO(many))


@pytest.mark.parametrize(
    "sound",
    [
        PROGRESSIVE,
        PROGRESSIVE[:2] + segment(0xE5, MANY) + PROGRESSIVE[2:],
        PROGRESSIVE[:2] + segment(0xE5, PROGRESSIVE[:4000] + MANY) + PROGRESSIVE[2:],
        PROGRESSIVE + MANY,
    ],
    ids=["progressive", "before the first", "with a thumbnail", "behind the end"],
)
def test_what_looks_like_scans_beside_the_picture_is_none(sound):
    check_scans(sound)
    assert np.array_equal(read_picture(BytesIO(sound)), read_picture(BytesIO(PROGRESSIVE)))


def avif(width: int, height: int, mode: str = "RGB", **options) -> bytes:
    image = smooth_picture(width, height).convert(mode)
    if "A" in mode:
        image.putalpha(99)
    return written(image, "AVIF", speed=10, **options)


def stream_of(file: bytes) -> bytes:
    """The AV1 stream of an AVIF file of one picture: all behind `mdat`."""
    return file[file.index(b"mdat") + 4 :]


def with_stream(file: bytes, stream: bytes) -> bytes:
    """An AVIF file around another AV1 stream."""
    before = file[: file.index(b"mdat") - 4]
    place = before.index(b"iloc") + 22
    before = before[:place] + len(stream).to_bytes(4, "big") + before[place + 4 :]
    return before + (len(stream) + 8).to_bytes(4, "big") + b"mdat" + stream


@pytest.mark.parametrize("size", [(1, 1), (16, 7), (65, 64), (301, 200), (2049, 3)])
@pytest.mark.parametrize("options", [{"mode": "L"}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:0"}])
def test_the_size_in_an_avifs_stream_is_that_of_the_picture(size, options):
    assert avif_sizes(avif(*size, **options)) == [size]


def lying(file: bytes) -> bytes:
    """Its box `ispe` says 70x82."""
    place = file.index(b"ispe") + 8
    return file[:place] + b"\0\0\0\x46\0\0\0\x52" + file[place + 8 :]


SMALL, LARGE = avif(70, 82), avif(640, 480)
HEADER = stream_of(SMALL).index(b"\n") + 2  # of the sequence, in the stream


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (lying(LARGE), "must be of 70x82 pixels, got 640x480"),
        (with_stream(SMALL, stream_of(SMALL) + stream_of(LARGE)), "must be of 70x82 pixels, got 640x480"),
        (with_stream(SMALL, b"\x12\0" * MOST_UNITS + stream_of(LARGE)), f"fewer than {MOST_UNITS} units"),
        (with_stream(SMALL, b"\x12\0"), "must have a sequence header"),
        (SMALL.replace(stream_of(SMALL)[HEADER:], b"\x10" + stream_of(SMALL)[HEADER + 1 :]), "the reduced header"),
        (avif(70, 82, "LA"), "one item in one piece"),
        (SMALL + b"\0\0\0\x08free", "must have the boxes ftyp, meta and mdat"),
        (SMALL + b"\0\0\0\x07free", r"must have 8\.\.8 bytes, got 7"),
    ],
    ids=["size", "second header", "units", "no header", "another header", "alpha", "box", "size of a box"],
)
def test_an_avif_that_lies_is_refused_before_memory_is_taken_for_it(file, says, monkeypatch):
    sound = encoder("avif").compress(smooth_picture(70, 82))
    nlaic.decompress(rewritten(sound, lambda head: head[:3] + SMALL))
    monkeypatch.setattr("PIL.AvifImagePlugin.AvifImageFile.load", lambda image: pytest.fail("decoded"))
    with pytest.raises(FormatError, match=says):
        nlaic.decompress(rewritten(sound, lambda head: head[:3] + file))


def test_an_animated_avif_is_no_picture_in_a_file():
    frames = [smooth_picture(70, 82, seed) for seed in range(2)]
    with pytest.raises(FormatError, match="must have the boxes ftyp, meta and mdat"):
        avif_sizes(written(frames[0], "AVIF", save_all=True, append_images=frames[1:]))


def test_avs2_says_its_size_in_every_sequence_header():
    coder = encoder("avs2").coder
    streams = [coder.encode(smooth_picture(*size), 45)[1:] for size in ((130, 70), (301, 277))]
    assert avs2_sizes(b"".join(streams)) == [(130, 70), (302, 278)]
    with pytest.raises(FormatError, match="must be of 130x70 pixels, got 302x278"):
        coder.decode(b"\0" + b"".join(streams), (130, 70))
    with pytest.raises(FormatError, match="ends in a sequence header"):
        avs2_sizes(streams[0] + b"\0\0\1\xb0cut")
    with pytest.raises(FormatError, match="must have a sequence header"):
        coder.decode(b"\0" + streams[0][4:], (130, 70))


def test_a_header_that_only_the_doubled_stream_has_is_seen():
    """The decoder of AVS2 is given a stream twice, whose end and beginning may be a start code together."""
    coder = encoder("avs2").coder
    stream = coder.encode(smooth_picture(302, 278), 45)[1:]
    split = stream[3:] + stream[:3]
    assert not avs2_sizes(split)
    with pytest.raises(FormatError, match="must be of 130x70 pixels, got 302x278"):
        coder.decode(b"\0" + split, (130, 70))


@pytest.mark.parametrize("name", ["hevc", "vvc", "avs2"])
def test_what_is_cut_off_a_stream_is_a_column_and_a_row(name):
    coder = encoder(name).coder
    stream = coder.encode(smooth_picture(128, 128), 45)[1:]
    assert coder.decode(b"\3" + stream, (127, 127)).size == (127, 127)
    for added, size in ((4, (128, 126)), (126, (128, 65))):
        with pytest.raises(FormatError, match=rf"first byte before the {name} stream must be 0\.\.3, got {added}"):
            coder.decode(bytes([added]) + stream, size)


def test_a_bpg_of_another_size_never_reaches_its_decoder(tmp_path, monkeypatch):
    for name in ("bpgenc", "bpgdec"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    header = b"BPG\xfb\x20\x00"  # 4:2:0, 8 bits; then 1920 and 127 by the specification: 15 * 128 + 0, 127
    assert bpg_size(header + b"\x8f\x00\x7f" + b"\x80" * 9) == (1920, 127)
    for data, says in ((header + b"\x8f\x00\x7f", "must be of 64x64 pixels, got 1920x127"), (header, "no BPG header")):
        with pytest.raises(FormatError, match=says):
            BpgCoder().decode(data, (64, 64))
    assert not (tmp_path / "called").exists()
