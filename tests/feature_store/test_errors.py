"""`FeatureError` is the one base of what the feature store refuses."""

from __future__ import annotations

import pytest

import feature_store
from feature_store import FeatureError


@pytest.mark.parametrize(
    "name",
    [
        "ConflictingValues",
        "DefinitionError",
        "InvalidFrame",
        "InvalidTime",
        "InvalidValue",
        "UnknownCalendar",
        "UnknownFeature",
        "WriteContention",
    ],
)
def test_every_error_of_the_feature_store_is_a_feature_error(name: str) -> None:
    assert issubclass(getattr(feature_store, name), FeatureError)
