"""What was served, read back: the contract of everything that compares, replays or explains it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg.rows import dict_row

from mlflow_timescale.common.micros import MISSING, Micros
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import require_zone
from mlflow_timescale.db import Connection, Error, load, rows

from .cells import Flags, Floats

_queries = load("serving")
_signals = load("drift")


class Removed(Error, LookupError):
    """What was served in a session was removed by retention."""


@dataclass(frozen=True)
class ServedBlock:
    """Predictions of one request at one decision time: n entities, m features.

    Attributes
    ----------
    session, as_of
        The trading session, and the decision time (aware).
    recorded_at
        When the row was written, by the database's clock.
    request_id, block
        The request, and the number of the block within it.
    latency_ms
        From the call to the output; None where it was not measured.
    signal_name, horizon, model_name, model_version
        The signal; the version is the one that was loaded, or the caller's label.
    model_uri, checksum, code_version, environment
        The origin: the model as the caller named it, the SHA-256 of its files, the code, packages.
    feature_names, feature_versions
        The columns, shape (m,); version 0 is not known.
    source, reading
        "store" with the arguments of the read, or "caller".
    entity_ids, entities
        Numbers of mlops.drift_entities, increasing, and their names; shape (n,).
    outputs
        Shape (n,).
    values
        float64, shape (n, m); NaN where `absent` or `others` has the cell, or NaN was served.
    absent
        Which cells had no value, shape (n, m).
    others
        Texts and structures by (row, column).
    event
        Event times in microseconds since 1970, shape (n, m); MISSING where they are not known.
    """

    session: date
    as_of: datetime
    recorded_at: datetime
    request_id: str
    block: int
    latency_ms: float | None
    signal_name: str
    horizon: int
    model_name: str
    model_version: str
    model_uri: str | None
    checksum: str | None
    code_version: str | None
    environment: Mapping[str, str]
    feature_names: tuple[str, ...]
    feature_versions: tuple[int, ...]
    source: str
    reading: Mapping[str, str]
    entity_ids: npt.NDArray[np.int32]
    entities: tuple[str, ...]
    outputs: Floats
    values: Floats
    absent: Flags
    others: Mapping[tuple[int, int], Any]
    event: Micros

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each entity."""
        return {name: row for row, name in enumerate(self.entities)}

    def features_of(self, entity: str) -> dict[str, Any]:
        """What the model saw of one entity: a float, None, a text or a structure by feature.

        Raises KeyError for an entity that is not in the block.
        """
        row = self.rows[entity]
        return {
            name: self.others.get(
                (row, j), None if self.absent[row, j] else float(self.values[row, j])
            )
            for j, name in enumerate(self.feature_names)
        }


def served(
    conn: Connection,
    strategy_id: str,
    start: date,
    end: date,
    *,
    entity: str | None = None,
    as_of: datetime | None = None,
    request_id: str | None = None,
) -> Iterator[ServedBlock]:
    """What a strategy served in the sessions from `start` to `end`, in the order of decisions.

    Parameters
    ----------
    conn
        A connection of `FeatureStore` or `Serving`, or one that is set up by
        `feature_store.values.stored.register`: arrays come as numpy arrays.
    entity, request_id
        Only blocks with this entity, of this request.
    as_of
        Only decisions up to this moment (aware).

    Raises
    ------
    InvalidTime
        `as_of` is naive.
    """
    check_text({"strategy": strategy_id, "entity": entity, "request_id": request_id}, "served")
    entity_id = None
    if entity is not None:
        numbers = conn.execute(_queries.entity_numbers, {"names": [entity]}).fetchall()
        if not numbers:
            return
        entity_id = numbers[0][1]
    parameters = {
        "strategy_id": strategy_id,
        "start": start,
        "end": end,
        "as_of": require_zone(as_of, "as_of") if as_of else None,
        "request_id": request_id,
        "entity_id": entity_id,
    }
    names: dict[int, str] = {}
    with conn.cursor(row_factory=dict_row, binary=True) as cursor:
        cursor.execute(_queries.blocks, parameters)
        while batch := cursor.fetchmany(_AT_ONCE):
            _add_names(conn, names, batch)
            yield from (_block(row, names) for row in batch)


_AT_ONCE = 64  # blocks whose arrays are in memory at once


def last_session(conn: Connection, strategy_id: str, end: date | None = None) -> date | None:
    """The last session up to a date in which a strategy served; None if there is none."""
    parameters = {"strategy_id": strategy_id, "end": end}
    session: date | None = rows.scalar(conn, _queries.last_session, parameters)
    return session


def removed_before(conn: Connection) -> date | None:
    """Retention has removed what was served in sessions before this date; None if it never has."""
    before: date | None = rows.scalar(conn, _queries.removed_before)
    return before


def refuse_removed(conn: Connection, session: date) -> None:
    """Raise Removed for a session of which retention has removed what was served."""
    before = removed_before(conn)
    if before is not None and session < before:
        raise Removed(
            f"what was served in session {session} was removed: retention keeps sessions from "
            f"{before} on. The outputs are still in mlops.drift_predictions"
        )


def _add_names(conn: Connection, names: dict[int, str], batch: list[dict[str, Any]]) -> None:
    numbers = np.unique(np.concatenate([row["entities"] for row in batch])).tolist()
    unknown = [number for number in numbers if number not in names]
    if unknown:
        names.update(conn.execute(_signals.entity_names, {"entity_ids": unknown}).fetchall())


def _block(row: dict[str, Any], names: Mapping[int, str]) -> ServedBlock:
    ids, features = row.pop("entities"), tuple(row.pop("feature_names"))
    shape = (len(ids), len(features))
    values = np.asarray(row.pop("values"), dtype=np.float64).reshape(shape)
    absent = np.zeros(values.size, dtype=bool)
    if (cells := row.pop("absent")) is not None:
        absent[cells] = True
    others = row.pop("others") or {}
    return ServedBlock(
        **{key: value for key, value in row.items() if not key.startswith("event_")},
        feature_names=features,
        entity_ids=ids,
        entities=tuple(names[number] for number in ids.tolist()),
        values=values,
        absent=absent.reshape(shape),
        others={divmod(int(cell), len(features)): value for cell, value in others.items()},
        event=_event(row["event_times"], row["event_positions"], values.size).reshape(shape),
    )


def _event(times: Micros | None, positions: npt.NDArray[np.int32] | None, size: int) -> Micros:
    if times is None:
        return np.full(size, MISSING, dtype=np.int64)
    if positions is None:
        return np.full(size, times[0], dtype=np.int64)
    event: Micros = np.concatenate([[MISSING], times])[positions]
    return event
