"""Searches of the model registry: MLflow's filters and orders, without its ORM, with aliases."""

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

_queries = load("registry")
Row = Sequence[Any]
Column = list[Any] | None
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
    """The versions that a query over MLflow's ORM selects, with tags and aliases."""
    rows = _rows(session, query, _VERSION)
    names, versions = [row[0] for row in rows], [row[1] for row in rows]
    arguments = {"workspace": workspace, "names": names, "versions": versions}
    with translated():
        children = driver(session).execute(_queries.children_of_versions, arguments, binary=True)
        return [
            _version(row, keys, values, aliases, workspace)
            for row, (keys, values, aliases) in zip(rows, children, strict=True)
        ]


def find_models(session: Session, query: Select[Any], workspace: str) -> list[RegisteredModel]:
    """The same for models, with the latest version of each stage (without aliases, as MLflow)."""
    rows = _rows(session, query, _MODEL)
    conn = driver(session)
    arguments = {"workspace": workspace, "names": [row[0] for row in rows]}
    with translated(), conn.pipeline():
        latest = conn.execute(_queries.latest_versions, arguments, binary=True)
        children = conn.execute(_queries.children_of_models, arguments, binary=True)
        versions: dict[str, list[ModelVersion]] = {row[0]: [] for row in rows}
        for *row, keys, values in latest:
            versions[row[0]].append(_version(row, keys, values, None, workspace))
        return [
            RegisteredModel(
                *row,
                versions[row[0]],
                _pairs(RegisteredModelTag, keys, values),
                _pairs(RegisteredModelAlias, aliases, numbers),
                workspace=workspace,
            )
            for row, (keys, values, aliases, numbers) in zip(rows, children, strict=True)
        ]


def _rows(session: Session, query: Select[Any], columns: Sequence[Any]) -> Sequence[Row]:
    return session.execute(query.with_only_columns(*columns, maintain_column_froms=True)).all()


def _version(
    row: Row, keys: Column, values: Column, aliases: Column, workspace: str
) -> ModelVersion:
    *attributes, run_link = row
    tags = _pairs(ModelVersionTag, keys, values)
    return ModelVersion(*attributes, tags, run_link, aliases, workspace=workspace)


def _pairs(entity: Any, keys: Column, values: Column) -> list[Any]:
    return list(map(entity, keys, values)) if keys and values else []
