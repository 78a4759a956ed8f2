"""The quick read of many cells gives what the plans of a training set give."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np

from feature_store import FeatureStore, known
from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db.uri import DatabaseURI

START = datetime(2024, 3, 1, 21, tzinfo=timezone.utc)
NAMES = [f"N{i:02d}" for i in range(60)]
FEATURES = {"daily": 0, "pinned": 2, "rare": 0, "mixed": 0, "text": 0, "absent": 1}


def written(store: FeatureStore) -> None:
    """Daily values with late revisions, two versions, an old value, and texts."""
    rng = np.random.default_rng(3)
    for day in range(12):
        event = START + timedelta(days=day)
        frame = {"entity_key": NAMES, "event_time": [event] * 60}
        lags = rng.exponential(20, size=60).round(3)
        frame["known"] = [event + timedelta(hours=hours) for hours in lags.tolist()]
        values = rng.normal(size=(3, 60)).tolist()
        first = {**frame, "daily": values[0], "pinned": values[1], "mixed": values[1]}
        if day == 0:
            first |= {"rare": values[2], "absent": values[2]}
        if day % 3 == 0:
            first["text"] = ["calm" if value > 0 else "storm" for value in values[2]]
        store.write_frame(first, ingest_time="known")
        revised = [known_at + timedelta(hours=30) for known_at in frame["known"]]
        second = {"entity_key": NAMES, "event_time": frame["event_time"], "known": revised}
        store.write_frame({**second, "daily": values[2]}, ingest_time="known")
        third = {**second, "pinned": values[0], "mixed": values[0]}
        store.write_frame(third, ingest_time="known", feature_version=2)


def test_newest_points_are_those_of_a_training_set(database: DatabaseURI) -> None:
    with FeatureStore(database, producer="job") as store:
        written(store)
        rng = np.random.default_rng(4)
        entities = rng.choice(["unknown", *NAMES], size=400).tolist()
        hours = rng.uniform(0, 400, size=400).round(2).tolist()
        as_of = np.array([to_micros(START + timedelta(hours=hour)) for hour in hours])
        features = {name: version for name, version in FEATURES.items() if name != "absent"}
        with store.connection() as conn:
            quick = known.cells(conn, entities, as_of, features)
            exact = known.exact_cells(conn, entities, as_of, features)
            later = known.written_later(conn, START, START + timedelta(days=99))
    np.testing.assert_array_equal(quick.values, exact.values)
    np.testing.assert_array_equal(quick.events, exact.events)
    assert quick.texts == exact.texts != {}
    assert (exact.events == MISSING).any()
    assert (exact.events != MISSING).any()
    assert later
