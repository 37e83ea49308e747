"""Symbols a second of both entropy coders, compressai's and the one in Python, on the shipped tables; in one run.

python tools/coders.py [--symbols 500000] [--turns 5]
"""

import argparse
import statistics
import time
from types import ModuleType

import numpy as np
from compressai import ans

from nlaic import rans
from nlaic.weights import find_weights

CODED = 5, 45  # table indices of what is coded of a photograph, about


def speeds(module: ModuleType, symbols: list[int], indexes: list[int], tables: tuple) -> tuple[float, float, bytes]:
    """Symbols a second to encode and to decode, and the stream."""
    begin = time.perf_counter()
    encoder = module.BufferedRansEncoder()
    encoder.encode_with_indexes(symbols, indexes, *tables)
    stream = encoder.flush()
    middle = time.perf_counter()
    decoder = module.RansDecoder()
    decoder.set_stream(stream + bytes(4))
    decoded = decoder.decode_stream(indexes, *tables)
    end = time.perf_counter()
    assert list(decoded) == symbols
    return len(symbols) / (middle - begin), len(symbols) / (end - middle), stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=500_000)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    tables, rng = find_weights("light").entropy_coder().y, np.random.default_rng(0)
    indexes = rng.integers(*CODED, arguments.symbols)
    scales = 0.1 * 1000 ** (indexes / 63)
    bounds = tables.bounds[indexes]
    symbols = np.clip(np.rint(rng.normal(0, scales)).astype(int), -bounds, bounds)
    found: dict[str, list[tuple[float, float, bytes]]] = {"compressai": [], "Python": []}
    for _ in range(arguments.turns):
        for name, module in (("compressai", ans), ("Python", rans)):
            found[name].append(speeds(module, symbols.tolist(), indexes.tolist(), tables.lists))
    assert len({stream for turns in found.values() for *_, stream in turns}) == 1, "the streams differ"
    for name, turns in found.items():
        encode, decode = (statistics.median(turn[k] for turn in turns) / 1e6 for k in (0, 1))
        print(f"{name:12s} {encode:6.2f} million symbols/s to encode, {decode:6.2f} to decode")


if __name__ == "__main__":
    main()
