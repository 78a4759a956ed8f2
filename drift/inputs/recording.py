"""What the monitor is told: predictions, realized returns, strategy returns.

Each call is one transaction: COPY into a staging table, then set-based statements. The same rows
again change nothing; rows that contradict what is kept raise, and nothing of the call is kept.
Sessions that were computed before the rows came are marked stale, for the next run to recompute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg.sql import SQL

from drift import frames
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db import Connection, Error, load

_queries = load("drift")
_TYPES = {"text": "text", "date": "date", "time": "timestamptz", "real": "float8", "int": "int4"}


class Contradiction(Error, ValueError):
    """Rows that differ from what was recorded for the same key."""


def record_predictions(
    conn: Connection, strategy_id: str, calendar: TradingCalendar, frame: Any
) -> int:
    """Keep what a strategy's models said; return how many rows were new.

    Columns: entity_key, signal, and signal_time (aware) or session; optional horizon (sessions, 1),
    signal_name ("signal"), model_name, model_version, group. Raises BadFrame, NotASession,
    Contradiction.
    """
    table = frames.table(frame)
    frames.require(table, "entity_key", "signal")
    signal_times, days = _times(table, calendar)
    columns = [
        ("text", frames.texts(table, "entity_key")),
        ("date", days.tolist()),
        ("time", _utc(signal_times)),
        ("real", frames.numbers(table, "signal").tolist()),
        ("int", _signal_ids(conn, strategy_id, table)),
        ("text", frames.texts(table, "group", "")),
    ]
    return _record(conn, strategy_id, "predictions", columns)


def _signal_ids(conn: Connection, strategy_id: str, table: pa.Table) -> list[int]:
    """The number of each row's signal; new signals are numbered."""
    keys = list(
        zip(
            frames.texts(table, "signal_name", "signal"),
            frames.counts(table, "horizon", 1).tolist(),
            frames.texts(table, "model_name", ""),
            frames.texts(table, "model_version", ""),
            strict=True,
        )
    )
    columns = zip(*sorted(set(keys)), strict=True) if keys else ((),) * 4
    names = ("names", "horizons", "models", "versions")
    row = {"strategy_id": strategy_id, **dict(zip(names, map(list, columns), strict=True))}
    conn.execute(_queries.add_signals, row)
    ids = {tuple(found[:4]): found[4] for found in conn.execute(_queries.signals, row)}
    return [ids[key] for key in keys]


def record_returns(
    conn: Connection, strategy_id: str, calendar: TradingCalendar, frame: Any
) -> int:
    """Keep what names returned after a session's signal; return how many rows were new.

    Columns: entity_key, session (the signal's), value; optional horizon (sessions, 1), known_at
    (aware; default now). Empty values are left out: they are not known yet. Without known_at, a
    value that differs from the one known is a revision.

    Raises BadFrame, NotASession, Contradiction.
    """
    table = _known(frames.table(frame), calendar)
    columns = [
        ("text", frames.texts(table, "entity_key")),
        ("date", frames.days(table, "session").tolist()),
        ("int", frames.counts(table, "horizon", 1).tolist()),
        ("time", _known_at(table)),
        ("real", frames.numbers(table, "value").tolist()),
    ]
    return _record(conn, strategy_id, "returns", columns)


def record_strategy_returns(
    conn: Connection, strategy_id: str, calendar: TradingCalendar, frame: Any
) -> int:
    """Keep what the strategy itself returned in each session; return how many rows were new.

    Columns: session, value; optional known_at, as for `record_returns`.
    """
    table = _known(frames.table(frame), calendar)
    columns = [
        ("date", frames.days(table, "session").tolist()),
        ("time", _known_at(table)),
        ("real", frames.numbers(table, "value").tolist()),
    ]
    return _record(conn, strategy_id, "strategy_returns", columns)


def _record(conn: Connection, strategy_id: str, what: str, columns: list[tuple[str, Any]]) -> int:
    parameters = {"strategy_id": strategy_id}
    rows = zip(*(values for _, values in columns), strict=True)
    with conn.transaction():
        conn.execute(_queries.lock_to_record, parameters)
        conn.execute(getattr(_queries, f"stage_{what}"))
        _copy(conn, getattr(_queries, f"copy_{what}"), [kind for kind, _ in columns], rows)
        conn.execute(_queries.analyze_staged)
        if what != "strategy_returns":
            conn.execute(_queries.add_entities)
        row = conn.execute(getattr(_queries, f"add_{what}"), parameters).fetchone()
        added = int(row[0]) if row else 0
        if added < len(columns[0][1]):
            _refuse_contradictions(conn, what, parameters)
        conn.execute(_queries.drop_staged)
    return added


def _copy(
    conn: Connection, statement: SQL, kinds: list[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([_TYPES[kind] for kind in kinds])
        for row in rows:
            copy.write_row(row)


def _refuse_contradictions(conn: Connection, what: str, parameters: dict[str, str]) -> None:
    cursor = conn.execute(getattr(_queries, f"contradicted_{what}"), parameters)
    names = [column.name for column in cursor.description or ()]
    found = cursor.fetchall()
    if not found:
        return
    listed = "; ".join(_described(dict(zip(names, row, strict=True))) for row in found[:10])
    more = " and more" if len(found) > 10 else ""
    raise Contradiction(
        f"{what.replace('_', ' ')} that contradict what is recorded: {listed}{more}. Nothing was "
        f"recorded. A correction needs a later {_LATER[what]}"
    )


_LATER = {
    "predictions": "signal_time",
    "returns": "known_at",
    "strategy_returns": "known_at",
}


def _described(row: dict[str, Any]) -> str:
    given, kept = row.pop("signal", None), row.pop("kept")
    given = row.pop("value", given)
    key = " ".join(str(value) for value in row.values())
    return f"{key}: {given}, recorded {kept}"


def _times(table: pa.Table, calendar: TradingCalendar) -> tuple[Any, Any]:
    if "session" not in table.column_names:
        frames.require(table, "signal_time")
    if "signal_time" not in table.column_names:
        days = calendar.require_sessions(frames.days(table, "session"))
        return calendar.session_closes(days), days
    times = frames.instants(table, "signal_time")
    if np.isnat(times).any():
        raise frames.BadFrame(f"column 'signal_time' has {np.isnat(times).sum()} empty values")
    if "session" in table.column_names:
        return times, calendar.require_sessions(frames.days(table, "session"))
    _refuse_dates(times, calendar)
    return times, calendar.instants_to_sessions(times)


def _refuse_dates(times: Any, calendar: TradingCalendar) -> None:
    """Refuse midnights: a date read as an instant lands a session early, the seed's incident."""
    if len(times) and (times == times.astype("datetime64[D]")).all() and calendar.has_hours:
        raise frames.BadFrame(
            "column 'signal_time' is midnight UTC in every row, so these are dates rather than "
            "the instants of the predictions; pass them as column 'session'"
        )


def _known(table: pa.Table, calendar: TradingCalendar) -> pa.Table:
    """The rows that have a value, their sessions checked."""
    frames.require(table, "session", "value")
    known = table.filter(pa.array(~np.isnan(frames.numbers(table, "value"))))
    calendar.require_sessions(frames.days(known, "session"))
    return known


def _known_at(table: pa.Table) -> list[Any]:
    if "known_at" not in table.column_names:
        return [None] * len(table)
    return _utc(frames.instants(table, "known_at"))


def _utc(times: Any) -> list[Any]:
    return list(pa.array(times).cast(pa.timestamp("us", "UTC")).to_pylist())
