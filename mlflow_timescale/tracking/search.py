"""The runs that a search selects: MLflow's expressions, without its DISTINCT and its ORM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlflow.store.tracking.dbmodels.models import SqlRun
from mlflow.store.tracking.sqlalchemy_store import (
    _get_orderby_clauses,
    _get_sqlalchemy_filter_clauses,
)
from mlflow.utils.search_utils import SearchUtils
from sqlalchemy import Select, String, cast, select
from sqlalchemy.orm import Session

_INFO = (
    SqlRun.run_uuid,
    SqlRun.name,
    cast(SqlRun.experiment_id, String).label("experiment"),
    SqlRun.user_id,
    SqlRun.status,
    SqlRun.start_time,
    SqlRun.end_time,
    SqlRun.lifecycle_stage,
    SqlRun.artifact_uri,
)


def matching_runs(
    session: Session, filter_string: str | None, order_by: Sequence[str] | None
) -> Select[Any]:
    """The attributes of the runs that pass a filter, in order; of every experiment."""
    parsed = SearchUtils.parse_search_filter(filter_string)
    cases, order, sorting = _get_orderby_clauses(order_by, session)
    attributes, joins, datasets = _get_sqlalchemy_filter_clauses(parsed, session, "postgresql")
    statement: Select[Any] = select(*_INFO, *cases)
    for join in joins:
        statement = statement.join(join, join.c.run_uuid == SqlRun.run_uuid)
    for dataset in datasets:
        statement = statement.join(dataset, SqlRun.run_uuid == dataset.c.destination_id)
    for join in sorting:
        statement = statement.outerjoin(join, join.c.run_uuid == SqlRun.run_uuid)
    if datasets:
        # Only the join with datasets can repeat a run; DISTINCT costs a sort, so not otherwise.
        statement = statement.distinct()
    return statement.where(*attributes).order_by(*order)


def find_runs(
    session: Session,
    matching: Select[Any],
    *,
    experiment_ids: Sequence[int],
    stages: Iterable[str],
    offset: int,
    limit: int | None,
) -> list[tuple[Any, ...]]:
    """The attributes of the runs of one page, in its order."""
    statement = matching.where(
        SqlRun.experiment_id.in_(experiment_ids), SqlRun.lifecycle_stage.in_(stages)
    )
    page = statement.offset(offset).limit(limit)
    return [tuple(row)[: len(_INFO)] for row in session.execute(page)]
