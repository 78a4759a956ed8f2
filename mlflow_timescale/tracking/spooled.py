"""Writes of the tracking store in a spool: their encoding, and their way into the database.

A write that arrives twice has its effect once: points, params and new runs because of their keys in
MLflow's tables, other writes because of their id in `mlops.requests`, in the same transaction.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import psycopg
from mlflow import entities
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag
from mlflow.entities._mlflow_object import _MlflowObject
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.workspace_context import ServerWorkspaceContext

from mlflow_timescale import db
from mlflow_timescale.common.collection import collection_paused
from mlflow_timescale.db import binary_copy, rows
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Record, Refusal, Sender
from mlflow_timescale.spool.outages import is_outage
from mlflow_timescale.tracking import create, points
from mlflow_timescale.tracking.errors import translated
from mlflow_timescale.tracking.logged_models import NewModel
from mlflow_timescale.tracking.packed import NO_POINTS, Gathered, Packed, Points
from mlflow_timescale.tracking.session import driver
from mlflow_timescale.tracking.store import (
    TimescaleTracking,
    TimescaleTrackingStore,
    WorkspaceAwareTimescaleTrackingStore,
)

KIND = "tracking"
_queries = db.load("tracking")
_json = json.JSONDecoder()  # of a line without spaces around: half the time of json.loads
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
    """A call of a method that writes.

    Attributes
    ----------
    method
        A method of the tracking store. "create_run" takes the fields of `create.NewRun` and the
        artifact URI, "create_logged_model" the fields of `NewModel`; "log_points" is a log_batch
        with points only.
    run_id
        The run, or logged model, that it writes to.
    arguments
        The other arguments: entities of MLflow, numbers, texts, lists of them.
    points
        The metrics of log_batch and log_points that belong to no logged model.
    workspace
        The workspace of the run.
    call_id
        The id by which the database recognises the call.

    Examples
    --------
    >>> loss = Packed.of([("loss", 1, 1000, 0.5, False)])
    >>> call = Call("log_batch", "4f", [[], [Param("a", "1")], []], loss)
    >>> from_record(to_record(call)) == call, call.is_claimed
    (True, False)
    """

    method: str
    run_id: str
    arguments: list[Any]
    points: Packed = NO_POINTS
    workspace: str | None = None
    call_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def is_claimed(self) -> bool:
        """Whether the call needs its id, as no key in MLflow's tables prevents a second effect."""
        if self.method == "log_batch":
            return bool(self.arguments[2])
        return self.method not in ("create_run", "create_logged_model", "log_points")

    @property
    def is_points(self) -> bool:
        """Whether it has only points, which a full spool may drop."""
        return self.method == "log_points"


def log_batch(
    run_id: str,
    metrics: Sequence[Metric],
    params: Sequence[Param],
    tags: Sequence[RunTag],
    workspace: str | None = None,
) -> Call:
    """The call for validated metrics, params and tags."""
    of_models = [metric for metric in metrics if metric.model_id is not None]
    packed = Packed.of([points.point(metric) for metric in metrics if metric.model_id is None])
    if packed.keys and not (of_models or params or tags):
        return Call("log_points", run_id, [], packed, workspace)
    arguments = [of_models, list(params), list(tags)]
    return Call("log_batch", run_id, arguments, packed, workspace)


def new_run(call: Call) -> tuple[create.NewRun, str]:
    """The run that a call of create_run creates, and its artifact URI."""
    experiment_id, user_id, start_time, name, tags, artifact_uri = call.arguments
    new = create.NewRun(experiment_id, user_id, start_time, name, tags, run_id=call.run_id)
    return new, artifact_uri


def new_model(call: Call) -> NewModel:
    """The logged model that a call of create_logged_model creates."""
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
    """A call as a record of a spool: a line of JSON, then the points as columns."""
    keys, columns = call.points
    content = [call.method, call.run_id, call.workspace, _plain(call.arguments), keys]
    return Record(
        KIND,
        call.call_id,
        json.dumps(content, separators=(",", ":")).encode() + b"\n" + columns,
        note=f"{call.method}, {call.run_id}",
        is_kept=not call.is_points,
    )


def from_record(record: Record) -> Call:
    """The call of a record. Raises Refusal for other bytes."""
    head, _, columns = record.body.partition(b"\n")
    try:
        (method, run_id, workspace, arguments, keys), _ = _json.raw_decode(head.decode())
        packed = Packed(keys, columns)
        return Call(method, run_id, _entities(arguments), packed, workspace, record.record_id)
    except (ValueError, KeyError, TypeError) as exc:
        raise Refusal(f"not a call of this version: {exc!r}") from exc


def claim(conn: db.Connection, call_ids: Sequence[str]) -> set[str]:
    """Record ids in the database; return those that were new."""
    new = conn.execute(_queries.claim_writes, {"ids": list(call_ids)}) if call_ids else ()
    return {call_id for (call_id,) in new}


def sender_of(uri: DatabaseURI) -> Sender:
    """The sender of calls to a database; it opens a store when it sends the first call."""
    sending = _Sending(uri)
    return Sender(sending.one, sending.many)


class _Batch:
    """Calls of one workspace; their points are gathered."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.points = Gathered()
        self.size = 0

    def add(self, call: Call) -> None:
        self.size += 1
        self.points.add(call.run_id, call.points)
        if not call.is_points:
            self.calls.append(call)


class _StoreOfWorkspaces(WorkspaceAwareTimescaleTrackingStore):
    """A store for calls that were made in workspaces, whatever the environment of this process."""

    @classmethod
    def _workspaces_enabled(cls) -> bool:
        return True


class _Sending:
    """Makes calls on a plain store."""

    def __init__(self, uri: DatabaseURI) -> None:
        self._uri = uri
        self._stores: dict[bool, TimescaleTracking] = {}

    def one(self, record: Record) -> bool:
        return self.many([record]) == 1

    def many(self, records: list[Record]) -> int:
        """Make calls, in one transaction for each workspace; return how many were new."""
        batches: dict[str | None, _Batch] = defaultdict(_Batch)
        with collection_paused():
            for record in records:
                call = from_record(record)
                batches[call.workspace].add(call)
        try:
            return sum(self._send(workspace, batch) for workspace, batch in batches.items())
        except MlflowException as exc:
            raise Refusal(exc.message) from exc

    def _send(self, workspace: str | None, batch: _Batch) -> int:
        with _outages_named(self._uri):
            store = self._store(workspace is not None)
            with (
                # For this thread only: the client's context changes the environment of all threads.
                ServerWorkspaceContext(workspace) if workspace else nullcontext(),
                store.ManagedSessionMaker(read_only=False) as session,
            ):
                return _make(store, driver(session), batch, workspace)

    def _store(self, is_workspace_aware: bool) -> TimescaleTracking:
        if is_workspace_aware not in self._stores:
            make = _StoreOfWorkspaces if is_workspace_aware else TimescaleTrackingStore
            self._stores[is_workspace_aware] = make(self._uri.url, "")
        return self._stores[is_workspace_aware]


def _make(
    store: TimescaleTracking, conn: db.Connection, batch: _Batch, workspace: str | None
) -> int:
    """Make calls in order, then insert all points at once; return how many calls were new."""
    new = batch.size
    unclaimed = claim(conn, [call.call_id for call in batch.calls if call.is_claimed])
    for call in batch.calls:
        is_due = call.call_id in unclaimed or not call.is_claimed
        new -= not (is_due and _apply(store, conn, call))
    if batch.points:
        # Also points of calls that arrived before: their keys prevent a second insertion.
        with translated():
            _insert(conn, batch.points.unique(), workspace)
    return new


def _insert(conn: db.Connection, distinct: Points, workspace: str | None) -> None:
    """Insert points of active runs, and update the latest metrics of these runs."""
    runs = sorted({run_id for run_id, _ in distinct.names})
    conn.execute(_queries.open_runs, {"runs": runs, "workspace": workspace})
    try:
        # COPY has half the cost of an INSERT with ON CONFLICT, and points rarely exist already.
        with conn.transaction(), conn.cursor() as cursor:
            binary_copy.copy(cursor, _queries.copy_points, distinct.rows())
    except psycopg.errors.UniqueViolation:
        conn.execute(_queries.add_points, distinct.lists())
    conn.execute(_queries.raise_latest, distinct.newest().lists())


def _apply(store: TimescaleTracking, conn: db.Connection, call: Call) -> bool:
    """Make a call without its points; False for a run that exists already."""
    if call.method == "create_logged_model":
        store._insert_model(new_model(call))
        return True
    if call.method != "create_run":
        arguments: _Arguments = _FROM_TEXT.get(call.method, _as_they_are)
        getattr(store, call.method)(*arguments(call.run_id, *call.arguments))
        return True
    if rows.scalar(conn, _queries.run_exists, {"run_id": call.run_id}):
        return False
    store._insert(*new_run(call))
    return True


def _as_they_are(*arguments: Any) -> tuple[Any, ...]:
    return arguments


_Arguments = Callable[..., tuple[Any, ...]]
# Arguments that the spool holds as texts of JSON.
_FROM_TEXT: dict[str, _Arguments] = {
    "log_spans": lambda location, texts: (
        location,
        [entities.Span.from_dict(json.loads(text)) for text in texts],
    ),
    "record_logged_model": lambda run_id, text: (run_id, Model.from_dict(json.loads(text))),
    "start_trace": lambda _, text: (entities.TraceInfo.from_dict(json.loads(text)),),
}


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
