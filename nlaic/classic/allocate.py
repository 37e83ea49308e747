"""Bytes (and seconds) shared out over a set: one choice a picture, the best mean, the sums within the budgets.

MVGL's integer programme (section 5.2, Eq. 1a to 1d): x[i, j] in {0, 1} says that picture i takes its option j,

    minimise sum f[i, j] x[i, j]  while  sum b[i, j] x[i, j] <= bytes  and  sum_j x[i, j] = 1 for every i,

with a second row for seconds where there is a limit for them. The paper's f are summed squared errors; here it is any
cost. HiGHS solves it, through SciPy: first without "in {0, 1}", where at most a picture a limit is left between two
options. These are rounded by trying all; what the two optima are apart then rules most options out (reduced costs), and
the solver for whole numbers has little left to do.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from nlaic.classic.coders import plugin
from nlaic.errors import NlaicError

TIME_LIMIT = 6.0  # seconds for the solver; what was rounded is good to a picture a limit, should it need more
GAP = 1e-9  # between what is found and what can be, relative
WHOLE = 1e-6  # what is nearer to 0 or 1 is whole


@dataclass(frozen=True)
class Limit:
    """One budget.

    Attributes:
        name: for messages, with its unit.
        amounts: what each option of each picture takes, [N, M].
        total: what all of them may take together.
    """

    name: str
    amounts: np.ndarray
    total: float


def solver() -> Any:
    """scipy.optimize; raises MissingError where there is no SciPy."""
    return plugin("scipy.optimize", "scipy", "classic")


def allocate(costs: np.ndarray, *limits: Limit) -> np.ndarray:
    """The option that each picture takes, [N], so that the sum of costs is the least that the limits allow.

    Args:
        costs: of each option of each picture, [N, M]; infinite where there is none.
        limits: at least one.

    Raises:
        NlaicError: if a budget is below the least that the pictures can take, which is said; or if all together
            cannot be met.
    """
    there = np.isfinite(costs)
    for limit in limits:
        least = np.where(there, limit.amounts, np.inf).min(1).sum()
        if least > limit.total:
            raise NlaicError(f"a budget of {limit.total:.10g} {limit.name} cannot be met: the least is {least:.10g}")
    worth = np.where(there, costs, 0.0)
    share, reduced, bound = _relaxed(worth, there, limits)
    rounded = _rounded(share, np.where(there, costs, np.inf), limits)
    if rounded is not None:
        there &= reduced <= _sum(worth, rounded) - bound + 1e-9 * np.ptp(worth)
        there[np.arange(len(costs)), rounded] = True
    chosen = _whole(worth, there, limits)
    fitting = [one for one in (rounded, chosen) if one is not None and _fits(one, limits)]
    if not fitting:
        raise NlaicError(f"no choice meets all budgets together: {', '.join(limit.name for limit in limits)}")
    return min(fitting, key=lambda one: _sum(worth, one))


def _relaxed(
    costs: np.ndarray, there: np.ndarray, limits: tuple[Limit, ...]
) -> tuple[np.ndarray | None, np.ndarray, float]:
    """The optimum in fractions [N, M], by how much an option is worse than its picture's best at the prices of the
    limits [N, M], and the least sum that there can be; None and zeros where the limits together cannot be met."""
    linprog = solver().linprog
    amounts = np.stack([limit.amounts.ravel() / (limit.total or 1.0) for limit in limits])
    unit = np.ptp(costs) or 1.0
    found = linprog(
        costs.ravel() / unit,
        A_ub=amounts,
        b_ub=[1.0 if limit.total else 0.0 for limit in limits],
        A_eq=_one_each(costs.shape),
        b_eq=np.ones(len(costs)),
        bounds=np.stack((np.zeros(costs.size), there.ravel()), axis=1),
        method="highs",
    )
    if found.x is None:
        return None, np.zeros(costs.shape), -np.inf
    prices = -found.ineqlin.marginals * unit
    priced = np.where(there, costs + (prices @ amounts).reshape(costs.shape), np.inf)
    best = priced.min(1)
    return found.x.reshape(costs.shape), priced - best[:, None], float(best.sum() - prices.sum())


def _rounded(share: np.ndarray | None, costs: np.ndarray, limits: tuple[Limit, ...]) -> np.ndarray | None:
    """Whole numbers next to the fractions: the few pictures between options take the best that fits."""
    if share is None:
        return None
    chosen = share.argmax(1)
    between = np.flatnonzero(share.max(1) < 1 - WHOLE)
    if costs.shape[1] ** len(between) > 10**5:
        return None
    tried = []
    for options in product(range(costs.shape[1]), repeat=len(between)):
        one = chosen.copy()
        one[between] = options
        if np.isfinite(costs[between, one[between]]).all() and _fits(one, limits):
            tried.append(one)
    return min(tried, key=lambda one: _sum(costs, one), default=None)


def _whole(costs: np.ndarray, there: np.ndarray, limits: tuple[Limit, ...]) -> np.ndarray | None:
    """The integer programme over the options that are left."""
    optimize = solver()
    columns = np.flatnonzero(there)
    rows = [optimize.LinearConstraint(_one_each(costs.shape)[:, columns], 1, 1)]
    for limit in limits:
        unit = limit.total or 1.0  # rows of one size: the solver's tolerance is absolute
        rows.append(
            optimize.LinearConstraint(limit.amounts.reshape(1, -1)[:, columns] / unit, -np.inf, limit.total / unit)
        )
    with _silence():
        found = optimize.milp(
            costs.ravel()[columns] / (np.ptp(costs) or 1.0),
            integrality=np.ones(len(columns)),
            bounds=optimize.Bounds(0, 1),
            constraints=rows,
            options={"time_limit": TIME_LIMIT, "mip_rel_gap": GAP},
        )
    if found.x is None:
        return None
    share = np.zeros(costs.size)
    share[columns] = found.x
    return share.reshape(costs.shape).argmax(1)


@contextmanager
def _silence() -> Iterator[None]:
    """Now and then HiGHS prints a line of its own to standard output, past Python and its own options."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def _one_each(shape: tuple[int, ...]) -> Any:
    """Eq. 1c: the options of each picture, [N, N * M], sparse."""
    from scipy import sparse

    return sparse.kron(sparse.eye(shape[0]), np.ones((1, shape[1])), format="csr")


def _fits(chosen: np.ndarray, limits: tuple[Limit, ...]) -> bool:
    return all(_sum(limit.amounts, chosen) <= limit.total for limit in limits)


def _sum(values: np.ndarray, chosen: np.ndarray) -> float:
    return float(values[np.arange(len(chosen)), chosen].sum())
