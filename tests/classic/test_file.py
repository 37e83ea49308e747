"""A base codec and a filter in one file: there and back, bytes checked by hand, damage of every kind."""

import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic import container
from nlaic.classic.base import BASES
from nlaic.classic.file import (
    BaseDecoder,
    BaseEncoder,
    Pair,
    extract_base,
    parse_pair,
)
from nlaic.classic.pictures import open_coded
from nlaic.classic.restore import Restorer
from nlaic.classic.scales import best, code
from nlaic.classic.section import BasePicture, pack_base, read_base
from nlaic.classic.weights import find_filter
from nlaic.container import READABLE
from nlaic.errors import FormatError, NlaicError
from tests.classic.conftest import encoder, rewritten, rms
from tests.conftest import smooth_picture

HEAD = bytes.fromhex("8b4e4c43 01 00")


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("size", [(96, 80), (71, 83)], ids=["even", "odd"])
def test_there_and_back_through_every_codec(name, size):
    picture, base = smooth_picture(*size), BASES[name]
    data = encoder(name).compress(picture)
    assert rms(nlaic.decompress(data), picture) < 20 and nlaic.decompress(data).size == size
    facts = nlaic.info(data)
    assert facts["base"] == {"codec": name, "filter": None}
    assert facts["quality"] == base.default and facts["model_id"] == "0" * 16
    assert len(data) == facts["payload_bytes"] + facts["overhead_bytes"] + sum(facts["sections"].values())


@pytest.mark.parametrize(("name", "side"), [("jpeg", 65_501), ("webp", 16_400), ("avif", 32_769), ("heic", 16_400)])
def test_a_picture_that_a_codec_does_not_hold_is_refused(name, side):
    one = encoder(name)
    with pytest.raises(NlaicError, match=f"{side}x1 pixels cannot be written as {one.coder.format}: "):
        one.compress(Image.new("RGB", (side, 1)))


def test_the_layout_by_hand():
    data = encoder("jpeg").compress(smooth_picture(300, 20), 25)
    jpeg, suffix = extract_base(data)
    assert suffix == ".jpg" and Image.open(BytesIO(jpeg)).quantization
    assert data[:6] == HEAD and data[6:9] == b"\xac\x02\x14"  # 300 and 20 as varints
    assert data[9:17] == bytes(8) and data[17:19] == (250).to_bytes(2, "little")
    assert data[19:21] == b"\x05\x01"  # blocks of 320x64
    assert data[21] == 1 and data[22] == 0x82  # one section, BASE
    start = data.index(jpeg)
    assert data[start - 3 : start] == b"\x01\x00\x00"  # JPEG, no filter, one scale


def test_the_filter_runs_at_the_level_of_the_quality(filters):
    picture = smooth_picture(96, 64)
    data = encoder("jpeg+restore-light").compress(picture, 20)
    plain = np.asarray(Image.open(BytesIO(extract_base(data)[0])))
    restorer = Restorer(find_filter("restore-light", "jpeg"))
    assert np.array_equal(nlaic.decompress(data), restorer.restore(plain, BASES["jpeg"].level(20)))
    assert np.array_equal(BaseDecoder(filtered=False).decompress(data), plain)
    assert bytes.fromhex(nlaic.info(data)["model_id"]) == restorer.weights.model_id
    part = nlaic.decompress(data, region=(10, 20, 30, 40))
    assert np.array_equal(part, np.asarray(nlaic.decompress(data))[20:60, 10:40])


def test_what_travels_with_a_picture_comes_back():
    picture = smooth_picture(48, 32)
    picture.putalpha(Image.linear_gradient("L").resize((48, 32)))
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    picture.info["exif"] = exif.tobytes()
    back = nlaic.decompress(encoder("webp").compress(picture, 60))
    assert back.mode == "RGBA" and np.array_equal(np.asarray(back)[..., 3], np.asarray(picture)[..., 3])
    assert b"a camera" in back.info["exif"]
    grey = nlaic.decompress(encoder("jpeg").compress(smooth_picture(48, 32).convert("L"), 60))
    assert grey.mode == "L"
    assert nlaic.decompress(encoder("jpeg").compress(Image.new("RGB", (1, 1), (200, 9, 9)), 90)).size == (1, 1)


def test_pillow_opens_it():
    data = encoder("jpeg").compress(smooth_picture(48, 32), 60)
    with Image.open(BytesIO(data)) as image:
        assert image.size == (48, 32) and np.array_equal(np.asarray(image), np.asarray(nlaic.decompress(data)))


def test_targets_are_met_and_the_smallest_is_said():
    picture, one = smooth_picture(96, 80), encoder("jpeg")
    data = one.compress(picture, max_bytes=2500)
    quality = nlaic.info(data)["quality"]
    assert len(data) <= 2500 < len(one.compress(picture, quality + 1))
    assert len(one.compress(picture, bpp=2.0)) <= 2 * 96 * 80 / 8
    smallest = len(one.compress(picture, 1))
    with pytest.raises(NlaicError, match=f"target of 100 bytes cannot be met: the smallest file has {smallest} bytes"):
        one.compress(picture, max_bytes=100)


def test_auto_takes_the_filter_that_helps_most(filters):
    picture = smooth_picture(96, 80)
    data = encoder("jpeg+auto").compress(picture, 20)
    assert nlaic.info(data)["base"]["filter"] is None  # filters of noise help nobody
    same = encoder("jpeg").compress(picture, 20)
    assert rms(nlaic.decompress(data), picture) == rms(nlaic.decompress(same), picture)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_two_streams_are_the_enlarged_picture_and_what_it_lacks(scale):
    picture, base = smooth_picture(97, 83), BASES["jpeg"]
    coded = code(base.open(), picture, 40, scale)
    section = BasePicture(base, None, coded.last, scale, coded.first)
    data = pack_base(section, picture.size, 40, bytes(8), False, {})
    below, lacking = (Image.open(BytesIO(stream)) for stream in (coded.first, coded.last))
    assert below.size == (-(-97 // 2**scale), -(-83 // 2**scale)) and lacking.size == picture.size
    enlarged = np.asarray(below.resize(picture.size, Image.Resampling.BICUBIC), float)
    expected = (enlarged + np.asarray(lacking) - 128).clip(0, 255)
    assert np.array_equal(nlaic.decompress(data), expected)
    assert rms(expected, picture) < 25
    with pytest.raises(NlaicError, match="in two jpeg streams"):
        extract_base(data)


def test_what_a_codec_cannot_code_is_not_chosen(kodak):
    base = BASES["jpeg"]
    coder, picture = base.open(), Image.open(kodak[22])

    class Narrow:
        """Refuses pictures of differences: around grey, without much in them."""

        decode = staticmethod(coder.decode)

        def encode(self, image, setting):
            if np.abs(np.asarray(image, int) - 128).mean() < 20:
                raise NlaicError("too small a buffer")
            return coder.encode(image, setting)

    assert best(coder, base, picture, 5).scale > 0
    assert best(Narrow(), base, picture, 5).scale == 0


def test_two_streams_are_taken_where_they_win(kodak):
    """At the lowest rates JPEG spends most on the means of its blocks, of which a reduced picture has fewer."""
    picture = Image.open(kodak[22])
    one, two = (BaseEncoder(parse_pair("jpeg"), scales=scales) for scales in (False, True))
    data = two.compress(picture, 5)
    assert read_base(data, 10**6)[1].scale > 0
    same = one.compress(picture, max_bytes=len(data))
    assert rms(nlaic.decompress(data), picture) < rms(nlaic.decompress(same), picture)
    assert read_base(two.compress(picture, 90), 10**6)[1].scale == 0


def test_damage_is_one_error(filters):
    data = bytearray(encoder("jpeg+svac2").compress(smooth_picture(96, 80), 30))
    for place in range(0, len(data), 13):
        broken = data.copy()
        broken[place] ^= 0x55
        with pytest.raises(FormatError):
            nlaic.decompress(bytes(broken))
    with pytest.raises(FormatError):
        nlaic.decompress(bytes(data[:-1]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c[:3], "more than 3 bytes"),
        (lambda c: b"\x00" + c[1:], "base codec must be one of 1 jpeg"),
        (lambda c: b"\x63" + c[1:], "got 99: a newer program"),
        (lambda c: c[:1] + b"\x63" + c[2:], "filter must be 0..7, got 99"),
        (lambda c: c[:2] + b"\x04" + c[3:], r"scale must be 0\.\.3, got 4"),
        (lambda c: c[:2] + b"\x01\xff\x7f" + c[3:], "first stream must have at most"),
        (lambda c: c[:2] + b"\x01\x80\x80\x80\x80\x80\x80" + c[3:], "must be a varint"),
        (lambda c: c[:2] + b"\x01\x05" + c[3:], "jpeg stream is damaged|must be of"),
        (lambda c: c[:3] + b"no picture at all", "jpeg stream is damaged"),
        (lambda c: c[: len(c) // 2], "jpeg stream is damaged"),
        (lambda c: c[:3] + jpeg(40, 40), "must be of 96x80 pixels, got 40x40"),
        (lambda c: c[:1] + b"\x06" + c[2:], "no filter with id 0000000000000000"),
    ],
)
def test_a_corrupt_stream_in_a_sound_container_is_one_line(filters, change, says):
    data = encoder("jpeg").compress(smooth_picture(96, 80), 30)
    assert rewritten(data, lambda content: content) == data
    with pytest.raises(NlaicError, match=says) as caught:
        nlaic.decompress(rewritten(data, change))
    assert "\n" not in str(caught.value)


def jpeg(*size):
    out = BytesIO()
    smooth_picture(*size).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "hevc", "vvc", "avs2"])
def test_a_stream_of_another_size_is_refused_before_memory_is_taken_for_it(name, monkeypatch):
    one, other = (encoder(name).compress(picture) for picture in (smooth_picture(70, 82), smooth_picture(640, 480)))
    nlaic.decompress(one)
    content = container.unpack(other, known_required=READABLE).sections[container.BASE]
    loaded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: loaded.append(image.size))
    says = "damaged" if name in ("hevc", "vvc") else "must be of 70x82 pixels, got 640x480"  # those by ffmpeg itself
    with pytest.raises(FormatError, match=says):
        nlaic.decompress(rewritten(one, lambda _: content))
    assert not loaded


def test_pictures_beyond_pillows_own_limit_come_back(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = encoder("jpeg").compress(smooth_picture(96, 80))
    assert nlaic.decompress(data).size == (96, 80)
    stream, _ = extract_base(data)
    assert open_coded(BytesIO(stream))[0].size == (96, 80)


def test_a_damaged_stream_is_called_damaged():
    data = bytearray(encoder("jpeg").compress(smooth_picture(96, 80)))
    data[-20] ^= 1
    sound = encoder("jpeg").compress(smooth_picture(96, 80))
    assert nlaic.salvage(sound).picture == nlaic.decompress(sound) and nlaic.salvage(sound).blocks == ()
    for read, says in ((nlaic.decompress, "CRC"), (nlaic.salvage, "nothing can be salvaged")):
        with pytest.raises(FormatError, match=says):
            read(bytes(data))


def test_payloads_must_be_empty_and_nothing_is_salvaged():
    data = encoder("jpeg").compress(smooth_picture(96, 80), 30)
    file, section = read_base(data, 10**6)
    sections = {container.BASE: section.content()}
    with pytest.raises(FormatError, match="must be empty, got 1 bytes"):
        nlaic.decompress(container.pack(file.header, [b"x"], sections))
    with pytest.raises(FormatError, match="nothing can be salvaged"):
        nlaic.salvage(container.pack(file.header, [b"x"], sections))
    with pytest.raises(FormatError, match="at most 100, got 96"):
        nlaic.decompress(data, max_pixels=100)


def test_a_file_without_the_section_is_refused(codec):
    with pytest.raises(FormatError, match="no section BASE"):
        read_base(codec.compress(smooth_picture(64, 64), effort=1), 10**6)


def test_wide_pictures_have_more_than_one_block():
    _, section = read_base(encoder("jpeg").compress(smooth_picture(96, 80), 30), 10**6)
    data = pack_base(section, (70_000, 3), 30, bytes(8), False, {})
    assert container.unpack(data, known_required=frozenset({container.BASE})).header.blocks == 2


def test_another_filter_than_the_files_is_refused(filters):
    data = encoder("jpeg+svac2").compress(smooth_picture(96, 80), 30)
    path = str(next((filters / "filters").glob("restore-light*")))
    with pytest.raises(FormatError, match=r"but weights .* are filter"):
        nlaic.decompress(data, model=path)
    with pytest.raises(NlaicError, match="no weights of filter mvgl-c for jpeg: there are svac2, restore-light"):
        BaseEncoder(Pair(BASES["jpeg"], "mvgl-c"))


def test_what_is_no_picture_is_named():
    with pytest.raises(NlaicError, match=r"PIL image, but got str: use PIL\.Image\.open"):
        encoder("jpeg").compress("photo.jpg")


def test_the_colours_of_video_codecs_lose_no_more_than_half_of_the_chroma():
    """Through VVC at a quantiser of nearly nothing, against chroma halved and doubled again in floats by Pillow."""
    picture = smooth_picture(128, 96, 3)
    data = encoder("vvc").compress(picture, 1)
    matrix = np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]])  # BT.709
    planes = np.asarray(picture, float) @ matrix.T
    for channel in (1, 2):
        plane = Image.fromarray(planes[..., channel].astype(np.float32))
        small = plane.resize((64, 48), Image.Resampling.LANCZOS)
        planes[..., channel] = np.asarray(small.resize((128, 96), Image.Resampling.LANCZOS))
    halved = (planes @ np.linalg.inv(matrix).T).clip(0, 255)
    assert rms(nlaic.decompress(data), picture) <= rms(halved, picture) + 0.3


def test_info_needs_no_torch(tmp_path):
    (tmp_path / "a.nlaic").write_bytes(encoder("jpeg").compress(smooth_picture(96, 80), 30))
    code = "import sys; sys.modules['torch'] = None; from nlaic.cli.info import main; main()"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.nlaic")], capture_output=True, text=True)
    assert done.returncode == 0 and "jpeg" in done.stdout


@pytest.mark.parametrize(("name", "size"), [("avs2", (64, 300)), ("hevc", (14, 200)), ("vvc", (12, 12))])
def test_sides_that_an_encoder_does_not_bear_are_refused(name, size):
    with pytest.raises(NlaicError, match=f"{size[0]}x{size[1]} pixels: {name} needs sides of at least"):
        encoder(name).compress(smooth_picture(*size))


def test_foreign_files_beside_filters_stand_in_no_ones_way(filters, tmp_path, monkeypatch):
    data = encoder("jpeg+svac2").compress(smooth_picture(96, 80), 30)
    expected = nlaic.decompress(data)
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters" / "aaa-half.safetensors").write_bytes(bytes(1000))
    monkeypatch.setenv("NLAIC_WEIGHTS", f"{tmp_path}{os.pathsep}{filters}")
    assert nlaic.decompress(data) == expected
