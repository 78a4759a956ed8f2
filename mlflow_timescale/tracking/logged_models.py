"""Logged models whose id the client makes: one can be created while the database is away."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlflow.entities import LoggedModel, LoggedModelParameter, LoggedModelStatus, LoggedModelTag
from mlflow.store.tracking.dbmodels.models import (
    SqlLoggedModel,
    SqlLoggedModelParam,
    SqlLoggedModelTag,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import append_to_uri_path

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class NewModel:
    """A logged model that is to be inserted."""

    experiment_id: str
    name: str
    source_run_id: str | None
    tags: list[LoggedModelTag]
    params: list[LoggedModelParameter]
    model_type: str | None
    created_ms: int = field(default_factory=get_current_time_millis)
    artifact_location: str = ""
    model_id: str = field(default_factory=lambda: f"m-{uuid.uuid4().hex}")

    @classmethod
    def of(
        cls,
        experiment_id: str,
        name: str | None,
        source_run_id: str | None,
        tags: list[LoggedModelTag] | None,
        params: list[LoggedModelParameter] | None,
        model_type: str | None,
    ) -> NewModel:
        """What MLflow's create_logged_model takes, with its defaults."""
        name = name or _generate_random_name()
        return cls(experiment_id, name, source_run_id, tags or [], params or [], model_type)

    def below(self, root: str) -> NewModel:
        """The same with its artifacts below those of its experiment."""
        location = append_to_uri_path(
            root,
            SqlAlchemyStore.MODELS_FOLDER_NAME,
            self.model_id,
            SqlAlchemyStore.ARTIFACTS_FOLDER_NAME,
        )
        return replace(self, artifact_location=location)

    def entity(self) -> LoggedModel:
        """The entity that MLflow returns."""
        return LoggedModel(
            self.experiment_id,
            self.model_id,
            self.name,
            self.artifact_location,
            self.created_ms,
            self.created_ms,
            self.model_type,
            self.source_run_id,
            LoggedModelStatus.PENDING,
            tags=self.tags,
            params=self.params,
        )


def insert(session: Session, new: NewModel) -> LoggedModel:
    """Insert a model as MLflow's create_logged_model does; one with this id stays as it is."""
    stored = session.get(SqlLoggedModel, new.model_id)
    if stored is None:
        stored = SqlLoggedModel(
            model_id=new.model_id,
            experiment_id=new.experiment_id,
            name=new.name,
            artifact_location=new.artifact_location,
            creation_timestamp_ms=new.created_ms,
            last_updated_timestamp_ms=new.created_ms,
            model_type=new.model_type,
            status=LoggedModelStatus.PENDING.to_int(),
            lifecycle_stage="active",
            source_run_id=new.source_run_id,
        )
        session.add(stored)
        of = {"model_id": new.model_id, "experiment_id": new.experiment_id}
        for param in new.params:
            session.add(SqlLoggedModelParam(param_key=param.key, param_value=param.value, **of))
        for tag in new.tags:
            session.add(SqlLoggedModelTag(tag_key=tag.key, tag_value=tag.value, **of))
        session.flush()
        session.refresh(stored)
    return stored.to_mlflow_entity()
