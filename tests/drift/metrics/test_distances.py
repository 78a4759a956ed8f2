"""Distances against golden values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from drift.metrics import distances, psi
from drift.metrics.buckets import count

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "distances_expected.json").read_text())
REFERENCE = pd.read_csv(GOLDEN / "psi_reference.csv")
CURRENT = pd.read_csv(GOLDEN / "psi_current.csv")


@pytest.mark.parametrize("feature", sorted(EXPECTED))
def test_distances_equal_the_golden_values(feature: str) -> None:
    expected = EXPECTED[feature]
    values, current = REFERENCE[feature].to_numpy(), CURRENT[feature].to_numpy()
    reference = psi.fit(values)
    statistic, p = distances.kolmogorov_smirnov(values, current)
    assert statistic == pytest.approx(expected["ks"], rel=1e-10)
    assert p == pytest.approx(expected["ks_p"], rel=1e-9, abs=1e-300)
    raw = distances.wasserstein(values, current, scaled=False)
    assert raw == pytest.approx(expected["wasserstein"], rel=1e-10, abs=1e-12)
    shannon = distances.jensen_shannon(reference, count(reference, current))
    golden = expected["jsd_distance_base2_reference_buckets"]
    assert shannon == pytest.approx(golden, rel=1e-10, abs=1e-12)
    scaled = expected.get("wasserstein_over_ref_sd_ddof1")
    if scaled is not None and np.isfinite(scaled):
        found = distances.distances(reference, values, current).wasserstein
        assert found == pytest.approx(scaled, rel=1e-10)


def test_nothing_to_compare_is_none() -> None:
    reference = psi.fit([1.0, 2.0])
    found = distances.distances(reference, [1.0, 2.0], [])
    assert found == distances.Distances(None, None, None, None)
    missing = distances.distances(reference, [1.0, 2.0], [np.nan])
    assert (missing.ks, missing.jensen_shannon) == (None, 1.0)
