"""PSI against golden values, and the properties its users rely on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from drift.metrics import calculate_psi, psi
from drift.metrics.buckets import Reference, Variation, count, count_batch

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "psi_expected.json").read_text())
REFERENCE = pd.read_csv(GOLDEN / "psi_reference.csv")
CURRENT = pd.read_csv(GOLDEN / "psi_current.csv")
FEATURES = sorted(EXPECTED)
TOLERANCE = 1e-10


def fitted(feature: str) -> Reference:
    return psi.fit(REFERENCE[feature].to_numpy())


@pytest.mark.parametrize("feature", FEATURES)
def test_psi_equals_the_golden_value(feature: str) -> None:
    expected = EXPECTED[feature]
    found = psi.psi(fitted(feature), CURRENT[feature].to_numpy())
    assert found.status == expected["status"]
    assert found.n == expected["n_cur"]
    for ours, golden in [
        (found.value, "psi"),
        (found.null_mean, "null_mean"),
        (found.critical_95, "crit_95"),
        (found.critical_999, "crit_999"),
        (found.p_value, "p_chi2"),
    ]:
        if expected[golden] is None:
            assert ours is None
        else:
            assert ours == pytest.approx(expected[golden], rel=TOLERANCE, abs=1e-300), golden


@pytest.mark.parametrize("feature", FEATURES)
def test_buckets_and_counts_equal_the_golden_ones(feature: str) -> None:
    expected, reference = EXPECTED[feature], fitted(feature)
    current = count(reference, CURRENT[feature].to_numpy())
    used = [b for b in range(reference.buckets) if reference.counts[b] + current[b] > 0]
    assert reference.kind == expected["kind"]
    assert (reference.edges or reference.values) == pytest.approx(expected["edges"], rel=1e-14)
    assert [reference.counts[b] for b in used] == expected["counts_ref"]
    assert current[used].tolist() == expected["counts_cur"]


def test_the_batch_gives_what_one_at_a_time_gives() -> None:
    references = [fitted(feature) for feature in FEATURES]
    matrix = np.stack([CURRENT[feature].to_numpy(dtype=float) for feature in FEATURES])
    matrix[0, :20] = np.inf
    matrix[1, :20] = -np.inf
    singly = [psi.psi(reference, row) for reference, row in zip(references, matrix, strict=True)]
    batch = psi.psi_batch(references, matrix)
    assert [r.counts for r in batch] == [r.counts for r in singly]
    assert [r.value for r in batch] == pytest.approx([r.value for r in singly], rel=1e-14)
    assert [r.limit for r in batch] == pytest.approx([r.limit for r in singly], rel=1e-14)


def test_a_batch_with_too_few_references_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1 references need as many rows, got shape \(2, 3\)"):
        count_batch([Reference.fit([1.0])], np.ones((2, 3)))


@pytest.mark.parametrize("feature", FEATURES)
def test_a_reference_survives_json_exactly(feature: str) -> None:
    days = np.arange(len(REFERENCE)) // 50
    reference = psi.fit(REFERENCE[feature].to_numpy(), days=days)
    assert Reference.from_json(reference.to_json()) == reference


def test_intervals_are_closed_on_the_right() -> None:
    reference = Reference.fit(np.arange(1.0, 101.0))
    edge = reference.edges[0]
    at = count(reference, [edge]).argmax()
    above = count(reference, [np.nextafter(edge, np.inf)]).argmax()
    assert (at, above) == (0, 1)


def test_a_heavy_value_is_a_bucket_of_its_own_between_others() -> None:
    generator = np.random.default_rng(2)
    values = np.where(generator.random(4000) < 0.4, 0.0, generator.normal(size=4000))
    reference = Reference.fit(values)
    zero = reference.labels.index("0")
    assert reference.values == (0.0,)
    assert reference.counts[zero] == int((values == 0).sum())
    # The zeros turned into values just below: deciles alone would not see it.
    leaked = np.where(values == 0, -1e-9, values)
    assert (psi.psi(reference, leaked).value or 0) > 1


@pytest.mark.parametrize("feature", FEATURES)
def test_counts_made_left_closed_in_the_database_fold_to_the_same(feature: str) -> None:
    reference, values = fitted(feature), CURRENT[feature].to_numpy(dtype=float)
    finite = values[np.isfinite(values)]
    # width_bucket(value, thresholds): how many thresholds are at or below the value.
    numbers = np.searchsorted(reference.width_bucket, finite, side="right")
    intervals = np.bincount(numbers, minlength=len(reference.cuts) + 1)
    folded = reference.fold(intervals, len(values) - len(finite))
    assert folded.tolist() == count(reference, values).tolist()


def test_no_current_value_is_no_data_not_zero() -> None:
    found = psi.psi(fitted("same"), [])
    assert (found.value, found.status, found.ratio) == (None, "no_data", None)


def test_a_reference_without_values_is_said_to_be_none() -> None:
    assert psi.psi(Reference.fit([]), [1.0, 2.0]).status == "no_reference"


def test_all_values_missing_is_a_drift() -> None:
    found = psi.psi(fitted("same"), np.full(500, np.nan))
    assert (found.ratio or 0) > 100


def test_one_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="bins must be 2 or more, got 1"):
        Reference.fit([1.0], bins=1)


def test_without_drift_five_percent_pass_the_critical_value() -> None:
    generator = np.random.default_rng(3)
    reference = psi.fit(generator.normal(size=5000))
    results = [psi.psi(reference, generator.normal(size=500)) for _ in range(1000)]
    above = np.mean([(r.value or 0) > (r.critical_95 or 0) for r in results])
    mean = np.mean([r.value for r in results])
    assert 0.03 < above < 0.07
    assert mean == pytest.approx(results[0].null_mean, rel=0.08)


def shocked_days(generator: np.random.Generator, days: int, names: int) -> np.ndarray:
    """Each day a common shock moves all names, as a market does."""
    return generator.normal(size=(days, names)) + generator.normal(0, 0.4, size=(days, 1))


def test_common_shocks_raise_the_limit_and_are_counted_in_p() -> None:
    generator = np.random.default_rng(4)
    window = shocked_days(generator, 120, 300)
    labels = np.repeat(np.arange(120), 300)
    reference = psi.fit(window.ravel(), days=labels)
    fresh = [psi.psi(reference, day) for day in shocked_days(generator, 300, 300)]
    naive = np.mean([(r.p_value or 1) < 0.001 for r in fresh])
    corrected = np.mean([(r.p_robust or 1) < 0.001 for r in fresh])
    assert reference.daily is not None
    assert reference.daily.extra_mean > 3 * (fresh[0].null_mean or 0)
    assert naive > 0.5
    assert corrected < 0.02
    assert np.mean([(r.ratio or 0) > 1 for r in fresh]) < 0.05


def test_without_common_shocks_the_days_change_nothing() -> None:
    generator = np.random.default_rng(6)
    labels = np.repeat(np.arange(120), 300)
    reference = psi.fit(generator.normal(size=36_000), days=labels)
    found = psi.psi(reference, generator.normal(0.1, 1, size=300))
    assert found.p_robust == pytest.approx(found.p_value, rel=0.5)
    assert found.limit == 0.10


def test_days_that_follow_each_other_are_worth_fewer() -> None:
    generator = np.random.default_rng(7)
    labels = np.repeat(np.arange(200), 100)
    shock = np.zeros(200)
    for t in range(1, 200):
        shock[t] = 0.95 * shock[t - 1] + 0.2 * generator.normal()
    noise = generator.normal(size=(200, 100))
    lasting = psi.fit((noise + shock[:, None]).ravel(), days=labels).daily
    passing = psi.fit((noise + generator.permutation(shock)[:, None]).ravel(), days=labels).daily
    assert lasting is not None
    assert passing is not None
    assert lasting.effective_days < 0.5 * passing.effective_days


def test_one_day_has_no_variation() -> None:
    reference = psi.fit(np.arange(100.0), days=np.zeros(100))
    assert (reference.daily, reference.pooled) == (None, None)


def test_leave_one_day_out_compares_each_day_with_the_others() -> None:
    counts = np.array([[50, 50], [48, 52], [52, 48], [90, 10]])
    own = psi.leave_one_day_out(counts)
    assert own.argmax() == 3
    assert psi.leave_one_day_out(counts, pool=2).shape == (3,)
    assert psi.leave_one_day_out(counts, pool=4).shape == (0,)


def test_a_session_names_the_worst_feature_and_those_that_drifted() -> None:
    generator = np.random.default_rng(5)
    references = {f"f{i}": psi.fit(generator.normal(size=3000)) for i in range(40)}
    current = generator.normal(size=(40, 300))
    current[7] += 1.0
    results = dict(zip(references, psi.psi_batch(list(references.values()), current), strict=True))
    session = psi.session_psi(results)
    assert (session.feature, session.drifted) == ("f7", ("f7",))
    assert session.n_features == 40
    assert psi.session_psi({}).value is None


def drifted(*values: float) -> dict[str, psi.PSIResult]:
    """Results of features whose root of PSI rises by at most 0.3 a day in the reference."""
    fields = {"p_robust": 1e-9, "limit": 0.1, "counts": (60, 0), "rise": 0.3}
    return {f"f{i}": psi.PSIResult(v, 60, "ok", **fields) for i, v in enumerate(values)}


def test_a_break_is_a_jump_and_not_the_last_step_of_a_market_that_moves() -> None:
    calm, near, far = 0.01, 0.24, 0.40
    gradual = psi.session_psi(drifted(far, calm, calm), before=drifted(near, calm, calm))
    sudden = psi.session_psi(drifted(far, calm, calm), before=drifted(calm, calm, calm))
    assert gradual.ratio == psi.BREAK
    assert sudden.ratio == pytest.approx(4.0)
    assert gradual.drifted == sudden.drifted == ("f0",)
    assert psi.session_psi(drifted(far), before={}).ratio == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("after", "alone", "shared"),
    [
        ((0.4, 0.4, 0.4, 0.01), psi.BREAK, 4.0),
        ((0.4, 0.4, 0.01, 0.01), 4.0, psi.BREAK),
        ((0.4, 0.4, 0.4, *[0.01] * 9), 4.0, psi.BREAK),
    ],
)
def test_what_many_features_do_at_once_is_no_break_of_one(
    after: tuple[float, ...], alone: float, shared: float
) -> None:
    session = psi.session_psi(drifted(*after), before=drifted(*[0.01] * len(after)))
    assert session.ratio == pytest.approx(alone)
    assert session.shared == pytest.approx(shared)


def test_features_that_all_lose_their_values_did_not_move_together() -> None:
    gone = {name: replace(r, counts=(0, 60)) for name, r in drifted(0.4, 0.4, 0.4).items()}
    session = psi.session_psi(gone, before=drifted(0.01, 0.01, 0.01))
    assert session.ratio == pytest.approx(4.0)
    assert session.shared == psi.BREAK


def test_the_largest_rise_between_two_days_of_a_reference_is_kept() -> None:
    generator = np.random.default_rng(8)
    days = generator.normal(size=(100, 200)) + np.linspace(-1, 1, 100)[:, None]
    rises = [
        psi.fit(window.ravel(), days=np.repeat(np.arange(100), 200)).daily
        for window in (days, generator.permutation(days))
    ]
    slow, fast = [variation.rise for variation in rises if variation is not None]
    assert 0 < 2 * slow < fast


def test_pooled_sessions_are_judged_by_the_pooled_limit() -> None:
    reference = Reference("quantiles", (0.0,), (), (500, 500, 0), Variation(0.9), Variation(0.3))
    assert psi.psi_from_counts(reference, [50, 50, 0]).limit == 0.9
    assert psi.psi_from_counts(reference, [250, 250, 0], sessions=5).limit == 0.3


def test_the_seed_name_returns_a_float() -> None:
    feature = "mean_shift_0.5sd"
    value = calculate_psi(REFERENCE[feature].to_numpy(), CURRENT[feature].to_numpy())
    assert value == pytest.approx(EXPECTED[feature]["psi"], rel=TOLERANCE)
    assert np.isnan(calculate_psi([], [1.0]))
