"""The entropy decoder under AddressSanitizer: hostile payloads under checksums that are right.

    pip download --no-deps --no-binary compressai compressai==1.2.8 -d FOLDER
    python tools/asan.py FOLDER/compressai-1.2.8.tar.gz [--count 20000] [--show]

Builds compressai's rANS extension alone from its source distribution, with g++ and -fsanitize=address (asserts left
out, as in its releases), and decodes random, empty, all-zero, truncated and lengthened payloads by `nlaic.entropy`.
--show decodes a payload without nlaic's padding and checks instead: the sanitizer must stop that, or it sees nothing.
Needs pybind11.
"""

import argparse
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

INSIDE = "NLAIC_ASAN_EXTENSION"


def build(archive: Path, folder: Path) -> Path:
    """The extension, instrumented."""
    import pybind11

    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.glob("compressai-*")
    rans, target = source / "compressai/cpp_exts/rans", folder / f"ans{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    headers = [rans, source / "third_party/ryg_rans", pybind11.get_include(), sysconfig.get_path("include")]
    command = ["g++", "-shared", "-fPIC", "-std=c++17", "-O1", "-g", "-DNDEBUG", "-fsanitize=address"]
    command += [f"-I{header}" for header in headers]
    subprocess.run([*command, rans / "rans_interface.cpp", "-o", target], check=True)
    return target


def use(extension: str) -> None:
    """Take it in the place of the installed one."""
    spec = importlib.util.spec_from_file_location("compressai.ans", extension)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["compressai.ans"] = module


def show() -> None:
    """What happens without nlaic: symbols that a short payload does not hold, read from behind it."""
    from compressai.ans import RansDecoder  # type: ignore[import-not-found]

    decoder = RansDecoder()
    decoder.set_stream(bytes(8))
    decoder.decode_stream([0] * 100_000, [[0, 1, 1 << 16, 1 << 16]], [4], [0])


def attack(count: int) -> None:
    """Payloads under right checksums, in files of one block."""
    import numpy as np
    from fuzz import Z_INDEX, scale_indices, small_coder

    from nlaic.container import Header, pack, unpack
    from nlaic.errors import FormatError

    coder, rng, header = small_coder(), np.random.default_rng(0), Header(64, 64, bytes(8), 500, (64, 64))
    outcomes = {"decoded": 0, "refused": 0}
    for number in range(count):
        z_hat = rng.integers(-9, 10, (4, 2, 2)).astype(np.int32)
        index = scale_indices(z_hat)
        sound = coder.encode(z_hat, Z_INDEX, rng.integers(-9, 10, index.shape) * (index > 0), index)
        noise = rng.bytes(int(rng.integers(1, 200)))
        changed = bytearray(sound)
        changed[rng.integers(len(sound))] ^= 1 << rng.integers(8)
        first = sound[:8]
        kinds = (b"", bytes(len(noise)), noise, first + noise[: len(noise) // 4 * 4], bytes(changed), first, sound * 2)
        payload = (*kinds, sound[: rng.integers(len(sound))], first + bytes(4 * len(noise)))[number % 9]
        payload = unpack(pack(header, [payload])).block(0)
        try:
            half_way = coder.decode_z(payload, Z_INDEX, z_hat.shape, index.size)
            half_way.decode_y(scale_indices(half_way.z_hat))
            outcomes["decoded"] += 1
        except FormatError:
            outcomes["refused"] += 1
    print(f"{count} payloads: {outcomes['refused']} refused, {outcomes['decoded']} decoded; the sanitizer saw nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    if extension := os.environ.get(INSIDE):
        use(extension)
        sys.exit(show() if arguments.show else attack(arguments.count))
    with tempfile.TemporaryDirectory() as folder:
        library = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
        inside = {
            INSIDE: str(build(arguments.archive, Path(folder))),
            "LD_PRELOAD": library.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "OPENBLAS_NUM_THREADS": "1",
        }
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=os.environ | inside, check=False).returncode)


if __name__ == "__main__":
    main()
