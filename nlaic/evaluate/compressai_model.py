"""This codec as a model of CompressAI: what `compressai.utils.eval_model` and programs like it call.

```python
from compressai.utils.eval_model.__main__ import eval_model

model = CompressAIModel(nlaic.load("light", device="cpu", engine="torch"), quality=50)
eval_model(model, outputdir, inputdir, filepaths, architecture="nlaic", half=False, per_image=False)
```
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from nlaic.entropy import TOTAL, Tables
from nlaic.errors import NlaicError
from nlaic.rates import quality_number, rate_at
from nlaic.tiles import MULTIPLE, pad
from nlaic.torch_engine import TorchEngine

if TYPE_CHECKING:
    from nlaic.codec import Codec


class CompressAIModel(torch.nn.Module):
    """Batches x [B, 3, H, W] in 0..1 are rounded to 8 bits, as pictures are; so is what comes back.

    Args:
        codec: from `nlaic.load`.
        quality: 0..100 in steps of 0.1.
        effort: of `compress`, 1..9; `forward` estimates effort 1.
    """

    def __init__(self, codec: "Codec", quality: float, effort: int = 3) -> None:
        super().__init__()
        if not isinstance(codec.engine, TorchEngine):
            raise NlaicError("CompressAI's interface needs the torch engine: nlaic.load(..., engine='torch')")
        self.codec, self.engine, self.quality, self.effort = codec, codec.engine, quality, effort
        self.net, self.dtype = codec.engine.net, torch.float32

    def half(self) -> "CompressAIModel":
        """Pictures come back in half precision; that of the networks is the engine's."""
        self.dtype = torch.float16
        return self

    def compress(self, x: torch.Tensor) -> dict[str, Any]:
        """`strings`: one list, a whole .nlaic file for each picture; `shape` of z, [H/64, W/64] rounded up."""
        files = [self.codec.compress(Image.fromarray(p), self.quality, effort=self.effort) for p in _pixels(x)]
        return {"strings": [files], "shape": tuple(-(-side // MULTIPLE) for side in x.shape[2:])}

    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, torch.Tensor]:
        """`x_hat` [B, 3, H, W]; the files know their size, `shape` is not looked at."""
        return {"x_hat": self._tensor([np.asarray(self.codec.decompress(file)) for file in strings[0]])}

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        """`x_hat` and `likelihoods` of the symbols of `y` and `z`, by the tables that code them, without blocks."""
        rate, coder = rate_at(self.codec.weights.tensors, quality_number(self.quality)), self.codec.coder
        pictures, y, z = [], [], []
        for pixels in _pixels(x):
            symbols = self.codec.symbols(self.engine.analysis(pad(pixels)), rate)
            x_hat = self.engine.synthesis(self.codec.decoded(symbols, rate))
            pictures.append(x_hat[: pixels.shape[0], : pixels.shape[1]])
            coded = symbols.index >= coder.skip
            y.append(np.where(coded, _likelihood(coder.y, symbols.index, symbols.r), 1.0))
            z.append(_likelihood(coder.z, rate.z_index[:, None, None], symbols.z_hat))
        likelihoods = {name: torch.from_numpy(np.stack(of)).float().to(x.device) for name, of in (("y", y), ("z", z))}
        return {"x_hat": self._tensor(pictures), "likelihoods": likelihoods}

    def _tensor(self, pictures: list[np.ndarray]) -> torch.Tensor:
        device = next(self.parameters()).device
        return torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).to(self.dtype) / 255


def _pixels(x: torch.Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3]."""
    rounded = (x.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _likelihood(tables: Tables, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of integers [...] within the bounds of their tables, by the tables' numbers [...]."""
    centres = np.cumsum(2 * tables.bounds.astype(np.int64) + 1) - tables.bounds - 1
    return tables.frequencies[centres[index] + np.clip(values, -tables.bounds[index], tables.bounds[index])] / TOTAL
