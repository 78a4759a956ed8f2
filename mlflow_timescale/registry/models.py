"""What the registry returns: one version of a model, and a version with its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class ModelInfo:
    """One version of a model.

    Attributes
    ----------
    model_id
        Id of the run behind the version; None for a version that was registered without a run.
    name, version
        The registered model, and the number of the version, from 1.
    strategy_type, description
        As registered; None where they were left out.
    created_at
        When the version was registered (aware).
    """

    model_id: UUID | None
    name: str
    version: int
    strategy_type: str | None
    description: str | None
    created_at: datetime

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> ModelInfo:
        """The version in a row of the queries `models` and `best_model`."""
        name, version, run_id, *rest = row
        return cls(UUID(run_id) if run_id else None, name, version, *rest)


@dataclass(frozen=True)
class ModelWithMetrics:
    """A version and the latest value of each of its metrics.

    Attributes
    ----------
    model
        The version.
    metrics
        By name and data set, such as "sharpe_ratio_test".
    """

    model: ModelInfo
    metrics: dict[str, float]
