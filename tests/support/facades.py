"""The classes and functions that users hold, and the examples in their docstrings.

An example of a method continues from the examples of its class, which start from `uri`, the URI of
an empty database, in an empty working directory.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any

CLASSES = {
    "ModelRegistry": "mlflow_timescale.registry.model_registry",
    "FeatureStore": "feature_store.store",
    "Snapshot": "feature_store.files.snapshots",
    "Lake": "feature_store.files.lake",
    "DriftMonitor": "drift.monitor",
    "DriftMetrics": "drift.results.drift_metrics",
    "AlertConfig": "drift.results.drift_metrics",
    "Rule": "drift.alerts.rules",
    "Alert": "drift.alerts.lifecycle",
    "FeatureView": "feature_store.catalogue.definitions",
    "SessionRule": "feature_store.write.availability",
    "FeatureValue": "feature_store.read.point_in_time",
    "Serving": "drift.serving.live",
    "Receipt": "drift.serving.live",
}
FUNCTIONS = {
    "artifact_at": "mlflow_timescale.artifacts.versions",
    "artifact_versions": "mlflow_timescale.artifacts.versions",
    "because": "mlflow_timescale.common.attribution",
    "metric_extremes": "mlflow_timescale.tracking.metric_extremes",
    "metrics": "mlflow_timescale.tracking.metric_table",
    "qlib_online": "mlflow_timescale.operations.qlib_online",
    "run_tag_history": "mlflow_timescale.tracking.tag_history",
    "load_snapshot": "feature_store.files.snapshots",
    "forward_returns": "feature_store.write.forward_returns",
    "calculate_ic": "drift.metrics.ic",
    "calculate_psi": "drift.metrics.psi",
    "calculate_sharpe": "drift.metrics.sharpe",
}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PACKAGES = ("mlflow_timescale", "feature_store", "drift")


@dataclass(frozen=True)
class Documented:
    """One public name, its docstring, and the class that it belongs to."""

    name: str
    value: Any
    owner: type | None = None

    @property
    def function(self) -> Any:
        """The function, the getter of a property, or what constructs a class (None: nothing)."""
        for attribute in ("fget", "func", "__func__"):
            if hasattr(self.value, attribute):
                return getattr(self.value, attribute)
        if is_dataclass(self.value):
            return getattr(self.value, "__post_init__", None)
        return self.value.__init__ if isinstance(self.value, type) else self.value

    @property
    def doc(self) -> str:
        return inspect.cleandoc(self.value.__doc__ or "")

    @property
    def parameters(self) -> list[str]:
        """The names to describe; of a data class, its fields."""
        subject = self.value if isinstance(self.value, type) else self.function
        names = list(inspect.signature(subject).parameters)
        return [name for name in names if name not in ("self", "cls")]

    def described(self) -> set[str]:
        """The parameters that the docstring, or the shared part of the class, describes."""
        own = headings(self.doc, "Parameters") | headings(self.doc, "Attributes")
        shared = headings(inspect.getdoc(self.owner) or "", "Shared parameters")
        return own | (shared if self.owner else set())


def documented() -> list[Documented]:
    """Every class, public method, property and function that users hold."""
    return [*_members(), *(Documented(name, _import(name)) for name in FUNCTIONS)]


def _members() -> Iterator[Documented]:
    for name in CLASSES:
        owner = _import(name)
        yield Documented(name, owner)
        for attribute in dir(owner):
            value = inspect.getattr_static(owner, attribute)
            if not attribute.startswith("_") and _is_ours(value, owner):
                yield Documented(f"{name}.{attribute}", value, owner)


def _is_ours(value: Any, owner: type) -> bool:
    function = Documented("", value).function
    module = getattr(function, "__module__", None) or ""
    return inspect.isfunction(function) and module.startswith(PACKAGES) and owner is not None


def _import(name: str) -> Any:
    return getattr(importlib.import_module({**CLASSES, **FUNCTIONS}[name]), name)


def section(doc: str, title: str) -> str:
    """The text under a heading that is underlined with dashes."""
    match = re.search(rf"(?ms)^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", doc)
    return match.group(1) if match else ""


def headings(doc: str, title: str) -> set[str]:
    """The names that a section describes: its lines that are not indented."""
    lines = [line for line in section(doc, title).splitlines() if line and not line[0].isspace()]
    return {name.strip().lstrip("*") for line in lines for name in line.split(",")}


def examples(item: Documented, namespace: dict[str, Any]) -> doctest.DocTest:
    """The examples of an item, with those of its class before them."""
    modules = filter(None, map(inspect.getmodule, (item.function, item.value, item.owner)))
    globs = {name: value for module in modules for name, value in vars(module).items()}
    parser, texts = doctest.DocTestParser(), [item.doc]
    if item.owner is not None and not is_pure(item.owner):
        texts.insert(0, inspect.cleandoc(item.owner.__doc__ or ""))
    return parser.get_doctest("\n\n".join(texts), globs | namespace, item.name, None, 0)


def is_pure(owner: type) -> bool:
    """Whether the examples of a class need no database, so that each stands alone."""
    return "uri" not in section(inspect.cleandoc(owner.__doc__ or ""), "Examples")
