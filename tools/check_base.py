"""Run by tools/check_wheel.sh in an environment that holds nlaic and what it requires, from an empty folder.

    python check_base.py CHECKOUT

Compresses, decompresses and tells with the shipped weights, decodes the golden files to their symbols, and sees that
what needs more says so in one line. CHECKOUT is looked at for tests/golden and tools/reference_decoder.py alone.
"""

import hashlib
import importlib.util
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import nlaic
from nlaic import container
from nlaic.codec import Codec
from nlaic.rates import rate_at
from nlaic.tiles import Grid
from nlaic.weights import find_by_model_id, read_weights

ABSENT = ("torch", "torchvision", "compressai", "onnx", "pytorch_lightning", "hydra")
SIZE = (700, 450)
EXTRAS = {  # a command that needs more, and the extra that it must name
    "nlaic-compress picture.png -e 9 -o nine.nlaic": "nlaic[torch]",
    "nlaic-compress picture.png --engine torch -o torch.nlaic": "nlaic[torch]",
    "nlaic-export light -o graphs.zip": "nlaic[export]",
    "nlaic-train data.root=.": "nlaic[train]",
    "nlaic-evaluate data.root=.": "nlaic[eval]",
}


def command(line: str) -> subprocess.CompletedProcess[str]:
    name, *words = line.split()
    return subprocess.run([Path(sys.executable).with_name(name), *words], capture_output=True, text=True, check=False)


def done(line: str) -> str:
    result = command(line)
    print(result.stdout + result.stderr, end="")
    assert result.returncode == 0, f"{line}: exit status {result.returncode}"
    return result.stdout


def psnr(a: Image.Image, b: Image.Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)))


def commands() -> None:
    """There and back by the console scripts, in blocks so that there are seams to filter."""
    picture = Image.effect_mandelbrot(SIZE, (-2, -1.2, 1, 1.2), 60).convert("RGB")
    picture.save("picture.png")
    picture.save("picture.jpg", quality=30)
    done("nlaic-compress picture.png -q 60 --block 320x256")
    facts = json.loads(done("nlaic-info --json picture.nlaic"))[0]
    assert (facts["width"], facts["height"], facts["blocks"]) == (*SIZE, 6)
    done("nlaic-decompress picture.nlaic -o back.png")
    assert psnr(Image.open("back.png"), picture) > 25
    done("nlaic-compress picture.png --bytes 9000 -o fits.nlaic")
    assert 8500 < Path("fits.nlaic").stat().st_size <= 9000
    done("nlaic-jpeg picture.png -q 40 -o small.jpg")
    assert Path("small.jpg").stat().st_size < Path("picture.jpg").stat().st_size
    done("nlaic-restore picture.jpg -o restored.png")
    assert psnr(Image.open("restored.png"), picture) > psnr(Image.open("picture.jpg"), picture) + 0.2
    for line, extra in EXTRAS.items():
        result = command(line)
        assert result.returncode != 0 and extra in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert not [path for name in ("nine", "torch", "graphs") for path in Path().glob(f"{name}*")]


def library() -> None:
    """Pillow opens and saves."""
    picture = Image.open("picture.png").convert("RGBA")
    picture.putalpha(picture.getchannel("R"))
    picture.save("saved.nlaic", quality=30)
    back = Image.open("saved.nlaic")
    assert back.size == SIZE and back.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


def golden(checkout: Path) -> None:
    """Every file of tests/golden, by the weights there or the shipped ones."""
    spec = importlib.util.spec_from_file_location("reference_decoder", checkout / "tools" / "reference_decoder.py")
    assert spec and spec.loader
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    folder = checkout / "tests" / "golden"
    small = read_weights(folder / "golden.safetensors")
    listed = {name: (small, facts) for name, facts in json.loads((folder / "golden.json").read_text()).items()}
    for model_id, facts in json.loads((folder / "shipped.json").read_text()).items():
        listed[f"shipped-{model_id}"] = find_by_model_id(bytes.fromhex(model_id)), facts
    for name, (weights, facts) in listed.items():
        data = (folder / f"{name}.nlaic").read_bytes()
        assert hashlib.sha256(data).hexdigest() == facts["sha256"]
        assert symbols(weights, data, reference) == facts["blocks"], name
    print(f"{len(listed)} golden files hold their symbols")


def symbols(weights: Any, data: bytes, reference: Any) -> list[str]:
    file, codec = container.unpack(data), Codec(weights, engine=None)  # type: ignore[arg-type]
    header, rate = file.header, rate_at(weights.tensors, file.header.quality)
    grid = Grid(header.width, header.height, header.block)
    found = [codec.decode_symbols(file.block(n), rate, *grid.padded_size(n)) for n in range(header.blocks)]
    return [reference.digest(s.z_hat, s.r, s.index) for s in found]


def main() -> None:
    there = [name for name in ABSENT if importlib.util.find_spec(name)]
    assert not there, f"installed: {', '.join(there)}"
    commands()
    library()
    golden(Path(sys.argv[1]))
    loaded = [name for name in ABSENT if name in sys.modules]
    assert not loaded
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, ONNX Runtime {version('onnxruntime')}")
    print(f"nlaic {nlaic.__version__} works without torch, in {Path(nlaic.__file__).parent}")


main()
