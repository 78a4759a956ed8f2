"""A repository may have a `feature_store/` and a `drift/` of its own, before ours on `sys.path`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import foreign_packages

import drift
import feature_store
import mlflow_timescale.drift
import mlflow_timescale.features
from mlflow_timescale.common import packages
from mlflow_timescale.db.uri import DatabaseURI

pytestmark = pytest.mark.slow


def test_ours_work_beside_packages_with_the_same_names(
    database: DatabaseURI, tmp_path: Path
) -> None:
    foreign_packages.write(tmp_path)
    foreign_packages.check(sys.executable, tmp_path, database)


@pytest.mark.parametrize("name", feature_store.__all__)
def test_the_second_name_of_the_feature_store_gives_the_same_objects(name: str) -> None:
    assert getattr(mlflow_timescale.features, name) is getattr(feature_store, name)


@pytest.mark.parametrize("name", drift.__all__)
def test_the_second_name_of_the_monitor_gives_the_same_objects(name: str) -> None:
    assert getattr(mlflow_timescale.drift, name) is getattr(drift, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"mlflow_timescale\.features has no 'FeatureStor'"):
        packages.attribute("feature_store", "FeatureStor")
