"""Codecs that are other programs: HEVC, VVC and AVS2 by the ffmpeg inside imageio-ffmpeg, BPG and VTM when on PATH."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from nlaic.classic.coders import MissingError
from nlaic.classic.programs import BpgCoder, call, ffmpeg, hashes, on_path, open_avs2, open_hevc, open_vvc
from nlaic.evaluate.codecs import Codec


class VtmCoder:
    """The reference software of VVC, all intra, 4:4:4 as learned codecs' papers run it (BT.709, 8 bits in).

    Args:
        config: its `encoder_intra_vtm.cfg`.
    """

    def __init__(self, config: str = "encoder_intra_vtm.cfg") -> None:
        self.encoder, self.decoder = on_path("EncoderAppStatic", "DecoderAppStatic")
        if not Path(config).is_file():
            raise MissingError(f"VTM's configuration {config} is missing: name it as vtm:config=FILE")
        self.config, self.program = config, ffmpeg()
        self.version = f"VTM 4:4:4 {hashes(self.encoder, self.decoder, config)}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """Four bytes of width and height, then the stream."""
        size = np.array(image.size, "<u2").tobytes()
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{image.width}x{image.height}", "-i", "-"]
        convert = ["-vf", "scale=out_color_matrix=bt709:out_range=full,format=yuv444p", "-f", "rawvideo", "-"]
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.yuv"), Path(folder, "out.bin")
            source.write_bytes(call([self.program, "-loglevel", "error", *raw, *convert], image.tobytes()))
            shape = ["-wdt", str(image.width), "-hgt", str(image.height), "-fr", "1", "-f", "1"]
            depth = ["--InputBitDepth=8", "--InputChromaFormat=444", "--ConformanceWindowMode=1"]
            files = ["-i", str(source), "-b", str(target), "-o", "/dev/null"]
            call([self.encoder, "-c", self.config, "-q", f"{quality:g}", *shape, *depth, *files])
            return size + target.read_bytes()

    def decode(self, data: bytes) -> Image.Image:
        """Through a raw file."""
        width, height = (int(n) for n in np.frombuffer(data[:4], "<u2"))
        raw = ["-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", f"{width}x{height}", "-i", "-"]
        convert = ["-vf", "scale=in_color_matrix=bt709:in_range=full,format=rgb24", "-f", "rawvideo", "-"]
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.bin"), Path(folder, "out.yuv")
            source.write_bytes(data[4:])
            call([self.decoder, "-b", str(source), "-o", str(target), "-d", "8"])
            rgb = call([self.program, "-loglevel", "error", *raw, *convert], target.read_bytes())
        return Image.frombytes("RGB", (width, height), rgb)


QP = "quantiser"
ROWS = (
    Codec("hevc", "HEVC intra (x265)", open_hevc, (45, 41, 37, 33, 29, 25), (51, 0, 1), QP),
    Codec("vvc", "VVC (vvenc)", open_vvc, (46, 42, 38, 35, 32, 29), (63, 0, 1), QP),
    Codec("avs2", "AVS2 (xavs2)", open_avs2, (56, 51, 47, 43, 38, 34), (63, 0, 1), QP),
    Codec("bpg", "BPG", BpgCoder, (47, 42, 37, 32, 28, 24), (51, 0, 1), QP),
    Codec("vtm", "VTM", VtmCoder, (47, 42, 37, 32, 27, 22), (63, 0, 1), QP),
)
