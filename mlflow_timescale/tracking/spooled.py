"""Writes of the tracking store in a spool: as bytes, and from there into the database.

What may arrive twice has its effect once: points, params and new runs by their keys in MLflow's
tables, everything else by its id in `mlops.requests`, in the transaction of the write.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from mlflow import entities
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag
from mlflow.entities._mlflow_object import _MlflowObject
from mlflow.exceptions import MlflowException
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_timescale import db
from mlflow_timescale.db import rows
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Record, Refusal, Sender
from mlflow_timescale.spool.outages import is_outage
from mlflow_timescale.tracking import create, points
from mlflow_timescale.tracking.logged_models import NewModel
from mlflow_timescale.tracking.session import driver
from mlflow_timescale.tracking.store import (
    TimescaleTracking,
    TimescaleTrackingStore,
    WorkspaceAwareTimescaleTrackingStore,
)

KIND = "tracking"
_REACH_SECONDS = 4.0
_queries = db.load("tracking")
_ENTITIES: dict[str, Any] = {
    entity.__name__: entity
    for entity in (
        entities.Dataset,
        entities.DatasetInput,
        entities.InputTag,
        entities.LoggedModelInput,
        entities.LoggedModelOutput,
        entities.LoggedModelParameter,
        LoggedModelStatus,
        entities.LoggedModelTag,
        Metric,
        Param,
        RunTag,
    )
}


@dataclass(frozen=True)
class Call:
    """A write, as its method takes it.

    Attributes
    ----------
    method
        Of the tracking store; "create_run" takes what `create.NewRun` holds, and its artifact URI,
        "create_logged_model" what `NewModel` holds.
    run_id
        The run, or logged model, that it writes to.
    arguments
        The others: entities of MLflow, numbers, texts, lists of them.
    points
        Of log_batch: metrics that belong to no logged model, as `points.Point`.
    workspace
        Where the run is.
    call_id
        Makes the call known to the database.

    Examples
    --------
    >>> call = Call("log_batch", "4f", [[], [Param("a", "1")], []], [("loss", 1, 1000, 0.5, False)])
    >>> from_record(to_record(call)) == call, call.is_claimed
    (True, False)
    """

    method: str
    run_id: str
    arguments: list[Any]
    points: list[points.Point] = field(default_factory=list)
    workspace: str | None = None
    call_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def is_claimed(self) -> bool:
        """Whether only the id keeps its effect from coming twice."""
        if self.method == "log_batch":
            return bool(self.arguments[2])
        return self.method not in ("create_run", "create_logged_model")

    @property
    def is_points(self) -> bool:
        """Whether it is nothing but points, which a full spool may drop."""
        return bool(self.points) and not any(self.arguments)


def log_batch(
    run_id: str,
    metrics: Sequence[Metric],
    params: Sequence[Param],
    tags: Sequence[RunTag],
    workspace: str | None = None,
) -> Call:
    """The call for metrics, params and tags that were checked."""
    of_models = [metric for metric in metrics if metric.model_id is not None]
    return Call(
        "log_batch",
        run_id,
        [of_models, list(params), list(tags)],
        [points.point(metric) for metric in metrics if metric.model_id is None],
        workspace,
    )


def new_run(call: Call) -> tuple[create.NewRun, str]:
    """The run that a call of create_run makes, and where its artifacts are."""
    experiment_id, user_id, start_time, name, tags, artifact_uri = call.arguments
    new = create.NewRun(experiment_id, user_id, start_time, name, tags, run_id=call.run_id)
    return new, artifact_uri


def new_model(call: Call) -> NewModel:
    """The logged model that a call of create_logged_model makes."""
    *fields, created_ms, artifact_location = call.arguments
    experiment_id, name, source_run_id, tags, params, model_type = fields
    return NewModel(
        experiment_id,
        name,
        source_run_id,
        tags,
        params,
        model_type,
        created_ms,
        artifact_location,
        call.run_id,
    )


def to_record(call: Call) -> Record:
    """A call as a record of a spool."""
    columns = list(zip(*call.points, strict=True))
    content = [call.method, call.run_id, call.workspace, _plain(call.arguments), columns]
    return Record(
        KIND,
        call.call_id,
        json.dumps(content, separators=(",", ":")).encode(),
        note=f"{call.method}, {call.run_id}",
        is_kept=not call.is_points,
    )


def from_record(record: Record) -> Call:
    """The call of a record. Raises Refusal for bytes that are none."""
    try:
        method, run_id, workspace, arguments, columns = json.loads(record.body)
        every = list(zip(*columns, strict=True))
        return Call(method, run_id, _entities(arguments), every, workspace, record.record_id)
    except (ValueError, KeyError, TypeError) as exc:
        raise Refusal(f"not a call of this version: {exc!r}") from exc


def claim(conn: db.Connection, call_ids: Sequence[str]) -> set[str]:
    """Those of some ids that are new to the database, from this transaction on."""
    found = conn.execute(_queries.claim_writes, {"ids": list(call_ids)}) if call_ids else ()
    return {call_id for (call_id,) in found}


def sender_of(uri: DatabaseURI) -> Sender:
    """Sends calls into a database; a store is opened when there is something to send."""
    sending = _Sending(uri)
    return Sender(sending.one, sending.many)


class _Sending:
    """Makes calls on a plain store."""

    def __init__(self, uri: DatabaseURI) -> None:
        self._uri = uri
        self._stores: dict[bool, TimescaleTracking] = {}

    def one(self, record: Record) -> bool:
        call = from_record(record)
        try:
            return self._send([call]) == 1
        except MlflowException as exc:
            raise Refusal(exc.message) from exc

    def many(self, records: list[Record]) -> int | None:
        try:
            calls = [from_record(record) for record in records]
        except Refusal:
            return None
        if len({call.workspace for call in calls}) > 1:
            return None
        try:
            return self._send(calls)
        except MlflowException:
            return None

    def _send(self, calls: list[Call]) -> int:
        """Make calls of one workspace in one transaction; how many were new."""
        workspace = calls[0].workspace
        with _outages_named(self._uri):
            store = self._store(workspace is not None)
            with (
                WorkspaceContext(workspace) if workspace else nullcontext(),
                store.ManagedSessionMaker(read_only=False) as session,
            ):
                new = claim(driver(session), [call.call_id for call in calls if call.is_claimed])
                due = [call for call in calls if call.call_id in new or not call.is_claimed]
                return _make(store, driver(session), due)

    def _store(self, is_workspace_aware: bool) -> TimescaleTracking:
        if is_workspace_aware not in self._stores:
            # A store waits for its server; a drain that waits would hold the spool's lock.
            db.connect(self._uri, connect_timeout=_REACH_SECONDS).close()
            make = (
                WorkspaceAwareTimescaleTrackingStore
                if is_workspace_aware
                else TimescaleTrackingStore
            )
            self._stores[is_workspace_aware] = make(self._uri.url, "")
        return self._stores[is_workspace_aware]


def _make(store: TimescaleTracking, conn: db.Connection, calls: list[Call]) -> int:
    """Make calls in their order, but the points of each run at once; how many were new."""
    every: dict[str, dict[points.Point, None]] = {}
    new = len(calls)
    for call in calls:
        if not call.is_points:
            new -= not _apply(store, conn, call)
        every.setdefault(call.run_id, {}).update(dict.fromkeys(call.points))
    for run_id in sorted(every):
        if every[run_id]:
            store._send(store._to(run_id).metrics(points.batch(every[run_id])))
    return new


def _apply(store: TimescaleTracking, conn: db.Connection, call: Call) -> bool:
    """Make a call, except for its points; False for a run that exists already."""
    if call.method == "create_logged_model":
        store._insert_model(new_model(call))
        return True
    if call.method != "create_run":
        getattr(store, call.method)(call.run_id, *call.arguments)
        return True
    if rows.scalar(conn, _queries.run_exists, {"run_id": call.run_id}):
        return False
    store._insert(*new_run(call))
    return True


@contextmanager
def _outages_named(uri: DatabaseURI) -> Iterator[None]:
    try:
        yield
    except MlflowException as exc:
        if is_outage(exc):
            raise ConnectionFailed(f"lost the connection to {uri}: {exc.message}") from exc
        raise


def _plain(value: Any) -> Any:
    if isinstance(value, LoggedModelStatus):
        return {"LoggedModelStatus": {"value": value.value}}
    if isinstance(value, _MlflowObject):
        return {type(value).__name__: {name: _plain(item) for name, item in value}}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _entities(value: Any) -> Any:
    if isinstance(value, dict):
        [(name, fields)] = value.items()
        return _ENTITIES[name](**{key: _entities(item) for key, item in fields.items()})
    return [_entities(item) for item in value] if isinstance(value, list) else value
