"""Recording predictions and returns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from drift import DriftMonitor
from drift.inputs import columns
from drift.inputs.recording import Contradiction
from drift.inputs.signal_sessions import signal_times
from feature_store import forward_returns
from mlflow_timescale.common.calendars import NotASession, TradingCalendar
from mlflow_timescale.common.frames import InvalidFrame
from mlflow_timescale.db.uri import DatabaseURI

NYSE = TradingCalendar("XNYS")
FRIDAY, TUESDAY = date(2024, 1, 12), date(2024, 1, 16)
EVENING = datetime(2024, 1, 12, 22, tzinfo=timezone.utc)


def predictions(**changes: Any) -> dict[str, Any]:
    return {
        "entity_key": ["AAPL", "MSFT"],
        "session": [FRIDAY] * 2,
        "signal": [0.5, -0.5],
        **changes,
    }


def returns(**changes: Any) -> dict[str, Any]:
    return {
        "entity_key": ["AAPL", "MSFT"],
        "session": [FRIDAY] * 2,
        "value": [0.01, 0.02],
        **changes,
    }


def rows(monitor: DriftMonitor, table: str, columns: str) -> list[tuple[Any, ...]]:
    with monitor.connect() as conn:
        return conn.execute(f"SELECT {columns} FROM mlops.{table} ORDER BY 1, 2, 3").fetchall()


def test_predictions_are_kept_with_their_defaults(monitor: DriftMonitor) -> None:
    assert monitor.record_predictions(predictions()) == 2
    listed = "entity_key, session, signal, horizon, signal_name, model_name, signal_time"
    close = datetime(2024, 1, 12, 21, tzinfo=timezone.utc)
    assert rows(monitor, "drift_predictions", listed) == [
        ("AAPL", FRIDAY, 0.5, 1, "signal", "", close),
        ("MSFT", FRIDAY, -0.5, 1, "signal", "", close),
    ]


def test_the_same_rows_again_change_nothing(monitor: DriftMonitor) -> None:
    assert (
        monitor.record_predictions(predictions()),
        monitor.record_predictions(predictions()),
    ) == (2, 0)
    assert (monitor.record_returns(returns()), monitor.record_returns(returns())) == (2, 0)
    own = {"session": [FRIDAY], "value": [0.001]}
    assert (monitor.record_strategy_returns(own), monitor.record_strategy_returns(own)) == (1, 0)


def test_a_contradiction_names_the_row_and_keeps_nothing(monitor: DriftMonitor) -> None:
    monitor.record_predictions(predictions())
    more = {"entity_key": ["MSFT", "NVDA"], "session": [FRIDAY] * 2, "signal": [9.0, 1.0]}
    with pytest.raises(
        Contradiction, match=r"MSFT signal .*: 9.0, recorded -0.5.*later signal_time"
    ):
        monitor.record_predictions(more)
    assert len(rows(monitor, "drift_predictions", "entity_key, session, signal")) == 2


def test_a_frame_may_not_contradict_itself(monitor: DriftMonitor) -> None:
    with pytest.raises(Contradiction, match="AAPL"):
        monitor.record_predictions(predictions(entity_key=["AAPL", "AAPL"]))


def test_signal_time_decides_the_session(monitor: DriftMonitor) -> None:
    monitor.record_predictions(
        {
            "entity_key": ["A", "B"],
            "signal_time": [EVENING, EVENING + timedelta(days=4)],
            "signal": [1, 2],
        }
    )
    found = rows(monitor, "drift_predictions", "entity_key, session, signal_time")
    assert [row[1] for row in found] == [FRIDAY, TUESDAY]


def test_naive_signal_times_are_refused(monitor: DriftMonitor) -> None:
    frame = {"entity_key": ["A"], "signal_time": [datetime(2024, 1, 12, 22)], "signal": [1.0]}  # noqa: DTZ001
    with pytest.raises(InvalidFrame, match="'signal_time' has no time zone"):
        monitor.record_predictions(frame)


def test_midnights_are_taken_for_dates_and_refused(monitor: DriftMonitor) -> None:
    midnights = [datetime(2024, 1, day, tzinfo=timezone.utc) for day in (11, 12)]
    with pytest.raises(InvalidFrame, match="dates rather than"):
        monitor.record_predictions(
            {"entity_key": ["A", "A"], "signal_time": midnights, "signal": [1, 2]}
        )


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["2024-01-11T05:00Z", "2024-01-12T05:00Z"], "midnight America/New_York in every row"),
        (["2024-01-10T00:00Z"] * 2 + ["2024-01-11T21:00Z"], "midnight UTC in 67% of the rows"),
        (["2024-07-10T04:00Z"] * 2 + ["2024-07-11T20:00Z"], "pass the dates as column 'session'"),
    ],
)
def test_midnights_of_the_exchange_and_in_most_rows_are_dates(times: list[str], words: str) -> None:
    given = columns.read({"signal_time": pd.to_datetime(times)})
    with pytest.raises(InvalidFrame, match=words):
        signal_times(given, NYSE)


def test_a_single_midnight_is_an_instant() -> None:
    times = pd.to_datetime(["2024-01-12T05:00Z", "2024-01-12T21:00Z"])
    given = columns.read({"signal_time": times})
    assert signal_times(given, NYSE)[1].tolist() == [date(2024, 1, 11), FRIDAY]


def test_a_signal_time_may_not_contradict_its_session(monitor: DriftMonitor) -> None:
    times = [EVENING, EVENING + timedelta(days=10)]
    with pytest.raises(InvalidFrame, match="in 1 rows: row 2: 2024-01-12, 2024-01-22T22:00"):
        monitor.record_predictions(predictions(signal_time=times))
    until = monitor.calendar.session_close(TUESDAY)
    assert monitor.record_predictions(predictions(signal_time=[EVENING, until])) == 2


def test_sessions_after_the_next_one_have_no_signals_yet(monitor: DriftMonitor) -> None:
    now = datetime.now(timezone.utc)
    upcoming = monitor.calendar.next_close(monitor.calendar.next_open(now)).date()
    assert monitor.record_predictions(predictions(session=[upcoming] * 2)) == 2
    later = monitor.calendar.next_session(upcoming)
    with pytest.raises(InvalidFrame, match=f"sessions after the next one, {upcoming}: row 1"):
        monitor.record_predictions(predictions(session=[later] * 2))


def test_forward_returns_are_recorded_as_they_are(monitor: DriftMonitor) -> None:
    closes = [datetime(2024, 1, day, 21, tzinfo=timezone.utc) for day in (12, 16, 17)]
    prices = pd.DataFrame({"AAPL": [100.0, 110.0, 99.0]}, index=pd.DatetimeIndex(closes))
    assert monitor.record_returns(forward_returns(prices, 1)) == 2
    kept = rows(monitor, "drift_returns", "session, entity_key, value")
    assert [row[0] for row in kept] == [FRIDAY, TUESDAY]
    midnights = prices.set_index(prices.index.normalize())
    with pytest.raises(InvalidFrame, match="'event_time' is midnight UTC"):
        monitor.record_returns(forward_returns(midnights, 1))


def test_a_session_must_be_a_trading_day(monitor: DriftMonitor) -> None:
    with pytest.raises(NotASession, match="2024-01-15"):
        monitor.record_predictions(predictions(session=[date(2024, 1, 15)] * 2))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"entity_key": ["A"], "session": [FRIDAY]}, "no column 'signal'"),
        ({"entity_key": ["A"], "signal": [1.0]}, "no column 'signal_time'"),
        ({"entity_key": [None], "session": [FRIDAY], "signal": [1.0]}, "'entity_key' has 1 empty"),
        ({"entity_key": ["A"], "session": [FRIDAY], "signal": ["high"]}, "holds text"),
        (
            {"entity_key": ["A"], "session": [FRIDAY], "signal": [1.0], "horizon": [0]},
            "'horizon' holds 0",
        ),
        ({"entity_key": ["A"], "session": [EVENING], "signal": [1.0]}, "pass dates"),
        (
            {"entity_key": ["A"], "session": [20251103], "signal": [1.0]},
            "'session' .* holds no dates, such as 20251103; pass dates",
        ),
        (42, "cannot read a int"),
    ],
)
def test_bad_frames_are_refused(shared_database: DatabaseURI, frame: Any, words: str) -> None:
    monitor = DriftMonitor(shared_database, "momentum", tracking_uri=False, notify=())
    with pytest.raises(InvalidFrame, match=words):
        monitor.record_predictions(frame)


def as_csv(frame: dict[str, Any], directory: Path) -> Path:
    path = directory / "frame.csv"
    pd.DataFrame(frame).to_csv(path, index=False)
    return path


def as_parquet(frame: dict[str, Any], directory: Path) -> Path:
    path = directory / "frame.parquet"
    pd.DataFrame(frame).to_parquet(path)
    return path


@pytest.mark.parametrize(
    "shape",
    [
        lambda frame, _: pd.DataFrame(frame),
        lambda frame, _: pd.DataFrame(frame).astype(
            {"entity_key": "category", "signal": "float32"}
        ),
        lambda frame, _: pd.DataFrame(frame).assign(session=lambda f: pd.to_datetime(f["session"])),
        lambda frame, _: pl.DataFrame(frame),
        lambda frame, _: pa.table(frame),
        as_csv,
        as_parquet,
    ],
    ids=["pandas", "categories", "timestamps", "polars", "arrow", "csv", "parquet"],
)
def test_any_frame_records_the_same(
    monitor: DriftMonitor, tmp_path: Path, shape: Callable[[dict[str, Any], Path], Any]
) -> None:
    assert monitor.record_predictions(shape(predictions(), tmp_path)) == 2
    found = rows(monitor, "drift_predictions", "entity_key, session, signal")
    assert found == [("AAPL", FRIDAY, 0.5), ("MSFT", FRIDAY, -0.5)]


def test_empty_frames_record_nothing(monitor: DriftMonitor) -> None:
    empty = pd.DataFrame(
        {"entity_key": pd.Series([], dtype=str), "session": pd.to_datetime([]), "signal": []}
    )
    assert monitor.record_predictions(empty.astype({"signal": float})) == 0


def test_a_return_that_differs_is_a_revision(monitor: DriftMonitor) -> None:
    monitor.record_returns(returns())
    assert monitor.record_returns(returns(value=[0.01, 0.03])) == 1
    kept = rows(monitor, "drift_returns", "entity_key, known_at, value")
    assert [(name, value) for name, _, value in kept] == [
        ("AAPL", 0.01),
        ("MSFT", 0.02),
        ("MSFT", 0.03),
    ]


def test_a_return_may_say_when_it_became_known(monitor: DriftMonitor) -> None:
    known = [EVENING, EVENING]
    assert monitor.record_returns(returns(known_at=known)) == 2
    assert monitor.record_returns(returns(known_at=known)) == 0
    with pytest.raises(Contradiction, match="later known_at"):
        monitor.record_returns(returns(known_at=known, value=[0.5, 0.02]))


def test_returns_that_are_not_known_yet_are_left_out(monitor: DriftMonitor) -> None:
    assert monitor.record_returns(returns(value=[float("nan"), 0.02])) == 1


def test_many_rows_arrive_in_one_call(monitor: DriftMonitor) -> None:
    days = monitor.calendar.sessions_in_range(date(2023, 1, 3), date(2023, 3, 31))
    frame = pd.DataFrame(
        [(f"N{i}", day) for day in days for i in range(200)], columns=["entity_key", "session"]
    ).assign(signal=np.arange(200.0 * len(days)))
    assert monitor.record_predictions(frame) == 200 * len(days)
    with monitor.connect() as conn:
        total = conn.execute("SELECT sum(signal) FROM mlops.drift_predictions").fetchone()
    assert total == (frame["signal"].sum(),)


def test_strategies_do_not_see_each_other(monitor: DriftMonitor) -> None:
    other = DriftMonitor(monitor.uri, "value", tracking_uri=False)
    monitor.record_predictions(predictions())
    assert other.record_predictions(predictions(signal=[1.0, 2.0])) == 2
