"""What cannot be is refused where it is recorded; what is almost always an error is warned of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.inputs import plausibility
from drift.inputs.plausibility import ImplausibleValues
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.frames import InvalidFrame

XNYS = TradingCalendar("XNYS")
DAY = np.array(["2024-01-03"], dtype="datetime64[D]")
LONG_AFTER = datetime(2025, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_value_is_refused_and_its_row_is_named(value: float) -> None:
    with pytest.raises(InvalidFrame, match=r"infinite in 1 rows: MSFT 2024-01-03 -?inf"):
        plausibility.refuse_infinite(
            "value", np.array([0.01, value, np.nan]), [["A", "MSFT", "B"], ["2024-01-03"] * 3]
        )


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_no_call_records_an_infinity(monitor: DriftMonitor, value: float) -> None:
    two = {"entity_key": ["A", "B"], "session": [date(2024, 1, 3)] * 2}
    for record, frame in (
        (monitor.record_predictions, {**two, "signal": [0.1, value]}),
        (monitor.record_returns, {**two, "value": [0.1, value]}),
        (monitor.record_strategy_returns, {"session": [date(2024, 1, 3)], "value": [value]}),
    ):
        with pytest.raises(InvalidFrame, match="Nothing was recorded"):
            record(frame)
    with monitor.connect() as conn:
        count = "SELECT count(*) FROM mlops.drift_prediction_points"
        assert conn.execute(count).fetchone() == (0,)


def test_a_return_known_before_its_session_opened_is_refused() -> None:
    before = XNYS.session_open(date(2024, 1, 3)) - timedelta(minutes=1)
    with pytest.raises(InvalidFrame, match="before that session opened"):
        plausibility.refuse_from_the_future(DAY, [before], XNYS)
    plausibility.refuse_from_the_future(DAY, [before + timedelta(minutes=2)], XNYS)


def warned(call: Callable[..., Any], *arguments: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        call(*arguments)
    assert all(warning.category is ImplausibleValues for warning in raised)
    return [str(warning.message) for warning in raised]


def of_returns(values: Any, known_at: datetime = LONG_AFTER, horizon: int = 1) -> list[str]:
    data = np.asarray(values, dtype=float)
    n = len(data)
    names, horizons = [f"N{i}" for i in range(n)], np.full(n, horizon)
    return warned(
        plausibility.warn_of_returns, XNYS, names, DAY.repeat(n), horizons, [known_at] * n, data
    )


DAILY = np.random.default_rng(0).normal(0, 0.02, 200)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (DAILY, None),
        (DAILY * 100, "are they in percent"),
        ([150.0, -2.0, 1.1, 0.4, 3.0], "are they in percent"),
        ([*DAILY, -0.75], "N200 2024-01-03 -0.75 a 4-for-1 split"),
        ([*DAILY, 2.0], "N200 2024-01-03 2 a 1-for-3 split"),
        ([*DAILY, -0.62], "N200 2024-01-03 -0.62"),
        ([150.0], "N0 2024-01-03 150"),
        ([*DAILY, 0.45], None),
        ([], None),
    ],
)
def test_implausible_returns_are_warned_of(values: Any, expected: str | None) -> None:
    messages = of_returns(values)
    assert len(messages) == (expected is not None)
    assert (expected or "") in "".join(messages)


def test_a_longer_horizon_may_move_further() -> None:
    assert not of_returns([*DAILY, 0.9], horizon=20)
    assert of_returns([*DAILY, 0.9], horizon=1)


def test_a_return_dated_by_the_day_on_which_it_was_realised_is_warned_of() -> None:
    evening = XNYS.session_close(date(2024, 1, 3)) + timedelta(hours=1)
    [message] = of_returns(DAILY, evening)
    assert "before session 2024-01-04 opened: date returns by the session of the signal" in message
    assert not of_returns(DAILY, evening + timedelta(days=1))
    assert of_returns(DAILY, evening + timedelta(days=1), horizon=5)


def test_strategy_returns_in_percent_are_warned_of() -> None:
    days = DAY.repeat(3)
    assert not warned(plausibility.warn_of_strategy_returns, days, np.array([0.02, -0.1, 0.0]))
    [message] = warned(plausibility.warn_of_strategy_returns, days, np.array([0.02, -1.4, 0.0]))
    assert "2024-01-03 -1.4" in message


def test_a_session_names_its_implausible_returns(monitor: DriftMonitor, strategy: Strategy) -> None:
    small = [0.01 * value for value in strategy.realized(slice(2))["value"]]
    small[45] = -0.75
    with pytest.warns(ImplausibleValues, match="4-for-1 split"):
        monitor.record_returns(strategy.realized(slice(2), value=small))
    with pytest.warns(ImplausibleValues, match=r"1\.2"):
        monitor.record_strategy_returns({"session": strategy.days[:2], "value": [0.01, 1.2]})
    monitor.record_predictions(strategy.predictions(slice(2)))
    first, second = monitor.backfill(strategy.days[0], strategy.days[1])
    assert first.remarks == ()
    assert second.remarks == (
        "The strategy returned 120% in this session: a return is a fraction, 0.01 for 1%.",
        f"Returns beyond 50% of a session: {NAMES[5]} -75% (a 4-for-1 split?).",
    )


@pytest.mark.parametrize(
    ("shift", "text"), [(1, "session later"), (-1, "session earlier"), (0, "")]
)
def test_returns_dated_by_another_session_are_remarked(
    monitor: DriftMonitor, strategy: Strategy, shift: int, text: str
) -> None:
    """A return of session t is recorded under session t + shift."""
    dated = strategy.realized(slice(0, 42))
    days = list(strategy.days)
    dated["session"] = [days[days.index(day) + shift] for day in dated["session"] if day > days[0]]
    for column in ("entity_key", "value"):
        dated[column] = dated[column][len(NAMES) :]
    monitor.record_predictions(strategy.predictions(slice(0, 42)))
    monitor.record_returns(dated)
    last = monitor.backfill(days[0], days[41])[38]
    assert text in "".join(last.remarks)
    assert len(last.remarks) == bool(text)
