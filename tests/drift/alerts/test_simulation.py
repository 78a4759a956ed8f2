"""Simulated false alarms and delays: the published table, and what the bootstrap keeps."""

from __future__ import annotations

import numpy as np
import pytest

from drift.alerts.presets import classic, default
from drift.alerts.rules import Baseline, Rule
from drift.alerts.simulation import RuleSimulation, simulate

MEAN60 = Rule("mean60", "ic", "<", 0.0, statistic="mean", window=60, sessions=3)
RULES = (*default(), *classic()[:3], MEAN60)


def history(mean: float, sd: float = 0.08, n: int = 200_000) -> dict[str, np.ndarray]:
    return {"ic": np.random.default_rng(0).normal(mean, sd, n)}


def simulated(mean: float, **options: int) -> dict[str, RuleSimulation]:
    level = {"ic": Baseline(mean, 0.08)}
    options = {"n_paths": 2500, **options}
    return {r.rule.name: r for r in simulate(RULES, history(mean), level, **options)}


@pytest.fixture(scope="module")
def healthy() -> dict[str, RuleSimulation]:
    """Mean IC 0.03, the strategy of the table's second column."""
    return simulated(0.03)


@pytest.fixture(scope="module")
def fading() -> dict[str, RuleSimulation]:
    """Mean IC 0.05 that falls to 0, the change of the table's third column."""
    return simulated(0.05)


@pytest.mark.parametrize(
    ("rule", "share", "tolerance"),
    [
        ("ic drift", 0.64, 0.04),
        ("ic drift critical", 0.28, 0.04),
        ("ic drift emergency", 0.04, 0.015),
        ("ic negative", 0.999, 0.002),
        ("mean60", 0.04, 0.02),
    ],
)
def test_the_share_of_healthy_strategies_hit_in_a_year_is_the_published_one(
    healthy: dict[str, RuleSimulation], rule: str, share: float, tolerance: float
) -> None:
    assert healthy[rule].false_alarm_share == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize(
    ("rule", "sessions", "tolerance"),
    [
        ("ic drift", 12, 2),
        ("ic drift critical", 18, 2),
        ("ic drift emergency", 28, 2),
        ("ic negative", 9, 2),
        ("mean60", 58, 6),
    ],
)
def test_the_median_delay_is_the_published_one(
    fading: dict[str, RuleSimulation], rule: str, sessions: int, tolerance: int
) -> None:
    assert fading[rule].delays["fade"].median == pytest.approx(sessions, abs=tolerance)


def test_the_classic_halt_hits_a_healthy_strategy_within_weeks(
    healthy: dict[str, RuleSimulation],
) -> None:
    assert healthy["ic negative"].first_false_alarm == pytest.approx(23, abs=3)
    assert healthy["ic low"].false_alarms_per_year == pytest.approx(2.5, abs=0.2)


def test_a_flipped_sign_is_found_sooner_than_a_faded_signal(
    fading: dict[str, RuleSimulation],
) -> None:
    delays = fading["ic drift critical"].delays
    assert (delays["flip"].median or 0) < (delays["fade"].median or 0)
    assert (delays["flip"].p90 or 0) > (delays["flip"].median or 0)
    assert delays["flip"].detected > 0.99


def test_the_same_seed_gives_the_same_answer() -> None:
    assert simulated(0.03, n_paths=50, seed=3) == simulated(0.03, n_paths=50, seed=3)
    assert simulated(0.03, n_paths=50, seed=3) != simulated(0.03, n_paths=50, seed=4)


def test_runs_of_bad_days_in_the_history_are_kept() -> None:
    generator = np.random.default_rng(1)
    noise = generator.normal(size=5000)
    persistent = np.zeros(5000)
    for t in range(1, 5000):
        persistent[t] = 0.5 * persistent[t - 1] + noise[t]
    critical = [rule for rule in default() if rule.name == "ic drift critical"]
    shares = []
    for series in (noise, persistent / persistent.std()):
        shares.append(simulate(critical, {"ic": series}, n_paths=1000, block=20)[0])
    assert shares[1].false_alarm_share > 1.5 * shares[0].false_alarm_share


def test_an_estimated_level_costs_false_alarms() -> None:
    emergency = [rule for rule in default() if rule.name == "ic drift emergency"]
    shares = {}
    for n in (0, 120, 1000):
        level = {"ic": Baseline(0.03, 0.08, n)}
        shares[n] = simulate(emergency, history(0.03), level, n_paths=2000)[0].false_alarm_share
    assert shares[120] == pytest.approx(0.11, abs=0.02)
    assert shares[0] < shares[1000] < 0.075


def test_sharpe_rules_use_the_strategys_returns_and_others_their_own_history() -> None:
    generator = np.random.default_rng(2)
    data = {
        "ic": generator.normal(0.03, 0.08, 500),
        "strategy_return": generator.normal(0.001, 0.01, 500),
        "psi_ratio": generator.uniform(0, 2.6, 500),
    }
    data["ic"][::50] = np.nan
    found = {r.rule.name: r for r in simulate(default(), data, n_paths=300)}
    assert set(found["sharpe low"].delays) == {"fade", "flip"}
    assert found["feature break"].delays == {}
    assert found["feature break"].false_alarm_share > 0.9
    assert "feature drift" not in found


def test_the_five_session_mean_is_made_from_the_ic() -> None:
    rule = Rule("weekly", "ic_5d_avg", "<", 0.0, sessions=3)
    found = simulate([rule], {"ic": history(0.03, n=1000)["ic"]}, n_paths=500)[0]
    assert 0.9 < found.false_alarm_share <= 1


def test_a_rule_that_never_speaks_has_no_median() -> None:
    rule = Rule("mute", "ic", "<", -9.0)
    found = simulate([rule], {"ic": history(0.03, n=1000)["ic"]}, n_paths=50)[0]
    assert (found.false_alarm_share, found.first_false_alarm) == (0.0, None)
    assert found.delays["fade"].median is None
    assert found.delays["fade"].detected == 0.0


def test_a_long_alert_that_the_pieces_of_history_cut_counts_once() -> None:
    ratios = np.zeros(252)
    ratios[40:100] = ratios[180:200] = 2.0
    rule = Rule("drift", "psi_5d_ratio", ">", 1.0)
    found = simulate([rule], {"psi_5d_ratio": ratios}, n_paths=3000)[0]
    assert found.false_alarms_per_year == pytest.approx(2.0, rel=0.1)


def test_a_short_history_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs 60 sessions of history, got \{'ic': 59\}"):
        simulate([MEAN60], {"ic": np.zeros(59)})
    with pytest.raises(ValueError, match="must be of one length"):
        simulate([MEAN60], {"ic": np.zeros(99), "strategy_return": np.zeros(98)})
