"""The search for z of efforts 4 to 9, by the gradient of what a block costs (`nlaic.nets.side`).

h_a guesses z once, from y alone; here z is moved until its own bits, those of y and the error where the mean stands for
a symbol that is not coded are least together. y stays as it is, and the decoder does not know. A few steps go straight
down (`descended`); with more of them, chance finds what is better still (`annealed`).
"""

from collections.abc import Callable, Iterator

import numpy as np

from nlaic.block import BlockCodec
from nlaic.integer import OFFSET_SHIFT, at_quality
from nlaic.rates import Rate

FEW = 8  # steps go straight down up to here
FIRST, SHORTER = 0.06, 0.6  # root mean square of the first step; of each other, its share of the one before
LONGEST = 3.0  # what a symbol moves at most, in root mean squares
SOFT = 0.7  # gradients are taken between z as it is and z rounded: from less than this share of the first down to none

HOT, COLD = 0.5, 0.02  # temperatures of the first and the last step
MOMENTUM, SQUARES, TINY = 0.9, 0.99, 1e-8  # of Adam
LEARNING_RATE = 0.03  # in steps of z

Slope = Callable[[np.ndarray], np.ndarray]  # the gradient by z in steps, of what a block costs


def search_side(codec: BlockCodec, y: np.ndarray, rate: Rate, steps: int, step_done: Callable[[], None]) -> np.ndarray:
    """Search z of a block.

    Args:
        codec: whose engine has `side_gradient`.
        y: in its own units, float32 [C, h, w].
        rate: at the quality wanted, its weight [C, h, w].
        steps: of the search.
        step_done: called after each.

    Returns:
        z in steps [Cz, h/4, w/4], still to be rounded.
    """
    side, in_steps = of_rate(codec, rate), y / rate.step

    def slope(z_hat: np.ndarray) -> np.ndarray:
        gradient = codec.engine.side_gradient(z_hat, in_steps, rate.weight, **side)
        step_done()
        return gradient

    walk = descended if steps <= FEW else annealed
    return walk(codec.side(y, rate), slope, steps)


def descended(z: np.ndarray, slope: Slope, steps: int) -> np.ndarray:
    """z after steps down the gradient, each shorter than the one before and equally long in every channel.

    Gradients are taken ever nearer to z as it is rounded: so the last steps answer what rounding does.

    Args:
        z: to begin with [Cz, h, w].
        slope: the gradient.
        steps: how many.
    """
    for number in range(steps):
        soft = SOFT * (1 - (number + 1) / steps)
        gradient = slope(soft * z + (1 - soft) * np.rint(z))
        size = np.sqrt(np.square(gradient).mean((1, 2), keepdims=True)) + TINY
        z = z - FIRST * SHORTER**number * np.clip(gradient / size, -LONGEST, LONGEST)
    return z


def annealed(z: np.ndarray, slope: Slope, steps: int) -> np.ndarray:
    """z after steps of Adam, each symbol drawn between its two neighbours by a Gumbel softmax that cools.

    Yang, Bamler, Mandt, "Improving inference for neural image compression", https://arxiv.org/abs/2006.04240 (NeurIPS
    2020). Arguments are those of `descended`.
    """
    z, mean, square = z.copy(), np.zeros_like(z), np.zeros_like(z)
    random = np.random.default_rng(0)
    for number, (temperature, length) in enumerate(cooling(steps, LEARNING_RATE), 1):
        z_hat, by_z = drawn(z, temperature, random)
        gradient = by_z * slope(z_hat)
        mean += (1 - MOMENTUM) * (gradient - mean)
        square += (1 - SQUARES) * (gradient * gradient - square)
        z -= length / (1 - MOMENTUM**number) * mean / (np.sqrt(square / (1 - SQUARES**number)) + TINY)
    return z


def of_rate(codec: BlockCodec, rate: Rate) -> dict[str, np.ndarray]:
    """What `Engine.side_gradient` takes of a rate."""
    return {
        "z_step": rate.z_step,
        "z_index": rate.z_index[:, None, None],
        "offset": at_quality(codec.scale.offset, rate.quality)[:, None, None] / 2**OFFSET_SHIFT,
        "skip": np.full(1, codec.coder.skip),
    }


def cooling(steps: int, learning_rate: float) -> Iterator[tuple[float, float]]:
    """The temperature and Adam's learning rate of each step; it falls in the second half."""
    for k in range(steps):
        share = k / steps
        yield HOT * (COLD / HOT) ** share, learning_rate * min(1.0, 2 * (1 - share))


def drawn(value: np.ndarray, temperature: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random mixtures of the two integers next to each value, and their derivatives by it."""
    low = np.floor(value)
    share = np.clip(value - low, 1e-4, 1 - 1e-4)
    uniform = np.clip(random.random(value.shape, np.float32), 1e-6, 1 - 1e-6)
    # The higher neighbour's logit (Yang et al., section 3.3) and a logistic draw, the difference of two Gumbels.
    logit = (np.arctanh(share) - np.arctanh(1 - share)) / temperature + np.log(uniform / (1 - uniform))
    part = 1 / (1 + np.exp(-np.clip(logit, -80, 80)))
    slope = (1 / (1 - share**2) + 1 / (1 - (1 - share) ** 2)) / temperature
    return low + part, part * (1 - part) * slope
