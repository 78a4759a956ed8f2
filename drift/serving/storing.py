"""A request into the database: exactly once, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db import Connection, load, rows
from mlflow_timescale.db.arrays import Float8Array, Int4Array, TimestampArray

from .. import strategies
from ..inputs.recording import Contradiction
from .blocks import Block, blocks_of
from .requests import Origin, Request, SignalName, feature_set_content

_queries = load("serving")
_signals = load("drift")
_CONTRADICTED = "ML409"  # the SQLSTATE of mlops.claim_request and mlops.add_served_block


@dataclass
class Numbers:
    """The numbers of names in one database, so that a request looks up only what is new.

    Rows of these tables are never removed. The dictionaries are shared by threads: an entry that
    two of them add is the same.
    """

    calendars: dict[str, TradingCalendar] = field(default_factory=dict)
    signals: dict[SignalName, int] = field(default_factory=dict)
    origins: dict[Any, int] = field(default_factory=dict)
    feature_sets: dict[Any, int] = field(default_factory=dict)
    entities: dict[str, int] = field(default_factory=dict)

    def calendar(self, conn: Connection, request: Request) -> TradingCalendar:
        """The calendar of the request's strategy; a new strategy is recorded."""
        name = request.signal.strategy_id
        if name not in self.calendars:
            strategies.record(conn, name, request.calendar, {}, create=True)
            stored = rows.one(conn, _signals.strategy, {"strategy_id": name})
            self.calendars[name] = read_calendar(conn, stored[0])
        return self.calendars[name]

    def signal(self, conn: Connection, signal: SignalName) -> int:
        """The number of a signal in mlops.drift_signals."""
        if signal not in self.signals:
            row = {
                "strategy_id": signal.strategy_id,
                "names": [signal.signal],
                "horizons": [signal.horizon],
                "models": [signal.model_name],
                "versions": [signal.model_version],
            }
            conn.execute(_signals.add_signals, row)
            for name, horizon, model, version, number in conn.execute(_signals.signals, row):
                key = SignalName(signal.strategy_id, name, horizon, model, version)
                self.signals[key] = number
        return self.signals[signal]

    def origin(self, conn: Connection, origin: Origin) -> int:
        """The number of an origin in mlops.served_origins."""
        content = origin.content
        if content not in self.origins:
            row = {
                "content": content,
                "model_uri": origin.model_uri,
                "checksum": origin.checksum,
                "code_version": origin.code_version,
                "environment": Jsonb(dict(origin.environment)),
            }
            self.origins[content] = _number(conn, _queries.number_origin, row)
        return self.origins[content]

    def feature_set(self, conn: Connection, request: Request, versions: tuple[int, ...]) -> int:
        """The number of a set of features in mlops.served_feature_sets."""
        names, reading = request.cells.names, request.reading
        key = (names, versions, request.source, tuple(sorted(reading.items())))
        if key not in self.feature_sets:
            row = {
                "content": feature_set_content(names, versions, request.source, reading),
                "names": list(names),
                "versions": list(versions),
                "source": request.source,
                "reading": Jsonb(dict(reading)),
            }
            self.feature_sets[key] = _number(conn, _queries.number_feature_set, row)
        return self.feature_sets[key]

    def entity_ids(self, conn: Connection, names: Iterable[str]) -> Any:
        """The numbers of entities in mlops.drift_entities, int32, in the order of the names."""
        names = tuple(names)
        new = sorted(set(names) - self.entities.keys())
        if new:
            conn.execute(_queries.add_entities, {"names": new})
            self.entities.update(conn.execute(_queries.entity_numbers, {"names": new}).fetchall())
        return np.array([self.entities[name] for name in names], dtype=np.int32)


def store(conn: Connection, request: Request, numbers: Numbers) -> bool:
    """Record a request; False if it was recorded before.

    `conn` must be in autocommit mode, with `db.arrays` registered. Raises Contradiction where the
    request id was recorded with another content, or an output contradicts the judged record.
    """
    if not request.entities:
        return False
    calendar = numbers.calendar(conn, request)
    ids = numbers.entity_ids(conn, request.entities)
    shared = {
        "strategy_id": request.signal.strategy_id,
        "signal_id": numbers.signal(conn, request.signal),
        "origin_id": numbers.origin(conn, request.origin),
        "latency_ms": request.latency_ms,
        "request_id": request.request_id,
    }
    claim = {"request": request.key, "content": request.content}
    blocks = blocks_of(request, ids)
    instants = np.array([block.as_of for block in blocks]).view("datetime64[us]")
    parameters = [
        {
            **shared,
            **_parameters(block),
            "session": session,
            "feature_set_id": numbers.feature_set(conn, request, block.versions),
        }
        for block, session in zip(
            blocks, calendar.instants_to_sessions(instants).tolist(), strict=True
        )
    ]
    with _contradictions(request):
        return _store(conn, claim, parameters)


def _store(conn: Connection, claim: Mapping[str, Any], blocks: list[dict[str, Any]]) -> bool:
    if len(blocks) == 1:  # one round trip, one transaction
        return bool(rows.scalar(conn, _queries.record_block, {**claim, **blocks[0]}))
    with conn.transaction():
        if not rows.scalar(conn, _queries.claim_request, claim):
            return False
        with conn.cursor() as cursor:
            cursor.executemany(_queries.add_block, blocks)  # in a pipeline
    return True


def _parameters(block: Block) -> dict[str, Any]:
    return {
        "block": block.number,
        "as_of": from_micros(block.as_of),
        "entities": Int4Array(block.entities),
        "outputs": Float8Array(block.outputs),
        "values": Float8Array(block.values),
        "absent": _optional(Int4Array, block.absent),
        "others": block.others,
        "event_times": _optional(TimestampArray, block.event_times),
        "event_positions": _optional(Int4Array, block.event_positions),
        "groups": block.groups,
    }


def _optional(kind: Callable[[Any], Any], values: Any) -> Any:
    return None if values is None else kind(values)


def _number(conn: Connection, query: Any, row: Mapping[str, Any]) -> int:
    """The number of a row by its content; again while another session is adding it."""
    while (number := rows.scalar(conn, query, row)) is None:
        pass  # the insert has waited for the other session: now its row is visible
    return int(number)


@contextmanager
def _contradictions(request: Request) -> Iterator[None]:
    """Raise what the functions in SQL refuse as Contradiction."""
    try:
        yield
    except psycopg.Error as exc:
        if exc.sqlstate != _CONTRADICTED:
            raise
        raise Contradiction(
            f"request {request.request_id!r} of strategy {request.signal.strategy_id!r}: "
            f"{exc.diag.message_primary}. Nothing of it was recorded; another decision needs its "
            f"own request_id, and a later as_of"
        ) from exc
