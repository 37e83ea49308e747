"""Hostile bytes for everything that reads a .nlaic file: container, info, entropy decoding, salvage.

    python tools/fuzz.py [--minutes 5] [--seed 0] [--corpus FOLDER] [--found FOLDER] [--plain]

Guided by coverage: by `atheris` where it is installed, else by `sys.settrace` on nlaic's own lines. Inputs are mutated
files whose checksums are repaired most of the time, or nothing would get past them. Whatever raises anything but a
FormatError, takes more than `SECONDS` or allocates more than `BYTES`, is written to --found and ends the run.
The decoder runs with a few small tables; the transforms behind it see integers alone, and are left out.
"""

import argparse
import contextlib
import os
import random
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

SECONDS, BYTES = 5.0, 200_000_000
MAX_PIXELS = 1 << 22
CRC = 4


SCALES = np.array([0.1, 0.5, 3.0, 20.0])
Z_INDEX = np.arange(len(SCALES))


def small_coder() -> Any:
    """An entropy coder with a few tables."""
    from nlaic.entropy import EntropyCoder, gaussian_mass, logistic_mass, make_tables

    return EntropyCoder(make_tables(SCALES, gaussian_mass, 8), make_tables(SCALES, logistic_mass, 16), skip=1)


def scale_indices(z_hat: np.ndarray) -> np.ndarray:
    """In the place of the integer network: table numbers that depend on z_hat."""
    return (np.arange(96).reshape(6, 4, 4) + z_hat.sum()) % len(SCALES)


def load() -> Callable[[bytes], None]:
    """What is tried, on bytes. Imported here, so that atheris can watch it."""
    import nlaic
    from nlaic import container
    from nlaic.classic.section import read_base
    from nlaic.errors import FormatError

    coder = small_coder()

    def decode(payload: bytes) -> None:
        """Symbols of a payload; what is decoded must be what the encoder writes."""
        half_way = coder.decode_z(payload, Z_INDEX, (4, 2, 2), 6 * 16)
        index = scale_indices(half_way.z_hat)
        r = half_way.decode_y(index)
        assert coder.encode(half_way.z_hat, Z_INDEX, r, index) == payload, "another payload has these symbols"

    def read(data: bytes, salvage: bool) -> None:
        file = container.unpack(data, max_pixels=MAX_PIXELS, salvage=salvage)
        blocks = []
        for number in range(file.header.blocks):
            try:
                blocks.append(file.block(number))
            except FormatError:
                continue
            with contextlib.suppress(FormatError):
                decode(blocks[-1])
        if not salvage and len(blocks) == file.header.blocks:
            assert container.pack(file.header, blocks, file.sections) == data, "another file says the same"

    def one(data: bytes) -> None:
        for attempt in (
            lambda: read(data, False),
            lambda: read(data, True),
            lambda: nlaic.info(data),
            lambda: read_base(data, MAX_PIXELS),
            lambda: decode(data),
        ):
            with contextlib.suppress(FormatError):
                attempt()

    return one


def seeds() -> list[bytes]:
    """Sound files and payloads to begin from."""
    from nlaic.container import BASE, Header, pack

    coder, rng, payloads = small_coder(), np.random.default_rng(0), []
    for size in (0, 1, 3):
        z_hat = rng.integers(-size, size + 1, (4, 2, 2)).astype(np.int32)
        index = scale_indices(z_hat)
        payloads.append(coder.encode(z_hat, Z_INDEX, rng.integers(-size, size + 1, index.shape) * (index > 0), index))
    files = [
        pack(Header(64, 64, bytes(8), 0, (64, 64)), payloads[:1]),
        pack(Header(130, 70, b"modelid8", 325, (128, 64)), [*payloads, b""], {1: b"icc", 0x55: b""}),
        pack(Header(1000, 3, b"modelid8", 1000, (64, 65536)), [payloads[n % 3] for n in range(16)]),
        pack(Header(1 << 22, 1, b"modelid8", 9, (65536, 64)), [b""] * 64, {tag: b"x" * tag for tag in range(64)}),
    ]
    for content in (b"\1\0\0stream", b"\6\6\2\3one\1the other"):  # of a base codec: one stream, and two
        files.append(pack(Header(64, 64, b"modelid8", 300, (64, 64)), [b""], {BASE: content}))
    return files + payloads


def repaired(data: bytes) -> bytes:
    """The file with every checksum set right that can be found, as far as its header can be read."""
    out = bytearray(data)
    with contextlib.suppress(IndexError):
        place = 6

        def number() -> int:
            nonlocal place
            value = shift = 0
            while True:
                byte = out[place]
                place, value, shift = place + 1, value | (byte & 0x7F) << shift, shift + 7
                if byte < 0x80 or shift > 42:
                    return value

        width, height = number(), number()
        place += 10
        block_width, block_height = 64 * number() or 64, 64 * number() or 64
        lengths = []
        for _ in range(min(number(), 64)):
            place += 1
            lengths.append(number())
        blocks = -(-width // block_width) * -(-height // block_height)
        lengths += [number() for _ in range(min(blocks, len(out)))]
        start = 0
        for length in (place, *lengths):
            end = start + length
            if end + CRC > len(out):
                break
            out[end : end + CRC] = zlib.crc32(out[start:end]).to_bytes(CRC, "little")
            start = end + CRC
    return bytes(out)


INTERESTING = [b"\0", b"\xff", b"\x7f", b"\x80", b"\x80\x00", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\x07", bytes(8)]


def mutated(rng: random.Random, corpus: list[bytes], data: bytes) -> bytes:
    """A file with a few changes: bytes set, cut, doubled, moved, taken from another."""
    out = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        place, kind = rng.randrange(min(len(out), rng.choice((40, 1 << 20))) + 1), rng.randrange(7)
        end = min(place + (1 << rng.randrange(7)), len(out))
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(out):
            out[place] = rng.randrange(256)
        elif kind == 2:
            piece = rng.choice(INTERESTING)
            out[place : place + rng.choice((0, len(piece)))] = piece
        elif kind == 3:
            del out[place:end]
        elif kind == 4:
            out[place:place] = out[place:end]
        elif kind == 5:
            other = rng.choice(corpus)
            start = rng.randrange(len(other) + 1)
            out[place : rng.choice((place, end))] = other[start : start + (1 << rng.randrange(7))]
        else:
            del out[place + rng.choice((0, 1 << 20)) :]
    return bytes(out[: 1 << 16])


class Lines:
    """Which of nlaic's lines have run, by `sys.settrace`."""

    def __init__(self) -> None:
        self.seen: set[tuple[CodeType, int]] = set()
        self.new = False
        self.folder = str(Path(__file__).resolve().parents[1] / "nlaic")

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """For `sys.settrace`: looks into our functions alone."""
        return self.line if frame.f_code.co_filename.startswith(self.folder) else None

    def line(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Note a line."""
        key = frame.f_code, frame.f_lineno
        if key not in self.seen:
            self.seen.add(key)
            self.new = True
        return self.line


class Guard:
    """Runs one input, counts, and keeps what should not have happened."""

    def __init__(self, one: Callable[[bytes], None], folder: Path) -> None:
        self.one, self.folder = one, folder
        self.count, self.slowest, self.start = 0, 0.0, time.monotonic()

    def run(self, data: bytes) -> None:
        """One input."""
        self.count += 1
        begin = time.perf_counter()
        measured = self.count % 64 == 0
        if measured:
            tracemalloc.start()
        try:
            self.one(data)
            if measured and (peak := tracemalloc.get_traced_memory()[1]) > BYTES:
                raise AssertionError(f"{peak} bytes")
            seconds = time.perf_counter() - begin
            self.slowest = max(self.slowest, seconds)
            if seconds > SECONDS:
                raise AssertionError(f"{seconds:.1f} s")
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"found-{zlib.crc32(data):08x}"
                path.write_bytes(data)
                print(f"{type(error).__name__}: {error}: {path}", flush=True)
            raise
        finally:
            if measured:
                tracemalloc.stop()

    def report(self, covered: str) -> None:
        """What was done so far."""
        seconds = time.monotonic() - self.start
        print(
            f"{self.count} executions in {seconds:.0f} s, {covered}, slowest {1000 * self.slowest:.0f} ms", flush=True
        )


def with_atheris(arguments: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=["nlaic"]):
        one = load()
    start = seeds()
    for folder in (arguments.corpus, arguments.found):
        folder.mkdir(parents=True, exist_ok=True)
    for data in start:
        (arguments.corpus / f"seed-{zlib.crc32(data):08x}").write_bytes(data)
    guard = Guard(one, arguments.found)

    def custom(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        data = mutated(rng, start, data) if rng.random() < 0.5 else atheris.Mutate(data, max_size)
        return (repaired(data) if rng.random() < 0.7 else data)[:max_size]

    def each(data: bytes) -> None:
        guard.run(data)
        if guard.count % 100_000 == 0:
            guard.report("coverage below")

    words = [sys.argv[0], str(arguments.corpus), f"-max_total_time={round(60 * arguments.minutes)}", "-max_len=65536"]
    words += [f"-seed={arguments.seed + 1}", f"-timeout={round(SECONDS)}", "-print_final_stats=1", "-reduce_inputs=0"]
    words.append(f"-artifact_prefix={arguments.found}/")
    atheris.Setup(words, each, custom_mutator=custom)
    atheris.Fuzz()


def plain(arguments: argparse.Namespace) -> None:
    """Mutations alone; what reaches new lines joins the corpus."""
    guard, rng, lines = Guard(load(), arguments.found), random.Random(arguments.seed), Lines()
    corpus = seeds()
    if arguments.corpus.is_dir():
        corpus += [path.read_bytes() for path in sorted(arguments.corpus.iterdir())]
    queue, end, next_report = list(corpus), guard.start + 60 * arguments.minutes, guard.start + 30
    while time.monotonic() < end:
        if queue:
            data = queue.pop()
        else:
            data = mutated(rng, corpus, rng.choice(corpus))
            data = repaired(data) if rng.random() < 0.7 else data
        lines.new = False
        sys.settrace(lines.trace)
        try:
            guard.run(data)
        finally:
            sys.settrace(None)
        if lines.new and data not in corpus:
            corpus.append(data)
        if time.monotonic() > next_report:
            guard.report(f"{len(lines.seen)} lines, corpus {len(corpus)}")
            next_report += 30
    guard.report(f"{len(lines.seen)} lines, corpus {len(corpus)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz/corpus"), help="kept from run to run by atheris")
    parser.add_argument("--found", type=Path, default=Path("fuzz/found"), help="what went wrong")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    arguments = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not arguments.plain:
        try:
            import atheris  # noqa: F401
        except ImportError:
            print("atheris is not installed: plain mutations, guided by the lines they reach")
            arguments.plain = True
    (plain if arguments.plain else with_atheris)(arguments)


if __name__ == "__main__":
    main()
