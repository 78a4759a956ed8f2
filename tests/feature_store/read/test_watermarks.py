"""The watermark: what lies at or before it can no longer change."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from support.bitemporal import at

from feature_store.catalogue.series import SeriesWriter
from feature_store.values.points import Points
from feature_store.write.batch import make_batch
from feature_store.write.transaction import WriteSpec, WriteTransaction


def one_point() -> Points:
    return Points(
        ["AAPL"],
        ["slow"],
        np.zeros(1, dtype=np.int32),
        np.zeros(1, dtype=np.int32),
        np.array([0], dtype=np.int64),
        None,
        np.array([1.0]),
    )


def test_a_write_that_commits_late_is_never_at_or_before_a_watermark(store):
    """Stamped before another transaction looks, committed after: the trap of transaction time."""
    store.write_features("AAPL", at(0), {"other": 1.0})
    with store.connection() as slow:
        batch = make_batch(one_point(), SeriesWriter(slow, 1).ids(one_point()))
        with WriteTransaction(slow, WriteSpec()) as transaction:
            transaction.add(batch)
            during = store.watermark()
            assert store.get_latest("AAPL", ["slow"]) == {}
            store.write_features("AAPL", at(1), {"other": 2.0})
            assert store.watermark() <= during + timedelta(seconds=1)
    late = store.get_latest("AAPL", ["slow"])["slow"]
    assert late.ingest_time > during
    assert store.watermark() > late.ingest_time


def test_a_write_that_fails_does_not_hold_the_watermark_back(store):
    with store.connection() as failing:
        batch = make_batch(one_point(), SeriesWriter(failing, 1).ids(one_point()))
        try:
            with WriteTransaction(failing, WriteSpec()) as transaction:
                transaction.add(batch)
                held = store.watermark()
                raise RuntimeError
        except RuntimeError:
            pass
    assert store.watermark() > held + timedelta(microseconds=1)
    assert store.get_latest("AAPL", ["slow"]) == {}


def test_watermarks_never_go_back_without_writers(store):
    marks = [store.watermark() for _ in range(5)]
    assert marks == sorted(marks)
