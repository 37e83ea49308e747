"""Writes the decoding half of weights: what old files need to be read, without what compresses.

python tools/decoding_half.py light-01234567.safetensors     # light-decoder-89abcdef.safetensors beside it
"""

import hashlib
import sys
from pathlib import Path

from nlaic.weights import SUFFIX, find_weights


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    path = Path(sys.argv[1])
    data = find_weights(path).decoding_half().to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    target = path.with_name(f"{path.stem.rpartition('-')[0]}-decoder-{digest[:8]}{SUFFIX}")
    target.write_bytes(data)
    print(f"{target}: {len(data)} bytes of {path.stat().st_size}, SHA-256 {digest}")


if __name__ == "__main__":
    main()
