"""The coder of `nlaic.entropy` in Python, for where compressai's is not installed: the same bytes, more slowly.

Both classes have the methods of compressai's that are used, with the same arguments: cumulative frequencies by table,
each list ended by a slot of zero width, the length of each list, and the first value of each table. A symbol is one
turn of a loop; everything that can be is done for all symbols at once before and after it.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import chain

import numpy as np

BITS = 16  # of a table's total
STATE_BITS = 31  # the state is never below 2^31 between two symbols
WORD_BITS = 32


class BufferedRansEncoder:
    """Collects symbols and writes them in the end, from the last to the first."""

    def __init__(self) -> None:
        self._starts: list[np.ndarray] = []
        self._frequencies: list[np.ndarray] = []

    def encode_with_indexes(
        self,
        symbols: Sequence[int],
        indexes: Sequence[int],
        cumulative: Sequence[Sequence[int]],
        sizes: Sequence[int],
        offsets: Sequence[int],
    ) -> None:
        """Take symbols, each with the number of its table; all within their tables."""
        ends = np.cumsum([0, *sizes])
        flat = np.fromiter(chain.from_iterable(cumulative), np.int64, int(ends[-1]))
        tables = np.asarray(indexes, np.int64)
        place = ends[tables] + np.asarray(symbols, np.int64) - np.asarray(offsets, np.int64)[tables]
        self._starts.append(flat[place])
        self._frequencies.append(flat[place + 1] - flat[place])

    def flush(self) -> bytes:
        """The stream."""
        starts = np.concatenate(self._starts)[::-1].tolist()
        frequencies = np.concatenate(self._frequencies)[::-1].tolist()
        shift, mask = STATE_BITS + WORD_BITS - BITS, (1 << WORD_BITS) - 1
        state, words = 1 << STATE_BITS, array("Q")
        write = words.append
        for start, frequency in zip(starts, frequencies, strict=True):
            if state >> shift >= frequency:
                write(state & mask)
                state >>= WORD_BITS
            quotient, rest = divmod(state, frequency)
            state = (quotient << BITS) + rest + start
        write(state >> WORD_BITS)
        write(state & mask)
        return np.array(words, "<u4")[::-1].tobytes()


class RansDecoder:
    """Reads a stream symbol by symbol; the stream holds as many words as it may read."""

    def set_stream(self, stream: bytes) -> None:
        """Begin with a stream of whole words, at least two."""
        words = np.frombuffer(stream, "<u4")
        self._state = int(words[0]) | int(words[1]) << WORD_BITS
        self._words = iter(words[2:].tolist())

    def decode_stream(
        self,
        indexes: Sequence[int],
        cumulative: Sequence[Sequence[int]],
        sizes: Sequence[int],
        offsets: Sequence[int],
    ) -> list[int]:
        """The next symbols, one for each number of a table."""
        state, low, next_word = self._state, 1 << STATE_BITS, self._words.__next__
        mask, found = (1 << BITS) - 1, list[int]()
        find, take = bisect_right, found.append
        for ends in map(cumulative.__getitem__, indexes):
            slot = state & mask
            place = find(ends, slot)
            start = ends[place - 1]
            state = (ends[place] - start) * (state >> BITS) + slot - start
            if state < low:
                state = state << WORD_BITS | next_word()
            take(place)
        self._state = state
        first = np.asarray(offsets, np.int64)[np.asarray(indexes, np.int64)]
        return (np.array(found, np.int64) + (first - 1)).tolist()
