"""Decodes the symbols of a .nlaic file in plain Python and NumPy, from the specification alone; slow, and that is fine.

    python tools/reference_decoder.py FILE.nlaic WEIGHTS.safetensors [-o symbols.npz]

Written from the module docstrings of `nlaic.container`, `nlaic.entropy`, `nlaic.integer` and `nlaic.weights`; it shares
no code with them. All arithmetic is in integers. No section is refused, as symbols depend on none.

Prints what the header says and a SHA-256 of the symbols of each block: z_hat and r as int32, then the table indices as
uint8, little-endian, channel by channel, row by row. The npz holds them as z0, r0, index0, z1, ...
"""

import argparse
import hashlib
import json
import sys
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC, VERSION, CODEC = b"\x8bNLC", 1, "1"
GREY = 1  # flag
TYPES = {"I8": "|i1", "U8": "|u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "F16": "<f2", "F32": "<f4"}
NOT_IN_ID = ("g_a.", "h_a.", "g_s.", "g_s_perceptual.", "boundary.", "discriminator.", "encoder.")


class DecodeError(Exception):
    """What is wrong with a file."""


def check(sound: bool, message: str) -> None:
    if not sound:
        raise DecodeError(message)


# The container.


@dataclass(frozen=True)
class File:
    """What a file holds, its checksums verified."""

    width: int
    height: int
    model_id: str
    quality: int  # 0..1000
    block: tuple[int, int]  # (width, height) in pixels
    grey: bool
    sections: dict[int, bytes]
    payloads: list[bytes]

    def padded_sizes(self) -> Iterator[tuple[int, int]]:
        """(height, width) of every block in coding order, each a multiple of 64."""
        for top in range(0, self.height, self.block[1]):
            for left in range(0, self.width, self.block[0]):
                sides = min(self.block[1], self.height - top), min(self.block[0], self.width - left)
                yield tuple((side + 63) // 64 * 64 for side in sides)


class Bytes:
    """A place in the file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """So many bytes."""
        check(self.at + count <= len(self.data), f"the file ends before byte {self.at + count}")
        self.at += count
        return self.data[self.at - count : self.at]

    def fixed(self, count: int) -> int:
        """An integer of so many bytes."""
        return int.from_bytes(self.take(count), "little")

    def varint(self, low: int, high: int) -> int:
        """A varint, held against its range."""
        value = 0
        for place in range(5):
            byte = self.fixed(1)
            value |= (byte & 127) << 7 * place
            if byte < 128:
                check(byte > 0 or place == 0, f"byte {self.at - 1}: a varint that is not in its shortest form")
                break
        else:
            raise DecodeError(f"byte {self.at}: a varint of more than 5 bytes")
        check(low <= value <= high, f"byte {self.at - 1}: {value} is not in {low}..{high}")
        return value

    def checked(self, length: int, name: str) -> bytes:
        """So many bytes, and the CRC-32 behind them."""
        part = self.take(length)
        check(zlib.crc32(part) == self.fixed(4), f"{name}: its CRC-32 does not fit")
        return part


def read_file(data: bytes) -> File:
    """The container."""
    source = Bytes(data)
    check(source.take(4) == MAGIC, "not a .nlaic file")
    version, flags = source.fixed(1), source.fixed(1)
    check(version == VERSION, f"version {version}, not {VERSION}")
    check(flags & ~GREY == 0, f"flags {flags} have no meaning yet")
    side = 1, (1 << 24) - 1
    width, height = source.varint(*side), source.varint(*side)
    model_id, quality = source.take(8).hex(), source.fixed(2)
    check(quality <= 1000, f"quality {quality} is above 1000")
    block = 64 * source.varint(1, 1024), 64 * source.varint(1, 1024)
    table = [(source.fixed(1), source.varint(0, (1 << 32) - 1)) for _ in range(source.varint(0, 64))]
    tags = [tag for tag, _ in table]
    check(tags == sorted(set(tags)), f"section tags {tags} do not ascend")
    blocks = -(-width // block[0]) * -(-height // block[1])
    check(5 * blocks <= len(data), f"{blocks} blocks do not fit into the file")
    lengths = [source.varint(0, (1 << 32) - 1) for _ in range(blocks)]
    end, source.at = source.at, 0
    source.checked(end, "header")
    sections = {tag: source.checked(length, f"section {tag}") for tag, length in table}
    payloads = [source.checked(length, f"block {number}") for number, length in enumerate(lengths)]
    check(source.at == len(data), f"{len(data) - source.at} bytes follow the last block")
    return File(width, height, model_id, quality, block, bool(flags & GREY), sections, payloads)


# The weights.


@dataclass(frozen=True)
class Model:
    """A weights file."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]

    def model_id(self) -> str:
        """In hexadecimal digits, from the contents."""
        codec = self.metadata.get("codec", CODEC)
        text = self.metadata["skip"] + ("" if codec == CODEC else f" {codec}")
        digest = hashlib.sha256(text.encode())
        for name in sorted(self.tensors):
            if not name.startswith(NOT_IN_ID):
                tensor = self.tensors[name]
                digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
                digest.update(tensor.tobytes())
        return digest.hexdigest()[:16]

    def at(self, name: str, quality: int) -> np.ndarray:
        """Rows of integers [R, C] at a quality: [C]."""
        rows = self.tensors[name].astype(np.int64)
        k, rest = divmod(quality * (len(rows) - 1), 1000)
        return (rows[k] * (1000 - rest) + rows[min(k + 1, len(rows) - 1)] * rest + 500) // 1000

    def tables(self, kind: str) -> list["Table"]:
        """The tables `y` or `z`."""
        frequencies = self.tensors[f"tables.{kind}.frequencies"].tolist()
        tables, first = [], 0
        for bound in self.tensors[f"tables.{kind}.bounds"].tolist():
            tables.append(Table.of(frequencies[first : first + 2 * bound + 1], bound))
            first += 2 * bound + 1
        check(first == len(frequencies), "frequencies that belong to no table")
        return tables


def read_model(data: bytes) -> Model:
    """safetensors: the length of a JSON header, the header, the bytes that it points into."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(body[start:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    codec = metadata.get("codec", CODEC)
    check(codec == CODEC, f"weights of codec {codec}, not {CODEC}")
    return Model(tensors, metadata)


# Symbols.


@dataclass(frozen=True)
class Table:
    """Frequencies of the values -bound..bound and the sums before each."""

    frequencies: list[int]
    cumulative: list[int]
    bound: int

    @classmethod
    def of(cls, frequencies: list[int], bound: int) -> "Table":
        """From the frequencies alone."""
        cumulative = [0]
        for frequency in frequencies:
            check(frequency > 0, "a frequency of 0")
            cumulative.append(cumulative[-1] + frequency)
        check(cumulative[-1] == 1 << 16, f"frequencies that sum to {cumulative[-1]}")
        return cls(frequencies, cumulative, bound)


class Rans:
    """The decoder of one payload."""

    def __init__(self, payload: bytes) -> None:
        check(len(payload) >= 8 and len(payload) % 4 == 0, f"a payload of {len(payload)} bytes")
        self.words = np.frombuffer(payload, "<u4").tolist()
        self.state, self.next = self.words[0] + (self.words[1] << 32), 2
        check(1 << 31 <= self.state < 1 << 63, "the first state is not sound")

    def symbol(self, table: Table) -> int:
        """The next symbol."""
        slot = self.state % (1 << 16)
        k = bisect_right(table.cumulative, slot) - 1
        self.state = table.frequencies[k] * (self.state >> 16) + slot - table.cumulative[k]
        if self.state < 1 << 31:
            check(self.next < len(self.words), "the payload ends before its last symbol")
            self.state = (self.state << 32) + self.words[self.next]
            self.next += 1
        return k - table.bound

    def symbols(self, tables: list[Table], numbers: np.ndarray) -> np.ndarray:
        """A symbol for each table number, int32."""
        return np.array([self.symbol(tables[number]) for number in numbers.ravel().tolist()], np.int32)

    def end(self) -> None:
        """Hold what is left against what an encoder started from."""
        check(self.state == 1 << 31 and self.next == len(self.words), "the payload does not end with its last symbol")


def convolution(levels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Levels [I, h, w] to sums int64 [O, h, w]; the edge is repeated."""
    _, h, w = levels.shape
    k, total = weight.shape[2], 0
    edge = k // 2
    edged = np.pad(levels, ((0, 0), (edge, edge), (edge, edge)), mode="edge").astype(np.int64)
    for dy in range(k):
        for dx in range(k):
            shifted = edged[:, dy : dy + h, dx : dx + w].reshape(len(edged), h * w)
            total = total + weight[:, :, dy, dx].astype(np.int64) @ shifted
    return total.reshape(len(weight), h, w)


def table_indices(model: Model, z_hat: np.ndarray, quality: int) -> np.ndarray:
    """z_hat [Cz, h/4, w/4] to the index of the table of every symbol of y, uint8 [C, h, w]."""

    def column(values: np.ndarray) -> np.ndarray:
        return values.astype(np.int64)[:, None, None]

    x = ((z_hat.astype(np.int64) * column(model.at("rates.z_multiplier", quality)) + (1 << 15)) >> 16) + 128
    x = np.clip(x, 0, 255)
    for number in range(4):
        weight, bias, multiplier = (
            model.tensors[f"scale.{number}.{part}"] for part in ("weight", "bias", "multiplier")
        )
        last = number == 3
        offset = column(model.at("rates.offset", quality)) << 16 if last else 0
        x = ((convolution(x, weight) + column(bias)) * column(multiplier) + offset + (1 << 23)) >> 24
        x = np.clip(x, 0, 63 if last else 255)
        if number == 1:  # [c*16 + 4*dy + dx, row, column] to [c, 4*row + dy, 4*column + dx]
            _, h, w = x.shape
            x = x.reshape(-1, 4, 4, h, w).transpose(0, 3, 1, 4, 2).reshape(-1, 4 * h, 4 * w)
    return x.astype(np.uint8)


@dataclass(frozen=True)
class Symbols:
    """z_hat int32 [Cz, h/4, w/4]; r int32 and index uint8 [C, h, w]."""

    z_hat: np.ndarray
    r: np.ndarray
    index: np.ndarray


def digest(z_hat: np.ndarray, r: np.ndarray, index: np.ndarray) -> str:
    """SHA-256 of a block's symbols."""
    parts = z_hat.astype("<i4"), r.astype("<i4"), index.astype(np.uint8)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def read_block(model: Model, payload: bytes, quality: int, size: tuple[int, int]) -> Symbols:
    """The symbols of a block whose padded size is (height, width) pixels."""
    rans, (height, width) = Rans(payload), size
    z_index = model.at("rates.z_index", quality)
    shape = len(z_index), height // 64, width // 64
    z_numbers = np.repeat(z_index, shape[1] * shape[2])
    z_hat = rans.symbols(model.tables("z"), z_numbers).reshape(shape)
    index = table_indices(model, z_hat, quality)
    coded = index >= int(model.metadata["skip"])
    r = np.zeros(index.shape, np.int32)
    r[coded] = rans.symbols(model.tables("y"), index[coded])
    rans.end()
    return Symbols(z_hat, r, index)


def decode(data: bytes, weights: bytes) -> tuple[File, list[Symbols]]:
    """A file and the symbols of its blocks, in coding order.

    Raises:
        DecodeError: if the file is not sound, or of other weights.
    """
    file, model = read_file(data), read_model(weights)
    check(
        model.model_id() == file.model_id, f"the file is of model {file.model_id}, the weights are {model.model_id()}"
    )
    blocks = []
    for number, (payload, size) in enumerate(zip(file.payloads, file.padded_sizes(), strict=True)):
        try:
            blocks.append(read_block(model, payload, file.quality, size))
        except DecodeError as error:
            raise DecodeError(f"block {number}: {error}") from error
    return file, blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="npz for the symbols")
    arguments = parser.parse_args()
    try:
        file, blocks = decode(arguments.file.read_bytes(), arguments.weights.read_bytes())
    except (DecodeError, OSError) as error:
        sys.exit(f"{arguments.file}: {error}")
    print(f"{file.width}x{file.height}, model {file.model_id}, quality {file.quality / 10:g}, blocks of {file.block}")
    for tag, content in file.sections.items():
        print(f"section {tag}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    for number, s in enumerate(blocks):
        print(f"block {number}: z_hat {s.z_hat.shape}, r {s.r.shape}, SHA-256 {digest(s.z_hat, s.r, s.index)}")
    if arguments.output:
        named = {
            f"{k}{n}": v for n, s in enumerate(blocks) for k, v in (("z", s.z_hat), ("r", s.r), ("index", s.index))
        }
        np.savez_compressed(arguments.output, **named)


if __name__ == "__main__":
    main()
