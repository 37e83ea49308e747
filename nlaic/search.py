"""The encoder thinks: symbols chosen by the gradient of the picture's error. The decoder does not know.

Three searches:

- **z** (efforts 4 to 9, `nlaic.side`), where the engine has its gradient: to where it, y and its error cost least
  together.
- **Rounds** (efforts 3 to 7), with z_hat held, so that every symbol's table stays. The gradient of the squared error at
  the decoded y_hat says where y should have been: y_hat - gradient / (2 gain), the gain being the squared norm of g_s'
  Jacobian for a channel. The value aimed at moves a share of the way there and is
  rounded again by what the symbols cost and what the error weighs (`nlaic.visibility`). Where g_s has a linear
  shortcut, its transpose stands for the Jacobian's: half the time. It says where to, not how far: the share is small.
  Every second row of cells also makes up for the mean colour that its neighbours lack: each symbol's own error is
  small, but rounded alike they cast a colour over a whole sky.
- **Annealing** (efforts 8 and 9, `nlaic.anneal`): Adam on y with bits, squared error and MS-SSIM. Needs torch.
"""

from dataclasses import dataclass

import numpy as np

from nlaic.block import Block, BlockCodec, Symbols
from nlaic.progress import Progress
from nlaic.rates import Rate
from nlaic.rounding import RateDistortionRounding
from nlaic.side import search_side
from nlaic.visibility import PYRAMID


@dataclass(frozen=True)
class Plan:
    """What an effort does.

    Attributes:
        side: steps of the search for z.
        steps: of the annealed search for y.
        rounds: of rounding by the gradient.
    """

    side: int
    steps: int
    rounds: int


PLANS = {
    3: Plan(0, 0, 1),
    4: Plan(4, 0, 2),
    5: Plan(4, 0, 4),
    6: Plan(20, 0, 4),  # where nothing searches z the same as 5
    7: Plan(30, 0, 8),
    8: Plan(30, 60, 0),
    9: Plan(100, 200, 0),
}

NEIGHBOURS, LESS = 0.2, 0.25  # a cell makes up for NEIGHBOURS / rounds^LESS of the colour that is missing around it
SHARE, FINER = 0.18, 0.72  # a round goes SHARE / rounds^FINER of the way to where the gradient points
STRENGTH, OUTWARD = 0.47, 0.04  # see `RateDistortionRounding`


def search(codec: BlockCodec, block: Block, rate: Rate, plan: Plan, progress: Progress | None = None) -> Symbols:
    """Choose a block's symbols.

    Args:
        codec: whose engine pulls, for rounds; with the torch engine, for steps.
        block: the picture and its y.
        rate: at the quality wanted.
        plan: how long to think, from `PLANS`.
        progress: called with the share that is done, 0..1.

    """
    side = plan.side if codec.engine.searches_side else 0
    count, done = side + plan.steps + plan.rounds, 0

    def step_done() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done / count)

    rounding = RateDistortionRounding.of(codec.coder.y, STRENGTH, OUTWARD)
    aim, chosen = block.y, codec.symbols(block.y, rate, rounding)
    if side:
        found = codec.with_side(block.y, search_side(codec, block.y, rate, side, step_done), rate, rounding)
        chosen = min(chosen, found, key=lambda symbols: cost(codec, block.y, rate, symbols))
    if plan.steps:
        from nlaic.anneal import anneal

        aim = anneal(codec, block, rate, chosen, plan.steps, step_done)
        chosen = codec.residuals(aim, chosen, rate)
    colour = colour_channels(codec.gain)
    for number in range(plan.rounds):
        y_hat = codec.decoded(chosen, rate)
        way = ideal(codec, block, y_hat)  # in place: these are large
        missing = around(way[colour] - y_hat[colour], number % 2)
        way -= aim
        way *= SHARE / plan.rounds**FINER
        aim = np.add(way, aim, out=way)
        aim[colour] += missing * (NEIGHBOURS / plan.rounds**LESS)
        chosen = codec.residuals(aim, chosen, rate, rounding)
        step_done()
    return chosen


def cost(codec: BlockCodec, y: np.ndarray, rate: Rate, symbols: Symbols) -> float:
    """Bits, and what the error of y, in its own units [C, h, w], weighs in bits."""
    payload = codec.coder.encode(symbols.z_hat, rate.z_index, symbols.r, symbols.index)
    error = (codec.decoded(symbols, rate) - y) / rate.step
    return 8 * len(payload) + float((rate.weight * error * error).sum())


def ideal(codec: BlockCodec, block: Block, y_hat: np.ndarray) -> np.ndarray:
    """Where y_hat would have the least error if every symbol acted for itself, in y's own units [C, h, w]."""
    gain = codec.gain[0, :, None, None]
    correction = codec.engine.pull(y_hat, block.pixels, block.size)
    correction /= gain
    return np.subtract(y_hat, correction, out=correction)


def colour_channels(gain: np.ndarray) -> np.ndarray:
    """The channels of y that hold the mean colour of a cell: what they change is left in means over 16x16 pixels.

    Args:
        gain: see `Codec.gain`.
    """
    share = gain[-1] / gain[0]
    return np.flatnonzero(share > share.max() / 2) if len(gain) == PYRAMID else np.empty(0, int)


def around(error: np.ndarray, parity: int) -> np.ndarray:
    """Means over 3x3 cells at every second row, 0 at the others: what a row makes up for its neighbours do not too.

    Args:
        error: [C, h, w].
        parity: of the rows, 0 or 1.
    """
    height, width = error.shape[1:]
    edged = np.pad(error, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = [edged[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    means = np.mean(windows, axis=0)
    means[:, 1 - parity :: 2] = 0
    return means
