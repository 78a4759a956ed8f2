"""Requests in a spool: as bytes, and from there into the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from mlflow_timescale.common import packages
from mlflow_timescale.common.errors import InvalidInput
from mlflow_timescale.db import Database, DatabaseURI, Refused
from mlflow_timescale.spool import Record, Refusal, Sender

from ..inputs.recording import Contradiction
from . import storing
from .cells import FeatureCells
from .requests import Origin, Request, SignalName

KIND = "serving"
stored = packages.attribute("feature_store", "values.stored")
# What the database will refuse again, however often it is sent.
_FINAL = (psycopg.DataError, psycopg.IntegrityError)


def to_record(request: Request) -> Record:
    """A request as a record of a spool: a line of JSON, then the arrays."""
    cells = request.cells
    arrays = {
        "as_of": request.as_of,
        "outputs": request.outputs,
        "values": cells.values,
        "absent": cells.absent,
        "event": cells.event,
        "versions": cells.versions,
    }
    present = {name: np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}
    header = {
        "signal": asdict(request.signal),
        "origin": {**asdict(request.origin), "environment": dict(request.origin.environment)},
        "request_id": request.request_id,
        "entities": request.entities,
        "names": cells.names,
        "others": [[*at, text] for at, text in cells.others.items()],
        "source": request.source,
        "reading": dict(request.reading),
        "groups": request.groups,
        "latency_ms": request.latency_ms,
        "calendar": request.calendar,
        "arrays": [[name, a.dtype.str, a.shape] for name, a in present.items()],
    }
    parts = [json.dumps(header).encode(), b"\n", *(a.tobytes() for a in present.values())]
    note = f"{request.signal.strategy_id}, request {request.request_id}"
    return Record(KIND, str(request.key), b"".join(parts), note=note)


def from_record(record: Record) -> Request:
    """The request of a record. Raises Refusal for bytes that are none."""
    head, _, body = record.body.partition(b"\n")
    try:
        header = json.loads(head)
        arrays = _arrays(header["arrays"], body)
        cells = FeatureCells(
            tuple(header["names"]),
            arrays["values"],
            arrays["absent"],
            {(row, column): text for row, column, text in header["others"]},
            arrays.get("event"),
            arrays.get("versions"),
        )
        return Request(
            signal=SignalName(**header["signal"]),
            origin=Origin(**header["origin"]),
            request_id=header["request_id"],
            entities=tuple(header["entities"]),
            as_of=arrays["as_of"],
            outputs=arrays["outputs"],
            cells=cells,
            source=header["source"],
            reading=header["reading"],
            groups=None if header["groups"] is None else tuple(header["groups"]),
            latency_ms=header["latency_ms"],
            calendar=header["calendar"],
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise Refusal(f"not a request of this version: {exc!r}") from exc


def sender(database: Database, numbers: storing.Numbers | None = None) -> Sender:
    """Sends records of this kind into a database."""
    numbers = numbers or storing.Numbers()

    def send(record: Record) -> bool:
        request = from_record(record)
        try:
            with database.connection() as conn:
                return storing.store(conn, request, numbers)
        except (Contradiction, InvalidInput) as exc:
            raise Refusal(str(exc)) from exc
        except Refused as exc:
            if isinstance(exc.__cause__, _FINAL):
                raise Refusal(str(exc)) from exc
            raise

    return Sender(send)


def sender_of(uri: str | DatabaseURI) -> Sender:
    """As `sender`, with a database of its own."""
    return sender(Database(uri, application="spool", setup=stored.register, translate=True))


def _arrays(described: list[Any], body: bytes) -> Mapping[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    start = 0
    for name, kind, shape in described:
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body, dtype, count, start).reshape(shape)
        start += count * dtype.itemsize
    return arrays
