"""One point: a picture through a codec at a setting, as a file, and what the metrics say. Runs in worker processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from time import perf_counter

import numpy as np

from nlaic.errors import NlaicError
from nlaic.evaluate import fid, inception
from nlaic.evaluate.codecs import Coder, parse
from nlaic.evaluate.metrics import METRICS, Pair, load
from nlaic.evaluate.store import Entry, Store, as_image, digest, read_pixels, replace
from nlaic.whole import replacing


@dataclass(frozen=True)
class Picture:
    """A picture of the set."""

    name: str
    path: Path
    width: int
    height: int
    sha256: str  # of its pixels

    @property
    def pixels(self) -> int:
        """How many."""
        return self.width * self.height


@dataclass(frozen=True)
class PointTask:
    """What to measure."""

    picture: Picture
    codec: str
    setting: float
    metrics: tuple[str, ...]
    store: Path
    networks: str | None


@dataclass(frozen=True)
class Point:
    """What was measured.

    Attributes:
        codec: as the user named it.
        setting: of the codec.
        picture: its name.
        bytes: of the file.
        bpp: bits a pixel.
        encode_s: seconds to encode.
        decode_s: seconds to decode.
        decoded: SHA-256 of the decoded pixels.
        metrics: by name; None where the picture is too small for one, or it failed.
        failed: by the name of a metric the reason why.
    """

    codec: str
    setting: float
    picture: str
    bytes: int
    bpp: float
    encode_s: float
    decode_s: float
    decoded: str
    metrics: Mapping[str, float | None] = field(default_factory=dict, hash=False)
    failed: Mapping[str, str] = field(default_factory=dict, hash=False)


@cache
def coder(codec: str) -> Coder:
    """A codec, opened once a process."""
    return parse(codec).open()


def settings_of(codec: str) -> Sequence[float]:
    """The sweep of a codec: that of its row, or what the weights that were opened say."""
    return getattr(coder(codec), "settings", None) or parse(codec).codec.settings


@lru_cache(maxsize=2)
def pixels(path: Path) -> np.ndarray:
    """The last pictures read: tasks come picture by picture."""
    return read_pixels(path)


def entry_of(task: PointTask) -> Entry:
    """Where the point is kept."""
    return Store(task.store).entry(task.picture.sha256, task.codec, coder(task.codec).version, task.setting)


def encode(task: PointTask) -> tuple[Entry, float]:
    """The point's file, made now or before, and the seconds that it took."""
    entry = entry_of(task)
    record = entry.read()
    if record is not None:
        return entry, record["encode_s"]
    image = as_image(pixels(task.picture.path))
    begin = perf_counter()
    data = coder(task.codec).encode(image, task.setting)
    seconds = perf_counter() - begin
    replace(entry.file, data)
    return entry, seconds


def decode(task: PointTask, entry: Entry) -> tuple[np.ndarray, float]:
    """The picture in the point's file, uint8 [H, W, 3], and the seconds that it took.

    Raises:
        NlaicError: if it is not RGB, or has another size than the original.
    """
    data = entry.file.read_bytes()
    begin = perf_counter()
    image = coder(task.codec).decode(data)
    decoded = np.asarray(image)
    seconds = perf_counter() - begin
    if (image.mode, image.size) != ("RGB", (task.picture.width, task.picture.height)):
        raise NlaicError(
            f"{task.codec} decoded {image.width}x{image.height} pixels of mode {image.mode}: "
            f"the picture has {task.picture.width}x{task.picture.height} of mode RGB"
        )
    return decoded, seconds


def measure(task: PointTask) -> Point:
    """Encode, decode and measure, or as much of it as was not done before."""
    versions = {name: METRICS[name].version(task.networks) for name in task.metrics}
    record = entry_of(task).read() or {}
    known = {
        name: kept["value"] for name, kept in record.get("metrics", {}).items() if kept["by"] == versions.get(name)
    }
    failed: dict[str, str] = {}
    if not record or known.keys() != versions.keys():
        entry, encode_s = encode(task)
        decoded, decode_s = decode(task, entry)
        pair = Pair(pixels(task.picture.path), decoded)
        for name in versions.keys() - known.keys():
            try:
                known[name] = _value(name, task, pair)
            except Exception as error:  # whatever a library raises is the reason of this one value
                failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        kept = record.get("metrics", {}) | {name: {"value": v, "by": versions[name]} for name, v in known.items()}
        record = {
            "bytes": entry.file.stat().st_size,
            "encode_s": encode_s,
            "decode_s": record.get("decode_s", decode_s),
            "decoded": digest(decoded),
            "metrics": kept,
        }
        entry.write(record)
    size = record["bytes"]
    return Point(
        task.codec,
        task.setting,
        task.picture.name,
        size,
        8 * size / task.picture.pixels,
        record["encode_s"],
        record["decode_s"],
        record["decoded"],
        {name: known.get(name) for name in task.metrics},
        failed,
    )


def _value(name: str, task: PointTask, pair: Pair) -> float | None:
    if min(task.picture.width, task.picture.height) < METRICS[name].smallest:
        return None
    value = load(name, task.networks)(pair)
    if not np.isfinite(value):
        raise ArithmeticError(f"the value is {value}")
    return value


@dataclass(frozen=True)
class FeatureTask:
    """Features of a decoded picture (or of the original, where there is no point) for a distance between sets."""

    picture: Picture
    metric: str
    store: Path
    networks: str | None
    point: PointTask | None = None
    decoded: str = ""


def features(task: FeatureTask) -> Path:
    """The file of the features [N, dims], made now or before."""
    row = fid.SET_METRICS[task.metric]
    network = inception.load(row.dims, task.networks)
    sha256 = task.decoded if task.point else task.picture.sha256
    path = Store(task.store).features(sha256, network.name, row.patches.__name__)
    if path.is_file():
        return path
    if task.point:
        picture, _ = decode(task.point, entry_of(task.point))
    else:
        picture = pixels(task.picture.path)
    patches = row.patches(picture)
    parts = [network.features(np.stack(patches[n : n + 8])) for n in range(0, len(patches), 8)]
    values = np.concatenate(parts) if parts else np.empty((0, row.dims), np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as stream:
        np.save(stream, values)
    return path
