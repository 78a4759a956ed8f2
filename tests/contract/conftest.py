"""The same calls on MLflow's own store and on ours, compared field by field.

`pair.call("log_batch", run, ...)` calls both stores and fails unless both give the same: the same
entities in every field (a field that only one has fails, too), or the same error code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as MlflowRegistry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as MlflowTracking
from support.databases import cloned, vanilla_url
from support.entities import plain

from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

ROOT = "/artifacts"


@dataclass(frozen=True)
class Ref:
    """A run, by its name in the test: each store has its own id for it."""

    name: str


@dataclass
class Pair:
    """Two stores that must be indistinguishable."""

    theirs: Any
    ours: Any
    ids: dict[str, tuple[str, str]] = field(default_factory=dict)

    def call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Call both; return what ours gave. An error in both, of one code, is raised as ours."""
        outcomes = [
            self._one(side, store, method, arguments, keywords)
            for side, store in enumerate((self.theirs, self.ours))
        ]
        (theirs, _, _), (ours, result, error) = outcomes
        assert ours == theirs, f"{method}{arguments}{keywords}"
        if error is not None:
            raise error
        return result

    def refused(self, code: str, method: str, *arguments: Any, **keywords: Any) -> MlflowException:
        """Both must refuse the call with this code."""
        with pytest.raises(MlflowException) as caught:
            self.call(method, *arguments, **keywords)
        assert caught.value.error_code == code
        return caught.value

    def plain(self, entity: Any) -> Any:
        """An entity of either store, with the ids of runs replaced by their names."""
        return plain(entity, {**self._labels(0), **self._labels(1)})

    def run(self, name: str, experiment_id: str = "0", **keywords: Any) -> Ref:
        """Start a run in both."""
        arguments = {"user_id": "me", "start_time": 1000, "tags": [], "run_name": name, **keywords}
        ids = [
            store.create_run(experiment_id, **arguments).info.run_id
            for store in (self.theirs, self.ours)
        ]
        self.ids[name] = (ids[0], ids[1])
        return Ref(name)

    def _one(
        self, side: int, store: Any, method: str, arguments: Any, keywords: Any
    ) -> tuple[Any, Any, MlflowException | None]:
        try:
            result = getattr(store, method)(
                *self._resolve(arguments, side), **self._resolve(keywords, side)
            )
        except MlflowException as exc:
            return ("refused", exc.error_code), None, exc
        return ("gave", plain(result, self._labels(side))), result, None

    def _resolve(self, value: Any, side: int) -> Any:
        if isinstance(value, Ref):
            return self.ids[value.name][side]
        if isinstance(value, (list, tuple)):
            return type(value)(self._resolve(item, side) for item in value)
        if isinstance(value, dict):
            return {key: self._resolve(item, side) for key, item in value.items()}
        return value

    def _labels(self, side: int) -> dict[str, str]:
        return {ids[side]: name for name, ids in self.ids.items()}


@pytest.fixture(scope="module")
def two_databases(
    server: DatabaseURI, template: str, vanilla_template: str
) -> Iterator[tuple[DatabaseURI, DatabaseURI]]:
    """A vanilla database, and one of ours, for the tests of one module."""
    with cloned(server, vanilla_template) as theirs, cloned(server, template) as ours:
        yield theirs, ours


@pytest.fixture(scope="module")
def pair(two_databases: tuple[DatabaseURI, DatabaseURI]) -> Pair:
    """The two tracking stores."""
    theirs, ours = two_databases
    return Pair(MlflowTracking(vanilla_url(theirs), ROOT), TimescaleTrackingStore(ours.url, ROOT))


@pytest.fixture(scope="module")
def registries(two_databases: tuple[DatabaseURI, DatabaseURI]) -> Pair:
    """The two model registries."""
    theirs, ours = two_databases
    return Pair(MlflowRegistry(vanilla_url(theirs)), TimescaleRegistryStore(ours.url))
