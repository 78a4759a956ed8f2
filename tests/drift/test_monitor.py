"""Computing sessions: values, revisions, reruns, late returns, missing data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from support.strategies import NAMES, Strategy

from drift import AlertConfig, DriftMetrics, DriftMonitor, Rule
from mlflow_timescale.common.calendars import NotASession
from mlflow_timescale.db import Error


def all_values(monitor: DriftMonitor) -> list[tuple[Any, ...]]:
    with monitor.connect() as conn:
        return conn.execute(
            "SELECT session, metric, dimension, revision, value, n, status FROM mlops.drift_values "
            "ORDER BY 1, 2, 3, 4"
        ).fetchall()


def wide(monitor: DriftMonitor, session: date) -> dict[str, Any]:
    with monitor.connect() as conn:
        cursor = conn.execute("SELECT * FROM mlops.drift_metrics WHERE date = %s", [session])
        names = [column.name for column in cursor.description or ()]
        return dict(zip(names, cursor.fetchone() or (), strict=True))


def test_the_ic_is_the_rank_correlation(monitor: DriftMonitor, strategy: Strategy) -> None:
    strategy.record(monitor, slice(3))
    metrics = monitor.calculate_metrics(strategy.days[1])
    expected = spearmanr(strategy.signals[1], strategy.returns[1]).statistic
    assert metrics.ic == pytest.approx(expected, abs=1e-12)
    assert metrics.n_signals == len(NAMES)


def test_calculating_stores_nothing_and_saving_does(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(3))
    metrics = monitor.calculate_metrics(strategy.days[1])
    assert all_values(monitor) == []
    monitor.save_metrics(metrics)
    assert monitor.metrics(strategy.days[0], strategy.days[2]) == [
        DriftMetrics.of("momentum", strategy.days[1], sorted(metrics.values, key=_key))
    ]


def _key(value: Any) -> tuple[str, str]:
    return value.metric, value.dimension


def test_metrics_made_by_hand_can_be_saved(monitor: DriftMonitor, days: list[date]) -> None:
    monitor.save_metrics(DriftMetrics(days[0], "momentum", ic=0.03, psi=0.2, psi_alert=True))
    row = wide(monitor, days[0])
    assert (row["ic"], row["psi"], row["psi_alert"], row["ic_alert"]) == (0.03, 0.2, True, False)


def test_the_wide_view_has_every_column_filled(monitor: DriftMonitor, strategy: Strategy) -> None:
    strategy.record(monitor)
    monitor.backfill(strategy.days[0], strategy.days[79])
    monitor.accept(strategy.days[0], strategy.days[79], "calm", min_sessions=60)
    last = monitor.backfill(strategy.days[80], strategy.days[-1])[-1]
    row = wide(monitor, strategy.days[-1])
    seed_columns = ("ic", "ic_5d_avg", "psi", "sharpe_5d", "sharpe_20d")
    assert all(row[column] == getattr(last, column) is not None for column in seed_columns)
    assert row["strategy_id"] == "momentum"


def test_five_session_averages_and_sharpe_follow_their_definitions(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(25))
    found = monitor.backfill(strategy.days[0], strategy.days[24])
    ics = [metrics.ic for metrics in found]
    own = np.array(strategy.own(slice(25))["value"])
    assert found[24].ic_5d_avg == pytest.approx(np.mean(ics[20:]))
    assert found[3].ic_5d_avg is None
    expected = own[20:].mean() / own[20:].std(ddof=1) * np.sqrt(252)
    assert found[24].sharpe_5d == pytest.approx(expected)
    assert found[24].value("sharpe_60d") is None


def test_a_rerun_changes_nothing(monitor: DriftMonitor, strategy: Strategy) -> None:
    strategy.record(monitor, slice(10))
    monitor.backfill(strategy.days[0], strategy.days[9])
    before = all_values(monitor)
    monitor.backfill(strategy.days[0], strategy.days[9])
    monitor.run_daily(strategy.days[9])
    assert all_values(monitor) == before


def test_day_by_day_and_backfilled_values_agree(monitor: DriftMonitor, strategy: Strategy) -> None:
    other = DriftMonitor(monitor.uri, "backfilled", tracking_uri=False)
    for each in (monitor, other):
        strategy.record(each, slice(8))
    for day in strategy.days[:8]:
        monitor.run_daily(day)
    other.backfill(strategy.days[0], strategy.days[7])
    daily = monitor.metrics(strategy.days[0], strategy.days[7])
    at_once = other.metrics(strategy.days[0], strategy.days[7])
    assert [m.values for m in daily] == [m.values for m in at_once]


def test_a_session_without_returns_is_pending_until_they_come(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    monitor.record_predictions(strategy.predictions(slice(2)))
    monitor.record_returns(strategy.realized(slice(1)))
    pending = monitor.run_daily(strategy.days[1])
    assert (pending.ic, pending.statuses["ic"]) == (None, "no_returns_yet")
    monitor.record_returns(strategy.realized(slice(1, 2)))
    monitor.record_predictions(strategy.predictions(slice(2, 3)))
    monitor.run_daily(strategy.days[2])
    assert monitor.metrics(strategy.days[1], strategy.days[1])[0].ic is not None


def test_a_revised_return_is_a_new_revision_of_its_session_and_of_what_follows(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(12))
    monitor.backfill(strategy.days[0], strategy.days[11])
    before = {m.date: m for m in monitor.metrics(strategy.days[0], strategy.days[11])}
    worse = {**strategy.realized(slice(6, 7))}
    worse["value"] = [-value for value in worse["value"]]
    monitor.record_returns(worse)
    monitor.run_daily(strategy.days[11])
    after = {m.date: m for m in monitor.metrics(strategy.days[0], strategy.days[11])}
    revised = strategy.days[6]
    assert after[revised].ic == pytest.approx(-(before[revised].ic or 0))
    changed = [day for day in strategy.days[:12] if after[day].ic_5d_avg != before[day].ic_5d_avg]
    assert changed == list(strategy.days[6:11])
    assert wide(monitor, revised)["revision"] == 2
    assert wide(monitor, strategy.days[5])["revision"] == 1


def test_a_daily_run_makes_up_for_the_days_it_missed(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(8))
    monitor.run_daily(strategy.days[2])
    monitor.run_daily(strategy.days[6])
    found = monitor.metrics(strategy.days[0], strategy.days[-1])
    assert [m.date for m in found] == list(strategy.days[2:7])


def test_without_a_date_the_last_closed_session_is_run(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(3))
    saturday = datetime(2024, 1, 6, 12, tzinfo=timezone.utc)
    assert monitor.run_daily(now=saturday).date == date(2024, 1, 5)
    with pytest.raises(ValueError, match="no time zone"):
        monitor.run_daily(now=datetime(2024, 1, 6, 12))  # noqa: DTZ001


def test_a_holiday_cannot_be_run(monitor: DriftMonitor) -> None:
    with pytest.raises(NotASession, match="2024-01-15"):
        monitor.run_daily(date(2024, 1, 15))
    with pytest.raises(ValueError, match="must be a date"):
        monitor.run_daily(datetime(2024, 1, 16, tzinfo=timezone.utc))


def test_no_data_is_an_alert(monitor: DriftMonitor, strategy: Strategy) -> None:
    strategy.record(monitor, slice(5))
    monitor.backfill(strategy.days[0], strategy.days[4])
    metrics = monitor.run_daily(strategy.days[5])
    assert metrics.n_signals == 0
    [alert] = [a for a in monitor.alerts() if a.rule == "no signals"]
    assert (alert.session, alert.severity, alert.state) == (strategy.days[5], "critical", "open")


def test_returns_that_do_not_come_are_an_alert(monitor: DriftMonitor, strategy: Strategy) -> None:
    monitor.record_predictions(strategy.predictions(slice(6)))
    monitor.record_returns(strategy.realized(slice(2)))
    monitor.backfill(strategy.days[0], strategy.days[5])
    [alert] = [a for a in monitor.alerts() if a.rule == "no returns"]
    # Returns of session 2 were due on 3, of 3 on 4: the second missing day opens it.
    assert alert.session == strategy.days[4]


def test_a_longer_horizon_is_due_later(monitor: DriftMonitor, strategy: Strategy) -> None:
    monitor.record_predictions(strategy.predictions(slice(8), horizon=[5] * 8 * len(NAMES)))
    monitor.record_returns(strategy.realized(slice(3), horizon=[5] * 3 * len(NAMES)))
    found = monitor.backfill(strategy.days[0], strategy.days[7])
    assert [metrics.ic is not None for metrics in found] == [True] * 3 + [False] * 5
    assert not monitor.alerts()


def test_several_horizons_groups_and_models_have_their_own_ic(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    one = slice(1)
    groups = ["tech" if i % 2 else "energy" for i in range(len(NAMES))]
    champion = {"model_name": ["lasso"] * 40, "model_version": ["2"] * 40}
    evening = monitor.calendar.session_close(strategy.days[0])
    times = {"signal_time": [evening] * 40}
    monitor.record_predictions(strategy.predictions(one, group=groups, **champion, **times))
    earlier = {"signal_time": [evening - timedelta(hours=1)] * 40}
    challenger = {"model_name": ["lasso"] * 40, "model_version": ["3"] * 40}
    other = strategy.predictions(one, **challenger, **earlier)
    other["signal"] = [-value for value in other["signal"]]
    monitor.record_predictions(other)
    monitor.record_returns(strategy.realized(one))
    monitor.record_returns(strategy.realized(one, horizon=[5] * 40))
    metrics = monitor.run_daily(strategy.days[0])
    found = {v.dimension: v.value for v in metrics.values if v.metric == "ic"}
    assert set(found) == {"", "h5", "group tech", "group energy", "lasso/3"}
    assert found["h5"] == found[""] == pytest.approx(-found["lasso/3"])
    run = _run(monitor, strategy.days[0])
    assert (run["model_name"], run["model_version"]) == ("lasso", "2")


def _run(monitor: DriftMonitor, session: date) -> dict[str, Any]:
    from drift.results import values

    with monitor.connect() as conn:
        return vars(values.runs(conn, "momentum", session, session)[0])


def test_a_signal_said_twice_counts_as_it_was_said_last(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(1))
    later = monitor.calendar.session_close(strategy.days[0]) + timedelta(hours=1)
    again = strategy.predictions(slice(1), signal_time=[later] * 40)
    again["signal"] = [-value for value in again["signal"]]
    monitor.record_predictions(again)
    expected = -spearmanr(strategy.signals[0], strategy.returns[0]).statistic
    assert monitor.calculate_metrics(strategy.days[0]).ic == pytest.approx(expected)


def test_too_few_names_have_no_ic(monitor: DriftMonitor, strategy: Strategy) -> None:
    few = {key: column[:10] for key, column in strategy.predictions(slice(1)).items()}
    monitor.record_predictions(few)
    monitor.record_returns(strategy.realized(slice(1)))
    metrics = monitor.run_daily(strategy.days[0])
    assert (metrics.ic, metrics.statuses["ic"]) == (None, "too_few")
    lenient = DriftMonitor(monitor.uri, "momentum", min_n=5, tracking_uri=False)
    assert lenient.run_daily(strategy.days[0]).ic is not None


def test_how_a_strategy_is_watched_is_remembered(monitor: DriftMonitor) -> None:
    rule = Rule("mine", "ic", "<", -0.5)
    other = DriftMonitor(monitor.uri, "other", tracking_uri=False)
    other.configure(calendar="XLON", rules=[rule], min_n=7)
    again = DriftMonitor(monitor.uri, "other", tracking_uri=False)
    assert (again.calendar.name, again.rules, again.strategy.min_n) == ("XLON", (rule,), 7)
    again.record_strategy_returns({"session": ["2024-01-12"], "value": [0.01]})
    with pytest.raises(Error, match="on calendar XLON, not XNYS"):
        DriftMonitor(monitor.uri, "other", calendar="XNYS").configure()


def test_presets_and_thresholds_are_rules(monitor: DriftMonitor) -> None:
    def rules(given: Any) -> tuple[Rule, ...]:
        return DriftMonitor(monitor.uri, "x", rules=given, tracking_uri=False).configure().rules

    assert len(rules("classic")) == 7
    assert rules(AlertConfig(ic_warning=0.03))[0].threshold == 0.03
    with pytest.raises(ValueError, match="no preset 'clasic'"):
        rules("clasic")


def test_an_override_moves_the_sessions_of_the_next_monitor_too(monitor: DriftMonitor) -> None:
    monitor.override_session(date(2024, 1, 15), is_session=True, why="open after all")
    again = DriftMonitor(monitor.uri, "momentum", tracking_uri=False)
    for each in (monitor, again):
        assert each.calendar.session_offset(date(2024, 1, 12), 1) == date(2024, 1, 15)


def test_the_classic_preset_fires_as_its_matrix_says(
    monitor: DriftMonitor, days: list[date], make: Callable[..., Strategy]
) -> None:
    classic = DriftMonitor(monitor.uri, "classic", rules="classic", tracking_uri=False)
    strategy = make(days[:10], [0.9] * 5 + [-0.9] * 5)
    strategy.record(classic)
    last = classic.backfill(days[0], days[9])[-1]
    opened = {alert.rule: alert.session for alert in classic.alerts()}
    assert opened["ic very low"] == days[5]
    assert opened["ic negative"] == days[7]
    assert opened["ic low"] == days[9]
    assert last.ic_alert
    assert not last.psi_alert


def test_a_password_is_not_in_the_repr() -> None:
    from mlflow_timescale.db import DatabaseURI

    hidden = object.__new__(DriftMonitor)
    hidden.uri = DatabaseURI.parse("postgresql+timescaledb://ann:s3cret@db/trading")
    hidden.strategy_id = "x"
    assert "s3cret" not in repr(hidden)


@pytest.mark.slow
def test_a_session_long_after_the_last_data_has_its_alert_and_its_report(
    monitor: DriftMonitor, days: list[date], make: Callable[..., Strategy]
) -> None:
    strategy = make(days, [0.3] * 70 + [-0.3] * 30)
    strategy.record(monitor)
    monitor.backfill(days[0], days[-1])
    monitor.accept(days[0], days[69], "calm", min_sessions=60)
    monitor.backfill(days[70], days[-1])
    long_after = date(2025, 12, 1)
    assert monitor.run_daily(long_after).statuses["ic"] == "no_predictions"
    since = {alert.rule: alert.session for alert in monitor.alerts()}
    assert since["no signals"] == long_after
    assert days[70] < since["ic drift emergency"] <= days[-1]
    page = monitor.report(long_after)
    assert all(f">{session}</td>" in page for session in since.values())


def test_a_job_that_was_down_for_weeks_computes_every_session_with_signals(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    strategy.record(monitor, slice(40))
    monitor.run_daily(strategy.days[2])
    monitor.run_daily(strategy.days[39])
    computed = monitor.metrics(strategy.days[0], strategy.days[39])
    assert [metrics.date for metrics in computed] == strategy.days[2:40]


def test_a_gap_that_an_earlier_run_left_is_computed_too(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    monitor.run_daily(strategy.days[0])
    monitor.run_daily(strategy.days[20])
    strategy.record(monitor, slice(22))
    monitor.run_daily(strategy.days[21])
    computed = monitor.metrics(strategy.days[0], strategy.days[21])
    assert [metrics.date for metrics in computed] == strategy.days[:22]
