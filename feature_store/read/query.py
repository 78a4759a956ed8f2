"""One point-in-time question: which rows and features, as known and written when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from ..catalogue.selection import Features, FeatureSelection, Versions, select
from .spine import EntityColumns, Spine, read_spine


@dataclass(frozen=True)
class PointInTimeQuery:
    """What a training set holds. The arguments are those of `FeatureStore.training_frame`.

    `entity` and `as_of` name columns of the spine. Values with an event_time before
    as_of - max_age are left out, and those that were written after `written_by`.
    """

    features: Features
    entity: EntityColumns = "entity_key"
    as_of: str = "as_of"
    feature_version: Versions = None
    max_age: timedelta | None = None
    written_by: datetime | None = None

    @cached_property
    def selection(self) -> FeatureSelection:
        """The features in order, and their versions. Raises UnknownFeature or FeatureError."""
        return select(self.features, self.feature_version)

    def spine(self, frame: Any) -> Spine:
        """Read a spine: a frame of any kind, or (entity, as_of) pairs.

        Raises InvalidFrame or InvalidTime.
        """
        return read_spine(frame, self.selection.names, self.entity, self.as_of)
