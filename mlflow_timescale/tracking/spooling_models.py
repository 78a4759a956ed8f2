"""Logged models while the database is away: created, finished, tagged and read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mlflow.entities import LoggedModel
from mlflow.utils.validation import _validate_logged_model_name

from mlflow_timescale.tracking import overlay, spooled
from mlflow_timescale.tracking.logged_models import NewModel
from mlflow_timescale.tracking.spooled import Call
from mlflow_timescale.tracking.store import TimescaleTracking
from mlflow_timescale.tracking.unavailable import named

if TYPE_CHECKING:
    from mlflow_timescale.spool import Outbox

T = TypeVar("T")
_REMEMBERED = 64  # models of this process


class SpoolingModels(TimescaleTracking):
    """The writes to logged models; a part of `SpoolingTracking`."""

    _outbox: Outbox
    _models: dict[str, LoggedModel]
    _seconds: float
    _write: Callable[..., Any]
    _write_record: Callable[..., Any]
    _call: Callable[..., Call]
    _root: Callable[[str], str]
    _waiting: Callable[[str], list[Call]]

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Any = None,
        params: Any = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        _validate_logged_model_name(name)
        new = NewModel.of(experiment_id, name, source_run_id, tags, params, model_type)
        model: LoggedModel = self._write_record(
            partial(self._create_model, new),
            lambda: spooled.to_record(self._creation_of_model(new)),
            lambda: new.below(self._root(experiment_id)).entity(),
        )
        return self._remember_model(model)

    def _create_model(self, new: NewModel) -> LoggedModel:
        experiment = super().get_experiment(new.experiment_id)
        return self._insert_model(new.below(experiment.artifact_location))

    def _creation_of_model(self, new: NewModel) -> Call:
        new = new.below(self._root(new.experiment_id))
        fields = (new.experiment_id, new.name, new.source_run_id, new.tags, new.params)
        return self._call(
            "create_logged_model",
            new.model_id,
            *fields,
            new.model_type,
            new.created_ms,
            new.artifact_location,
        )

    def finalize_logged_model(self, model_id: str, status: Any) -> LoggedModel:
        now = partial(super().finalize_logged_model, model_id, status)
        call = self._call("finalize_logged_model", model_id, status)
        model: LoggedModel = self._write(call, now, partial(self.get_logged_model, model_id))
        return self._remember_model(model)

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        now = partial(super().log_logged_model_params, model_id, params)
        self._write(self._call("log_logged_model_params", model_id, params), now, _nothing)

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        now = partial(super().set_logged_model_tags, model_id, tags)
        self._write(self._call("set_logged_model_tags", model_id, tags), now, _nothing)

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        now = partial(super().record_logged_model, run_id, mlflow_model)
        call = self._call("record_logged_model", run_id, mlflow_model.to_json())
        self._write(call, now, _nothing)

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        now = partial(super().delete_logged_model_tag, model_id, key)
        self._write(self._call("delete_logged_model_tag", model_id, key), now, _nothing)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        waiting = self._waiting(model_id)
        created = [call for call in waiting if call.method == "create_logged_model"]
        if created:
            model = spooled.new_model(created[0]).entity()
        else:
            with named(f"what it holds of the model {model_id} cannot be read"):
                model = self._outbox.read(
                    partial(super().get_logged_model, model_id, allow_deleted),
                    lambda: self._models.get(model_id),
                    seconds=self._seconds,
                )
        self._remember_model(model)
        return overlay.model(model, waiting) if waiting else model

    def _remember_model(self, model: LoggedModel) -> LoggedModel:
        self._models[model.model_id] = model
        while len(self._models) > _REMEMBERED:
            self._models.pop(next(iter(self._models)), None)
        return model


def _nothing() -> None:
    return None
