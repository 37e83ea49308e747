"""What decoding a base codec's picture takes is asked for before."""

import subprocess
import sys
import tracemalloc
from io import BytesIO

import pytest
from PIL import Image

import nlaic
from nlaic.classic.base import BASES
from nlaic.classic.file import PIXEL_BYTES, SCALES_BYTES, WEBP_BYTES
from nlaic.classic.scales import code
from nlaic.classic.section import BasePicture, pack_base
from nlaic.errors import NlaicError
from tests.classic.conftest import encoder
from tests.conftest import smooth_picture


def test_two_streams_ask_for_the_memory_they_take(monkeypatch):
    picture, base = smooth_picture(1024, 768), BASES["jpeg"]
    coded = code(base.open(), picture, 40, 1)
    data = pack_base(BasePicture(base, None, coded.last, 1, coded.first), picture.size, 40, bytes(8), False, {})
    nlaic.decompress(data)
    tracemalloc.start()
    nlaic.decompress(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < SCALES_BYTES * 1024 * 768
    monkeypatch.setattr("nlaic.canvas._memory", lambda: SCALES_BYTES * 1024 * 768 - 1)
    with pytest.raises(NlaicError, match=r"not enough memory for a picture of 1024x768 pixels \(0\.02 GB\)"):
        nlaic.decompress(data)


PEAK = """
import sys
from pathlib import Path
import nlaic
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
data = Path(sys.argv[1]).read_bytes()
nlaic.decompress(Path(sys.argv[2]).read_bytes())
small = peak()
picture = nlaic.decompress(data)
print((peak() - small) / (picture.width * picture.height))
"""
HARDEST = {  # of what each format holds
    "jpeg": {"progressive": True, "subsampling": 0},
    "webp": {"method": 0},
    "avif": {"speed": 10, "subsampling": "4:4:4"},
    "heic": {"chroma": 444},
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("name", HARDEST)
def test_a_decoder_asks_for_the_memory_it_takes(name, tmp_path, monkeypatch):
    coder, files = encoder(name).coder, []
    for side in (64, 3072):
        picture, stream = Image.new("RGB", (side, side), (90, 140, 30)), BytesIO()
        picture.save(stream, coder.format, quality=50, **HARDEST[name])
        section = BasePicture(BASES[name], None, stream.getvalue())
        files.append(tmp_path / f"{side}.nlaic")
        files[-1].write_bytes(pack_base(section, picture.size, 30, bytes(8), False, {}))
    command = [sys.executable, "-c", PEAK, str(files[1]), str(files[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    each = WEBP_BYTES if name == "webp" else PIXEL_BYTES
    assert 4 < float(done.stdout) < each
    monkeypatch.setattr("nlaic.canvas._memory", lambda: each * 3072**2 - 1)
    with pytest.raises(NlaicError, match="not enough memory for a picture of 3072x3072"):
        nlaic.decompress(files[1].read_bytes())


def test_alpha_counts_beside_a_base_codec(monkeypatch):
    picture = smooth_picture(96, 80).convert("RGBA")
    picture.putpixel((3, 3), (0, 0, 0, 7))
    data = encoder("jpeg").compress(picture)
    monkeypatch.setattr("nlaic.canvas._memory", lambda: (PIXEL_BYTES + 2) * 96 * 80)
    nlaic.decompress(data)
    monkeypatch.setattr("nlaic.canvas._memory", lambda: (PIXEL_BYTES + 2) * 96 * 80 - 1)
    with pytest.raises(NlaicError, match="not enough memory"):
        nlaic.decompress(data)
