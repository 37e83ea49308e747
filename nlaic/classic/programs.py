"""Codecs that are other programs: HEVC, VVC and AVS2 by the ffmpeg inside imageio-ffmpeg, BPG when on PATH."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from nlaic.canvas import cut
from nlaic.classic.coders import MissingError, installed, plugin
from nlaic.classic.headers import Size, avs2_sizes, bpg_size, check_size, check_sizes
from nlaic.errors import FormatError, NlaicError
from nlaic.limits import pixel_limit

CODING_UNIT = 128  # side of VVC's largest block, to which a stream may round a picture up
EVEN = 3  # the largest number of `even`
TIME_LIMIT = 3600  # seconds for one call: VTM is slow, nothing is that slow


def call(command: list[str], data: bytes = b"") -> bytes:
    """Run a program, hand it `data`, and give what it wrote.

    Raises:
        NlaicError: with its last words, if it fails.
    """
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=TIME_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NlaicError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise NlaicError(f"{Path(command[0]).name} failed ({done.returncode}): {words[-1]}")
    return done.stdout


def ffmpeg() -> str:
    """The program inside imageio-ffmpeg."""
    try:
        return str(plugin("imageio_ffmpeg", "imageio-ffmpeg", "classic").get_ffmpeg_exe())
    except RuntimeError as error:
        raise MissingError(f"imageio-ffmpeg brings no ffmpeg for this machine: {error}") from error


def even(image: Image.Image) -> tuple[Image.Image, int]:
    """The picture with even sides, its last column and row repeated, and 1 for a column plus 2 for a row added.

    4:2:0 video has even sides only. The number is the first byte of the file, so that decoding can cut.
    """
    added = image.width % 2 + 2 * (image.height % 2)
    if not added:
        return image, 0
    pixels = np.pad(np.asarray(image), ((0, image.height % 2), (0, image.width % 2), (0, 0)), mode="edge")
    return Image.fromarray(pixels), added


class FfmpegCoder:
    """A video codec's still picture, by ffmpeg, BT.709.

    Args:
        name: ffmpeg's name of the raw stream.
        encoder: ffmpeg's name of the encoder and what it is told before the quantiser.
        pixels: 4:2:0 format of the stream.
        range: `full` or `limited`.
        repeat: how often the stream is handed to the decoder (that of AVS2 gives nothing for a single picture).
        sizes: those that a stream says, of a decoder that ffmpeg's limit of pixels does not hold.
        least: the shorter side that the encoder takes: on others it fails, crashes or hangs.
    """

    def __init__(
        self,
        name: str,
        encoder: tuple[str, ...],
        pixels: str,
        range: str,
        repeat: int = 1,
        sizes: Callable[[bytes], list[Size]] | None = None,
        least: int = 1,
    ) -> None:
        self.name, self.repeat, self.sizes, self.least, self.program = name, repeat, sizes, least, ffmpeg()
        flags = "flags=accurate_rnd+full_chroma_int+full_chroma_inp+lanczos"
        self.encoder = ["-vf", f"scale=out_color_matrix=bt709:out_range={range}:{flags},format={pixels}"]
        self.encoder += ["-frames:v", "1", "-c:v", *encoder]
        self.decoder = ["-vf", f"scale=in_color_matrix=bt709:in_range={range}:{flags},format=rgb24"]
        listed = call([self.program, "-hide_banner", "-encoders"]).decode(errors="replace")
        if f" {encoder[0]} " not in listed:
            raise MissingError(f"the ffmpeg of imageio-ffmpeg has no {encoder[0]}")
        self.version = f"{installed('imageio-ffmpeg')} {hashes(self.program)} {' '.join(self.encoder)}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """One byte of `even`, then the raw stream."""
        if min(image.size) < self.least:
            raise NlaicError(f"{image.width}x{image.height} pixels: {self.name} needs sides of at least {self.least}")
        image, added = even(image)
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{image.width}x{image.height}", "-i", "-"]
        target = ["-qp", str(round(quality)), "-threads", "1", "-f", self.name, "-"]
        return bytes([added]) + call([*self._quiet(), *source, *self.encoder, *target], image.tobytes())

    def decode(self, data: bytes, size: Size | None = None) -> Image.Image:
        """The first picture of the stream, cut."""
        added, stream = data[0], data[1:] * self.repeat
        if added > EVEN:
            raise FormatError(f"the first byte before the {self.name} stream must be 0..{EVEN}, got {added}")
        if self.sizes:
            said = [(width - added % 2, height - added // 2) for width, height in self.sizes(stream)]
            check_sizes(said, size, self.name)
        most = ["-max_pixels", str((size[0] + CODING_UNIT) * (size[1] + CODING_UNIT))] if size else []
        target = ["-frames:v", "1", *self.decoder, "-c:v", "ppm", "-f", "image2pipe", "-"]
        ppm = call([*self._quiet(), "-threads", "1", *most, "-f", self.name, "-i", "-", *target], stream)
        if not ppm:
            raise NlaicError(f"ffmpeg gave no picture for the {self.name} stream")
        with pixel_limit():
            coded = Image.open(BytesIO(ppm), formats=["PPM"])
        image = cut(coded.convert("RGB"), (0, 0, coded.width - added % 2, coded.height - added // 2))
        check_size(image.size, size, self.name)
        return image

    def _quiet(self) -> list[str]:
        return [self.program, "-hide_banner", "-loglevel", "error", "-nostdin"]


def open_hevc() -> FfmpegCoder:
    """HEVC intra by libx265, 8 bits, full range: what BPG codes with, at the quantiser given and no other."""
    told = "log-level=error:info=0:ipratio=1:aq-mode=0"
    return FfmpegCoder("hevc", ("libx265", "-preset", "slow", "-x265-params", told), "yuv420p", "full", least=15)


def open_vvc() -> FfmpegCoder:
    """VVC by libvvenc, 10 bits, full range."""
    return FfmpegCoder("vvc", ("libvvenc", "-preset", "medium", "-qpa", "0"), "yuv420p10le", "full", least=15)


def open_avs2() -> FfmpegCoder:
    """AVS2 by libxavs2, 8 bits, limited range, the nearest public relative of SVAC2."""
    encoder = ("libxavs2", "-speed_level", "5")
    return FfmpegCoder("avs2", encoder, "yuv420p", "limited", repeat=2, sizes=avs2_sizes, least=65)


def on_path(*programs: str) -> list[str]:
    """Where the programs are."""
    found = [shutil.which(program) for program in programs]
    if missing := [program for program, place in zip(programs, found, strict=True) if not place]:
        raise MissingError(f"{' and '.join(missing)} not on PATH")
    return [place for place in found if place]


def hashes(*files: str) -> str:
    """First 8 digits of each file's SHA-256: programs that do not say their version are known by it."""
    return " ".join(hashlib.sha256(Path(file).read_bytes()).hexdigest()[:8] for file in files)


class BpgCoder:
    """BPG by its reference programs.

    Args:
        chroma: 444, 422 or 420.
    """

    def __init__(self, chroma: float = 444) -> None:
        self.encoder, self.decoder = on_path("bpgenc", "bpgdec")
        self.chroma = f"{chroma:g}"
        self.version = f"bpgenc {hashes(self.encoder, self.decoder)} chroma {self.chroma}"

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """An RGB picture to a .bpg file, the quantiser the setting."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.png"), Path(folder, "out.bpg")
            image.save(source)
            call([self.encoder, "-q", f"{quality:g}", "-f", self.chroma, "-o", str(target), str(source)])
            return target.read_bytes()

    def decode(self, data: bytes, size: Size | None = None) -> Image.Image:
        """Through a PNG file; its own program asks no one how large a picture may be, so it is asked before."""
        check_size(bpg_size(data), size, "bpg")
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.bpg"), Path(folder, "out.png")
            source.write_bytes(data)
            call([self.decoder, "-o", str(target), str(source)])
            with pixel_limit():
                image = Image.open(target)
            check_size(image.size, size, "bpg")
            return image.convert("RGB")
