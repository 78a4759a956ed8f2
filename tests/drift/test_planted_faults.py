"""Faults planted in small markets: seen on their first session, open until they are repaired."""

from __future__ import annotations

import pytest

from benchmarks.drift.feed_faults import Kind, Plan
from benchmarks.drift.feed_trials import Outcome, Trial
from benchmarks.drift.planted import kinds, run
from mlflow_timescale.db.uri import DatabaseURI

PLAN = Plan(reference=60, fault=75, repair=83, sessions=88, names=40)
FAULTS = ("a", "a-", "d", "e", "f+", "f-", "healthy")


def is_right(outcome: Outcome) -> bool:
    if outcome.fault == "healthy":
        return outcome.delay is None
    is_closed = outcome.closed_after in (0, 1) if outcome.repaired else True
    return outcome.delay == 0 and outcome.covered and is_closed


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_faults_are_seen_at_once_and_until_they_are_repaired(
    server: DatabaseURI, seed: int
) -> None:
    trials = [Trial(PLAN, "XSHG", seed, features, server) for features in ("raw", "ranked")]
    outcomes = list(run(server, trials, server, lambda trial: kinds(FAULTS, trial.features)))
    assert len(outcomes) == 2 * 8
    assert [outcome for outcome in outcomes if not is_right(outcome)] == []
    assert {outcome.false_alerts for outcome in outcomes} == {()}


@pytest.mark.slow
def test_a_daily_job_sees_a_planted_fault_as_a_backfill_does(server: DatabaseURI) -> None:
    kind = Kind("a-", repaired=True)
    trial = Trial(PLAN, "XNYS", 0, "raw", server)
    [bulk] = run(server, [trial], server, lambda trial: [kind])
    [daily] = run(server, [trial], server, lambda trial: [kind], daily=True)
    assert bulk == daily
    assert is_right(daily)
