"""MLflow's model registry on TimescaleDB: overridden where the database does better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry import (
    SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT,
    SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD,
    SEARCH_REGISTERED_MODEL_MAX_RESULTS_DEFAULT,
    SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD,
)
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.utils.search_utils import SearchModelUtils, SearchModelVersionUtils, SearchUtils

from mlflow_timescale.artifacts import boundaries
from mlflow_timescale.db import load
from mlflow_timescale.registry.guard import AuditedRegistry
from mlflow_timescale.registry.search import find_models, find_versions
from mlflow_timescale.schema import prepare, wait_for
from mlflow_timescale.tracking.calls import guarded
from mlflow_timescale.tracking.errors import translated
from mlflow_timescale.tracking.session import driver, joined

if TYPE_CHECKING:
    from sqlalchemy import Engine, Select
    from sqlalchemy.orm import Session

_queries = load("registry")
_NEWEST_FIRST = ("last_updated_timestamp DESC", "name ASC", "version_number DESC")


class TimescaleRegistry(AuditedRegistry):
    """What both registry stores do differently from their MLflow parents."""

    def __init__(self, db_uri: str, read_db_uri: str | None = None) -> None:
        # First, and under a lock: MLflow creates its tables without one, so two processes that
        # start together would fail, and our tables need MLflow's.
        prepare(db_uri)
        super().__init__(db_uri, read_db_uri=read_db_uri)
        self.ManagedSessionMaker = joined(self.ManagedSessionMaker, self.engine, self.read_engine)

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, *arguments: Any, **keywords: Any
    ) -> ModelVersion:
        boundaries.check_source(source, lambda: _locations(run_id, keywords.get("model_id")))
        # MLflow counts up without a lock, and gives up after three collisions.
        with self.ManagedSessionMaker(read_only=False) as session:
            values = {"name": name, "workspace": self._get_active_workspace()}
            with translated():
                driver(session).execute(_queries.serialize_versions, values)
            return super().create_model_version(name, source, run_id, *arguments, **keywords)

    @classmethod
    def _get_or_create_engine(cls, db_uri: str) -> Engine:
        # MLflow would wait up to 51 s between two attempts, say at a server that is full.
        if db_uri not in cls._engine_map:
            wait_for(db_uri)
        return super()._get_or_create_engine(db_uri)

    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int = SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[ModelVersion]:
        # MLflow's search returns versions without their aliases: mlflow/mlflow#9783, #16734.
        if not isinstance(max_results, int) or max_results < 1:
            raise MlflowException.invalid_parameter_value(
                f"Invalid value for max_results. It must be a positive integer, but got "
                f"{max_results}"
            )
        _at_most(SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD, max_results)
        parsed = SearchModelVersionUtils.parse_search_filter(filter_string)
        query = (
            self._get_search_model_versions_filter_clauses(parsed, self._get_dialect())
            .filter(SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)
            .order_by(*self._parse_search_model_versions_order_by(order_by or _NEWEST_FIRST))
        )
        return self._page(find_versions, lambda session: query, max_results, page_token)

    def search_registered_models(
        self,
        filter_string: str | None = None,
        max_results: int = SEARCH_REGISTERED_MODEL_MAX_RESULTS_DEFAULT,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[RegisteredModel]:
        # MLflow loads models, versions and tags through the ORM, in six statements.
        _at_most(SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD, max_results)
        parsed = SearchModelUtils.parse_search_filter(filter_string)
        order = self._parse_search_registered_models_order_by(order_by)

        def query(session: Session) -> Select[Any]:
            clauses: Select[Any] = self._get_search_registered_model_filter_query(
                session, parsed, self._get_dialect()
            )
            return clauses.order_by(*order)

        return self._page(find_models, query, max_results, page_token)

    def _page(
        self,
        find: Callable[[Session, Select[Any], str], list[Any]],
        query: Callable[[Session], Select[Any]],
        max_results: int,
        page_token: str | None,
    ) -> PagedList[Any]:
        offset = SearchUtils.parse_start_offset_from_page_token(page_token)
        with self.ManagedSessionMaker() as session:
            # One more row than the page: it shows whether another page follows.
            page = query(session).offset(offset).limit(max_results + 1)
            entities = find(session, page, self._get_active_workspace())
        token = self._compute_next_token(max_results + 1, len(entities), offset, max_results)
        return PagedList(entities[:max_results], token)


def _at_most(limit: int, max_results: int) -> None:
    if max_results > limit:
        raise MlflowException.invalid_parameter_value(
            f"Invalid value for request parameter max_results. It must be at most {limit}, but "
            f"got value {max_results}"
        )


@guarded
class TimescaleRegistryStore(TimescaleRegistry, SqlAlchemyStore):
    """The model registry of `postgresql+timescaledb://`."""


@guarded
class WorkspaceAwareTimescaleRegistryStore(TimescaleRegistry, WorkspaceAwareSqlAlchemyStore):
    """The same where MLFLOW_ENABLE_WORKSPACES is on."""


def _locations(run_id: str | None, model_id: str | None) -> Iterator[str]:
    """Where a server's tracking store has the artifacts of a run and of a logged model."""
    from mlflow.server.handlers import _get_tracking_store

    tracking = _get_tracking_store()
    if run_id:
        yield tracking.get_run(run_id).info.artifact_uri
    if model_id:
        yield tracking.get_logged_model(model_id).artifact_location
