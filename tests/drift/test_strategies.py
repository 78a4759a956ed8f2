"""A strategy is recorded on purpose: by what is recorded of it, or by `configure`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date, datetime, timezone
from typing import Any

import pytest
from support.strategies import Strategy

from drift import DriftMonitor, strategies
from drift.daily import daily_job
from drift.strategies import UnknownFeatures, UnknownStrategy
from feature_store import FeatureStore
from mlflow_timescale.common.calendars import UnknownCalendar
from mlflow_timescale.common.time import InvalidTime
from mlflow_timescale.db import Error
from mlflow_timescale.db.uri import DatabaseURI

DAY = date(2024, 1, 12)
NOON = datetime(2024, 1, 12, 17, tzinfo=timezone.utc)
CALLS: dict[str, Callable[[DriftMonitor], Any]] = {
    "strategy": lambda monitor: monitor.strategy,
    "calendar": lambda monitor: monitor.calendar,
    "rules": lambda monitor: monitor.rules,
    "run_daily": lambda monitor: monitor.run_daily(DAY),
    "backfill": lambda monitor: monitor.backfill(DAY, DAY),
    "calculate_metrics": lambda monitor: monitor.calculate_metrics(DAY),
    "metrics": lambda monitor: monitor.metrics(DAY, DAY),
    "last_session": lambda monitor: monitor.last_session(),
    "alerts": lambda monitor: monitor.alerts(),
    "acknowledge": lambda monitor: monitor.acknowledge(1, by="ann"),
    "silence": lambda monitor: monitor.silence("ic", until=NOON, by="ann", why="holidays"),
    "accept": lambda monitor: monitor.accept(DAY, DAY, "normal"),
    "references": lambda monitor: monitor.references(),
    "override_session": lambda monitor: monitor.override_session(DAY, is_session=False, why="x"),
    "report": lambda monitor: monitor.report(),
    "simulate": lambda monitor: monitor.simulate(),
    "onset": lambda monitor: monitor.onset(),
}


def recorded(monitor: DriftMonitor) -> list[str]:
    with monitor.connect() as conn:
        return strategies.names(conn)


def test_making_a_monitor_needs_no_database() -> None:
    monitor = DriftMonitor("postgresql+timescaledb://ann@127.0.0.1:1/trading", "momentum")
    assert monitor.strategy_id == "momentum"


def test_a_mistyped_name_records_nothing(monitor: DriftMonitor, strategy: Strategy) -> None:
    strategy.record(monitor, slice(2))
    DriftMonitor(monitor.uri, "momentun")
    assert recorded(monitor) == ["momentum"]
    reports = daily_job(monitor.uri, session=strategy.days[0], tracking_uri=False)
    assert [report.strategy_id for report in reports] == ["momentum"]


@pytest.mark.parametrize("name", CALLS)
def test_every_other_call_refuses_a_name_that_is_not_recorded(
    monitor: DriftMonitor, name: str
) -> None:
    mistyped = DriftMonitor(monitor.uri, "momentun", tracking_uri=False)
    with pytest.raises(UnknownStrategy, match=r"no strategy 'momentun' \(did you mean 'momentum'"):
        CALLS[name](mistyped)
    assert recorded(monitor) == ["momentum"]


def test_what_is_recorded_first_makes_the_strategy(database: DatabaseURI) -> None:
    monitor = DriftMonitor(database, "value", calendar="XLON", min_n=7, tracking_uri=False)
    monitor.record_strategy_returns({"session": ["2024-01-12"], "value": [0.01]})
    again = DriftMonitor(database, "value")
    assert (again.calendar.name, again.strategy.min_n) == ("XLON", 7)


def test_configure_makes_a_strategy_and_changes_it(database: DatabaseURI) -> None:
    monitor = DriftMonitor(database, "value")
    assert monitor.configure(calendar="XLON", min_n=7).min_n == 7
    assert monitor.configure(rules="classic").min_n == 7
    again = DriftMonitor(database, "value")
    assert (again.calendar.name, again.rules) == ("XLON", monitor.rules)
    monitor.record_strategy_returns({"session": ["2024-01-12"], "value": [0.01]})
    with pytest.raises(Error, match="recorded on calendar XLON, not XNYS"):
        monitor.configure(calendar="XNYS")


def test_an_unknown_calendar_records_no_strategy(database: DatabaseURI) -> None:
    frame = {"session": ["2024-01-12"], "value": [0.01]}
    mistyped = DriftMonitor(database, "value", calendar="NYSEE", tracking_uri=False)
    for call in (mistyped.configure, lambda: mistyped.record_strategy_returns(frame)):
        with pytest.raises(UnknownCalendar, match="NYSEE"):
            call()
    assert recorded(mistyped) == []
    assert mistyped.configure(calendar="NYSE").calendar.name == "XNYS"
    assert DriftMonitor(database, "value", calendar="XNYS").calendar.name == "XNYS"


def test_a_strategy_without_data_may_change_its_calendar(database: DatabaseURI) -> None:
    monitor = DriftMonitor(database, "value", calendar="XLON", tracking_uri=False)
    monitor.configure()
    with monitor.connect() as conn:  # as an earlier version stored it
        conn.execute("UPDATE mlops.drift_strategies SET calendar = 'NYSEE'")
    again = DriftMonitor(database, "value", calendar="XNYS", tracking_uri=False)
    assert again.calendar.name == "XNYS"
    assert again.record_strategy_returns({"session": ["2024-01-12"], "value": [0.01]}) == 1


def test_configure_without_create_refuses_a_new_name(monitor: DriftMonitor) -> None:
    with pytest.raises(UnknownStrategy):
        DriftMonitor(monitor.uri, "momentun").configure(rules="classic", create=False)
    assert recorded(monitor) == ["momentum"]


def test_a_period_that_ends_before_it_begins_is_refused(monitor: DriftMonitor) -> None:
    earlier = date(2024, 1, 2)
    for call in (monitor.metrics, monitor.backfill, lambda *p: monitor.accept(*p, "calm")):
        with pytest.raises(InvalidTime, match="end 2024-01-02 lies before the start 2024-01-12"):
            call(DAY, earlier)


def test_a_feature_that_the_store_does_not_have_gives_a_warning(database: DatabaseURI) -> None:
    monitor = DriftMonitor(database, "momentum", features=["momentm_20d"], tracking_uri=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.configure()  # the store holds nothing yet
    with FeatureStore(database) as store:
        store.write_frame({"entity_key": ["A"], "event_time": [NOON], "momentum_20d": [0.1]})
    with pytest.warns(UnknownFeatures, match=r"'momentm_20d' \(did you mean 'momentum_20d'\?\)"):
        monitor.configure()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.configure(features=["momentum_20d"])
