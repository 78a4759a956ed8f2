"""The data of the feature benchmarks: first prints, revisions, and spines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks import harness
from feature_store import FeatureStore
from mlflow_timescale import db

SESSIONS = 1_000
FEATURES = [f"f{i:02d}" for i in range(20)]
FIRST = pd.Timestamp("2020-01-01 21:00", tz="UTC")
DAY = 86_400_000_000


def frames(entities: int, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    """First prints in long layout, some entities at a time."""
    event = FIRST.value // 1000 + np.arange(SESSIONS) * DAY
    for first in range(0, entities, 50):
        count = min(50, entities - first)
        names = np.array([f"E{first + i:05d}" for i in range(count)])
        shape = (count, len(FEATURES), SESSIONS)
        ingest = event + 4 * 3_600_000_000 + rng.integers(0, 600_000_000, shape)
        yield pd.DataFrame(
            {
                "entity_key": pd.Categorical.from_codes(
                    np.repeat(np.arange(count), len(FEATURES) * SESSIONS), names
                ),
                "feature_name": pd.Categorical.from_codes(
                    np.tile(np.repeat(np.arange(len(FEATURES)), SESSIONS), count), FEATURES
                ),
                "event_time": _times(np.tile(event, count * len(FEATURES))),
                "ingest_time": _times(ingest.ravel()),
                "value": rng.normal(size=shape).ravel(),
            }
        )


def revised(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Revisions of two in a hundred."""
    chosen = frame.sample(frac=0.02, random_state=int(rng.integers(1 << 30)))
    late = pd.to_timedelta(rng.integers(3600, 30 * 86400, len(chosen)), unit="s").as_unit("us")
    return chosen.assign(
        ingest_time=chosen["ingest_time"] + late, value=rng.normal(size=len(chosen))
    )


def spine(entities: int, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Random (entity, as_of) in the time that the data cover."""
    as_of = FIRST.value // 1000 + rng.integers(10 * DAY, SESSIONS * DAY, rows)
    names = np.array([f"E{i:05d}" for i in range(entities)])
    return pd.DataFrame(
        {"entity_key": names[rng.integers(0, entities, rows)], "as_of": _times(as_of)}
    )


def _times(micros: np.ndarray) -> pd.Series:
    return pd.Series(micros.view("M8[us]")).dt.tz_localize("UTC")


def load(store: FeatureStore, entities: int, rng: np.random.Generator) -> None:
    """Write first prints and revisions, and vacuum."""
    rows, taken = 0, 0.0
    for frame in frames(entities, rng):
        for part in (frame, revised(frame, rng)):
            written: list[int] = []
            taken += harness.seconds(
                lambda _: written.append(  # noqa: B023
                    store.write_frame(part, layout="long", ingest_time="ingest_time")  # noqa: B023
                ),
                collect=False,
            )
            rows += sum(written)
    print(f"loaded {rows:,} rows at {rows / taken:,.0f} rows/s")
    with db.connect(store.uri, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE mlops.feature_points")
        conn.execute("VACUUM ANALYZE mlops.feature_series")
