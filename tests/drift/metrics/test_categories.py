"""PSI and shares of categories, against values that were computed by hand from the counts."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from drift.metrics import calculate_psi, feed_quality, psi
from drift.metrics.buckets import Reference
from drift.metrics.categories import category_codes, code_of

REFERENCE = ["TECH"] * 50 + ["FIN"] * 30 + ["ENERGY"] * 20
# Current sample and PSI, computed with 40 digits in decimal arithmetic: the sum of
# (q - p) ln(q / p) over the buckets, with 0.5 added to each count.
GOLDEN = {
    "the same shares": (["TECH"] * 50 + ["FIN"] * 30 + ["ENERGY"] * 20, 0.0),
    "a shift": (["TECH"] * 30 + ["FIN"] * 50 + ["ENERGY"] * 20, 0.1987178927),
    "a category disappears": (["TECH"] * 60 + ["FIN"] * 40, 0.7774767934),
    "unseen ones share a bucket": (
        ["TECH"] * 40 + ["FIN"] * 30 + ["A"] * 15 + ["B"] * 15,
        1.9588663812,
    ),
    "missing ones have one": (
        ["TECH"] * 40 + ["FIN"] * 30 + ["ENERGY"] * 10 + [None] * 20,
        0.8153789338,
    ),
}


def independent(expected: list[Any], actual: list[Any]) -> float:
    """PSI with Python's own counter and logarithm, and none of our code."""
    known = {label for label in expected if label is not None}

    def bucket(label: Any) -> str:
        return "missing" if label is None else label if label in known else "other"

    p, q = (Counter(map(bucket, sample)) for sample in (expected, actual))
    used = {label for label in [*p, *q] if p[label] + q[label]}
    n, m = (sum(c.values()) + 0.5 * len(used) for c in (q, p))
    shares = [((q[b] + 0.5) / n, (p[b] + 0.5) / m) for b in used]
    return math.fsum((x - y) * math.log(x / y) for x, y in shares)


@pytest.mark.parametrize("case", GOLDEN)
def test_psi_of_categories_equals_an_independent_computation(case: str) -> None:
    current, golden = GOLDEN[case]
    assert calculate_psi(REFERENCE, current) == pytest.approx(independent(REFERENCE, current))
    assert calculate_psi(REFERENCE, current) == pytest.approx(golden, abs=1e-9)


@pytest.mark.parametrize(
    "make",
    [list, np.array, pd.Series, pd.Categorical, lambda v: pd.Series(v, dtype="string")],
)
def test_texts_come_in_any_array(make: Any) -> None:
    assert calculate_psi(make(REFERENCE), make(["FIN"] * 50)) > 1


def test_forty_categories_are_forty_buckets() -> None:
    codes, names = category_codes([f"C{i}" for i in range(40)] * 3)
    reference = psi.fit(codes, names=names)
    assert reference.buckets == 42
    assert sorted(reference.labels[:-2]) == sorted(names.values())
    assert Reference.from_json(reference.to_json()) == reference
    assert psi.psi(reference, codes).value == 0.0


def test_a_reference_of_numbers_is_stored_as_before() -> None:
    assert "names" not in psi.fit([1.0, 2.0]).to_json()


def test_texts_and_numbers_are_not_compared() -> None:
    with pytest.raises(ValueError, match="texts and numbers"):
        calculate_psi(REFERENCE, [1.0, 2.0])


def test_the_shares_of_missing_and_repeated_categories() -> None:
    codes, _ = category_codes(["TECH", "TECH", "TECH", "FIN", "ENERGY", "FIN", None, None])
    found = feed_quality.shares(codes, feed_quality.prints(range(8), codes), None)
    assert (found.missing, found.repeated) == (2 / 8, 3 / 6)


def test_codes_are_exact_and_distinct() -> None:
    codes = {code_of(f"label {i}") for i in range(1000)}
    assert len(codes) == 1000
    assert all(code == int(code) < 2**48 for code in codes)
