"""Is a late feature in step with the others again?"""

from __future__ import annotations

import numpy as np
import pytest

from drift.metrics.following import CANDIDATES, Company

HEALTHY, LATE, RIGHT = 60, 80, 90


def panel(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Two features of 60 names that change together, over 100 sessions."""
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(100, 60)).cumsum(axis=0)
    first, second = (common + noise * generator.normal(size=common.shape) for _ in range(2))
    return first, second


def served(true: np.ndarray, lag: int) -> np.ndarray:
    values = true.copy()
    values[HEALTHY:LATE] = true[HEALTHY - lag : LATE - lag]
    return values


def in_step(feature: np.ndarray, other: np.ndarray, session: int, lag: int) -> bool:
    before = slice(HEALTHY - 40, HEALTHY)
    candidates = min(CANDIDATES, session - HEALTHY - 1)
    now = slice(session - lag - 1 - candidates, session + 1)
    company = Company(feature[before], [other[before]], lag)
    return company.is_in_step(feature[now], [other[now]], candidates)


@pytest.mark.parametrize("lag", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_late_feature_is_in_step_again_when_it_has_caught_up(seed: int, lag: int) -> None:
    true, other = panel(seed, 0.5)
    feature = served(true, lag)
    assert not any(in_step(feature, other, t, lag) for t in range(HEALTHY + lag, LATE))
    assert any(in_step(feature, other, t, lag) for t in (LATE, LATE + 1))


def test_features_that_have_nothing_in_common_tell_nothing() -> None:
    true, other = (np.random.default_rng(seed).normal(size=(100, 60)) for seed in (1, 2))
    feature = served(true, 1)
    assert not any(in_step(feature, other, t, 1) for t in range(HEALTHY + 1, RIGHT))


def test_few_sessions_or_names_tell_nothing() -> None:
    true, other = panel(3, 0.5)
    assert not Company(true[:10], [other[:10]], 1).tells
    few = [values[:, :4] for values in (true, other)]
    assert not in_step(few[0], few[1], RIGHT, 1)
