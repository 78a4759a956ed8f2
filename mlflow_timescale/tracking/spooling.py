"""Tracking stores whose writes to runs wait in a spool while the database is away.

Every write to a run goes through `_write`, to the database or into the spool. Reads of a run add
waiting calls. All other methods are inherited, and need the database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import sqlalchemy
from mlflow.entities import Experiment, Metric, Param, Run, RunData, RunInfo, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.validation import _validate_param, _validate_tag

from mlflow_timescale import db
from mlflow_timescale.artifacts.refusals import refusals_of_the_spool
from mlflow_timescale.common import logs
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Outbox, Record, Spool
from mlflow_timescale.spool.outages import is_outage
from mlflow_timescale.spool.places import patience_of, reserve
from mlflow_timescale.spool.senders import sender_of
from mlflow_timescale.tracking import create, overlay, spooled
from mlflow_timescale.tracking.errors import translated
from mlflow_timescale.tracking.known import KnownExperiments
from mlflow_timescale.tracking.points import points
from mlflow_timescale.tracking.recent import RecentCalls
from mlflow_timescale.tracking.session import driver
from mlflow_timescale.tracking.spooled import Call
from mlflow_timescale.tracking.spooling_models import SpoolingModels
from mlflow_timescale.tracking.spooling_traces import SpoolingTraces
from mlflow_timescale.tracking.store import (
    TimescaleTrackingStore,
    WorkspaceAwareTimescaleTrackingStore,
    checked_batch,
)
from mlflow_timescale.tracking.unavailable import named, unavailable

T = TypeVar("T")
logger = logs.logger(__name__)
_REMEMBERED = 256  # runs of this process
_CLAIMS = 3  # the revision of the schema that keeps the ids of writes


class SpoolingTracking(SpoolingModels, SpoolingTraces):
    """The methods that stores with a spool override."""

    _async_logging_queue: Any

    def __init__(
        self,
        db_uri: str,
        default_artifact_root: str,
        read_db_uri: str | None = None,
        *,
        spool: Spool,
    ) -> None:
        # What needs no database, such as the queue of asynchronous calls, which the end of a run
        # flushes.
        AbstractStore.__init__(self)
        self.db_uri = db_uri
        self._uri = DatabaseURI.parse(db_uri)
        self._complete = partial(super().__init__, db_uri, default_artifact_root, read_db_uri)
        self._lock = threading.RLock()
        self._is_complete = self._is_completing = False
        self._seconds = patience_of(self._uri)
        with refusals_of_the_spool():
            reserve(spool, self._uri)
        self._outbox = Outbox(
            spool, sender_of(self._uri), is_outage=self._is_outage, what="writes to runs"
        )
        self._known = KnownExperiments(spool)
        # Of this process, as it has read them last.
        self._runs: dict[str, tuple[Run, int]] = {}  # and how many calls came before
        self._recent = RecentCalls()
        self._models = {}
        try:
            self._connect()
        except Exception as exc:  # also the driver's, if the database goes away meanwhile
            if not self._is_outage(exc):
                raise
            reason = str(exc).partition("\n")[0]
            logger.warning("%s Writes to runs wait in %s.", reason, spool.path)
        self._outbox.start()

    def __getattr__(self, name: str) -> Any:
        """Attributes of MLflow's constructor, which waits for the database after an outage."""
        if name.startswith("__") or name not in _SET_BY_MLFLOW or self._is_completing:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._connect()
        return getattr(self, name)

    def _connect(self) -> None:
        """Run MLflow's constructor. Raises MlflowException at once if the database is away."""
        with self._lock:
            if self._is_complete:
                return
            self._is_completing = True
            queue = self._async_logging_queue  # calls may wait in it, and MLflow makes a new one
            try:
                _require_claims(self._uri, self._seconds)
                self._complete()
                self._async_logging_queue = queue
                self._is_complete = True
            finally:
                self._is_completing = False

    def _is_outage(self, failure: BaseException) -> bool:
        if isinstance(failure.__cause__, sqlalchemy.exc.TimeoutError):
            return True  # all connections of the pool are in use
        return is_outage(failure, has_connected=self._is_complete)

    def _write(self, call: Call, now: Callable[[], T], spooled_: Callable[[], T]) -> T:
        """Make a call, or spool it; `now` may still complete after the call was spooled."""
        now = partial(self._claimed, call, now) if call.is_claimed else now
        result = self._write_record(now, partial(spooled.to_record, call), spooled_)
        if overlay.changes(call):
            self._recent.add(call)
        return result

    def _write_record(
        self, now: Callable[[], T], record: Callable[[], Record], spooled_: Callable[[], T]
    ) -> T:
        with refusals_of_the_spool():
            return self._outbox.write(now, record, spooled_, seconds=self._seconds)

    def _claimed(self, call: Call, now: Callable[[], T]) -> T:
        with self.ManagedSessionMaker(read_only=False) as session:
            with translated():
                is_new = bool(spooled.claim(driver(session), [call.call_id]))
            if not is_new:
                raise _Arrived  # by the spool, because this took too long; no caller waits for it
            return now()

    def _call(self, method: str, run_id: str, *arguments: Any) -> Call:
        return Call(method, run_id, list(arguments), workspace=self._workspace())

    def _batch(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> Call:
        return spooled.log_batch(run_id, metrics, params, tags, self._workspace())

    def log_batch(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> None:
        _, params, tags = checked_batch(run_id, metrics, params, tags)
        now = partial(super().log_batch, run_id, metrics, params, tags)
        self._write(self._batch(run_id, metrics, params, tags), now, _nothing)

    def log_metric(self, run_id: str, metric: Metric) -> None:
        points([metric])
        now = partial(super().log_metric, run_id, metric)
        self._write(self._batch(run_id, [metric], [], []), now, _nothing)

    def log_param(self, run_id: str, param: Param) -> None:
        param = _validate_param(param.key, param.value)
        now = partial(super().log_param, run_id, param)
        self._write(self._batch(run_id, [], [param], []), now, _nothing)

    def set_tag(self, run_id: str, tag: RunTag) -> None:
        tag = _validate_tag(tag.key, tag.value)
        now = partial(super().set_tag, run_id, tag)
        self._write(self._batch(run_id, [], [], [tag]), now, _nothing)

    def delete_tag(self, run_id: str, key: str) -> None:
        now = partial(super().delete_tag, run_id, key)
        self._write(self._call("delete_tag", run_id, key), now, _nothing)

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        now = partial(super().log_inputs, run_id, datasets, models)
        self._write(self._call("log_inputs", run_id, datasets, models), now, _nothing)

    def log_outputs(self, run_id: str, models: Any) -> None:
        now = partial(super().log_outputs, run_id, models)
        self._write(self._call("log_outputs", run_id, models), now, _nothing)

    def update_run_info(
        self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None
    ) -> RunInfo:
        now = partial(super().update_run_info, run_id, run_status, end_time, run_name)
        call = self._call("update_run_info", run_id, run_status, end_time, run_name)
        return self._write(call, now, lambda: self._last(run_id).info)

    def create_run(
        self,
        experiment_id: str,
        user_id: str,
        start_time: int,
        tags: list[RunTag] | None,
        run_name: str | None,
    ) -> Run:
        if not create.is_plain(experiment_id) or create.contradicts(run_name, tags):
            return super().create_run(experiment_id, user_id, start_time, tags, run_name)
        name, tags = create.name_and_tags(run_name, tags)
        new = create.NewRun(experiment_id, user_id, start_time, name, tags)
        run = self._write_record(
            partial(self._create, new),
            lambda: spooled.to_record(self._creation(new)),
            lambda: new.entity(self._root(experiment_id)),
        )
        self._recent.add(self._creation_call(new, run.info.artifact_uri))
        return self._remember(run, self._recent.count)

    def _create(self, new: create.NewRun) -> Run:
        run = super()._create(new)
        if self._known.get(new.experiment_id, self._workspace()) is None:
            self._known.add(super().get_experiment(new.experiment_id), self._workspace())
        return run

    def _creation(self, new: create.NewRun) -> Call:
        entity = new.entity(self._root(new.experiment_id))
        return self._creation_call(new, entity.info.artifact_uri)

    def _creation_call(self, new: create.NewRun, artifact_uri: str) -> Call:
        fields = (new.experiment_id, new.user_id, new.start_time, new.name, new.tags)
        return self._call("create_run", new.run_id, *fields, artifact_uri)

    def _root(self, experiment_id: str) -> str:
        experiment = self._known.get(experiment_id, self._workspace())
        if experiment is None:
            raise unavailable(
                f"the database is away, and the spool {self._outbox.spool.path} has not seen the "
                f"experiment {experiment_id}: a run can start offline in an experiment that was "
                f"used with this spool before"
            )
        return str(experiment.artifact_location)

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Any = None
    ) -> str:
        create_ = partial(super().create_experiment, name, artifact_location, tags)
        with named(f"a new experiment ({name!r}) cannot wait in the spool"):
            experiment_id = self._outbox.read(create_, seconds=self._seconds)
        self.get_experiment(experiment_id)
        return experiment_id

    def get_experiment(self, experiment_id: str) -> Experiment:
        read = partial(super().get_experiment, experiment_id)
        if self._is_completing:  # MLflow's constructor, which reads the default experiment
            experiment = read()
        else:
            with named(f"the spool has not seen the experiment {experiment_id}"):
                experiment = self._outbox.read(
                    read,
                    lambda: self._known.get(experiment_id, self._workspace()),
                    seconds=self._seconds,
                )
        self._known.add(experiment, self._workspace())
        return experiment

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        read = partial(super().get_experiment_by_name, experiment_name)
        with named(f"the spool has not seen the experiment {experiment_name!r}"):
            experiment = self._outbox.read(
                read,
                lambda: self._known.named(experiment_name, self._workspace()),
                seconds=self._seconds,
            )
        if experiment is not None:
            self._known.add(experiment, self._workspace())
        return experiment

    def get_run(self, run_id: str) -> Run:
        # What waits is read first: a call that is sent in between is in both.
        read = super().get_run
        waiting = self._waiting(run_id)
        new = overlay.created(waiting)
        if new is None:
            count = self._recent.count
            with named(f"what it holds of run {run_id} cannot be read"):
                new = self._outbox.read(
                    lambda: self._remember(read(run_id), count),
                    lambda: self._known_run(run_id),
                    seconds=self._seconds,
                )
        return overlay.run(new, waiting) if waiting else new

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> PagedList[Metric]:
        read = super().get_metric_history
        waiting = self._waiting(run_id)
        with named(f"what it holds of run {run_id} cannot be read"):
            if not waiting:
                return self._outbox.read(
                    partial(read, run_id, metric_key, max_results, page_token),
                    lambda: self._known_page(run_id, metric_key, max_results, page_token),
                    seconds=self._seconds,
                )
            stored: list[Metric] = []
            if overlay.created(waiting) is None:
                stored = self._outbox.read(
                    partial(read, run_id, metric_key),
                    lambda: self._known_history(run_id, metric_key),
                    seconds=self._seconds,
                )
        return overlay.page(overlay.history(stored, waiting, metric_key), max_results, page_token)

    def _waiting(self, run_id: str) -> list[Call]:
        """The waiting calls for a run, in order."""
        records = self._outbox.spool.waiting(run_id.encode()) if run_id else ()
        calls = [spooled.from_record(record) for record in records if record.kind == spooled.KIND]
        return [call for call in calls if call.run_id == run_id]

    def _remember(self, run: Run, count: int) -> Run:
        """Store the state of a run in the database after `count` calls of this process."""
        self._runs[run.info.run_id] = run, count
        while len(self._runs) > _REMEMBERED:
            self._runs.pop(next(iter(self._runs)), None)
        return run

    def _known_run(self, run_id: str) -> Run | None:
        """A run as last read, with later calls of this process; None if it never read the run."""
        if run_id not in self._runs:
            return None
        run, count = self._runs[run_id]
        return overlay.run(run, self._recent.of(run_id, after=count))

    def _known_history(self, run_id: str, key: str) -> list[Metric] | None:
        """The points that this process logged; None if it never read the run."""
        if run_id not in self._runs:
            return None
        calls = self._recent.of(run_id)
        if overlay.created(calls) is None:
            logger.warning(
                "the database is away: the history of %r in run %s has only the last points that "
                "this process logged",
                key,
                run_id,
            )
        return overlay.history([], calls, key)

    def _known_page(self, run_id: str, key: str, *page: Any) -> PagedList[Metric] | None:
        history = self._known_history(run_id, key)
        return None if history is None else overlay.page(history, *page)

    def _last(self, run_id: str) -> Run:
        """The last state of a run that is known without the database."""
        waiting = self._waiting(run_id)
        base = overlay.created(waiting) or self._known_run(run_id) or _unknown(run_id)
        return overlay.run(base, waiting)


class _Arrived(Exception):
    """A call has had its effect already."""


# The attributes of a store that MLflow's constructor, or ours, sets when the database is there.
_SET_BY_MLFLOW = {
    "ManagedSessionMaker",
    "_artifact_roots",
    "_marked",
    "artifact_root_uri",
    "db_type",
    "engine",
    "read_engine",
}


class SpoolingTrackingStore(SpoolingTracking, TimescaleTrackingStore):
    """The tracking store of a URI with `spool=`."""


class WorkspaceAwareSpoolingTrackingStore(SpoolingTracking, WorkspaceAwareTimescaleTrackingStore):
    """The same store if MLFLOW_ENABLE_WORKSPACES is on."""


def _require_claims(uri: DatabaseURI, seconds: float) -> None:
    """Raise MlflowException unless the database answers, and stores ids of writes."""
    try:
        with db.connect(uri, autocommit=True, connect_timeout=seconds) as conn:
            state = db.read_state(conn)
    except ConnectionFailed as exc:
        raise unavailable(str(exc)) from exc
    if state is not None and state.revision < _CLAIMS:
        raise MlflowException(
            f"{uri} has schema revision {state.revision}, and a spool needs {_CLAIMS}: its "
            f"administrator runs `mlflow-timescale migrate` once, or leave out spool="
        )


def _unknown(run_id: str) -> Run:
    """A run of which this process knows only the id."""
    status = RunStatus.to_string(RunStatus.RUNNING)
    return Run(RunInfo(run_id, "", "", status, 0, None, "active"), RunData())


def _nothing() -> None:
    return None
