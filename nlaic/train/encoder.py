"""y_hat as files hold it: by the encoder's own choice of symbols, for decoders that learn what they will be given."""

import numpy as np
import torch
from torch import Tensor

from nlaic.block import Block
from nlaic.codec import EFFORTS, Codec
from nlaic.engine import Execution
from nlaic.errors import NlaicError
from nlaic.integer import QUALITIES
from nlaic.rates import rate_at
from nlaic.torch_engine import TorchEngine
from nlaic.weights import Weights


class Encoder:
    """The codec's encoder on crops of training, one after the other, on the processor.

    Args:
        weights: of the codec; its first decoder is the one that the search pulls by.
        effort: as in `Codec.compress`.

    Raises:
        NlaicError: if there is no such effort.
    """

    def __init__(self, weights: Weights, effort: int) -> None:
        if effort not in EFFORTS:
            raise NlaicError(f"stage.effort must be a whole number from 1 to {EFFORTS[-1]}, but got {effort!r}")
        self.effort = effort
        self.codec = Codec(weights, TorchEngine(weights, Execution("cpu")))

    def __call__(self, x: Tensor, position: Tensor, anchors: int) -> tuple[Tensor, Tensor]:
        """Pictures to y_hat in its own units and bits per pixel.

        Args:
            x: [B, 3, H, W] in 0..1, sides multiples of 64.
            position: between the anchors, [B] in 0..anchors - 1.
            anchors: of the codec.

        Returns:
            y_hat [B, C, H/16, W/16] and bits per pixel [B], where x is.
        """
        pixels = (255 * x).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        qualities = (position.double() / max(anchors - 1, 1) * QUALITIES).round().long().tolist()
        coded = [self._block(np.ascontiguousarray(one), q) for one, q in zip(pixels, qualities, strict=True)]
        latents, bpp = zip(*coded, strict=True)
        return torch.from_numpy(np.stack(latents)).to(x.device), torch.tensor(bpp, device=x.device)

    def _block(self, pixels: np.ndarray, quality: int) -> tuple[np.ndarray, float]:
        codec, (height, width, _) = self.codec, pixels.shape
        rate = rate_at(codec.weights.tensors, quality)
        symbols = codec.choose(Block(pixels, (height, width), codec.engine.analysis(pixels)), rate, self.effort)
        payload = codec.coder.encode(symbols.z_hat, rate.z_index, symbols.r, symbols.index)
        return codec.decoded(symbols, rate), 8 * len(payload) / (height * width)
