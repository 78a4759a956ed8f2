"""A spool in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_timescale.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", fsync="os")


@pytest.fixture
def small(spool: Spool) -> Spool:
    """A spool whose segments hold two records."""
    spool._segment_bytes = 100
    return spool
