"""CUSUM against golden alarms, and the onset it dates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from drift.metrics import cusum
from drift.metrics.cusum import Baseline

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "detectors_expected.json").read_text())
IC = pd.read_csv(GOLDEN / "ic_series.csv").ic.to_numpy()


def baseline() -> Baseline:
    return Baseline.fit(IC[: EXPECTED["ref_first_n"]])


def test_the_baseline_equals_the_golden_one() -> None:
    found = baseline()
    assert found.mean == pytest.approx(EXPECTED["mu"], rel=1e-12)
    assert found.sd == pytest.approx(EXPECTED["sd"], rel=1e-12)
    assert found.n == 120


@pytest.mark.parametrize(("k", "h"), [(0.5, 5.0), (0.25, 8.0)])
def test_alarms_and_path_equal_the_golden_ones(k: float, h: float) -> None:
    expected = EXPECTED[f"cusum_down_k{k}_h{h}"]
    found = cusum.cusum(baseline().shortfall(IC), k=k, h=h)
    assert list(found.alarms) == expected["alarms"]
    assert found.path[:10].tolist() == pytest.approx(expected["first10_path"], abs=1e-10)
    assert found.path[260] == pytest.approx(expected["path_at_260"], rel=1e-10)


def test_the_path_without_resets_is_the_same_up_to_the_first_alarm() -> None:
    z = baseline().shortfall(IC)
    first = cusum.cusum(z, h=8.0).alarms[0]
    plain = cusum.path(z)
    np.testing.assert_allclose(plain[: first + 1], cusum.cusum(z, h=8.0).path[: first + 1])
    np.testing.assert_allclose(cusum.path(np.stack([z, -z]))[0], plain)
    assert cusum.path(z, cap=10.0).max() == 10.0


def test_a_session_without_a_value_leaves_the_statistic_as_it_is() -> None:
    z = np.array([2.0, np.nan, 2.0])
    assert cusum.path(z).tolist() == [1.75, 1.75, 3.5]
    assert cusum.cusum(z, h=3.0).alarms == (2,)


def test_a_baseline_needs_sessions_and_spread() -> None:
    with pytest.raises(ValueError, match="needs 120 sessions with a value, got 119"):
        Baseline.fit(IC[:119])
    with pytest.raises(ValueError, match="no spread"):
        Baseline.fit([0.5] * 200)


def test_the_onset_of_the_golden_change_lies_within_its_interval() -> None:
    found = cusum.onset(IC[:290], baseline())
    assert found is not None
    assert found.low <= EXPECTED["true_change_index"] <= found.high
    assert found.alarm == 270
    assert found.before > 0 > found.after


def test_no_fall_has_no_onset() -> None:
    assert cusum.onset(IC[:120], baseline()) is None


def test_a_series_without_any_value_has_no_onset() -> None:
    assert cusum.onset(np.full(20, np.nan), baseline()) is None


def test_an_onset_counts_sessions_without_a_value() -> None:
    gapped = np.insert(IC[:290], [100, 200, 240], np.nan)
    plain, shifted = cusum.onset(IC[:290], baseline()), cusum.onset(gapped, baseline())
    assert plain is not None
    assert shifted is not None
    assert shifted.index == plain.index + 3


def test_the_interval_of_the_onset_holds_the_truth_nine_times_in_ten() -> None:
    generator = np.random.default_rng(8)
    inside = known = 0
    for _ in range(100):
        series = generator.normal(0.05, 0.08, 300)
        series[250:] -= 0.08
        found = cusum.onset(series, Baseline(0.05, 0.08), n_boot=299)
        if found is not None and found.alarm >= 250:
            known += 1
            inside += found.low <= 250 <= found.high
    assert known > 90
    assert inside / known > 0.85


def test_a_fall_that_is_over_says_until_when() -> None:
    generator = np.random.default_rng(9)
    series = generator.normal(0.05, 0.08, 500)
    series[200:260] -= 0.15
    found = cusum.onset(series, Baseline(0.05, 0.08))
    assert found is not None
    assert found.until is not None
    assert 260 < found.until < 360
    assert abs(found.index - 200) < 10
    assert found.after < 0.02
    assert cusum.onset(series[:250], Baseline(0.05, 0.08)).until is None
