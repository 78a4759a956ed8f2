"""Multiple testing against golden counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from drift.metrics import multiplicity

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "multiplicity_expected.json").read_text())
P = pd.read_csv(GOLDEN / "pvalues.csv").p.to_numpy()
METHODS = {
    "bonferroni": multiplicity.bonferroni,
    "holm": multiplicity.holm,
    "fdr_bh": multiplicity.benjamini_hochberg,
    "fdr_by": multiplicity.benjamini_yekutieli,
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_rejections_and_adjusted_p_equal_the_golden_ones(name: str) -> None:
    found, expected = METHODS[name](P, 0.05), EXPECTED[name]
    assert found.rejected.sum() == expected["rejected"]
    largest = P[found.rejected].max()
    assert largest == pytest.approx(expected["threshold_largest_rejected_p"], rel=1e-9)
    assert found.adjusted[:5].tolist() == pytest.approx(expected["adjusted_first5"], rel=1e-9)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_missing_p_is_no_test(name: str) -> None:
    with_gaps = np.insert(P, [0, 17], np.nan)
    found, plain = METHODS[name](with_gaps), METHODS[name](P)
    np.testing.assert_allclose(found.adjusted[np.isfinite(with_gaps)], plain.adjusted)
    assert not found.rejected[0]
    assert METHODS[name]([np.nan]).rejected.tolist() == [False]
