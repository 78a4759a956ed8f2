"""The sender of each kind of record: a spool may hold records of several programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

from mlflow_timescale.common import packages
from mlflow_timescale.db import connect
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool.records import Record
from mlflow_timescale.spool.sending import Refusal, Sender


def _serving(uri: DatabaseURI) -> Sender:
    return cast("Sender", packages.attribute("drift", "serving.spooled").sender_of(uri))


def _artifacts(uri: DatabaseURI) -> Sender:
    return cast("Sender", import_module("mlflow_timescale.artifacts.spooled").sender_of(uri))


def _tracking(uri: DatabaseURI) -> Sender:
    return cast("Sender", import_module("mlflow_timescale.tracking.spooled").sender_of(uri))


_REACH_SECONDS = 4.0
# Imported by name on first use, because these modules import the spool.
_MAKERS: Mapping[str, Callable[[DatabaseURI], Sender]] = {
    "artifact": _artifacts,
    "serving": _serving,
    "tracking": _tracking,
}


def sender_of(uri: DatabaseURI, known: Mapping[str, Sender] | None = None) -> Sender:
    """The sender of records of every kind that this version knows.

    `known` holds senders that the caller already has; the others are created on first use.
    """
    senders = dict(known or {})

    def sender(kind: str) -> Sender:
        if kind not in _MAKERS:
            raise Refusal(f"records of kind {kind!r} are unknown to this version")
        if kind not in senders:
            senders[kind] = _MAKERS[kind](uri)
        return senders[kind]

    def one(record: Record) -> bool:
        return sender(record.kind).one(record)

    def many(records: list[Record]) -> int | None:
        kind = records[0].kind
        return sender(kind).many(records) if kind in _MAKERS else None

    def probe() -> None:
        connect(uri, connect_timeout=_REACH_SECONDS).close()

    return Sender(one, many, probe)
