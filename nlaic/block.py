"""The codec of one block: from y to its symbols and back.

The context makes two passes of a block, whose positions are coloured like a checkerboard: r is chosen everywhere by the
first mean; the context sees what the first colour is decoded to and corrects the mean of the other colour alone, where
r is chosen again.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nlaic.engine import Engine
from nlaic.entropy import EntropyCoder
from nlaic.integer import IntegerScaleNetwork
from nlaic.rates import Rate
from nlaic.rounding import Rounding, nearest
from nlaic.tiles import MULTIPLE
from nlaic.visibility import Objective
from nlaic.weights import Weights


@dataclass(frozen=True)
class Block:
    """What symbols are chosen for.

    Attributes:
        pixels: the padded block, uint8 [H, W, 3].
        size: (height, width) of what is not padding: errors elsewhere do not count.
        y: its analysis, in its own units, float32 [C, H/16, W/16].
    """

    pixels: np.ndarray
    size: tuple[int, int]
    y: np.ndarray


@dataclass(frozen=True)
class Symbols:
    """What is coded of one block: integers z_hat [Cz, h/4, w/4], r [C, h, w] and the table index of each r.

    The encoder also keeps the first and the second mean of y/step [C, h, w]: it looks at them again.
    """

    z_hat: np.ndarray
    r: np.ndarray
    index: np.ndarray
    means: tuple[np.ndarray, np.ndarray] | None = None


class BlockCodec:
    """Both directions of a block, for one set of weights.

    Args:
        weights: from `nlaic.weights`.
        engine: runs the float networks.
    """

    def __init__(self, weights: Weights, engine: Engine) -> None:
        self.weights, self.engine = weights, engine
        self.coder: EntropyCoder = weights.entropy_coder()
        self.scale: IntegerScaleNetwork = weights.scale_network()

    @cached_property
    def objective(self) -> Objective:
        """What the weights were trained for; for the encoder."""
        return Objective.of(self.weights.metadata)

    @cached_property
    def gain(self) -> np.ndarray:
        """See `nlaic.export.synthesis_gain`, float32 [S, C]; for the encoder."""
        return np.atleast_2d(self.weights.tensors["encoder.gain"]).astype(np.float32)

    def symbols(self, y: np.ndarray, rate: Rate, rounding: Rounding = nearest) -> Symbols:
        """Choose the symbols of a block from y in its own units, float32 [C, h, w]."""
        return self.with_side(y, self.side(y, rate), rate, rounding)

    def side(self, y: np.ndarray, rate: Rate) -> np.ndarray:
        """z in steps, not rounded [Cz, h/4, w/4], of y in its own units."""
        return (self.engine.hyper_analysis(y / rate.step) - rate.z_mean) / rate.z_step

    def with_side(self, y: np.ndarray, z: np.ndarray, rate: Rate, rounding: Rounding = nearest) -> Symbols:
        """Choose the symbols of a block from y in its own units and z in steps."""
        bound = self.coder.z.bounds[rate.z_index][:, None, None]
        z_hat = np.clip(np.rint(z).astype(np.int32), -bound, bound)
        index = self.scale.indices(z_hat, rate.quality)
        return self._residuals(y / rate.step, z_hat, index, self.engine.mean(z_hat * rate.z_step), rate, rounding)

    def residuals(self, y: np.ndarray, side: Symbols, rate: Rate, rounding: Rounding = nearest) -> Symbols:
        """Choose r anew from y in its own units, z_hat and the tables as they are in `side`."""
        mean = side.means[0] if side.means else self.engine.mean(side.z_hat * rate.z_step)
        return self._residuals(y / rate.step, side.z_hat, side.index, mean, rate, rounding)

    def _residuals(
        self, y: np.ndarray, z_hat: np.ndarray, index: np.ndarray, mean: np.ndarray, rate: Rate, rounding: Rounding
    ) -> Symbols:
        bound = self.coder.coded_bounds[index]

        def choose(mean: np.ndarray) -> np.ndarray:
            r = rounding(y - mean, index, rate.weight)
            return np.clip(r, -bound, bound, out=r)

        first = choose(mean)  # of these the context sees the first colour's, whose mean it leaves as it is
        second_mean = self.engine.refine(first + mean, mean)
        return Symbols(z_hat, choose(second_mean), index, (mean, second_mean))

    def decoded(self, symbols: Symbols, rate: Rate) -> np.ndarray:
        """y_hat in its own units, float32 [C, h, w]."""
        r = symbols.r.astype(np.float32)
        if symbols.means:
            return (r + symbols.means[1]) * rate.step
        mean = self.engine.mean(symbols.z_hat * rate.z_step)
        return (r + self.engine.refine(r + mean, mean)) * rate.step

    def decode_symbols(self, payload: bytes, rate: Rate, height: int, width: int) -> Symbols:
        """The symbols of a block whose padded size is height x width pixels; integers alone."""
        shape = (len(rate.z_index), height // MULTIPLE, width // MULTIPLE)
        half_way = self.coder.decode_z(payload, rate.z_index, shape, rate.step.size * 16 * shape[1] * shape[2])
        index = self.scale.indices(half_way.z_hat, rate.quality)
        return Symbols(half_way.z_hat, half_way.decode_y(index), index)
