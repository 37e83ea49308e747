"""Makes the files under tests/golden, by which any decoder of the format can be tried.

    python tools/make_golden.py             # the model of random integers and its files
    python tools/make_golden.py --shipped   # the file of the weights in weights/, as they are now

The model holds the exact part alone (no networks), so its files have symbols and no picture. What they reach together:
all 64 table indices, clipped at both ends; symbols that are skipped, symbols at the bounds of their tables; qualities
on and between the rows; one block and several, cut ones too; every kind of section and one unknown; grey.

`golden.json` and `shipped.json` say of each file what its header holds and the SHA-256 of its sections and of the
symbols of its blocks (`digest` of tools/reference_decoder.py). The format being frozen, files may be added, but those
that are there must not change. `--shipped` keeps what is marked `"released": true` and replaces what is not.
"""

import argparse
import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from reference_decoder import digest

from nlaic.container import ALPHA, EXIF, ICC, XMP, Container, Header, pack, unpack
from nlaic.entropy import EntropyCoder, gaussian_mass, logistic_mass, make_tables
from nlaic.integer import at_quality
from nlaic.resources import resource_folder
from nlaic.tiles import MULTIPLE, Grid
from nlaic.weights import SUFFIX, Weights, read_weights

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "golden"
MODEL = "golden.safetensors"
CHANNELS, Z_CHANNELS, WIDE, LOW, HIGH = 64, 12, 16, 3, 10  # of y, of z, after the three layers between
ROWS = 5
SKIP = 5
SCALES = 0.1 * 1000 ** (np.arange(64) / 63)
SEED = 20261121


@dataclass(frozen=True)
class Plan:
    """One golden file.

    Attributes:
        size: (width, height) of the picture.
        quality: 0..1000.
        block: (width, height).
        clamped: share of the symbols that are put at a bound.
        grey: the flag.
        sections: by tag.
    """

    size: tuple[int, int]
    quality: int
    block: tuple[int, int] = (2048, 1024)
    clamped: float = 0.02
    grey: bool = False
    sections: tuple[tuple[int, bytes], ...] = ()


def alpha_plane(width: int, height: int) -> bytes:
    """A ramp as a PNG, packed without compression: the same bytes wherever it is made."""
    rows = b"".join(bytes([0, *(4 * (x + y) % 256 for x in range(width))]) for y in range(height))
    parts = (
        (b"IHDR", struct.pack(">II5B", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 0)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(p)) + kind + p + struct.pack(">I", zlib.crc32(kind + p)) for kind, p in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


PLANS = {
    "one-pixel": Plan((1, 1), 0),
    "one-block": Plan((150, 70), 500),
    "between-rows": Plan((64, 128), 333, (64, 128)),
    "blocks": Plan((200, 140), 777, (128, 64)),
    "clamped": Plan((65, 64), 1000, clamped=0.9),
    "sections": Plan(
        (64, 64), 1, sections=((ICC, b"not a profile"), (EXIF, b""), (XMP, b"<xmp/>" * 40), (0x7F, bytes(range(256))))
    ),
    "grey-alpha": Plan((70, 64), 250, grey=True, sections=((ALPHA, alpha_plane(70, 64)),)),
}


def layer(rng: np.random.Generator, outputs: int, inputs: int, kernel: int, spread: float) -> dict[str, np.ndarray]:
    """A layer whose outputs spread so many levels around the middle for inputs that do, some beyond 0 and 255."""
    weight = rng.integers(-127, 128, (outputs, inputs, kernel, kernel))
    weight[0] = 127 * np.sign(weight[0])
    step = spread / (73 * (inputs * kernel * kernel) ** 0.5 * 60)
    bias = np.rint(rng.normal(128, 20, outputs) / step - 128 * weight.sum((1, 2, 3)))
    return {
        "weight": weight.astype(np.int8),
        "bias": bias.astype(np.int32),
        "multiplier": np.full(outputs, step * 2**24).astype(np.int32) + np.arange(outputs, dtype=np.int32),
    }


def golden_model() -> Weights:
    """Random integers; the index of channel c of y is about c, a few around it, and beyond both ends."""
    rng = np.random.default_rng(SEED)
    layers = (
        layer(rng, WIDE, Z_CHANNELS, 3, 70),
        layer(rng, 16 * LOW, WIDE, 1, 70),
        layer(rng, HIGH, LOW, 3, 70),
        layer(rng, CHANNELS, HIGH, 1, 4),
    )
    # The last layer adds up to an index, not to levels: its bias leaves the middle of its inputs at 0.
    layers[3]["bias"] = (-128 * layers[3]["weight"].astype(np.int32).sum((1, 2, 3))).astype(np.int32)
    tensors = {f"scale.{n}.{part}": values for n, parts in enumerate(layers) for part, values in parts.items()}
    offset = 256 * np.arange(CHANNELS) + rng.integers(-700, 700, (ROWS, CHANNELS))
    rates = {
        "log_step": rng.normal(-3, 1, (ROWS, CHANNELS)).astype(np.float32),
        "log_z_step": rng.normal(0, 0.3, (ROWS, Z_CHANNELS)).astype(np.float32),
        "z_multiplier": rng.integers(2**17, 2**21, (ROWS, Z_CHANNELS)).astype(np.int32),
        "z_index": np.clip(5 * np.arange(Z_CHANNELS) + rng.integers(-5, 9, (ROWS, Z_CHANNELS)), 0, 63).astype(np.uint8),
        "offset": offset.astype(np.int32),
    }
    tensors |= {f"rates.{name}": rows for name, rows in rates.items()}
    for kind, mass in (("y", gaussian_mass), ("z", logistic_mass)):
        tables = make_tables(SCALES, mass, 8)
        tensors |= {f"tables.{kind}.frequencies": tables.frequencies, f"tables.{kind}.bounds": tables.bounds}
    about = "random integers, the exact part alone: to try decoders on, tools/make_golden.py"
    return Weights(tensors, {"codec": "1", "architecture": "none", "settings": "{}", "skip": str(SKIP), "about": about})


def drawn(rng: np.random.Generator, scales: np.ndarray, bounds: np.ndarray, clamped: float) -> np.ndarray:
    """Symbols of these scales within these bounds, a share of them at a bound."""
    values = np.clip(np.rint(rng.normal(size=scales.shape) * scales), -bounds, bounds)
    ends = np.where(rng.random(scales.shape) < 0.5, -bounds, bounds)
    return np.where(rng.random(scales.shape) < clamped, ends, values).astype(np.int32)


def golden_file(weights: Weights, plan: Plan, rng: np.random.Generator) -> bytes:
    """A file of random symbols."""
    coder, network = weights.entropy_coder(), weights.scale_network()
    grid, payloads = Grid(*plan.size, plan.block), []
    z_index = at_quality(weights.tensors["rates.z_index"], plan.quality)
    for number in range(grid.rows * grid.columns):
        height, width = grid.padded_size(number)
        shape = Z_CHANNELS, height // MULTIPLE, width // MULTIPLE
        tables = np.broadcast_to(z_index[:, None, None], shape)
        z_hat = drawn(rng, np.minimum(SCALES[tables], 6), coder.z.bounds[tables], plan.clamped)
        index = network.indices(z_hat, plan.quality)
        r = drawn(rng, SCALES[index], coder.coded_bounds[index], plan.clamped)
        payloads.append(coder.encode(z_hat, z_index, r, index))
    header = Header(*plan.size, weights.model_id, plan.quality, plan.block, plan.grey)
    return pack(header, payloads, dict(plan.sections))


def block_digests(coder: EntropyCoder, weights: Weights, file: Container) -> list[str]:
    """Of the symbols of each block, by this program."""
    header, network, digests = file.header, weights.scale_network(), []
    grid = Grid(header.width, header.height, header.block)
    z_index = at_quality(weights.tensors["rates.z_index"], header.quality)
    channels = weights.tensors["rates.offset"].shape[1]
    for number in range(header.blocks):
        height, width = grid.padded_size(number)
        shape = len(z_index), height // MULTIPLE, width // MULTIPLE
        half_way = coder.decode_z(file.block(number), z_index, shape, channels * height * width // 256)
        index = network.indices(half_way.z_hat, header.quality)
        digests.append(digest(half_way.z_hat, half_way.decode_y(index), index))
    return digests


def facts(weights: Weights, data: bytes) -> dict[str, object]:
    """What a decoder must find in a file."""
    file = unpack(data)
    header = file.header
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "version": file.version,
        "width": header.width,
        "height": header.height,
        "model_id": header.model_id.hex(),
        "quality": header.quality,
        "block": list(header.block),
        "grey": header.grey,
        "sections": {str(tag): hashlib.sha256(content).hexdigest() for tag, content in file.sections.items()},
        "blocks": block_digests(weights.entropy_coder(), weights, file),
    }


def make_golden() -> None:
    weights, found = golden_model(), {}
    (FOLDER / MODEL).write_bytes(weights.to_bytes())
    for number, (name, plan) in enumerate(PLANS.items()):
        data = golden_file(weights, plan, np.random.default_rng([SEED, number]))
        (FOLDER / f"{name}.nlaic").write_bytes(data)
        found[name] = facts(weights, data)
    write("golden.json", found)


def synthetic_picture(width: int = 128, height: int = 96) -> np.ndarray:
    """Waves, an edge and a little noise in integers, uint8 [h, w, 3]: the same everywhere."""
    y, x = np.mgrid[:height, :width]
    wave = np.abs((x * (3 + y // 16)) % 128 - 64) + np.abs((y * 5 + x) % 90 - 45)
    noise = (x * 7919 + y * 104729 + x * y * 31) % 23
    edge = np.where(2 * x > width + y, 60, 0)
    return np.stack([40 + wave + edge, 30 + wave // 2 + 2 * edge + noise, 150 - wave + noise], 2).astype(np.uint8)


def shipped_file(path: Path, quality: float = 40) -> tuple[bytes, dict[str, object]]:
    """A small picture by the weights of a file, and what there is to say of it."""
    from PIL import Image

    import nlaic

    picture = synthetic_picture()
    codec = nlaic.load(str(path), device="cpu", threads=1, precision="fp32")
    data = codec.compress(Image.fromarray(picture), quality)
    error = np.asarray(codec.decompress(data)).astype(float) - picture
    psnr = round(float(10 * np.log10(255**2 / np.mean(error**2))), 2)
    about = {"weights": path.name, "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "psnr": psnr}
    return data, {"released": False} | about | facts(codec.weights, data)


def make_shipped() -> None:
    found = {name: entry for name, entry in read("shipped.json").items() if entry["released"]}
    for path in sorted(resource_folder("weights").glob(f"*{SUFFIX}")):
        weights = read_weights(path)
        name = weights.model_id.hex()
        if weights.encodes and name not in found:
            data, found[name] = shipped_file(path)
            (FOLDER / f"shipped-{name}.nlaic").write_bytes(data)
    for path in FOLDER.glob("shipped-*.nlaic"):
        if path.stem.removeprefix("shipped-") not in found:
            path.unlink()
    write("shipped.json", found)


def read(name: str) -> dict[str, dict]:
    path = FOLDER / name
    return json.loads(path.read_text()) if path.is_file() else {}


def write(name: str, found: dict[str, dict]) -> None:
    (FOLDER / name).write_text(json.dumps(found, indent=1) + "\n")
    for key, entry in found.items():
        print(f"{key}: {entry['width']}x{entry['height']}, {len(entry['blocks'])} blocks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shipped", action="store_true", help="the file of the weights in weights/ instead")
    FOLDER.mkdir(exist_ok=True)
    make_shipped() if parser.parse_args().shipped else make_golden()


if __name__ == "__main__":
    main()
