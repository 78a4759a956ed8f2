"""Hypotheses that transform the right value: rounding, factors, limits, fills, standardisation.

Numbers are fitted to the densest cluster of what the cells suggest, not to a mean: two faults in
different cells do not disturb each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .cells import Flags, Floats, SkewCells
from .hypotheses import Hypothesis, choice

__all__ = ["fills", "transformations"]

KNOWN_FACTORS = {
    100.0: "a fraction given in percent",
    0.01: "percent given as a fraction",
    1e4: "a fraction given in basis points",
    1e-4: "basis points given as a fraction",
    10.0: "",
    0.1: "",
    1e3: "a unit in thousands",
    1e-3: "a unit in thousands",
    1e6: "a unit in millions",
    1e-6: "a unit in millions",
    252**0.5: "annualised with the root of 252",
    252**-0.5: "not annualised with the root of 252",
    252.0: "annualised with 252",
    1 / 252: "not annualised with 252",
    365**0.5: "annualised with the root of 365",
    2.0: "",
    0.5: "",
}
FIT = 1e-9  # relative, to which a fitted number reproduces the values
SINGLE = 2.0**-18  # relative: what a computation in float32 may lose
NOISE = 1e-6  # of the feature's usual size: another order of the same additions
PAIRS = 600  # of cells, that suggest the factor and the offset of an affine change


def transformations(cells: SkewCells, left: Flags) -> Iterator[Hypothesis]:
    """Changes of the right value; `left` are the cells that are not explained yet."""
    both = left & np.isfinite(cells.served) & np.isfinite(cells.expected)
    if not both.any():
        return
    yield from _rounded(cells, both)
    yield from _scaled(cells, both)
    yield from _offset(cells, both)
    yield from _clipped(cells, both)
    yield from _standardised(cells)
    yield from _affine(cells, both)


def fills(cells: SkewCells, left: Flags) -> Iterator[Hypothesis]:
    """Values in place of a missing one; `left` are the cells that are not explained yet."""
    unknown = np.isnan(cells.expected)
    served = cells.served[left & np.isfinite(cells.served)]
    if not len(served):
        return
    everywhere = np.ones(len(cells), dtype=bool)
    yield _constant(cells, 0.0, "0", 0.02)
    values, counts = np.unique(served, return_counts=True)
    common = float(values[np.argmax(counts)])
    if counts.max() > 2 and common:
        yield _constant(cells, common, f"{common:.6g}", 1.0)
    agree = ~cells.differs & np.isfinite(cells.served)
    means = (
        ("mean of the session", np.mean, np.isfinite(cells.expected)),
        ("mean of the session", np.mean, agree),
        ("median of the session", np.median, np.isfinite(cells.expected)),
        ("median of the session", np.median, agree),
    )
    for name, statistic, over in means:
        predicted = _by_session(cells, over, statistic)
        yield Hypothesis(
            "filled",
            f"a missing value filled with the {name}",
            predicted,
            everywhere & np.isfinite(predicted),
            choice(len(means)),
            {"with": name},
            is_whole=False,
            slack=FIT * cells.scale,
        )
    forward = _last_known(cells)
    text = "a missing value filled forward from the last session that had one"
    applies = unknown & np.isfinite(forward)
    yield Hypothesis("filled", text, forward, applies, 0.02, {"with": "last value"}, is_whole=False)


def _constant(cells: SkewCells, value: float, name: str, cost: float) -> Hypothesis:
    predicted = np.full(len(cells), value)
    what = "NaN" if np.isnan(cells.expected[cells.served == value]).all() else "a missing value"
    text = f"{what} filled with {name}"
    everywhere = np.ones(len(cells), dtype=bool)
    return Hypothesis("filled", text, predicted, everywhere, cost, {"with": value}, is_whole=False)


def _by_session(cells: SkewCells, over: Flags, statistic: object) -> Floats:
    """A statistic of research over some cells of each session, shape (c,); NaN without any."""
    result = np.full(len(cells.sessions), np.nan)
    for row in np.unique(cells.row[over]).tolist():
        result[row] = statistic(cells.expected[over & (cells.row == row)])  # type: ignore[operator]
    return result[cells.row]


def _last_known(cells: SkewCells) -> Floats:
    """The newest value of research before each cell's session, shape (c,)."""
    rows = np.arange(len(cells.sessions))[:, None]
    latest = np.maximum.accumulate(np.where(np.isfinite(cells.grid), rows, -1), axis=0)
    before = np.vstack([np.full((1, len(cells.entities)), -1), latest[:-1]])
    return cells.at(before[cells.row, cells.column])


def _rounded(cells: SkewCells, both: Flags) -> Iterator[Hypothesis]:
    served, expected = cells.served, cells.expected
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(served - expected)
        is_single = (served == served.astype(np.float32)) & (
            gap <= SINGLE * np.maximum(np.abs(served), np.abs(expected))
        )
        half = expected.astype(np.float16).astype(np.float64)
        is_noise = gap <= NOISE * cells.scale
    finite = np.isfinite(expected)
    yield Hypothesis(
        "rounded", "computed or stored as float32", served, is_single, 0.02, {"to": "float32"}
    )
    yield Hypothesis("rounded", "stored as float16", half, finite, 0.05, {"to": "float16"})
    for digits in range(9):
        to = np.round(expected, digits)
        text = f"rounded to {digits} decimals"
        yield Hypothesis("rounded", text, to, finite, choice(9) + 0.05, {"decimals": digits})
    for digits in range(2, 10):
        to = _significant(expected, digits)
        text = f"rounded to {digits} significant digits"
        yield Hypothesis("rounded", text, to, finite, choice(9) + 0.06, {"digits": digits})
    noise = np.where(is_noise & finite, served, np.nan)
    text = "differs by rounding only, as another order of the same additions does"
    yield Hypothesis("rounded", text, noise, is_noise & finite, 0.4, {"to": "float64"})


def _significant(values: Floats, digits: int) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.floor(np.log10(np.abs(values)))
        scale = 10.0 ** (digits - 1 - power)
        rounded: Floats = np.round(values * scale) / scale
    return np.where(values == 0, 0.0, rounded)


def _scaled(cells: SkewCells, both: Flags) -> Iterator[Hypothesis]:
    usable = both & (cells.expected != 0) & (cells.served != 0)
    if not usable.any():
        return
    finite = np.isfinite(cells.expected)
    yield Hypothesis("sign", "sign exchanged", -cells.expected, finite, 0.02, {"factor": -1.0})
    ratios = cells.served[usable] / cells.expected[usable]
    factor = _cluster(ratios, FIT * np.abs(ratios))
    known = next((f for f in KNOWN_FACTORS if abs(abs(factor) / f - 1) <= FIT), None)
    if known is not None:
        factor = float(np.copysign(known, factor))
    meaning = KNOWN_FACTORS.get(abs(factor), "")
    text = f"x{factor:.6g}" + (f", {meaning}" if meaning else "")
    cost = 1.0 if known is None else choice(2 * len(KNOWN_FACTORS))
    predicted = cells.expected * factor
    yield Hypothesis("scaled", text, predicted, finite, cost, {"factor": factor})


def _offset(cells: SkewCells, both: Flags) -> Iterator[Hypothesis]:
    gaps = cells.served[both] - cells.expected[both]
    size = np.abs(cells.served[both]) + np.abs(cells.expected[both])
    added = _cluster(gaps, FIT * size)
    slack = FIT * max(abs(added), cells.scale)
    yield Hypothesis(
        "offset",
        f"{added:+.6g}",
        cells.expected + added,
        np.isfinite(cells.expected),
        1.0,
        {"offset": added},
        slack=slack,
    )


def _clipped(cells: SkewCells, both: Flags) -> Iterator[Hypothesis]:
    below, above = both & (cells.served < cells.expected), both & (cells.served > cells.expected)
    high, low = _limit(cells.served[below]), _limit(cells.served[above])
    bounds = [(-np.inf, high), (low, np.inf), (low, high)]
    for lo, hi in bounds:
        if np.isnan(lo) or np.isnan(hi) or lo >= hi:
            continue
        applies = (cells.expected > hi) | (cells.expected < lo)
        sides = {"low": lo, "high": hi}
        given = {name: value for name, value in sides.items() if np.isfinite(value)}
        text = " and ".join(f"at {value:.6g}" for value in given.values())
        predicted = np.clip(cells.expected, lo, hi)
        yield Hypothesis("clipped", f"cut off {text}", predicted, applies, len(given), given)
    yield _winsorised(cells, below, above)


def _limit(values: Floats) -> float:
    if not len(values):
        return float("nan")
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[np.argmax(counts)])


def _winsorised(cells: SkewCells, below: Flags, above: Flags) -> Hypothesis:
    """Limits of each session's own."""
    highs, lows = np.full(len(cells.sessions), np.inf), np.full(len(cells.sessions), -np.inf)
    for limits, of in ((highs, below), (lows, above)):
        for row in np.unique(cells.row[of]).tolist():
            limits[row] = _limit(cells.served[of & (cells.row == row)])
    hi, lo = highs[cells.row], lows[cells.row]
    applies = (cells.expected > hi) | (cells.expected < lo)
    cost = float(np.isfinite(highs).sum() + np.isfinite(lows).sum())
    predicted = np.where(cells.expected > hi, hi, np.where(cells.expected < lo, lo, cells.expected))
    return Hypothesis("clipped", "cut off at limits of each session", predicted, applies, cost)


def _standardised(cells: SkewCells) -> Iterator[Hypothesis]:
    """The cross section of each session as z-scores, ranks, or without its mean."""
    known = np.isfinite(cells.expected)
    mean = _by_session(cells, known, np.mean)
    gap = cells.expected - mean
    forms = [("distances from the mean of the session", gap)]
    for ddof in (0, 1):
        spread = _by_session(cells, known, lambda part, d=ddof: _deviation(part, d))
        with np.errstate(divide="ignore", invalid="ignore"):
            forms.append((f"z-scores of the session (ddof {ddof})", gap / spread))
    forms.append(("ranks of the session, from 0 to 1", _ranks(cells, known)))
    for name, predicted in forms:
        slack = FIT * (cells.scale if predicted is gap else 1.0)
        finite = np.isfinite(predicted)
        cost = choice(len(forms)) + 0.05
        yield Hypothesis("standardised", name, predicted, finite, cost, slack=slack)


def _deviation(values: Floats, ddof: int) -> float:
    return float(np.std(values, ddof=ddof)) if len(values) > 2 else float("nan")


def _ranks(cells: SkewCells, known: Flags) -> Floats:
    result = np.full(len(cells), np.nan)
    for row in np.unique(cells.row[known]).tolist():
        at = np.flatnonzero(known & (cells.row == row))
        if len(at) > 2:
            result[at] = (np.argsort(np.argsort(cells.expected[at])) + 1) / len(at)
    return result


def _affine(cells: SkewCells, both: Flags) -> Iterator[Hypothesis]:
    at = np.flatnonzero(both)
    if len(at) < 4:
        return
    rng = np.random.default_rng(17)
    left, right = at[rng.integers(len(at), size=(2, PAIRS))]
    apart = np.abs(cells.expected[left] - cells.expected[right]) > 1e-3 * cells.scale
    if not apart.any():
        return
    left, right = left[apart], right[apart]
    slopes = (cells.served[left] - cells.served[right]) / (
        cells.expected[left] - cells.expected[right]
    )
    slope = _cluster(slopes, 1e-7 * np.abs(slopes))
    rest = cells.served[at] - slope * cells.expected[at]
    offset = _cluster(rest, 1e-7 * (np.abs(rest) + abs(slope) * cells.scale))
    near = np.abs(rest - offset) <= 1e-6 * (abs(offset) + abs(slope) * cells.scale)
    if near.sum() > 2 and np.ptp(cells.expected[at[near]]) > 0:
        slope, offset = np.polyfit(cells.expected[at[near]], cells.served[at[near]], 1).tolist()
    slack = FIT * (abs(offset) + abs(slope) * cells.scale)
    yield Hypothesis(
        "affine",
        f"{slope:.6g} times the value {offset:+.6g}",
        slope * cells.expected + offset,
        np.isfinite(cells.expected),
        2.0,
        {"factor": slope, "offset": offset},
        slack=slack,
    )


def _cluster(values: Floats, width: Floats) -> float:
    """The median of the densest cluster: of the values within `width` of one of them.

    >>> _cluster(np.array([5.0, 1.0, 1.0, 7.0]), np.full(4, 1e-9))
    1.0
    """
    order = np.argsort(values, kind="stable")
    ordered, reach = values[order], np.abs(width[order])
    high = np.searchsorted(ordered, ordered + 2 * reach, "right")
    best = int(np.argmax(high - np.arange(len(ordered))))
    return float(np.median(ordered[best : high[best]]))
