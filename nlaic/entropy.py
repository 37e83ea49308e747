"""Symbols to bytes and back: integer tables, the skip rule, rANS.

The payload of codec 1. A block of width x height pixels is padded at its right and bottom to multiples of 64, its
padded size is W x H; z_hat is [Cz, H/64, W/64] and y is [C, H/16, W/16], where Cz and C are the columns of the weights
file's `rates.z_multiplier` and `rates.offset`. One stream holds, channel by channel, row by row, column by column:

1. z_hat, all of it; a symbol of channel c uses the table `z` of number z_index[c], which is `rates.z_index` at the
   file's quality, interpolated as `nlaic.integer` says;
2. r, those symbols whose table index (from z_hat, `nlaic.integer`) is not below `skip`; each uses the table `y` of its
   index. The others are not coded: r = 0.

Tables `y` and `z` are stored, in the weights file: `bounds` of 64 tables, and `frequencies` of all of them one after
the other, 2 * bound + 1 each, for the values -bound..bound. Every frequency is at least 1, those of a table sum to
2^16. No value lies outside: an encoder clamps to the bound, there is no escape.

The coder is rANS with a state of 64 bits and words of 32 (compressai's, its tables ended by an escape slot of zero
width that never occurs). The payload is n words, little-endian, n at least 2. A decoder starts with the state
x = word[0] + 2^32 * word[1], which is in 2^31..2^63-1, and takes words from word[2] on. For each symbol:

    slot = x mod 2^16
    k: cumulative[k] <= slot < cumulative[k + 1], where cumulative[k] is the sum of the frequencies before k
    x = frequency[k] * (x div 2^16) + slot - cumulative[k]
    if x < 2^31: x = 2^32 * x + the next word
    value = k - bound

After the last symbol every word is used and x = 2^31, which is what an encoder starts from; where it is not so, the
payload is damaged or was read by other integers, and a reader refuses the block. An encoder goes through the symbols
from the last to the first, writes words from the end, and undoes these steps: if x >= frequency[k] * 2^47, the low 32
bits of x are a word and x = x div 2^32; then x = 2^16 * (x div frequency[k]) + x mod frequency[k] + cumulative[k]. The
state that it ends with is the first two words.

compressai's coder is native code that looks at no bounds, so they are held here: a payload is refused that is not whole
words or has a first state that no encoder writes, every table number is one of a table, and behind the payload stand as
many words as a decoder can read. So a payload is decoded only if the encoder could have written it with these tables
(or if END_WORD is appended, which alters nothing).
"""

import importlib
import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nlaic.errors import FormatError, NlaicError

TOTAL = 1 << 16
STATE_MIN = 1 << 31  # a sound stream starts with a state of at least this
FLUSH = 8  # bytes that end a stream
WORD = 4  # bytes that it grows and is read by
MIN_SYMBOLS = 4  # with fewer the coder writes beyond its buffer

# How a decoder in its last state is looked at: by symbols of two tables. The first leaves a state below 2^31, so that
# the next word comes in below it, only if bits 16..62 were those of 2^31 and bit 15 was not set. The second is of two
# halves: a symbol is bit 15 of the state and takes it out. So they are bits 15..31 of the word and 0..14 of the state;
# then comes a word of zeros, and of it and the word before it the same is told.
END_WORD = 0x9E3779B9  # behind the payload; any that does not look like others
END_TABLES = ([[0, TOTAL - 1, TOTAL, TOTAL], [0, TOTAL // 2, TOTAL, TOTAL]], [4, 4], [0, 0])
END_NUMBERS = [0] + [1] * 64
END = [0, *(END_WORD >> bit & 1 for bit in range(15, 32)), *[0] * 32, *(END_WORD >> bit & 1 for bit in range(15))]


@cache
def _ans() -> ModuleType:
    """compressai's extension alone (importing the package would import torch), or `nlaic.rans` where there is none."""
    if sys.byteorder != "little":  # the extension takes words as they lie in memory
        return importlib.import_module("nlaic.rans")
    if "compressai.ans" in sys.modules:
        return sys.modules["compressai.ans"]
    package = importlib.util.find_spec("compressai")
    folders = list(package.submodule_search_locations or []) if package else []
    for folder in folders:
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = Path(folder) / f"ans{suffix}"
            if path.is_file():
                spec = importlib.util.spec_from_file_location("compressai.ans", path)
                assert spec is not None and spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                sys.modules.pop(spec.name, None)  # some extensions enter themselves, without their package
                return module
    return importlib.import_module("nlaic.rans")


@dataclass(frozen=True)
class Tables:
    """Frequency tables, all centred on zero.

    Attributes:
        frequencies: uint16 [N], those of all tables one after the other.
        bounds: int32 [T]; table t has 2 * bounds[t] + 1 frequencies.
    """

    frequencies: np.ndarray
    bounds: np.ndarray

    def __post_init__(self) -> None:
        sizes = 2 * self.bounds.astype(np.int64) + 1
        if self.bounds.min() < 1 or sizes.sum() != len(self.frequencies) or self.frequencies.min() < 1:
            raise FormatError("weights: frequency tables do not fit their bounds or hold a zero")
        if any(cumulative[-2] != TOTAL for cumulative in self.lists[0]):
            raise FormatError(f"weights: a frequency table does not sum to {TOTAL}")

    @cached_property
    def lists(self) -> tuple[list[list[int]], list[int], list[int]]:
        """Cumulative frequencies with the escape slot, their lengths and the first values, as the coder takes them."""
        ends = np.cumsum(2 * self.bounds.astype(np.int64) + 1)[:-1]
        parts = np.split(self.frequencies.astype(np.int64), ends)
        cumulative = [[0, *np.cumsum(part).tolist(), TOTAL] for part in parts]
        return cumulative, [len(c) for c in cumulative], (-self.bounds).tolist()

    def bits(self, limit: int) -> np.ndarray:
        """The cost of the values -limit..limit in bits, [T, 2 * limit + 1]; infinite beyond a table's bound."""
        cost = np.full((len(self.bounds), 2 * limit + 1), np.inf, np.float32)
        first = 0
        for row, bound in zip(cost, self.bounds.tolist(), strict=True):
            part = self.frequencies[first : first + 2 * bound + 1]
            first += 2 * bound + 1
            reach = min(bound, limit)
            row[limit - reach : limit + reach + 1] = 16 - np.log2(part[bound - reach : bound + reach + 1])
        return cost


def make_tables(scales: np.ndarray, mass: Callable[[float, float], float], reach: float) -> Tables:
    """Quantise a zero-mean density at each scale to 16-bit frequencies; done once, when weights are exported.

    Args:
        scales: [T].
        mass: of (lowest magnitude, scale): the probability of values from lowest upwards.
        reach: the bound is reach * scale + 16, rounded up.
    """
    bounds, parts = [], []
    for scale in scales.tolist():
        bound = math.ceil(reach * scale + 16)
        upper = [mass(k - 0.5, scale) for k in range(1, bound + 1)] + [0.0]
        side = -np.diff(upper)
        parts.append(_to_frequencies(np.concatenate((side[::-1], [1 - 2 * upper[0]], side))))
        bounds.append(bound)
    return Tables(np.concatenate(parts).astype(np.uint16), np.array(bounds, np.int32))


def _to_frequencies(probabilities: np.ndarray) -> np.ndarray:
    """Frequencies of at least 1 that sum to 2^16, by largest remainders over what the ones leave."""
    free = TOTAL - len(probabilities)
    exact = probabilities / probabilities.sum() * free
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: free - int(whole.sum())]] += 1
    return whole + 1


def gaussian_mass(lowest: float, scale: float) -> float:
    """Probability of a zero-mean Gaussian above `lowest`."""
    return 0.5 * math.erfc(lowest / scale * math.sqrt(0.5))


def logistic_mass(lowest: float, scale: float) -> float:
    """Probability of a zero-mean logistic density above `lowest`."""
    return 0.5 * (1 - math.tanh(0.5 * lowest / scale))


@dataclass(frozen=True)
class EntropyCoder:
    """Both directions for one set of tables.

    Attributes:
        y: tables by scale index, for the symbols of y.
        z: tables for z_hat.
        skip: symbols of y with an index below this are not coded: r = 0.
    """

    y: Tables
    z: Tables
    skip: int

    @cached_property
    def coded_bounds(self) -> np.ndarray:
        """The largest magnitude of a symbol of y by its index, int16: 0 where nothing is coded."""
        return np.where(np.arange(len(self.y.bounds)) < self.skip, 0, self.y.bounds).astype(np.int16)

    def encode(self, z_hat: np.ndarray, z_index: np.ndarray, r: np.ndarray, index: np.ndarray) -> bytes:
        """One block: z_hat and r integers within their tables' bounds, [Cz, h/4, w/4] and [C, h, w].

        z_index is a table number for every channel of z [Cz], index one for every symbol of y [C, h, w].
        """
        coder = _ans().BufferedRansEncoder()
        coded = index >= self.skip
        z_tables = np.repeat(z_index, z_hat[0].size)
        if z_tables.size + int(coded.sum()) < MIN_SYMBOLS:
            raise NlaicError(f"a block needs at least {MIN_SYMBOLS} symbols")
        coder.encode_with_indexes(z_hat.ravel().tolist(), z_tables.tolist(), *self.z.lists)
        coder.encode_with_indexes(r[coded].tolist(), index[coded].tolist(), *self.y.lists)
        return coder.flush()

    def decode_z(self, payload: bytes, z_index: np.ndarray, shape: tuple[int, int, int], symbols: int) -> "YDecoder":
        """Start on a block: decode z_hat [Cz, h/4, w/4] int32 (in `z_hat` of what is returned).

        Args:
            payload: from `encode`.
            z_index: table number of each channel of z, [Cz].
            shape: of z_hat.
            symbols: of y at most, for the padding of the payload.
        """
        state = int.from_bytes(payload[:FLUSH], "little")
        if len(payload) < FLUSH or len(payload) % WORD or not STATE_MIN <= state < 1 << 63:
            raise FormatError(f"entropy payload of {len(payload)} bytes does not start with a sound state, or is cut")
        decoder = _ans().RansDecoder()
        # After the first state it reads at most a word a symbol.
        behind = WORD * (math.prod(shape) + symbols + len(END))
        decoder.set_stream(payload + END_WORD.to_bytes(WORD, "little") + bytes(behind))
        tables = np.repeat(_numbers(z_index, self.z), shape[1] * shape[2]).tolist()
        z_hat = decoder.decode_stream(tables, *self.z.lists)
        return YDecoder(self, decoder, np.array(z_hat, np.int32).reshape(shape), symbols)


@dataclass(frozen=True)
class YDecoder:
    """A block whose z_hat is decoded and whose y is still to come."""

    coder: EntropyCoder
    rans: Any
    z_hat: np.ndarray
    symbols: int  # of y at most

    def decode_y(self, index: np.ndarray) -> np.ndarray:
        """Decode r, int32, shaped as the table indices [C, h, w]; to be called once.

        Raises:
            FormatError: if the payload does not end with the last symbol.
        """
        if index.size > self.symbols:
            raise NlaicError(f"symbols of y must be at most {self.symbols}, got {index.size}")
        coded = index >= self.coder.skip
        r = np.zeros(index.shape, np.int32)
        r[coded] = self.rans.decode_stream(_numbers(index[coded], self.coder.y).tolist(), *self.coder.y.lists)
        if self.rans.decode_stream(END_NUMBERS, *END_TABLES) != END:
            raise FormatError("entropy payload does not end with its last symbol: it is damaged, or of other weights")
        return r


def _numbers(index: np.ndarray, tables: Tables) -> np.ndarray:
    """Table numbers, all of tables that there are."""
    if index.size and not 0 <= index.min() <= index.max() < len(tables.bounds):
        raise FormatError(f"weights: table numbers must be 0..{len(tables.bounds) - 1}, got {index.max()}")
    return index
