"""Weights files: from a name, a path or a model id to what the codec runs on.

A weights file is safetensors, little-endian: u64 length of a JSON header, the header, the tensors' bytes. The header
has `dtype`, `shape` and `data_offsets` (start and end, from the header's end) by name; tensors are row-major;
its `__metadata__` are strings. Tensors:
    g_a.* h_a.* h_s.* context.* g_s.*   the float networks, half precision, named as in `nlaic.nets`
    g_s_perceptual.*   the second decoder, where there is one: tuned for the eye, on the same files
    boundary.*   the filter around block boundaries, where there is one
    discriminator.*   of the adversarial training; not in weights that ship
    scale.{0..3}.{weight,bias,multiplier}   the integer scale network (`nlaic.integer`)
    rates.*      what moves with the quality, in rows at equally spaced qualities
    tables.{y,z}.{frequencies,bounds}   frequency tables (`nlaic.entropy`), uint16 [N] and int32 [64]
    encoder.*    what an encoder alone looks at; of `gain` [5, C] older files have the first row alone, [C]
Without `ENCODING` the file is the decoding half: it decodes every file of its model id and compresses none.
Of codec 1 the symbols depend on these alone, [R, ...] with a row a quality, C channels of y, Cz of z:
    scale.n.weight int8 [O, I, k, k], scale.n.bias and scale.n.multiplier int32 [O]; k = 3, 1, 3, 1 for n = 0..3;
    I = Cz at first and O = C at last, O of scale.1 is 16 times I of scale.2
    rates.z_multiplier int32 [R, Cz], rates.offset int32 [R, C], rates.z_index uint8 [R, Cz], the tables, `skip`
Float32 are rates.log_step [R, C] and log_z_step [R, Cz], and of the encoder z_mean [R, Cz], log_lambda [R, 1] and gain.
Metadata: `codec`, `architecture` (light | nlaic), `settings` (JSON), `skip` (a decimal number, 0..64), and what there
is to know about their training.

The codec id says how a payload becomes symbols. Ids: 1, the one of `nlaic.entropy` and `nlaic.integer`; weights without
one are of codec 1. A new entropy path is a new id; the code of every released one stays, and a program refuses weights
of one that it does not know.

The model id is the first 8 bytes of the SHA-256 over everything that y_hat depends on, so a decoder tuned later keeps
it. What is hashed, one after the other, all text in UTF-8: `skip` as it stands in the metadata; for codecs other than 1
a space and the codec id; then for every tensor, in the order of their names' code points, a text and its bytes as
stored. The text is `name type shape` with one space between, type |i1 |u1 <u2 <i4 <f2 <f4 for I8 U8 U16 I32 F16 F32:
    rates.offset <i4 (21, 320)      scale.0.bias <i4 (224,)
Left out are tensors that begin with: g_a. h_a. g_s. g_s_perceptual. boundary. discriminator. encoder. (`NOT_IN_ID`,
which stays as it is for every codec).

The picture is made of the symbols in floats, which is not normative to the bit. step = exp(`rates.log_step`) and z_step
= exp(`rates.log_z_step`), linear between their rows; mean = h_s(z_hat * z_step), then refined at every second position
by the context; y_hat = (r + mean) * step; pixels = 255 * g_s(y_hat), rounded, clipped, cut to the block. The networks
are `nlaic.nets`; `nlaic.seams` may smooth between blocks.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nlaic.entropy import EntropyCoder, Tables
from nlaic.errors import NlaicError
from nlaic.integer import INDICES, IntegerLayer, IntegerScaleNetwork
from nlaic.resources import resource_folder
from nlaic.tensors import check_codec, check_networks

SUFFIX = ".safetensors"
FILTERS = "filters"  # a folder beside weights, for those of filters (`nlaic.classic.weights`)
ENVIRONMENT = "NLAIC_WEIGHTS"
# Prefixes of tensors that y_hat does not depend on, and of those that no decoder looks at.
NOT_IN_ID = ("g_a.", "h_a.", "g_s.", "g_s_perceptual.", "boundary.", "discriminator.", "encoder.")
ENCODING = ("g_a.", "h_a.", "encoder.", "discriminator.")

CODECS = ("1",)  # ids of the codecs that this program decodes
FILTER = "filter"  # in the place of one, in weights of filters

# SHA-256 of the files that come with the package, by file name: weights of codecs, of filters (`nlaic.classic.weights`)
# and of the JPEG encoder (`nlaic.classic.jpeg.model`), and ONNX graphs (`nlaic.graphs`).
PINNED: dict[str, str] = {
    "jpeg-b5db40bc.safetensors": "b5db40bc7958ba42dbc4c73fc288f15efa25a8d36ef87cf8428f78281ae4a85d",
    "light-2b8264ba.safetensors": "2b8264bad72dfc734918d4dcbbeff4f43dd9356773b78b1372ae4b8a34084265",
    "light-2b8264ba.onnx.zip": "d48c1923231ca58e04a6f41f0af02736d8124c92b1ec0de70469904f1c701ec2",
    "restore-light-heic-3d87abc8.safetensors": "3d87abc88187080ee63e9587ccf85f3ef2266c9453ca1b3553265ba179cee62f",
    "restore-light-heic-3d87abc8.onnx.zip": "9342f6dee61598637b6098a70c5de4dec3ad927e53bc84914defe41c6bdb3d3c",
    "restore-light-jpeg-bd95113a.safetensors": "bd95113a48796c51e649384265d37fcea26dbc66a5bf6e7824be1638b401f6b6",
    "restore-light-jpeg-bd95113a.onnx.zip": "ac7da247bd2240a6889c0fed8405bb1c9d8d3d00282ee9a4467b2050a55a2fbf",
    "restore-light-webp-f6d511c1.safetensors": "f6d511c1c20a9639dce54660b7cd19076c1a4843b6da144a65386622895268b9",
    "svac2-avs2-2fc478ee.safetensors": "2fc478ee591a1cdda2181d72d791d7787cd3ee8c62ba71e3261a69384eef01e3",
    "svac2-heic-c6b5387c.safetensors": "c6b5387c7545abcf1fa10438fb884936622b02ee10ec6664cf24f35eb532fc8c",
    "svac2-jpeg-68dac1a8.onnx.zip": "01af19fdfa6a8a533d74861f1abb4a739b6e6fb8cbb95975d8008b51894e3028",
    "svac2-jpeg-68dac1a8.safetensors": "68dac1a82bfa4bf2e9851a4c92c0acf7123d1124b83e120cbf27e21f41fa6a6f",
}


@dataclass(frozen=True)
class Weights:
    """The contents of one weights file.

    Attributes:
        tensors: by name, as stored.
        metadata: strings by name.
        path: where it was read from, for messages.
    """

    tensors: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]
    path: Path | None = None

    @property
    def architecture(self) -> str:
        """Name of the network, as in `nlaic.nets`."""
        return self.metadata["architecture"]

    @property
    def codec(self) -> str:
        """Id of the entropy path."""
        return self.metadata.get("codec", CODECS[0])

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the network."""
        return dict(json.loads(self.metadata["settings"]))

    @cached_property
    def model_id(self) -> bytes:
        """8 bytes that a file names the weights by."""
        codec = "" if self.codec == CODECS[0] else f" {self.codec}"
        digest = hashlib.sha256(f"{self.metadata['skip']}{codec}".encode())
        for name in sorted(self.tensors):
            if not name.startswith(NOT_IN_ID):
                tensor = np.asarray(self.tensors[name])
                tensor = tensor.astype(tensor.dtype.newbyteorder("<"), order="C", copy=False)
                digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
                digest.update(tensor.tobytes())
        return digest.digest()[:8]

    def scale_network(self) -> IntegerScaleNetwork:
        """The exact scale network.

        Raises:
            NlaicError: see `check_codec`.
        """
        self.check_codec()
        t = self.tensors
        first, second, third, last = (
            IntegerLayer(*(t[f"scale.{n}.{part}"] for part in ("weight", "bias", "multiplier"))) for n in range(4)
        )
        return IntegerScaleNetwork((first, second, third, last), t["rates.z_multiplier"], t["rates.offset"])

    def entropy_coder(self) -> EntropyCoder:
        """The coder with its tables; raises as `scale_network` does."""
        self.check_codec()
        y, z = (Tables(self.tensors[f"tables.{k}.frequencies"], self.tensors[f"tables.{k}.bounds"]) for k in "yz")
        return EntropyCoder(y, z, int(self.metadata["skip"]))

    @property
    def encodes(self) -> bool:
        """Whether they hold more than the decoding half."""
        return any(name.startswith("g_a.") for name in self.tensors)

    def decoding_half(self) -> "Weights":
        """Without what only an encoder needs; of the same model id."""
        kept = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(ENCODING)}
        return Weights(kept, self.metadata)

    def check_codec(self) -> None:
        """Refuse weights of a filter or of a codec not known here, and tensors that are not what this one's must be."""
        if self.codec == FILTER:
            raise NlaicError(f"weights {self.path}: those of a filter ({self.architecture}), not of a codec like light")
        if self.codec not in CODECS:
            known = ", ".join(CODECS)
            raise NlaicError(
                f"weights {self.path}: of codec {self.codec!r}, this program decodes {known}: a newer one is needed"
            )
        if self.metadata["skip"] not in map(str, range(INDICES + 1)):
            raise NlaicError(f"weights {self.path}: skip must be 0..{INDICES}, but is {self.metadata['skip'][:20]!r}")
        check_codec(self.tensors, self.encodes, self.path)

    def check_networks(self) -> None:
        """Refuse networks that are not in finite half-precision numbers, and a second decoder unlike the first."""
        check_networks(self.tensors, self.path)

    def to_bytes(self) -> bytes:
        """The file: the same bytes for the same contents."""
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(self.tensors.items())}
        return _in_order(save(tensors, {k: str(v) for k, v in self.metadata.items()}))


def _in_order(data: bytes) -> bytes:
    """A safetensors file with the keys of its header sorted; the library writes those of the metadata in any order."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = header.encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@contextmanager
def damage_told(path: Path | None) -> Iterator[None]:
    """Tell as an NlaicError what making something of weights raises that lack a part."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NlaicError(f"weights {path}: incomplete or damaged ({type(error).__name__}: {error})") from error


def read_checked(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        NlaicError: if it is missing, or one of the package's with a wrong hash.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NlaicError(f"weights {path}: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if (expected := PINNED.get(path.name, digest)) != digest:
        raise NlaicError(f"weights {path}: SHA-256 is {digest[:16]}…, expected {expected[:16]}…")
    return data


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name and metadata of a safetensors file.

    Raises:
        NlaicError: if it is missing, not such a file, or one of the package's with a wrong hash.
    """
    if path.name in PINNED:
        read_checked(path)
    try:
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise NlaicError(f"weights {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise NlaicError(f"weights {path}: not a safetensors file ({error})") from error
    except (AttributeError, TypeError, ValueError) as error:  # bfloat16 and others that NumPy does not have
        raise NlaicError(f"weights {path}: not made by nlaic ({error})") from error


def read_weights(path: Path) -> Weights:
    """Read a weights file.

    Raises:
        NlaicError: if it is missing, not a weights file, or one of the package's with a wrong hash.
    """
    tensors, metadata = read_tensors(path)
    if missing := {"architecture", "settings", "skip"} - set(metadata):
        raise NlaicError(f"weights {path}: not made by nlaic, metadata lacks {', '.join(sorted(missing))}")
    return Weights(tensors, metadata, path)


def weights_folders() -> list[Path]:
    """Where weights are looked for, in order."""
    given = [Path(p) for p in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if p]
    return [*given, user_folder("data") / "weights", resource_folder("weights")]


def files_in(folder: Path, suffix: str) -> Iterator[Path]:
    """Regular files that end so, by name; none where there is no such folder. A pipe would be waited for."""
    return filter(Path.is_file, sorted(folder.glob(f"*{suffix}")) if folder.is_dir() else ())


def _candidates() -> Iterator[Path]:
    for place in weights_folders():
        yield from (place,) if place.is_file() else files_in(place, SUFFIX)


def find_weights(name: str | Path) -> Weights:
    """Weights by path, or by name: `light` is the first file `light-*.safetensors` of the places looked at.

    A name goes before a file that is called so; that one is `./light`, or a `Path`.

    Raises:
        NlaicError: if there are none, or a file is not what it must be.
    """
    return read_weights(locate_weights(name))


def locate_weights(name: str | Path) -> Path:
    """The file that `find_weights` reads."""
    if not isinstance(name, (str, Path)):
        raise NlaicError(f"weights are named by a str or a Path, but got {name!r}")
    path = Path(name)
    if path.suffix == SUFFIX or (isinstance(name, Path) and path.is_file()):
        return path
    for candidate in _candidates():
        if str(name) in (candidate.stem.rpartition("-")[0], candidate.stem):
            return candidate
    with suppress(OSError):  # names that no file can have
        if path.is_file():
            return path
    raise NlaicError(f"no weights named {str(name)!r} in {_places()}; a path to a {SUFFIX} file will do too")


def find_by_model_id(model_id: bytes) -> Weights:
    """The weights that a file names, among those that can be read."""
    unread = []
    for candidate in _candidates():
        try:
            weights = read_weights(candidate)
        except NlaicError as error:
            unread.append(f" ({error})")
            continue
        if weights.model_id == model_id:
            return weights
    raise NlaicError(
        f"no weights with model id {model_id.hex()} in {_places()}; name their file with --model{''.join(unread)}"
    )


def _places() -> str:
    return ", ".join(str(place) for place in weights_folders())


def user_folder(kind: str) -> Path:
    """The user's folder for this program's `data` or `cache`, where the system keeps such."""
    import platformdirs

    folder = {"data": platformdirs.user_data_dir, "cache": platformdirs.user_cache_dir}[kind]
    return Path(folder("nlaic", appauthor=False))
