"""Searching the model registry: MLflow's own filters and orders, without its ORM, with aliases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlflow.entities.model_registry import (
    ModelVersion,
    ModelVersionTag,
    RegisteredModel,
    RegisteredModelAlias,
    RegisteredModelTag,
)
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel
from sqlalchemy import Select
from sqlalchemy.orm import Session

from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.errors import translated
from mlflow_timescale.tracking.session import driver
from mlflow_timescale.tracking.writes import Connection

_queries = load("registry")
Row = Sequence[Any]
# In the order of the arguments of MLflow's entities.
_VERSION = (
    SqlModelVersion.name,
    SqlModelVersion.version,
    SqlModelVersion.creation_time,
    SqlModelVersion.last_updated_time,
    SqlModelVersion.description,
    SqlModelVersion.user_id,
    SqlModelVersion.current_stage,
    SqlModelVersion.source,
    SqlModelVersion.run_id,
    SqlModelVersion.status,
    SqlModelVersion.status_message,
    SqlModelVersion.run_link,
)
_MODEL = (
    SqlRegisteredModel.name,
    SqlRegisteredModel.creation_time,
    SqlRegisteredModel.last_updated_time,
    SqlRegisteredModel.description,
)


def find_versions(session: Session, query: Select[Any], workspace: str) -> list[ModelVersion]:
    """The versions that a query of MLflow's over its ORM asks for, with tags and aliases."""
    rows = _rows(session, query, _VERSION)
    conn = driver(session)
    wanted = {
        "workspace": workspace,
        "names": [row[0] for row in rows],
        "versions": [row[1] for row in rows],
    }
    with translated(), conn.pipeline():
        tags = _ask(conn, _queries.tags_of_versions, wanted)
        aliases = _ask(conn, _queries.aliases_of_versions, wanted)
        return _versions(rows, workspace, tags=_by_version(tags), aliases=_by_version(aliases))


def find_models(session: Session, query: Select[Any], workspace: str) -> list[RegisteredModel]:
    """The same for models, with the latest version of each stage (without aliases, as MLflow)."""
    rows = _rows(session, query, _MODEL)
    conn = driver(session)
    wanted = {"workspace": workspace, "names": [row[0] for row in rows]}
    with translated(), conn.pipeline():
        asked = [
            _ask(conn, query, wanted)
            for query in (
                _queries.latest_versions,
                _queries.tags_of_latest_versions,
                _queries.tags_of_models,
                _queries.aliases_of_models,
            )
        ]
        latest, version_tags = asked[0].fetchall(), _by_version(asked[1])
        tags, aliases = ({name: rest for name, *rest in cursor} for cursor in asked[2:])
    versions: dict[str, list[ModelVersion]] = {row[0]: [] for row in rows}
    for version in _versions(latest, workspace, tags=version_tags, aliases={}):
        versions[version.name].append(version)
    return [
        RegisteredModel(
            *row,
            versions[row[0]],
            list(map(RegisteredModelTag, *tags.get(row[0], ((), ())))),
            list(map(RegisteredModelAlias, *aliases.get(row[0], ((), ())))),
            workspace=workspace,
        )
        for row in rows
    ]


def _rows(session: Session, query: Select[Any], columns: Sequence[Any]) -> Sequence[Row]:
    return session.execute(query.with_only_columns(*columns, maintain_column_froms=True)).all()


def _ask(conn: Connection, query: Any, wanted: dict[str, Any]) -> Any:
    return conn.execute(query, wanted, binary=True)


def _by_version(rows: Any) -> dict[tuple[str, int], Sequence[Any]]:
    return {(name, version): rest for name, version, *rest in rows}


def _versions(
    rows: Sequence[Row],
    workspace: str,
    *,
    tags: dict[tuple[str, int], Sequence[Any]],
    aliases: dict[tuple[str, int], Sequence[Any]],
) -> list[ModelVersion]:
    return [
        ModelVersion(
            *attributes,
            list(map(ModelVersionTag, *tags.get(row[:2], ((), ())))),
            run_link,
            *aliases.get(row[:2], ([],)),
            workspace=workspace,
        )
        for row in map(tuple, rows)
        for *attributes, run_link in [row]
    ]
