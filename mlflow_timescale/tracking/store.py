"""MLflow's tracking store on TimescaleDB: overridden where the database does better.

Native statements run on the connections of MLflow's own pool. A write is one round trip: a
statement that is a transaction of its own, or a pipeline of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow.entities import LifecycleStage, LoggedModel, Metric, Param, Run, RunTag
from mlflow.entities.entity_type import EntityAssociationType
from mlflow.entities.metric import MetricWithRunId
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.dbmodels.models import SqlTraceInfo
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.validation import (
    _parse_experiment_id,
    _parse_experiment_ids,
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_param,
    _validate_param_keys_unique,
    _validate_run_id,
    _validate_tag,
)

from mlflow_timescale.artifacts import boundaries, removal
from mlflow_timescale.db import Connection, load, rows
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import prepare, wait_for
from mlflow_timescale.tracking import create, deletion, history, logged_models, runs, search, writes
from mlflow_timescale.tracking.calls import guarded
from mlflow_timescale.tracking.errors import ParamsChanged
from mlflow_timescale.tracking.points import MetricPoints, points
from mlflow_timescale.tracking.session import autocommit, driver, joined

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

_queries = load("tracking")


class TimescaleTracking(SqlAlchemyStore if TYPE_CHECKING else object):  # type: ignore[misc]
    """What both tracking stores do differently from their MLflow parents."""

    def __init__(
        self, db_uri: str, default_artifact_root: str, read_db_uri: str | None = None
    ) -> None:
        # MLflow creates its tables without a lock, and knows nothing of ours.
        prepare(db_uri)
        self._marked = False
        self._artifact_roots: dict[int, str] = {}
        super().__init__(db_uri, default_artifact_root, read_db_uri=read_db_uri)
        self.ManagedSessionMaker: Any = joined(
            self.ManagedSessionMaker, self.engine, self.read_engine
        )

    @classmethod
    def _get_or_create_engine(cls, db_uri: str) -> Engine:
        # MLflow would wait up to 51 s between two attempts, say at a server that is full.
        if db_uri not in cls._engine_map:
            wait_for(db_uri)
        return super()._get_or_create_engine(db_uri)

    def _workspace(self) -> str | None:
        """The workspace to stay in, None without workspaces."""
        return self._get_active_workspace() if self.supports_workspaces else None

    def _to(self, run_id: str) -> writes.RunWrites:
        """The statements that write to a run."""
        return writes.RunWrites(run_id, self._workspace())

    def _send(self, *statements: writes.Statement) -> None:
        """Run statements as one transaction."""
        with autocommit(self.engine) as conn:
            writes.send(conn, statements)

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Any = None
    ) -> str:
        boundaries.check_location(artifact_location, self._all_locations)
        return super().create_experiment(name, artifact_location, tags)

    def _all_locations(self) -> list[str]:
        with self.ManagedSessionMaker() as session:
            return create.all_locations(driver(session))

    def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        boundaries.check_trace_tag(key)
        super().set_trace_tag(trace_id, key, value)

    def log_batch(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> None:
        # MLflow writes params, metrics and tags in three transactions; here a batch is in or out.
        batch, params, tags = checked_batch(run_id, metrics, params, tags)
        try:
            statements = self._to(run_id).batch(batch, metrics, params, tags)
        except Exception as exc:
            raise MlflowException(exc, INTERNAL_ERROR) from exc
        with _refusing_changed_params(run_id):
            self._run_with_deadlock_retry(self._send, *statements)

    def log_metric(self, run_id: str, metric: Metric) -> None:
        statements = self._to(run_id).batch(points([metric]), [metric])
        self._run_with_deadlock_retry(self._send, *statements)

    def log_param(self, run_id: str, param: Param) -> None:
        param = _validate_param(param.key, param.value)
        try:
            self._send(self._to(run_id).params([param]))
        except ParamsChanged as exc:
            [(key, old, new)] = exc.changed
            raise MlflowException(
                f"Changing param values is not allowed. Param with key='{key}' was already "
                f"logged with value='{old}' for run ID='{run_id}'. Attempted logging new value "
                f"'{new}'.",
                INVALID_PARAMETER_VALUE,
            ) from None

    def set_tag(self, run_id: str, tag: RunTag) -> None:
        self._send(self._to(run_id).tags([_validate_tag(tag.key, tag.value)]))

    def delete_tag(self, run_id: str, key: str) -> None:
        # The history of tags records who deletes one; MLflow's session joins this one.
        with self.ManagedSessionMaker(read_only=False) as session:
            driver(session).execute(_queries.attribute, writes.attributed())
            super().delete_tag(run_id, key)

    def create_run(
        self,
        experiment_id: str,
        user_id: str,
        start_time: int,
        tags: list[RunTag] | None,
        run_name: str | None,
    ) -> Run:
        if not create.is_plain(experiment_id) or create.contradicts(run_name, tags):
            # MLflow looks for the experiment first, and echoes the id as it was given.
            return super().create_run(experiment_id, user_id, start_time, tags, run_name)
        name, tags = create.name_and_tags(run_name, tags)
        return self._create(create.NewRun(experiment_id, user_id, start_time, name, tags))

    def _create(self, new: create.NewRun) -> Run:
        with autocommit(self.engine) as conn:
            return create.create_run(conn, self._artifact_roots, new, self._workspace())

    def _insert(self, new: create.NewRun, artifact_uri: str) -> None:
        """Insert a run whose artifacts may be there already."""
        with autocommit(self.engine) as conn:
            root = create.insert(conn, new, "", self._workspace(), artifact_uri)
            if root:
                create.insert(conn, new, root, self._workspace(), artifact_uri)

    def _insert_model(self, new: logged_models.NewModel) -> LoggedModel:
        """Insert a logged model whose id and place are given."""
        with self.ManagedSessionMaker(read_only=False) as session:
            self._check_experiment_is_active(self.get_experiment(new.experiment_id))
            return logged_models.insert(session, new)

    def get_run(self, run_id: str) -> Run:
        with autocommit(self.read_engine or self.engine) as conn:
            return runs.get_run(conn, run_id, self._workspace())

    def _search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int | None,
        order_by: Sequence[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        # MLflow sorts whole rows for DISTINCT, then loads every run through the ORM.
        self._validate_max_results_param(max_results, allow_null=True)
        stages = set(LifecycleStage.view_type_to_stages(run_view_type))
        with self.ManagedSessionMaker() as session:
            # In MLflow's order, which decides the error for a call with two mistakes.
            query = search.matching_runs(session, filter_string, order_by)
            offset = SearchUtils.parse_start_offset_from_page_token(page_token)
            ids = self._filter_experiment_ids(session, _parse_experiment_ids(experiment_ids))
            found = search.find_runs(
                session,
                query,
                experiment_ids=ids,
                stages=stages,
                offset=offset,
                limit=None if max_results is None else max_results + 1,
            )
            more = max_results is not None and len(found) > max_results
            page = runs.load_runs(driver(session), found[:max_results])
        return page, SearchUtils.create_page_token(offset + len(page)) if more else None

    def _hard_delete_experiment(self, experiment_id: str) -> None:
        # MLflow loads every point, tag and span below an experiment in order to delete it, and
        # leaves the files of its logged models and traces.
        number = _parse_experiment_id(experiment_id)
        with self.ManagedSessionMaker(read_only=False) as session:
            places = removal.places_of_experiment(driver(session), number)
            deletion.empty_experiment(driver(session), number, self._workspace())
        super()._hard_delete_experiment(experiment_id)
        removal.remove(DatabaseURI.parse(self.db_uri), places)

    def _delete_traces(
        self,
        experiment_id: str,
        max_timestamp_millis: int | None = None,
        max_traces: int | None = None,
        trace_ids: list[str] | None = None,
    ) -> int:
        # MLflow leaves the files of deleted traces, and nothing else knows where they are.
        with self.ManagedSessionMaker() as session:
            filters = [SqlTraceInfo.experiment_id == _parse_experiment_id(experiment_id)]
            if trace_ids:
                filters.append(SqlTraceInfo.request_id.in_(trace_ids))
            if max_timestamp_millis is not None:
                filters.append(SqlTraceInfo.timestamp_ms <= max_timestamp_millis)
            ids = self._select_trace_ids_for_delete(session=session, filters=filters, lock=False)
            places = removal.places_of_traces(driver(session), ids)
        count: int = super()._delete_traces(
            experiment_id, max_timestamp_millis, max_traces, trace_ids
        )
        removal.remove_traces(DatabaseURI.parse(self.db_uri), places)
        return count

    @contextmanager
    def _reading(self) -> Iterator[tuple[Session, Connection | None]]:
        with self.ManagedSessionMaker() as session:
            yield session, self._marked_connection(session)

    def _marked_connection(self, session: Session) -> Connection | None:
        """The session's connection if the database was adopted, None before that."""
        conn = driver(session)
        self._marked = self._marked or history.can_measure(conn)
        return conn if self._marked else None

    def _series(
        self, session: Session, conn: Connection | None, run_id: str, key: str
    ) -> history.MetricSeries | None:
        """A series to read by its marks; None where MLflow's query must answer: it has none."""
        self._validate_run_accessible(session, run_id)
        return None if conn is None else history.series(conn, run_id, key)

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> PagedList[Metric]:
        # Marks lead to the first point of a page: the last page costs what the first does.
        with self._reading() as (session, conn):
            series = self._series(session, conn, run_id, metric_key)
            if conn is None or series is None:
                return super().get_metric_history(run_id, metric_key, max_results, page_token)
            offset = SearchUtils.parse_start_offset_from_page_token(page_token)
            limit = None if max_results is None else max_results + 1
            rows = history.page(series, offset, limit)
            if not rows:
                rows = history.generated(conn, run_id, metric_key)[offset:][:limit]
        more = max_results is not None and len(rows) > max_results
        metrics = history.metrics(metric_key, rows[:max_results])
        token = SearchUtils.create_page_token(offset + len(metrics)) if more else None
        return PagedList(metrics, token)

    def get_metric_history_bulk(
        self, run_ids: list[str], metric_key: str, max_results: int
    ) -> list[MetricWithRunId]:
        # Series by series, until there is enough: MLflow sorts all of them first.
        with self._reading() as (session, conn):
            if conn is None or max_results < 0:
                return super().get_metric_history_bulk(run_ids, metric_key, max_results)
            allowed = self._filter_entity_ids(session, EntityAssociationType.RUN, list(run_ids))
            found: list[MetricWithRunId] = []
            for run_id in sorted(set(allowed)):
                left = max_results - len(found)
                if left <= 0:
                    break
                series = history.series(conn, run_id, metric_key)
                rows = history.page(series, 0, left) if series else []
                rows = rows or history.generated(conn, run_id, metric_key)
                found += _with_run(run_id, metric_key, rows)
        return found

    def get_max_step_for_metric(self, run_id: str, metric_key: str) -> int:
        with self.ManagedSessionMaker() as session:
            self._validate_run_accessible(session, run_id)
            return history.max_step(driver(session), run_id, metric_key)

    def get_metric_history_bulk_interval_from_steps(
        self, run_id: str, metric_key: str, steps: list[int], max_results: int
    ) -> list[MetricWithRunId]:
        with self._reading() as (session, conn):
            series = self._series(session, conn, run_id, metric_key)
            if series is None:
                return super().get_metric_history_bulk_interval_from_steps(
                    run_id, metric_key, steps, max_results
                )
            points_of_steps = history.of_steps(series, steps, max_results)
        return _with_run(run_id, metric_key, points_of_steps)

    def _ensure_default_label_schema(self, session: Session, experiment_id: str) -> None:
        # MLflow adds a default question when the questions are listed, which a reader may do too.
        if rows.scalar(driver(session), _queries.may_add_questions):
            super()._ensure_default_label_schema(session, experiment_id)

    def _sample_metric_history_single_run(
        self,
        session: Session,
        run_id: str,
        metric_key: str,
        max_results: int,
        start_step: int | None,
        end_step: int | None,
    ) -> list[MetricWithRunId]:
        # MLflow numbers every point of the series for each chart.
        conn = self._marked_connection(session)
        if conn is None:
            return super()._sample_metric_history_single_run(
                session, run_id, metric_key, max_results, start_step, end_step
            )
        between = (start_step, end_step)
        sample = history.sample(conn, run_id, metric_key, max_results, *between)
        sample = sample or history.generated(conn, run_id, metric_key, *between)
        return _with_run(run_id, metric_key, sample)


def _with_run(run_id: str, key: str, rows: Sequence[history.Row]) -> list[MetricWithRunId]:
    return [MetricWithRunId(run_id=run_id, metric=metric) for metric in history.metrics(key, rows)]


def checked_batch(
    run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
) -> tuple[MetricPoints, list[Param], list[RunTag]]:
    """The points, params and tags of a batch. Raises MlflowException for what MLflow refuses."""
    _validate_run_id(run_id)
    batch = points(metrics, of_batch=True)
    _, params, tags = _validate_batch_log_data([], params, tags)
    _validate_batch_log_limits(metrics, params, tags)
    _validate_param_keys_unique(params)
    return batch, params, tags


@contextmanager
def _refusing_changed_params(run_id: str) -> Iterator[None]:
    try:
        yield
    except ParamsChanged as exc:
        clashes = [
            {"key": key, "old_value": old, "new_value": new} for key, old, new in exc.changed
        ]
        raise MlflowException(
            f"Changing param values is not allowed. Params were already "
            f"logged='{clashes}' for run ID='{run_id}'.",
            INVALID_PARAMETER_VALUE,
        ) from None


@guarded
class TimescaleTrackingStore(TimescaleTracking, SqlAlchemyStore):
    """The tracking store of `postgresql+timescaledb://`."""


@guarded
class WorkspaceAwareTimescaleTrackingStore(TimescaleTracking, WorkspaceAwareSqlAlchemyStore):
    """The same where MLFLOW_ENABLE_WORKSPACES is on."""
