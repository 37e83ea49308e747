"""The files of tests/golden, by this program and by the reference decoder: the symbols they were made of, for good."""

import hashlib
import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nlaic
from nlaic import container
from nlaic.codec import Codec
from nlaic.integer import at_quality
from nlaic.rates import rate_at
from nlaic.resources import resource_folder
from nlaic.tiles import Grid
from nlaic.weights import SUFFIX, Weights, read_weights

HERE = Path(__file__).parent
FOLDER = HERE / "golden"
MODEL = FOLDER / "golden.safetensors"
GOLDEN = json.loads((FOLDER / "golden.json").read_text())
SHIPPED = json.loads((FOLDER / "shipped.json").read_text())
WEIGHTS = sorted(resource_folder("weights").glob(f"*{SUFFIX}"))


@pytest.fixture(scope="module")
def reference():
    """tools/reference_decoder.py as a module."""
    spec = importlib.util.spec_from_file_location("reference_decoder", HERE.parent / "tools" / "reference_decoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def golden() -> Weights:
    return read_weights(MODEL)


def symbols(weights: Weights, data: bytes) -> list:
    """Of every block, by this program; no network is needed."""
    file, codec = container.unpack(data), Codec(weights, engine=None)
    header, rate = file.header, rate_at(weights.tensors, file.header.quality)
    grid = Grid(header.width, header.height, header.block)

    def read(number: int):
        return file.within(number, lambda payload: codec.decode_symbols(payload, rate, *grid.padded_size(number)))

    return [read(number) for number in range(header.blocks)]


def same(ours: list, theirs: list) -> bool:
    return len(ours) == len(theirs) and all(
        np.array_equal(getattr(a, part), getattr(b, part))
        for a, b in zip(ours, theirs, strict=True)
        for part in ("z_hat", "r", "index")
    )


def digests(reference, blocks: list) -> list[str]:
    return [reference.digest(s.z_hat, s.r, s.index) for s in blocks]


def hashes(sections: dict[int, bytes]) -> dict[str, str]:
    return {str(tag): hashlib.sha256(content).hexdigest() for tag, content in sections.items()}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_hold_the_symbols_that_they_were_made_of(reference, golden, name):
    data, facts = (FOLDER / f"{name}.nlaic").read_bytes(), GOLDEN[name]
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    file = container.unpack(data)
    width, height, quality, grey = (facts[part] for part in ("width", "height", "quality", "grey"))
    header = container.Header(width, height, bytes.fromhex(facts["model_id"]), quality, tuple(facts["block"]), grey)
    assert (file.version, file.header, hashes(file.sections)) == (facts["version"], header, facts["sections"])
    assert golden.model_id == header.model_id
    ours = symbols(golden, data)
    assert digests(reference, ours) == facts["blocks"]

    theirs, blocks = reference.decode(data, MODEL.read_bytes())
    assert (theirs.width, theirs.height, theirs.model_id) == (header.width, header.height, header.model_id.hex())
    assert (theirs.quality, theirs.block, theirs.grey) == (header.quality, header.block, header.grey)
    assert theirs.sections == file.sections
    assert same(ours, blocks)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_same_symbols_are_the_same_payload(golden, name):
    data, coder = (FOLDER / f"{name}.nlaic").read_bytes(), golden.entropy_coder()
    file = container.unpack(data)
    z_index = at_quality(golden.tensors["rates.z_index"], file.header.quality)
    for number, s in enumerate(symbols(golden, data)):
        assert coder.encode(s.z_hat, z_index, s.r, s.index) == file.block(number)


def test_together_they_reach_what_a_decoder_may_get_wrong(golden):
    coder = golden.entropy_coder()
    files = {name: (FOLDER / f"{name}.nlaic").read_bytes() for name in GOLDEN}
    blocks = {name: symbols(golden, data) for name, data in files.items()}
    index, r = (
        np.concatenate([getattr(s, k).ravel() for some in blocks.values() for s in some]) for k in ("index", "r")
    )
    assert set(index.tolist()) == set(range(64))
    skipped, at_bound = index < coder.skip, np.abs(r) == coder.y.bounds[index]
    assert skipped.any() and not r[skipped].any()
    assert set(index[at_bound & ~skipped].tolist()) == set(range(coder.skip, 64))
    assert {-1, 1} <= set(np.sign(r[at_bound]).tolist())
    z_clamped = 0
    for name, some in blocks.items():
        bounds = coder.z.bounds[at_quality(golden.tensors["rates.z_index"], GOLDEN[name]["quality"])]
        z_clamped += sum(int((np.abs(s.z_hat) == bounds[:, None, None]).sum()) for s in some)
    assert z_clamped > 20
    headers = [container.unpack(data) for data in files.values()]
    assert {1, 6} <= {file.header.blocks for file in headers}
    assert {container.ICC, container.EXIF, container.XMP, 0x7F} <= set().union(*(file.sections for file in headers))
    assert {0, 1, 1000} <= {file.header.quality for file in headers}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 200_000


def test_levels_are_clipped_at_both_ends_and_rounded_between(golden):
    """Beyond the table indices: what the layers between must reach for a wrong clip or shift to be seen."""
    network = golden.scale_network()
    z_hat = symbols(golden, (FOLDER / "clamped.nlaic").read_bytes())[0].z_hat
    z = z_hat.transpose(1, 2, 0).astype(np.int64)
    level = ((z * at_quality(network.z_multiplier, 1000) + 2**15) >> 16) + 128
    assert level.min() < 0 and level.max() > 255
    values = network.layers[0].requantise(np.clip(level, 0, 255).astype(np.uint8))
    assert values.min() < 0 and values.max() > 255


def with_payload(data: bytes, number: int, payload: bytes) -> bytes:
    file = container.unpack(data)
    blocks = [payload if n == number else file.block(n) for n in range(file.header.blocks)]
    return container.pack(file.header, blocks, file.sections)


def test_both_decoders_refuse_alike(reference, golden):
    """Other symbols, other weights, damage: an error that names the block where it is one's."""
    data = (FOLDER / "blocks.nlaic").read_bytes()
    file = container.unpack(data)
    cases = {
        "block 2": with_payload(data, 2, file.block(2) + bytes(4)),
        "block 3": with_payload(data, 3, file.block(3)[:-4]),
        "block 5": with_payload(data, 5, b""),
        "block 0": container.pack(replace(file.header, quality=778), [file.block(n) for n in range(6)]),
    }
    for name, wrong in cases.items():
        with pytest.raises(nlaic.FormatError, match=rf"^byte \d+: {name} \("):
            symbols(golden, wrong)
        with pytest.raises(reference.DecodeError, match=f"^{name}: "):
            reference.decode(wrong, MODEL.read_bytes())
    other = container.pack(replace(file.header, model_id=b"12345678"), [file.block(n) for n in range(6)])
    with pytest.raises(nlaic.FormatError, match=golden.model_id.hex()):
        Codec(golden, engine=None).decompress(other)
    with pytest.raises(reference.DecodeError, match=golden.model_id.hex()):
        reference.decode(other, MODEL.read_bytes())


@pytest.mark.parametrize("name", ["one-pixel", "sections"])
def test_the_reference_decoder_misses_no_flipped_bit(reference, name):
    data, model = (FOLDER / f"{name}.nlaic").read_bytes(), MODEL.read_bytes()
    places = range(len(data)) if name == "one-pixel" else range(0, len(data), 7)
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(reference.DecodeError):
            reference.decode(bytes(damaged), model)
    for size in range(0, len(data), 5):
        with pytest.raises(reference.DecodeError):
            reference.decode(data[:size], model)


def test_the_reference_decoder_stands_alone():
    text = (HERE.parent / "tools" / "reference_decoder.py").read_text()
    assert len(text.splitlines()) <= 400
    imports = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert not imports & {"torch", "compressai", "safetensors", "nlaic"}


def test_a_photograph_by_the_weights_that_ship(reference, kodak):
    path = next((path for path in WEIGHTS if read_weights(path).encodes), None)
    if path is None:
        pytest.skip("no weights ship with this checkout")
    codec = nlaic.load(str(path), device="cpu", threads=1)
    data = codec.compress(Image.open(kodak[0]), 50, effort=1, block=(512, 256))
    _, blocks = reference.decode(data, path.read_bytes())
    assert same(symbols(codec.weights, data), blocks)


@pytest.mark.parametrize("model_id", SHIPPED)
def test_every_released_model_stays_decodable(reference, model_id, monkeypatch):
    """weights/ holds at least its decoding half, or weights/README.md says which file to bring."""
    facts, data = SHIPPED[model_id], (FOLDER / f"shipped-{model_id}.nlaic").read_bytes()
    path = next((path for path in WEIGHTS if read_weights(path).model_id.hex() == model_id), None)
    if path is None and facts["weights_sha256"] in (resource_folder("weights") / "README.md").read_text():
        pytest.skip(f"weights of model {model_id} are the user's to bring, weights/README.md names them")
    assert path is not None, f"no weights of model {model_id} (not released yet: tools/make_golden.py --shipped)"
    weights = read_weights(path)
    ours, (_, theirs) = symbols(weights, data), reference.decode(data, path.read_bytes())
    assert digests(reference, ours) == facts["blocks"] and same(ours, theirs)
    monkeypatch.syspath_prepend(HERE.parent / "tools")
    from make_golden import synthetic_picture

    picture = np.asarray(nlaic.load(str(path), device="cpu", threads=1).decompress(data), float)
    error = np.mean((picture - synthetic_picture(facts["width"], facts["height"])) ** 2)
    assert 10 * math.log10(255**2 / error) == pytest.approx(facts["psnr"], abs=0.3)


def test_what_ships_has_a_file():
    lacking = [path.name for path in WEIGHTS if read_weights(path).model_id.hex() not in SHIPPED]
    assert not lacking, f"{lacking}: run tools/make_golden.py --shipped"
