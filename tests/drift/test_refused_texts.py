"""Texts that no database or MLflow can hold are refused where they are given, and named."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, datetime, timezone
from typing import Any

import pytest

from drift import DriftMonitor
from drift.inputs import columns
from drift.strategies import LONGEST_NAME, InvalidStrategyName
from mlflow_timescale.common.errors import InvalidFrame, InvalidText
from mlflow_timescale.db import Error
from mlflow_timescale.db.uri import DatabaseURI

DAY = date(2024, 1, 3)
LATER = datetime(2025, 1, 1, tzinfo=timezone.utc)
COLUMNS = ("entity_key", "group", "signal_name", "model_name", "model_version")
CALLS: dict[str, Callable[[DriftMonitor, str], Any]] = {
    "accept": lambda monitor, text: monitor.accept(DAY, DAY, text),
    "accepted_by": lambda monitor, text: monitor.accept(DAY, DAY, "calm", accepted_by=text),
    "acknowledge": lambda monitor, text: monitor.acknowledge(1, by=text),
    "note": lambda monitor, text: monitor.acknowledge(1, by="ann", note=text),
    "silence": lambda monitor, text: monitor.silence(text, until=LATER, by="ann", why="test"),
    "why": lambda monitor, text: monitor.silence("no signals", until=LATER, by="ann", why=text),
    "override": lambda monitor, text: monitor.override_session(DAY, is_session=False, why=text),
    "repair": lambda monitor, text: monitor.confirm_repair(DAY, by="ann", reason=text),
    "configure": lambda monitor, text: monitor.configure(model_name=text),
    "features": lambda monitor, text: monitor.configure(features=[text]),
    "strategy": lambda monitor, text: DriftMonitor(monitor.uri, text),
}


@pytest.fixture
def monitor(shared_database: DatabaseURI) -> DriftMonitor:
    """The monitor of a strategy of the test's own."""
    monitor = DriftMonitor(shared_database, uuid.uuid4().hex, tracking_uri=False, notify=())
    monitor.configure()
    return monitor


@pytest.mark.parametrize("text", ["a\0b", "cut \ud83d"], ids=["NUL", "surrogate"])
@pytest.mark.parametrize("call", CALLS)
def test_text_arguments_are_refused(monitor: DriftMonitor, call: str, text: str) -> None:
    with pytest.raises(InvalidText, match=r"holds (NUL|the lone surrogate)"):
        CALLS[call](monitor, text)


@pytest.mark.parametrize("text", ["a\0b", "cut \ud83d"], ids=["NUL", "surrogate"])
@pytest.mark.parametrize("column", COLUMNS)
def test_text_columns_are_refused(monitor: DriftMonitor, column: str, text: str) -> None:
    frame = {"entity_key": ["A", "B"], "session": [DAY] * 2, "signal": [0.1, 0.2]}
    with pytest.raises(Error, match=column):
        monitor.record_predictions({**frame, column: ["A", text]})


LONG = "".join(chr(33 + i * i % 90) for i in range(3000))  # does not compress to an index entry


@pytest.mark.parametrize("column", COLUMNS)
def test_texts_that_no_index_holds_are_refused(monitor: DriftMonitor, column: str) -> None:
    frame = {"entity_key": ["A", "B"], "session": [DAY] * 2, "signal": [0.1, 0.2]}
    with pytest.raises(InvalidFrame, match=rf"{column}.* 3,000 bytes"):
        monitor.record_predictions({**frame, column: ["A", LONG]})
    with pytest.raises(InvalidFrame, match=rf"{column}.* 3,000 bytes"):
        monitor.record_predictions({**frame, column: ["A", "A" * 3000]})
    longest = columns.LONGEST_ENTITY if column == "entity_key" else columns.LONGEST_NAME
    assert monitor.record_predictions({**frame, column: ["A", LONG[:longest]]})


def test_the_longest_names_fit_together(monitor: DriftMonitor) -> None:
    names = ("signal_name", "model_name", "model_version")
    frame = {"entity_key": [LONG[:1000]], "session": [DAY], "signal": [0.1]}
    longest = {name: [LONG[i : i + columns.LONGEST_NAME]] for i, name in enumerate(names)}
    assert monitor.record_predictions(frame | longest) == 1


@pytest.mark.parametrize("horizon", [0, -1, 10_001, 2**31, 2**62])
def test_a_horizon_is_a_number_of_sessions(monitor: DriftMonitor, horizon: int) -> None:
    frame = {"entity_key": ["A"], "session": [DAY], "signal": [0.1], "horizon": [horizon]}
    with pytest.raises(InvalidFrame, match="counts sessions"):
        monitor.record_predictions(frame)


def test_a_name_that_mlflow_cannot_hold_is_refused_when_the_strategy_is_recorded(
    database: DatabaseURI,
) -> None:
    frame = {"entity_key": ["A"], "session": [DAY], "signal": [0.1]}
    for name in ("x" * (LONGEST_NAME + 1), "", "  "):
        with pytest.raises(InvalidStrategyName, match="strategy name"):
            DriftMonitor(database, name).record_predictions(frame)
    longest = DriftMonitor(database, "x" * LONGEST_NAME, tracking_uri=database.url)
    longest.record_predictions(frame)
    longest.backfill(DAY, DAY)
    with longest.connect() as conn:
        logged = "SELECT logged_revision FROM mlops.drift_runs"
        assert conn.execute(logged).fetchone() == (1,)
