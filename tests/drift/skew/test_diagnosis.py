"""Every kind of fault, planted on features of random prices, is named; healthy ones have none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from drift.skew.cells import SkewCells
from drift.skew.diagnosis import diagnose
from drift.skew.findings import Finding

SEEDS = range(20)
SESSIONS, NAMES = 40, 24
FIRST = 22  # the session of the fault
DAYS = [date(2024, 1, 1) + timedelta(days=i) for i in range(SESSIONS)]
ENTITIES = [f"N{i:02d}" for i in range(NAMES)]
Floats = Any


def features(seed: int) -> dict[str, Floats]:
    """Return, RSI and volatility of random prices, without a value in their first sessions."""
    rng = np.random.default_rng(seed)
    returns = 0.005 * rng.normal(size=(SESSIONS + 20, 1)) + 0.02 * rng.normal(
        size=(SESSIONS + 20, NAMES)
    )
    prices = 100 * np.exp(np.cumsum(returns, axis=0))
    rows = range(20, SESSIONS + 20)
    up = np.array([np.maximum(returns[t - 14 : t], 0).mean(axis=0) for t in rows])
    down = np.array([np.maximum(-returns[t - 14 : t], 0).mean(axis=0) for t in rows])
    return {
        "ret_5d": np.array([prices[t] / prices[t - 5] - 1 for t in rows]),
        "rsi_14": 100 - 100 / (1 + up / down),
        "vol_20d": np.array([returns[t - 20 : t].std(axis=0) for t in rows]),
    }


def of(seed: int) -> tuple[str, Floats, Floats, dict[str, Floats], np.random.Generator]:
    """A feature by turns, to be served right from a copy of research; and the other features."""
    known = features(seed)
    name = list(known)[seed % 3]
    research = known.pop(name)
    return name, research.copy(), research, known, np.random.default_rng(1000 + seed)


def diagnosed(served: Floats, research: Floats, **options: Any) -> list[Finding]:
    return diagnose(SkewCells.of_grid(DAYS, ENTITIES, served, research, **options))


def shifted(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    k = int(rng.choice([-5, -2, -1, 1, 2, 5]))
    end = SESSIONS + min(k, 0)
    served[FIRST:end] = research[FIRST - k : end - k]
    return {"sessions": k}


def scaled(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    factor = float(rng.choice([100.0, 0.01, 1e4, 252**0.5, 3.7]))
    served[FIRST:] *= factor
    return {"factor": pytest.approx(factor)}


def sign(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    served[FIRST:] *= -1
    return {"factor": -1.0}


def offset(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    served[FIRST:] += 0.37
    return {"offset": pytest.approx(0.37)}


def affine(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    served[FIRST:] = 2.5 * served[FIRST:] - 0.7
    return {"factor": pytest.approx(2.5), "offset": pytest.approx(-0.7)}


def standardised(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    part = served[FIRST:]
    mean, sd = part.mean(axis=1, keepdims=True), part.std(axis=1, ddof=1, keepdims=True)
    served[FIRST:] = (part - mean) / sd
    return {}


def single(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    served[FIRST:] = served[FIRST:].astype(np.float32)
    return {"to": "float32"}


def decimals(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    served[FIRST:] = np.round(served[FIRST:], 4)
    return {"decimals": 4}


def stale(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    served[FIRST : FIRST + 5] = research[FIRST - 1]
    return {"session": DAYS[FIRST - 1].isoformat()}


def missing(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    served[FIRST:, rng.random(NAMES) < 0.4] = np.nan
    return {}


def zeros(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    served[FIRST:][rng.random((SESSIONS - FIRST, NAMES)) < 0.2] = 0.0
    return {"with": 0.0}


def nan_as_zero(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    research[rng.random(research.shape) < 0.1] = np.nan
    served[:] = np.where(np.isnan(research), 0.0, research)
    return {"with": 0.0}


def forward(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    is_lost = rng.random(research.shape) < 0.1
    is_lost[0] = False
    research[is_lost] = np.nan
    for t in range(1, SESSIONS):
        served[t] = np.where(is_lost[t], served[t - 1], research[t])
    return {"with": "last value"}


def mean(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    is_lost = rng.random(research.shape) < 0.1
    research[is_lost] = np.nan
    served[:] = np.where(is_lost, np.nanmean(research, axis=1, keepdims=True), research)
    return {"with": "mean of the session"}


def clipped(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    low, high = np.quantile(research, [0.1, 0.9])
    served[FIRST:] = np.clip(served[FIRST:], low, high)
    return {"low": pytest.approx(low), "high": pytest.approx(high)}


def entities(served: Floats, research: Floats, rng: np.random.Generator) -> dict[str, Any]:
    a, b = rng.choice(NAMES, 2, replace=False)
    served[FIRST:, [a, b]] = research[FIRST:, [b, a]]
    return {"values_of": {ENTITIES[a]: ENTITIES[b], ENTITIES[b]: ENTITIES[a]}}


PLANTS: dict[str, list[Callable[..., dict[str, Any]]]] = {
    "shifted": [shifted],
    "scaled": [scaled],
    "sign": [sign],
    "offset": [offset],
    "affine": [affine],
    "standardised": [standardised],
    "rounded": [single, decimals],
    "stale": [stale],
    "missing": [missing],
    "filled": [zeros, nan_as_zero, forward, mean],
    "clipped": [clipped],
    "entities": [entities],
}
CASES = [(kind, plant) for kind, plants in PLANTS.items() for plant in plants]


@pytest.mark.parametrize(
    ("kind", "plant"), CASES, ids=[f"{kind} {plant.__name__}" for kind, plant in CASES]
)
def test_a_planted_fault_is_named_with_its_numbers(kind: str, plant: Callable[..., Any]) -> None:
    for seed in SEEDS:
        _, served, research, others, rng = of(seed)
        parameters = plant(served, research, rng)
        findings = diagnosed(served, research, others=others)
        assert [found.kind for found in findings] == [kind], (seed, findings)
        [found] = findings
        assert found.share == 1.0
        assert found.parameters == parameters or kind == "standardised"
        if plant not in (nan_as_zero, forward, mean, zeros, clipped):
            assert found.first == DAYS[FIRST]


def test_healthy_features_have_no_finding() -> None:
    for seed in SEEDS:
        _, served, research, others, _ = of(seed)
        assert diagnosed(served, research, others=others, tolerance=0.0) == []


def test_the_first_session_of_a_fault_is_enough() -> None:
    """One session of data: the first morning."""
    for seed in SEEDS:
        _, served, research, others, rng = of(seed)
        for plant in (sign, single, entities, missing):
            wrong, right = served.copy(), research.copy()
            plant(wrong, right, rng)
            wrong[FIRST + 1 :] = right[FIRST + 1 :]
            kind = next(kind for kind, plants in PLANTS.items() if plant in plants)
            assert [f.kind for f in diagnosed(wrong, right, others=others)] == [kind]


def test_exchanged_columns_name_the_other_feature() -> None:
    for seed in SEEDS:
        _, served, research, others, _ = of(seed)
        other = list(others)[seed % 2]
        served[FIRST:] = others[other][FIRST:]
        [found] = diagnosed(served, research, others=others)
        assert (found.kind, found.parameters, found.share) == ("column", {"column": other}, 1.0)


def test_another_version_is_named() -> None:
    for seed in SEEDS:
        _, served, research, others, rng = of(seed)
        other = research * (1 + 0.1 * rng.normal(size=research.shape))
        served[FIRST : FIRST + 10] = other[FIRST : FIRST + 10]
        [found] = diagnosed(served, research, others=others, versions={"2": other})
        assert (found.kind, found.parameters) == ("version", {"version": "2"})
        assert (found.first, found.last, found.sessions) == (DAYS[FIRST], DAYS[FIRST + 9], 10)


def test_two_faults_at_once_are_two_findings() -> None:
    """A shift in some entities, NaN served as zero in others, and a unit in a third group."""
    for seed in SEEDS:
        _, served, research, others, _ = of(seed)
        served[FIRST:, :10] = research[FIRST - 1 : -1, :10]
        served[FIRST + 3 :, 10:16] = 0.0
        served[FIRST:, 20:] *= 100
        found = {f.kind: f for f in diagnosed(served, research, others=others)}
        assert set(found) == {"shifted", "filled", "scaled"}, found
        assert found["shifted"].entities == 10
        assert (found["filled"].entities, found["filled"].first) == (6, DAYS[FIRST + 3])
        assert found["scaled"].parameters == {"factor": 100.0}


def test_a_shift_in_float32_is_a_shift_and_the_rest_is_rounding() -> None:
    for seed in SEEDS:
        _, served, research, others, _ = of(seed)
        served[FIRST:, :10] = research[FIRST - 1 : -1, :10]
        served = served.astype(np.float32).astype(np.float64)
        kinds = {f.kind for f in diagnosed(served, research, others=others)}
        assert kinds == {"shifted", "rounded"}


def test_random_values_are_unexplained() -> None:
    for seed in SEEDS:
        _, served, research, others, rng = of(seed)
        served[FIRST:] += 0.3 * research.std() * rng.normal(size=served[FIRST:].shape)
        [found] = diagnosed(served, research, others=others)
        assert found.kind == "unexplained"


def test_flags_that_are_a_session_late_are_shifted_not_inverted() -> None:
    """Half of the values of a flag agree with any hypothesis by chance."""
    for seed in SEEDS:
        research = (np.random.default_rng(seed).random((SESSIONS, NAMES)) < 0.3).astype(float)
        served = research.copy()
        served[FIRST:] = research[FIRST - 1 : -1]
        [found] = diagnosed(served, research)
        assert (found.kind, found.parameters) == ("shifted", {"sessions": 1})


def test_what_was_known_then_is_no_fault_and_what_was_written_later_is_named() -> None:
    for seed in SEEDS:
        _, served, research, _, _rng = of(seed)
        cells = SkewCells.of_grid(DAYS, ENTITIES, served, research)
        revised = served.copy()
        revised[FIRST] *= -1
        [found] = diagnose(
            SkewCells(
                DAYS,
                ENTITIES,
                cells.row,
                cells.column,
                cells.served,
                revised.reshape(-1),
                revised,
                known_then=cells.served,
                now=revised.reshape(-1),
            )
        )
        assert (found.kind, found.is_fault, found.cells) == ("revised", False, NAMES)
        late = served.copy()
        late[FIRST:] = research[FIRST - 1 : -1]
        [found] = diagnose(
            SkewCells(
                DAYS,
                ENTITIES,
                cells.row,
                cells.column,
                late.reshape(-1),
                cells.expected,
                research,
                written=late.reshape(-1),
            )
        )
        assert (found.kind, found.first) == ("written late", DAYS[FIRST])


def test_one_cell_is_explained_by_a_choice_but_not_by_a_fitted_number() -> None:
    _, served, research, others, _ = of(0)
    for change, kind in ((lambda v: 100 * v, "scaled"), (lambda v: 1.2345 * v, "unexplained")):
        wrong = served.copy()
        wrong[FIRST, 3] = change(wrong[FIRST, 3])
        [found] = diagnosed(wrong, research, others=others)
        assert (found.kind, found.cells) == (kind, 1)
        [example] = found.examples
        assert (example.session, example.entity) == (DAYS[FIRST], "N03")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fault", ["stale", "shifted", "column", "entities"])
def test_a_value_from_elsewhere_may_be_none(fault: str, seed: int) -> None:
    _, served, research, others, rng = of(seed)
    research[rng.random(research.shape) < 0.2] = np.nan
    served[:] = research
    other = next(iter(others.values()))
    other[rng.random(other.shape) < 0.2] = np.nan
    end = SESSIONS - 1
    sources = {
        "stale": research[FIRST - 1],
        "shifted": research[FIRST - 1 : end - 1],
        "column": other[FIRST:end],
    }
    if fault == "entities":
        served[FIRST:end, [3, 5]] = research[FIRST:end, [5, 3]]
    else:
        served[FIRST:end] = sources[fault]
    [found] = diagnosed(served, research, others=others)
    assert (found.kind, found.cells) == (fault, found.differing)
