"""Run by test_exact.py in a process of its own: encode a picture, decode a file, leave what came out in a folder."""

import json
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    options = json.loads(sys.argv[1])
    folder = Path(options["folder"])
    import torch
    from PIL import Image

    from nlaic import container
    from nlaic.codec import Codec
    from nlaic.engine import Execution, open_engine
    from nlaic.rates import rate_at
    from nlaic.tiles import Grid, padded
    from nlaic.weights import find_weights

    torch.backends.mkldnn.enabled = options.get("onednn", True)
    torch.set_float32_matmul_precision(options.get("matmul", "highest"))
    torch.set_num_threads(options.get("threads", 1))
    weights = find_weights(options["model"])
    execution = {"precision": "fp32", "engine": "torch", "device": "cpu", **options.get("execution", {})}
    codec = Codec(weights, open_engine(weights, Execution(**execution)))

    picture = Image.open(options["picture"])
    (folder / "mine.nlaic").write_bytes(codec.compress(picture, options["quality"], block=(192, 128)))

    def symbols(data: bytes) -> dict[str, np.ndarray]:
        file = container.unpack(data)
        rate = rate_at(weights.tensors, file.header.quality)
        out = {}
        for number, (left, top, right, bottom) in enumerate(Grid(*picture.size, file.header.block).boxes()):
            s = codec.decode_symbols(file.block(number), rate, padded(bottom - top), padded(right - left))
            out |= {f"z{number}": s.z_hat, f"r{number}": s.r, f"index{number}": s.index}
        return out

    base = Path(options["base"]).read_bytes() if options.get("base") else (folder / "mine.nlaic").read_bytes()
    np.savez(folder / "mine.npz", **symbols((folder / "mine.nlaic").read_bytes()))
    np.savez(folder / "base.npz", **symbols(base))
    np.save(folder / "pixels.npy", np.asarray(codec.decompress(base)))


main()
