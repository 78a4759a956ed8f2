"""Calls for the matrix of roles: public methods, with arguments by the names that they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlflow.entities import Metric, Param, RunTag

Outcome = Literal["ok", "refused", "failed"]
NEEDS = "this needs the role mlops_"


@dataclass(frozen=True)
class Existing:
    """What a database of the tests holds, for methods that take an id or a name."""

    experiment_id: str
    run_id: str
    model: str = "momentum"

    def values(self) -> dict[str, Any]:
        return {
            "experiment_id": self.experiment_id,
            "experiment_ids": [self.experiment_id],
            "experiment_name": "Default",
            "run_id": self.run_id,
            "run_ids": [self.run_id],
            "name": self.model,
            "version": "1",
            "alias": "champion",
            "stage": "Staging",
            "stages": ["None"],
            "archive_existing_versions": False,
            "source": f"runs:/{self.run_id}/m",
            "key": "ic",
            "metric_key": "ic",
            "value": "1",
            "metrics": [Metric("sharpe", 1.0, 1_700_000_000_000, 1)],
            "params": [Param("depth", "3")],
            "tags": [RunTag("desk", "equities")],
            "metric": Metric("ic", 0.5, 1_700_000_000_001, 2),
            "param": Param("lookback", "120"),
            "tag": RunTag("reviewed", "yes"),
            "user_id": "ann",
            "start_time": 1_700_000_000_000,
            "run_name": "backtest",
            "run_status": "FINISHED",
            "end_time": 1_700_000_000_000,
            "max_results": 5,
            "filter_string": "",
            "run_view_type": 1,
            "view_type": 1,
            "new_name": self.model,
            "datasets": [],
            "models": [],
        }


def public_methods(kind: type) -> Iterator[str]:
    """The names of the methods of a class that users can call, those of its parents included."""
    for name in dir(kind):
        if not name.startswith("_") and inspect.isfunction(inspect.getattr_static(kind, name)):
            yield name


def arguments(method: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the parameters of a method that have no default; by name, else by type."""
    return {
        name: values[name] if name in values else _of_type(str(parameter.annotation))
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def outcome(call: Callable[[], Any]) -> tuple[Outcome, str]:
    """How a call ended, with the text of its error."""
    try:
        call()
    except Exception as exc:
        text = str(exc)
        return ("refused" if NEEDS in text else "failed"), f"{type(exc).__name__}: {text}"
    return "ok", ""


def _of_type(annotation: str) -> Any:
    examples = {"str": "x", "int": 1, "float": 1.0, "bool": False}
    for name, example in examples.items():
        if f"'{name}'" in annotation or annotation.startswith(name):
            return example
    return [] if "list" in annotation else {} if "dict" in annotation else "x"
