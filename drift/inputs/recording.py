"""Record predictions, realized returns and strategy returns.

Each call is one transaction: COPY into a staging table, then set-based statements. The same rows
again change nothing; rows that contradict what is kept raise, and nothing of the call is kept.
Sessions that were computed before the rows came are marked stale, for the next run to recompute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg.sql import SQL

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.frames import Columns
from mlflow_timescale.db import Connection, Error, load

from . import columns, plausibility
from .columns import counts, days, instants, numbers, texts
from .signal_sessions import sessions_of, signal_times

_queries = load("drift")
_TYPES = {"text": "text", "date": "date", "time": "timestamptz", "real": "float8", "int": "int4"}


class Contradiction(Error, ValueError):
    """Rows that differ from what was recorded for the same key."""


@dataclass(frozen=True)
class _InputKind:
    """The statements for one kind of input; a correction has a later `version_column`."""

    name: str
    version_column: str
    stage: SQL
    copy: SQL
    add: SQL
    contradicted: SQL
    has_entities: bool = True


_PREDICTIONS = _InputKind(
    "predictions",
    "signal_time",
    _queries.stage_predictions,
    _queries.copy_predictions,
    _queries.add_predictions,
    _queries.contradicted_predictions,
)
_RETURNS = _InputKind(
    "returns",
    "known_at",
    _queries.stage_returns,
    _queries.copy_returns,
    _queries.add_returns,
    _queries.contradicted_returns,
)
_STRATEGY_RETURNS = _InputKind(
    "strategy returns",
    "known_at",
    _queries.stage_strategy_returns,
    _queries.copy_strategy_returns,
    _queries.add_strategy_returns,
    _queries.contradicted_strategy_returns,
    has_entities=False,
)


def record_predictions(
    conn: Connection,
    strategy_id: str,
    calendar: TradingCalendar,
    frame: Any,
    names: Mapping[str, str] | None = None,
) -> int:
    """Record the signals of a strategy's models; return how many rows were new.

    Columns: entity_key, signal, and signal_time (aware) or session; optional horizon (sessions, 1),
    signal_name ("signal"), model_name, model_version, group. Raises InvalidFrame, NotASession,
    Contradiction.
    """
    table = columns.read(frame, names)
    entities, signals = texts(table, "entity_key"), numbers(table, "signal")
    times, session_days = signal_times(table, calendar)
    plausibility.refuse_infinite("signal", signals, [entities, session_days.tolist()])
    staged = [
        ("text", entities),
        ("date", session_days.tolist()),
        ("time", _utc(times)),
        ("real", signals.tolist()),
        ("int", _signal_ids(conn, strategy_id, table)),
        ("text", texts(table, "group", "")),
    ]
    return _record(conn, strategy_id, _PREDICTIONS, staged)


def _signal_ids(conn: Connection, strategy_id: str, given: Columns) -> list[int]:
    """The number of each row's signal; new signals are numbered."""
    keys = list(
        zip(
            texts(given, "signal_name", "signal"),
            counts(given, "horizon", 1).tolist(),
            texts(given, "model_name", ""),
            texts(given, "model_version", ""),
            strict=True,
        )
    )
    distinct = zip(*sorted(set(keys)), strict=True) if keys else ((),) * 4
    names = ("names", "horizons", "models", "versions")
    row = {"strategy_id": strategy_id, **dict(zip(names, map(list, distinct), strict=True))}
    conn.execute(_queries.add_signals, row)
    ids = {tuple(signal[:4]): signal[4] for signal in conn.execute(_queries.signals, row)}
    return [ids[key] for key in keys]


def record_returns(
    conn: Connection,
    strategy_id: str,
    calendar: TradingCalendar,
    frame: Any,
    names: Mapping[str, str] | None = None,
) -> int:
    """Record the returns of names after a signal; return how many rows were new.

    Columns: entity_key, session (the signal's) or event_time (aware), value; optional horizon
    (sessions, 1), known_at (aware; default now). Empty values are left out: they are not known yet.
    Without known_at, a value that differs from the one known is a revision.

    Raises InvalidFrame, NotASession, Contradiction; warns of implausible values.
    """
    table = _known(columns.read(frame, names), calendar)
    entities, sessions = texts(table, "entity_key"), days(table, "session")
    horizons, known_at, values = (
        counts(table, "horizon", 1),
        _known_at(table),
        numbers(table, "value"),
    )
    plausibility.refuse_infinite("value", values, [entities, sessions.tolist()])
    plausibility.refuse_from_the_future(sessions, known_at, calendar)
    staged = [
        ("text", entities),
        ("date", sessions.tolist()),
        ("int", horizons.tolist()),
        ("time", known_at),
        ("real", values.tolist()),
    ]
    added = _record(conn, strategy_id, _RETURNS, staged)
    plausibility.warn_of_returns(calendar, entities, sessions, horizons, known_at, values)
    return added


def record_strategy_returns(
    conn: Connection,
    strategy_id: str,
    calendar: TradingCalendar,
    frame: Any,
    names: Mapping[str, str] | None = None,
) -> int:
    """Record the returns of the strategy itself; return how many rows were new.

    Columns: session, value; optional known_at, as for `record_returns`.
    """
    table = _known(columns.read(frame, names), calendar)
    sessions, known_at, values = days(table, "session"), _known_at(table), numbers(table, "value")
    plausibility.refuse_infinite("value", values, [sessions.tolist()])
    plausibility.refuse_from_the_future(sessions, known_at, calendar)
    staged = [("date", sessions.tolist()), ("time", known_at), ("real", values.tolist())]
    added = _record(conn, strategy_id, _STRATEGY_RETURNS, staged)
    plausibility.warn_of_strategy_returns(sessions, values)
    return added


def _record(
    conn: Connection, strategy_id: str, kind: _InputKind, staged: list[tuple[str, Any]]
) -> int:
    parameters = {"strategy_id": strategy_id}
    rows = zip(*(values for _, values in staged), strict=True)
    with conn.transaction():
        conn.execute(_queries.lock_to_record, parameters)
        conn.execute(kind.stage)
        _copy(conn, kind.copy, [column_type for column_type, _ in staged], rows)
        conn.execute(_queries.analyze_staged)
        if kind.has_entities:
            conn.execute(_queries.add_entities)
        row = conn.execute(kind.add, parameters).fetchone()
        added = int(row[0]) if row else 0
        if added < len(staged[0][1]):
            _refuse_contradictions(conn, kind, parameters)
        conn.execute(_queries.drop_staged)
    return added


def _copy(
    conn: Connection, statement: SQL, types: list[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([_TYPES[name] for name in types])
        for row in rows:
            copy.write_row(row)


def _refuse_contradictions(conn: Connection, kind: _InputKind, parameters: dict[str, str]) -> None:
    cursor = conn.execute(kind.contradicted, parameters)
    names = [column.name for column in cursor.description or ()]
    rows = cursor.fetchall()
    if not rows:
        return
    listed = "; ".join(_described(dict(zip(names, row, strict=True))) for row in rows[:10])
    more = " and more" if len(rows) > 10 else ""
    raise Contradiction(
        f"{kind.name} that contradict what is recorded: {listed}{more}. Nothing was "
        f"recorded. A correction needs a later {kind.version_column}"
    )


def _described(row: dict[str, Any]) -> str:
    value, stored = row.pop("signal", None), row.pop("kept")
    value = row.pop("value", value)
    key = " ".join(str(value) for value in row.values())
    return f"{key}: {value}, recorded {stored}"


def _known(given: Columns, calendar: TradingCalendar) -> Columns:
    """The rows that have a value, their sessions checked, or derived from `event_time`."""
    with_value = columns.take(given, ~np.isnan(numbers(given, "value")))
    if "session" not in given and "event_time" in given:
        _, with_value["session"] = sessions_of(with_value, "event_time", calendar)
    calendar.require_sessions(days(with_value, "session"))
    return with_value


def _known_at(given: Columns) -> list[Any]:
    if "known_at" not in given:
        return [None] * columns.rows(given)
    return _utc(instants(given, "known_at"))


def _utc(times: Any) -> list[Any]:
    return list(pa.array(times).cast(pa.timestamp("us", "UTC")).to_pylist())
