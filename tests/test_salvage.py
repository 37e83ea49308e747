"""Damage is local: what is intact comes back to the bit, the rest is made up, and it is said which is which."""

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic import container, patches
from nlaic.cli import decompress
from nlaic.container import unpack
from nlaic.patches import GREY
from nlaic.tiles import Grid
from tests.conftest import smooth_picture

SIZE, BLOCK = (300, 170), (128, 64)  # 3 x 3 blocks
GRID = Grid(*SIZE, BLOCK)


@pytest.fixture(scope="module")
def data(codec):
    return codec.compress(smooth_picture(*SIZE), 60, effort=1, block=BLOCK)


@pytest.fixture(scope="module")
def decoded(codec, data):
    return np.asarray(codec.decompress(data))


def damaged(data, *numbers):
    """The file with a bit of these blocks' payloads changed."""
    file, changed = unpack(data), bytearray(data)
    for number in numbers:
        changed[file._block_starts[number] + file.block_lengths[number] // 2] ^= 1
    return bytes(changed)


def of(picture, number):
    left, top, right, bottom = GRID.box(number)
    return np.asarray(picture)[top:bottom, left:right].astype(float)


def test_a_sound_file_is_what_it_was(codec, data, decoded):
    salvaged = codec.salvage(data)
    assert np.array_equal(salvaged.picture, decoded) and (salvaged.blocks, salvaged.damage) == ((), ())


@pytest.mark.parametrize("numbers", [(0,), (4,), (8,), (0, 1, 3), (4, 5), tuple(range(8)), tuple(range(1, 9))])
def test_intact_blocks_are_decoded_and_the_others_filled(codec, data, decoded, numbers):
    broken = damaged(data, *numbers)
    with pytest.raises(nlaic.FormatError, match=rf"block {numbers[0]} .* is damaged"):
        codec.decompress(broken)
    salvaged = codec.salvage(broken)
    assert salvaged.blocks == numbers and salvaged.picture.size == SIZE
    assert [text.split(": ")[1].split(" (")[0] for text in salvaged.damage] == [f"block {n}" for n in numbers]
    for number in range(9):
        same = np.array_equal(of(salvaged.picture, number), of(decoded, number))
        assert same == (number not in numbers)


def test_what_is_filled_goes_on_from_what_is_around_it(codec):
    """A picture of a slow ramp: a lost block in its middle is nearly what it was."""
    x, y = np.meshgrid(np.linspace(40, 200, SIZE[0]), np.linspace(-30, 30, SIZE[1]))
    ramp = Image.fromarray(np.stack([x + y, x - y, 220 - x], 2).astype(np.uint8))
    data = codec.compress(ramp, 80, effort=1, block=BLOCK)
    sound, filled = codec.decompress(data), codec.salvage(damaged(data, 4)).picture
    error = np.abs(of(filled, 4) - of(sound, 4))
    assert error.mean() < 10 and error.max() < 40


def test_blocks_far_from_what_is_intact_are_filled_once_and_from_their_neighbours(codec, monkeypatch):
    """The time is that of the blocks, not of the blocks times the distance."""
    data = codec.compress(Image.new("RGB", (64 * 16, 64 * 4), (200, 90, 40)), 20, effort=1, block=(64, 64))
    looked: list[int] = []
    monkeypatch.setattr(patches, "_sides", lambda *a, sides=patches._sides: looked.append(a[2]) or sides(*a))
    file = unpack(data)
    salvaged = codec.salvage(data[: file._block_starts[0] + file.block_lengths[0] + 4])
    assert salvaged.blocks == tuple(range(1, 64)) and salvaged.looked == 64
    assert len(looked) < 3 * 64
    pixels = np.asarray(salvaged.picture, float)
    assert np.abs(pixels - pixels[40, 40]).max() < 25


def test_nothing_intact_is_grey(codec, data):
    salvaged = codec.salvage(damaged(data, *range(9)))
    assert np.all(np.asarray(salvaged.picture) == GREY) and salvaged.blocks == tuple(range(9))


def test_cut_short_anywhere(codec, data, decoded):
    """Blocks that are there whole are decoded; a header that is not there is an error."""
    file = unpack(data)
    ends = [start + length + 4 for start, length in zip(file._block_starts, file.block_lengths, strict=True)]
    for size in (*range(0, file.header_bytes, 7), file.header_bytes - 1):
        with pytest.raises(nlaic.FormatError):
            codec.salvage(data[:size])
    for size in (file.header_bytes, ends[0] - 1, ends[0], ends[4] + 3, len(data) - 1):
        salvaged, intact = codec.salvage(data[:size]), [n for n in range(9) if ends[n] <= size]
        assert salvaged.blocks == tuple(n for n in range(9) if n not in intact)
        assert all("truncated" in text for text in salvaged.damage)
        assert all(np.array_equal(of(salvaged.picture, n), of(decoded, n)) for n in intact)


def test_a_region_tells_only_what_it_needs(codec, data, decoded):
    salvaged = codec.salvage(damaged(data, 0, 8), region=(0, 0, 100, 60), boundary_filter=False)
    assert salvaged.blocks == (0,) and salvaged.picture.size == (100, 60)
    salvaged = codec.salvage(damaged(data, 8), region=(0, 0, 100, 60), boundary_filter=False)
    assert salvaged.blocks == () and np.array_equal(salvaged.picture, decoded[:60, :100])


def test_sections_and_bytes_behind_the_end(codec, data, decoded):
    file = unpack(data)
    with_section = container.pack(file.header, [file.block(n) for n in range(9)], {0x70: b"something"})
    broken = with_section.replace(b"something", b"samething") + b"more"
    with pytest.raises(nlaic.FormatError, match="section 112 is damaged"):
        codec.decompress(broken)
    salvaged = codec.salvage(broken)
    assert np.array_equal(salvaged.picture, decoded) and salvaged.blocks == ()
    assert ["section 112" in salvaged.damage[0], "4 bytes follow" in salvaged.damage[1]] == [True, True]


def test_a_section_that_is_needed_and_not_known_is_no_damage(codec, data):
    """Without it the picture would be another one."""
    file = unpack(data)
    other = container.pack(file.header, [file.block(n) for n in range(9)], {0xF0: b"something"})
    for changed in (other, other.replace(b"something", b"samething")):
        with pytest.raises(nlaic.FormatError, match="section 240 is required, but this program does not know it"):
            codec.salvage(changed)


def test_blocks_that_cannot_be_there_are_not_counted_on(codec, data):
    """Every block has a byte at least in the table: a header that says otherwise is refused, salvage or not."""
    header = container.Header(1 << 20, 1 << 9, codec.weights.model_id, 500, (64, 64))
    whole = container.pack(header, [b""] * header.blocks)
    with pytest.raises(nlaic.FormatError, match="number of blocks must be at most"):
        codec.salvage(whole[:60])


def test_a_payload_that_no_encoder_writes_is_damaged_though_its_checksum_is_right(codec, data, decoded):
    file = unpack(data)
    blocks = [file.block(n) for n in range(9)]
    for payload in (b"", bytes(8), blocks[2][:-4], blocks[2] + bytes(4), blocks[3]):
        broken = container.pack(file.header, [*blocks[:2], payload, *blocks[3:]])
        with pytest.raises(nlaic.FormatError, match=r"block 2 \(column 2, row 0\): entropy payload"):
            codec.decompress(broken)
        salvaged = codec.salvage(broken)
        assert salvaged.blocks == (2,)
        assert all(np.array_equal(of(salvaged.picture, n), of(decoded, n)) for n in range(9) if n != 2)


class Smear:
    """A filter whose answer cannot be overlooked."""

    reach, sigma = 8, 22.0

    def correction(self, strip, quality):
        return np.full(strip.shape, 40, np.float32)


def test_seams_of_a_damaged_picture_are_left_alone(codec, data, monkeypatch):
    plain = codec.decompress(data)
    monkeypatch.setattr(codec.engine, "boundary", Smear(), raising=False)
    smoothed = codec.salvage(data)
    assert not np.array_equal(smoothed.picture, plain) and np.array_equal(smoothed.picture, codec.decompress(data))
    salvaged = codec.salvage(damaged(data, 4))
    assert all(np.array_equal(of(salvaged.picture, n), of(plain, n)) for n in range(9) if n != 4)
    file = unpack(data)
    blocks = [file.block(n) for n in range(9)]
    late = container.pack(file.header, [*blocks[:8], blocks[8][:-4]])  # its CRC-32 fits
    salvaged = codec.salvage(late)
    assert salvaged.blocks == (8,)
    assert all(np.array_equal(of(salvaged.picture, n), of(plain, n)) for n in range(8))


def test_a_limit_of_pixels(codec, data, tiny_model):
    for read in (codec.decompress, codec.salvage, nlaic.info):
        with pytest.raises(nlaic.FormatError, match=r"at most 50999, got 300 \* 170"):
            read(data, max_pixels=50_999)
        read(data, max_pixels=51_000)


def test_the_limit_holds_before_the_blocks_are_counted(tiny_model, monkeypatch):
    header = container.Header(1 << 12, 1 << 12, bytes(8), 500, (64, 64))
    data = container.pack(header, [b""] * header.blocks)
    monkeypatch.setattr(container, "_read_block_lengths", None)
    for read in (nlaic.decompress, nlaic.salvage):
        with pytest.raises(nlaic.FormatError, match="at most 1000"):
            read(data, max_pixels=1000)


def test_the_api(data, decoded, tiny_model):
    salvaged = nlaic.salvage(damaged(data, 3), model=str(tiny_model), device="cpu")
    assert salvaged.blocks == (3,)
    with pytest.raises(nlaic.FormatError, match="at most 9, got"):
        nlaic.decompress(data, model=str(tiny_model), max_pixels=9)
    with pytest.raises(nlaic.NlaicError, match="realism"):
        nlaic.salvage(data, model=str(tiny_model), realism=2)


def test_the_command(data, tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    file, out = tmp_path / "a.nlaic", tmp_path / "a.png"

    def run(content, *options):
        file.write_bytes(content)
        out.unlink(missing_ok=True)
        with pytest.raises(SystemExit) as caught:
            decompress.main([str(file), "-o", str(out), "--model", str(tiny_model), "--threads", "1", *options])
        return caught.value.code, capsys.readouterr().err.splitlines(), out.exists()

    assert run(data, "--salvage") == (0, [], True)
    code, lines, written = run(damaged(data, 1, 5), "--salvage")
    assert (code, len(lines), written) == (1, 3, True)
    assert "note: byte" in lines[0] and "block 1 (column 1, row 0) is damaged" in lines[0]
    assert lines[2].endswith(
        "a.nlaic: damaged, what is intact is written (7 of 9 blocks); filled from around them: 1 5"
    )
    with monkeypatch.context() as patch:
        patch.setattr(decompress, "TOLD", 1)
        code, lines, _ = run(damaged(data, 1, 5), "--salvage")
    assert code == 1 and "and 1 more" in lines[1] and lines[2].endswith("around them: 1 ..")
    code, lines, written = run(damaged(data, 1), "--salvage", "--quiet")
    assert (code, len(lines), written) == (1, 1, True)
    code, lines, written = run(damaged(data, *range(9)), "--salvage")
    assert (code, len(lines), written) == (1, 1, False) and "nothing is intact, nothing is written: byte" in lines[0]
    region = "--salvage", "--region", "0,0,150,60"
    code, lines, written = run(damaged(data, 0, 8), *region)
    assert (code, written) == (1, True) and "what is intact is written (1 of 2 blocks)" in lines[-1]
    code, lines, written = run(damaged(data, 0, 1), *region)
    assert (code, len(lines), written) == (1, 1, False) and "nothing is intact" in lines[0]
    for content, options in ((damaged(data, 1), ()), (data[:20], ("--salvage",)), (data, ("--max-pixels", "50999"))):
        code, lines, written = run(content, *options)
        assert (code, len(lines), written) == (1, 1, False)
