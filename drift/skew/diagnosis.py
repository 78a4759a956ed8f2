"""Why the cells of a feature differ: the simplest explanations that fit, one fault after another.

The principle is the shortest description [1]_. Without an explanation every differing cell costs
one value, since it has to be written down; an explanation saves the cells that it predicts, and
costs its parameters: a fitted number as much as one value, a choice among n alternatives log2(n)
bits of the 30 that a value of relative tolerance 1e-9 carries. A cell whose value is common saves
less, since it may agree by chance, and a cell that agrees with research although the explanation
would have changed it counts against it. The explanation that saves most is taken, then the next
one for what is left, so that two faults in different cells are reported as two.

References
----------
.. [1] J. Rissanen, "Modeling by shortest data description", Automatica 14 (1978), 465-471.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .cells import Flags, SkewCells, same
from .findings import Finding, finding
from .fits import fills, transformations
from .hypotheses import Hypothesis, exchanges, substitutes

__all__ = ["diagnose"]

SAVED = 0.4  # values that an explanation must save
CHEAP = 0.2  # values: the cost of a choice, below which nothing simpler is looked for
MOST = 6  # faults of one feature that are separated
SINGLE = 2.0**-23  # relative: the rounding of float32


def diagnose(cells: SkewCells) -> list[Finding]:
    """Why the cells of one feature differ, the explanation of most cells first.

    Parameters
    ----------
    cells
        The feature as it was served, and what research knows of it.

    Returns
    -------
    list of Finding
        Empty where every cell agrees. What nothing explains is the last, of kind "unexplained".

    Examples
    --------
    >>> from datetime import date
    >>> days = [date(2024, 1, day) for day in (2, 3, 4, 5)]
    >>> research = np.random.default_rng(1).normal(size=(4, 3))
    >>> served = research.copy()
    >>> served[2:] = research[1:3]
    >>> [found] = diagnose(SkewCells.of_grid(days, ["A", "B", "C"], served, research))
    >>> found.text, found.cells, found.first
    ('value served at t = research value of t-1', 6, datetime.date(2024, 1, 4))
    """
    left = cells.differs.copy()
    findings: list[Finding] = []
    tolerance = cells.tolerance
    if _is_single(cells, left):
        tolerance = max(tolerance, SINGLE)
    while left.any() and len(findings) < MOST:
        best = _best(cells, left, tolerance)
        if best is None:
            break
        explained = _explained(cells, left, best, tolerance)
        findings.append(
            finding(cells, explained, best.predicted, best.kind, best.text, best.parameters)
        )
        left &= ~explained
    findings.sort(key=lambda found: -found.cells)
    if left.any():
        nothing = np.full(len(cells), np.nan)
        findings.append(finding(cells, left, nothing, "unexplained", "no explanation fits", {}))
    return findings


def _best(cells: SkewCells, left: Flags, tolerance: float) -> Hypothesis | None:
    """The hypothesis that saves most; of equal ones the simpler."""
    best, most = None, (SAVED, 0)
    enough = float(cells.weights[left].sum()) - CHEAP
    for hypothesis in _hypotheses(cells, left):
        saved = (round(_saved(cells, left, hypothesis, tolerance), 6), -hypothesis.order)
        if saved > most:
            best, most = hypothesis, saved
        if most[0] >= enough:  # all that is left, without a fitted number
            break
    return best


def _hypotheses(cells: SkewCells, left: Flags) -> Iterator[Hypothesis]:
    yield from substitutes(cells, left)
    yield from fills(cells, left)
    yield from transformations(cells, left)
    yield from exchanges(cells, left)  # the costly one


def _saved(cells: SkewCells, left: Flags, hypothesis: Hypothesis, tolerance: float) -> float:
    """Values that a hypothesis saves: cells explained, less those that contradict it, less cost."""
    explained = _explained(cells, left, hypothesis, tolerance)
    gain = float(cells.weights[explained].sum())
    if gain <= hypothesis.cost:
        return 0.0
    if hypothesis.is_whole:
        matches = hypothesis.matches(cells.served, tolerance)
        gain -= float(cells.weights[_contradicting(cells, explained, hypothesis, matches)].sum())
    return gain - hypothesis.cost


def _explained(cells: SkewCells, left: Flags, hypothesis: Hypothesis, tolerance: float) -> Flags:
    """The cells that a hypothesis predicts, and that research alone does not."""
    explained = left & hypothesis.matches(cells.served, tolerance)
    if hypothesis.kind == "rounded":
        return explained
    return explained & ~same(hypothesis.predicted, cells.expected, tolerance)


def _contradicting(
    cells: SkewCells, explained: Flags, hypothesis: Hypothesis, matches: Flags
) -> Flags:
    """Cells of the explained sessions and entities that agree, and should not."""
    in_session = np.zeros(len(cells.sessions), dtype=bool)
    of_entity = np.zeros(len(cells.entities), dtype=bool)
    in_session[cells.row[explained]] = True
    of_entity[cells.column[explained]] = True
    scope = in_session[cells.row] & (of_entity[cells.column] | (hypothesis.kind == "clipped"))
    return scope & hypothesis.applies & ~matches & ~cells.differs


def _is_single(cells: SkewCells, left: Flags) -> bool:
    """Whether serving computes in float32: its values are such numbers, those of research not."""
    at = left & np.isfinite(cells.served) & np.isfinite(cells.expected)
    if not at.any():
        return False
    with np.errstate(over="ignore"):
        served = cells.served[at] == cells.served[at].astype(np.float32)
        known = cells.expected[at]
        research = same(known, known.astype(np.float32).astype(np.float64), 0.0)
    return bool(served.mean() > 0.95 and research.mean() < 0.5)
