"""Steps 1 and 2: features with the time at which they were known, and a training set of them."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from mlflow_timescale.common import packages
from mlflow_timescale.features import FeatureStore, FeatureView, Snapshot, load_snapshot

from .market import DECISION, Market
from .settings import FEATURES, LABEL, Settings

verification = packages.attribute("feature_store", "files.verification")

VIEW = FeatureView(
    "sp500_momentum",
    dict.fromkeys(FEATURES, "number"),
    entity_kind="stock",
    owner="research",
    max_staleness="3 sessions",
    calendar="XNYS",
    code_reference="examples/demo.py",
)


def write_features(store: FeatureStore, market: Market, settings: Settings) -> int:
    """Step 1: store the features, each known an hour after its close; return how many were new.

    The lag is an assumption about the vendor, and the store marks it as one. Values that are stored
    already are skipped.
    """
    store.register(VIEW)
    rows = market.features
    rows = rows[rows["event_time"].dt.date >= settings.first_session]
    return store.write_frame(rows, view=VIEW.name, availability_lag=timedelta(hours=1))


def training_set(
    store: FeatureStore, market: Market, settings: Settings, last: date, folder: Path
) -> Snapshot:
    """Step 2: what was known at every decision, and the return that followed, as Parquet files.

    Returns that were not known at the decision of session `last` are left out. A snapshot is
    written once: one that is complete is opened, if the database gives the same rows again.
    """
    if folder.exists():
        verification.verify(folder, store.database)
        return load_snapshot(folder, verify=False)
    labels = market.labels[market.labels["session"] >= settings.first_session]
    known = labels[labels["known_at"] <= pd.Timestamp(market.decision_time(last))]
    spine = known[["entity_key", LABEL, "known_at"]].assign(as_of=known["event_time"] + DECISION)
    return store.snapshot(spine, VIEW, folder, partition="year")
