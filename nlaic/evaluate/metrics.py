"""Metrics of a decoded picture against its original: a table of rows over well-kept libraries.

A metric whose network is not at hand is skipped with the reason; where there is a stand-in, that is taken under its own
name and never under the standard's.
"""

import hashlib
import importlib.metadata
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlaic.errors import NlaicError
from nlaic.evaluate.codecs import MissingError, plugin
from nlaic.evaluate.programs import call, ffmpeg

if TYPE_CHECKING:
    import torch

    from nlaic.train.perceptual import Pretrained

ENVIRONMENT = "NLAIC_NETWORKS"  # the folder of networks, as in training
LUMA = (0.299, 0.587, 0.114)
PSNR_MOST = 100.0  # dB of equal pictures, whose PSNR is infinite: JSON and means know no infinity


class Pair:
    """Two pictures uint8 [H, W, 3] of one size, and the same as tensors [1, 3, H, W]."""

    def __init__(self, reference: np.ndarray, decoded: np.ndarray) -> None:
        self.reference, self.decoded = reference, decoded

    @cached_property
    def bytes(self) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Decoded and reference, float32 in 0..255."""
        import torch

        a, b = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() for p in (self.decoded, self.reference))
        return a, b

    @cached_property
    def unit(self) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Decoded and reference, float32 in 0..1."""
        return self.bytes[0] / 255, self.bytes[1] / 255


Measure = Callable[[Pair], float]


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
        name: of the column.
        label: for people, with the unit.
        load: makes the measure from the folder of networks; MissingError or NlaicError where it cannot be had.
        higher_is_better: or lower.
        smallest: sides below this cannot be measured.
        stand_in_for: the standard that this is not, though it is looked at in its place.
        package: whose version is part of the metric.
        files: of the networks it looks with, where it has any.
        revision: of our own code, raised with every change of its values.
    """

    name: str
    label: str
    load: Callable[[str | None], Measure]
    higher_is_better: bool = True
    smallest: int = 1
    stand_in_for: str = ""
    package: str = ""
    files: Callable[[], Sequence["Pretrained"]] = tuple
    revision: int = 1

    def version(self, networks: str | None) -> str:
        """What the values depend on beside the pictures."""
        package = f"{self.package} {importlib.metadata.version(self.package)}" if self.package else "nlaic"
        revision = f" {self.revision}" if self.revision > 1 else ""
        return f"{package}{revision} {_hash(self.name, networks)}".strip()


def psnr(pair: Pair) -> float:
    """dB over all samples of RGB; the field's mean over pictures is that of these values."""
    return _decibels(float(np.mean((pair.decoded.astype(float) - pair.reference) ** 2)))


def psnr_y(pair: Pair) -> float:
    """dB of the luma 0.299 R + 0.587 G + 0.114 B, not rounded."""
    difference = (pair.decoded.astype(float) - pair.reference) @ LUMA
    return _decibels(float(np.mean(difference**2)))


def _decibels(error: float) -> float:
    return min(10 * math.log10(255**2 / error), PSNR_MOST) if error else PSNR_MOST


def chroma_psnr(pair: Pair) -> float:
    """dB over all samples of Cb and Cr, BT.601 in full range: whether colours are kept."""
    to_chroma = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return _decibels(float(np.mean(((pair.decoded.astype(float) - pair.reference) @ to_chroma.T) ** 2)))


def _load_chroma_psnr(networks: str | None) -> Measure:
    return chroma_psnr


def _load_psnr(networks: str | None) -> Measure:
    return psnr


def _load_psnr_y(networks: str | None) -> Measure:
    return psnr_y


def _load_ms_ssim(networks: str | None) -> Measure:
    library = plugin("pytorch_msssim", "pytorch-msssim")

    def measure(pair: Pair) -> float:
        return float(library.ms_ssim(*pair.bytes, data_range=255))

    return measure


def _load_piq(function: str, networks: str | None) -> Measure:
    measured = getattr(plugin("piq", "piq"), function)
    return lambda pair: float(measured(*pair.unit, data_range=1.0))


def _load_ssimulacra2(networks: str | None) -> Measure:
    from nlaic.evaluate.ssimulacra2 import ssimulacra2

    return lambda pair: ssimulacra2(pair.reference, pair.decoded)


def _lpips_files(network: str) -> Sequence["Pretrained"]:
    from nlaic.train.perceptual import lpips_files

    return lpips_files(network)


def _load_lpips(network: str, networks: str | None) -> Measure:
    from nlaic.train.perceptual import load_lpips

    with _network(_lpips_files(network), networks):
        return _without_gradient(load_lpips(network, networks))


def _dists_files(stages: int) -> Sequence["Pretrained"]:
    from nlaic.train.perceptual import dists_files

    return dists_files(stages)


def _load_dists(stages: int, networks: str | None) -> Measure:
    from nlaic.train.perceptual import load_dists

    with _network(_dists_files(stages), networks):
        return _without_gradient(load_dists(stages, networks))


@contextmanager
def _network(files: Sequence["Pretrained"], networks: str | None) -> Iterator[None]:
    """Files that are missing or no good, in the words of an evaluation."""
    from nlaic.train.perceptual import find

    for wanted in files:
        try:
            find(wanted, networks)
        except NlaicError as error:
            where = f"a folder named in ${ENVIRONMENT}, or have {wanted.other}"
            raise MissingError(f"{wanted.file} is missing; put it into {where}") from error
    try:
        yield
    except NlaicError as error:
        raise MissingError(str(error).removeprefix("loss: ")) from error


def _without_gradient(distance: Any) -> Measure:
    import torch

    def measure(pair: Pair) -> float:
        with torch.no_grad():
            return float(distance(*pair.unit))

    return measure


def _load_vmaf(networks: str | None) -> Measure:
    program = ffmpeg()
    if " libvmaf " not in call([program, "-hide_banner", "-filters"]).decode(errors="replace"):
        raise MissingError("the ffmpeg of imageio-ffmpeg has no libvmaf")
    return partial(vmaf, program)


def vmaf(program: str, pair: Pair) -> float:
    """VMAF 0.6.1 of libvmaf, 0..100, on the limited-range BT.709 luma that it is made for."""
    height, width = pair.reference.shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        inputs: list[str] = []
        for name, pixels in (("decoded", pair.decoded), ("reference", pair.reference)):
            Path(folder, name).write_bytes(pixels.tobytes())
            inputs += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", str(Path(folder, name))]
        luma = "scale=out_color_matrix=bt709:out_range=limited:flags=accurate_rnd+full_chroma_int,format=yuv444p"
        log = Path(folder, "log.json")
        graph = f"[0]{luma}[a];[1]{luma}[b];[a][b]libvmaf=log_fmt=json:log_path={log}:n_threads=1"
        call([program, "-hide_banner", "-nostdin", "-loglevel", "error", *inputs, "-lavfi", graph, "-f", "null", "-"])
        return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])


MS_SSIM_SMALLEST = 161  # four halvings leave the 11 pixels of the window
METRICS = {
    row.name: row
    for row in (
        Metric("psnr", "PSNR (dB)", _load_psnr),
        Metric("psnr_y", "PSNR of luma (dB)", _load_psnr_y),
        Metric("psnr_chroma", "PSNR of Cb and Cr (dB)", _load_chroma_psnr),
        Metric("ms_ssim", "MS-SSIM", _load_ms_ssim, smallest=MS_SSIM_SMALLEST, package="pytorch-msssim"),
        *(
            Metric(
                f"lpips_{network}",
                f"LPIPS ({network})",
                partial(_load_lpips, network),
                False,
                32,
                files=partial(_lpips_files, network),
            )
            for network in ("alex", "squeeze", "vgg")
        ),
        Metric("dists", "DISTS", partial(_load_dists, 5), False, 32, files=partial(_dists_files, 5)),
        *(
            Metric(
                f"dists_{k}",
                f"dists_{k} (stand-in)",
                partial(_load_dists, k),
                False,
                32,
                stand_in_for="DISTS",
                files=partial(_dists_files, k),
            )
            for k in (1, 2, 3, 4)
        ),
        Metric("ssimulacra2", "SSIMULACRA2", _load_ssimulacra2, smallest=8),
        Metric("iw_ssim", "IW-SSIM", partial(_load_piq, "information_weighted_ssim"), True, 161, package="piq"),
        Metric("vif", "VIF (pixel domain)", partial(_load_piq, "vif_p"), True, 41, package="piq"),
        Metric("fsim", "FSIMc", partial(_load_piq, "fsim"), True, 32, package="piq"),
        Metric("vmaf", "VMAF", _load_vmaf, smallest=32, package="imageio-ffmpeg"),
    )
}
# What a short name stands for, and what is looked at instead where a standard's network is not at hand.
SHORT = {"lpips": ("lpips_alex",)}
STAND_INS = {"dists": "dists_2"}


@cache
def _hash(name: str, networks: str | None) -> str:
    """First 8 digits of the SHA-256 of a metric's files; empty where it has none."""
    files = METRICS[name].files()
    if not files:
        return ""
    from nlaic.train.perceptual import find

    digest = hashlib.sha256()
    for wanted in files:
        digest.update(find(wanted, networks).read_bytes())
    return digest.hexdigest()[:8]


@lru_cache(maxsize=32)
def load(name: str, networks: str | None) -> Measure:
    """A metric's measure, loaded once a process."""
    return METRICS[name].load(networks)


@dataclass(frozen=True)
class Skipped:
    """Something asked for that was not computed."""

    kind: str
    name: str
    reason: str


def choose(names: Sequence[str], networks: str | None) -> tuple[list[Metric], list[Skipped]]:
    """The metrics asked for that can be had, short names and stand-ins resolved, and those that cannot."""
    chosen: dict[str, Metric] = {}
    skipped: list[Skipped] = []
    for name in (full for short in names for full in SHORT.get(short, (short,))):
        for candidate in filter(None, (name, STAND_INS.get(name))):
            try:
                load(candidate, networks)
            except NlaicError as error:
                skipped.append(Skipped("metric", candidate, str(error)))
            else:
                chosen[candidate] = METRICS[candidate]
                break
    return list(chosen.values()), skipped
