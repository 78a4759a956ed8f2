"""fork() after MLflow's stores were used: parent and children, readers and writers, all at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from mlflow.entities import Metric

from feature_store import FeatureStore
from mlflow_timescale.artifacts.in_database import InDatabaseArtifacts
from mlflow_timescale.db import DatabaseURI
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore
