"""Standard deviations that are safe to divide by.

Doubles that are equal on paper differ in the last digit, so the standard deviation of thirty 0.1 is
1e-17 instead of zero, and a ratio to it is 1e16. A spread below `ROUNDING` times the largest value
is such rounding, and is 0.0 here. Squares of 1e200 overflow and those of 1e-200 vanish, so values
are scaled by a power of two first, which is exact.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Floats

ROUNDING = 1e-12


def is_rounding(spread: float, *values: float) -> bool:
    """Whether a spread of some values, or of others as large as them, is rounding only.

    >>> is_rounding(1e-17, 0.1), is_rounding(0.08, 0.05), is_rounding(0.0)
    (True, False, True)
    """
    return not spread > ROUNDING * max(map(abs, values), default=0.0)


def unit(values: ArrayLike) -> tuple[Floats, int]:
    """Values divided by a power of two, so that the largest is between 0.5 and 1, and its exponent.

    >>> unit([3.0, -1.5])
    (array([ 0.75 , -0.375]), 2)
    """
    data = np.asarray(values, dtype=np.float64)
    exponent = math.frexp(float(np.abs(data).max()))[1] if data.size else 0
    return np.ldexp(data, -exponent), exponent


def mean_and_sd(values: ArrayLike) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1) of finite values, shape (n,); NaN for too few of them.

    >>> mean_and_sd([1.0, 3.0, 2.0]), mean_and_sd([0.1] * 30)[1]
    ((2.0, 1.0), 0.0)
    """
    data, exponent = unit(values)
    if not len(data):
        return float("nan"), float("nan")
    mean = float(data.mean())
    sd = float(data.std(ddof=1)) if len(data) > 1 else float("nan")
    if is_rounding(sd, float(np.abs(data).max())) and len(data) > 1:
        sd = 0.0
    return _scaled(mean, exponent), _scaled(sd, exponent)


def is_constant(values: ArrayLike) -> bool:
    """Whether finite values, shape (n,), differ by rounding at most.

    >>> is_constant([0.3, 0.1 + 0.2]), is_constant([0.3, 0.31]), is_constant([])
    (True, False, True)
    """
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        return True
    low, high = float(data.min()), float(data.max())
    return low == high or is_rounding(high / 2 - low / 2, low / 2, high / 2)


def _scaled(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)
