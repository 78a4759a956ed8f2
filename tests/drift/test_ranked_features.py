"""Features compared by rank, and the simulation of all rules from the strategy's own window."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date

import numpy as np
import pytest
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.computation import healthy_history, reference_fit
from drift.inputs.feature_values import Section
from drift.metrics import psi
from drift.metrics.buckets import Reference, count
from feature_store import FeatureStore

DAYS = [date(2024, 1, 2 + n) for n in range(20)]
NUMBERS = np.arange(60)


def sections(shift: float = 0.0, seed: int = 0) -> dict[date, Section]:
    generator = np.random.default_rng(seed)
    return {day: Section(NUMBERS, generator.normal(shift, 1, 60)) for day in DAYS}


@pytest.mark.parametrize(("ranked", "drifts"), [(False, True), (True, False)])
def test_a_shock_to_all_names_moves_values_but_no_ranks(ranked: bool, drifts: bool) -> None:
    reference = reference_fit.fit(sections(), 10, ranked=ranked)
    shocked = psi.psi(reference, np.random.default_rng(1).normal(3, 1, 60))
    assert ((shocked.ratio or 0) > 1) == drifts


def test_ranks_see_names_that_are_missing_or_alike() -> None:
    reference = reference_fit.fit(sections(), 10, ranked=True)
    values = np.random.default_rng(1).normal(size=60)
    values[:40] = np.nan
    assert (psi.psi(reference, values).ratio or 0) > 1
    assert (psi.psi(reference, np.ones(60)).ratio or 0) > 1


def test_a_flag_is_compared_as_it_is() -> None:
    flags = {
        day: Section(NUMBERS, (section.known > 1).astype(float))
        for day, section in sections().items()
    }
    assert not reference_fit.fit(flags, 10, ranked=True).ranked


def test_ranking_is_kept_with_the_reference_and_older_references_are_raw() -> None:
    reference = reference_fit.fit(sections(), 10, ranked=True)
    again = Reference.from_json(reference.to_json())
    assert again.ranked
    fields = json.loads(reference.to_json())
    del fields["ranked"]
    assert not Reference.from_json(json.dumps(fields)).ranked
    values = np.random.default_rng(1).normal(5, 9, 60)
    np.testing.assert_array_equal(count(again, values), count(again, 100 * values + 7))


def test_the_switch_is_stored_and_names_are_no_switch(monitor: DriftMonitor) -> None:
    assert not monitor.configure().ranked
    assert monitor.configure(features="ranked").ranked
    assert monitor.configure(features=["rsi"]).features == ("rsi",)
    again = DriftMonitor(monitor.uri, "momentum", tracking_uri=False).strategy
    assert (again.ranked, again.features) == (True, ("rsi",))
    assert not monitor.configure(features="raw").ranked
    with pytest.raises(ValueError, match='want "raw", "ranked", or a list of names'):
        monitor.configure(features="rank")


def test_every_rule_is_simulated_or_says_why_not(
    monitor: DriftMonitor, days: list[date], make: Callable[..., Strategy]
) -> None:
    strategy = make(days, 0.3)
    strategy.record(monitor)
    shocks = np.cumsum(np.random.default_rng(5).normal(0, 0.5, 100))
    values = np.random.default_rng(4).normal(size=(100, len(NAMES))) + shocks[:, None]
    closes = [monitor.calendar.session_close(day) for day in days]
    FeatureStore(monitor.uri).write_frame(
        {
            "entity_key": NAMES * 100,
            "event_time": [close for close in closes for _ in NAMES],
            "known": [close for close in closes for _ in NAMES],
            "rsi": values.ravel().tolist(),
        },
        ingest_time="known",
    )
    monitor.backfill(days[0], days[-1])
    monitor.accept(days[0], days[-1], "calm", min_sessions=60)
    simulated = monitor.simulate(n_paths=100)
    assert {simulation.rule.name for simulation in simulated} == {r.name for r in monitor.rules}
    for simulation in simulated:
        assert bool(simulation.reason) == np.isnan(simulation.false_alarm_share)
    basis = {simulation.rule.name: simulation.basis for simulation in simulated}
    operation = ("feature late", "feature clock", "feature stopped", "few names", "version")
    assert {basis[rule] for rule in operation} == {"operation"}
    assert {basis[rule] for rule in ("feature unit", "feature drift", "ic drift")} == {"history"}
    assert not [s.rule.name for s in simulated if s.reason]
    done = {simulation.rule.name for simulation in simulated if not simulation.reason}
    assert {"feature drift", "feature break", "feature frozen", "ic drift"} <= done
    with monitor.connect() as conn:
        (raw, _), (ranked, _) = (
            healthy_history.read(conn, monitor.strategy, monitor.rules, ranked=kind)
            for kind in (False, True)
        )
    assert np.nanmedian(raw["psi_ratio"]) > 0
    assert np.nanmax(ranked["psi_ratio"]) < 1
