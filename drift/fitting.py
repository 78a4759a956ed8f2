"""Fitting the distributions of a window that is being accepted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from drift import features, pipeline
from drift.computing import PREDICTIONS
from drift.judging import Config
from drift.metrics import psi
from drift.observed import Observed
from drift.sessions import Sessions
from mlflow_timescale.db import Connection

GROUP = 20  # features read at once: a window of some is held in memory, never of all


def distributions(
    conn: Connection, config: Config, calendar: Sessions, seen: Sequence[Observed], bins: int
) -> Iterator[tuple[str, psi.Reference]]:
    """The reference of the predictions and of every feature, with its day-to-day variation."""
    said = {o.session: o.primary.values for o in seen if o.primary is not None}
    if said:
        yield PREDICTIONS, _fit(said, bins)
    if config.features == () or not features.exist(conn):
        return
    windows = [pipeline.window(observed, calendar) for observed in seen]
    names = features.names(conn) if config.features is None else list(config.features)
    for start in range(0, len(names), GROUP):
        for sample in features.samples(conn, windows, names[start : start + GROUP]):
            yield sample.feature, _fit(sample.values, bins)


def _fit(by_session: dict[date, NDArray[np.float64]], bins: int) -> psi.Reference:
    pooled = np.concatenate(list(by_session.values()))
    days = np.repeat(np.arange(len(by_session)), [len(v) for v in by_session.values()])
    return psi.fit(pooled, bins, days=days)
