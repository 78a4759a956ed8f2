"""One database for all tests of a module; each test has features and a strategy of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from drift import DriftMonitor, Serving
from drift.serving import reading
from drift.serving.requests import (
    Origin,
    Request,
    SignalName,
    decision_times,
    new_request_id,
)
from drift.skew.reconciliation import Reconciliation
from feature_store import FeatureStore
from mlflow_timescale.db.uri import DatabaseURI

NAMES = [f"N{i:02d}" for i in range(12)]
SIGNALS = [0.1 * i for i in range(len(NAMES))]
HOUR = timedelta(hours=1)


@dataclass
class Desk:
    """A strategy whose features are in the store, and what its live code records.

    `values` has shape (days, names) for each feature; an event happens at the close of the session
    before, is known an hour later, and the decision is made an hour before the close.
    """

    uri: DatabaseURI
    strategy: str
    days: list[date]
    monitor: DriftMonitor
    store: FeatureStore
    live: Serving
    values: dict[str, Any] = field(default_factory=dict)

    def event(self, day: date) -> datetime:
        return self.monitor.calendar.session_close(self.monitor.calendar.previous_session(day))

    def decision(self, day: date) -> datetime:
        return self.monitor.calendar.session_close(day) - HOUR

    def write(self, day: int, values: dict[str, Any] | None = None, **options: Any) -> None:
        """Write the features of a session, known an hour after the event unless `known` differs."""
        event = options.pop("event", self.event(self.days[day]))
        known = options.pop("known", event + HOUR)
        rows = values or {name: matrix[day] for name, matrix in self.values.items()}
        self._write([(event, known, rows)], **options)

    def write_all(self) -> None:
        """Write the features of all sessions."""
        self._write(
            [
                (self.event(day), self.event(day) + HOUR, {n: m[i] for n, m in self.values.items()})
                for i, day in enumerate(self.days)
            ]
        )

    def _write(
        self, parts: list[tuple[datetime, datetime, dict[str, Any]]], **options: Any
    ) -> None:
        frame = {
            "entity_key": NAMES * len(parts),
            "event_time": [event for event, _, _ in parts for _ in NAMES],
            "known": [known for _, known, _ in parts for _ in NAMES],
        }
        for name in parts[0][2]:
            frame[name] = np.concatenate([np.asarray(rows[name]) for _, _, rows in parts]).tolist()
        self.store.write_frame(frame, ingest_time="known", **options)

    def serve(
        self, day: int, changed: dict[str, Any] | None = None, *, late: timedelta = timedelta(0)
    ) -> None:
        """Record what own code served: the right values, with some changed; events `late`."""
        rows = {name: matrix[day] for name, matrix in self.values.items()} | (changed or {})
        self.live.record(
            NAMES,
            features={name: np.asarray(row).tolist() for name, row in rows.items()},
            output=SIGNALS,
            as_of=self.decision(self.days[day]),
            event_times=self.event(self.days[day]) + late,
        )

    def serve_from_store(self, day: int, view: Any = None, **options: Any) -> None:
        """Record features as `Serving.predict` reads them, without a model."""
        features = list(self.values)
        selected = features if view is None else [view]
        options = {"max_staleness": "view", **options}
        cells, moment = reading.latest_cells(
            self.store, NAMES, selected, features, self.decision(self.days[day]), options
        )
        if view is not None:
            options["views"] = f"{view.name}/{view.version}"
        request = Request(
            signal=SignalName(self.strategy, "signal", 1, "gbm", "7"),
            origin=Origin(),
            request_id=new_request_id(),
            entities=tuple(NAMES),
            as_of=decision_times(moment, NAMES),
            outputs=np.array(SIGNALS),
            cells=cells,
            source="store",
            reading=reading.described(options),
        )
        self.live._store(request)

    def reconcile(self, start: int, end: int, **options: Any) -> Reconciliation:
        return self.monitor.reconcile(self.days[start], self.days[end], **options)


@pytest.fixture(scope="module")
def skew_database(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[DatabaseURI]:
    with new_database() as uri:
        yield uri


@pytest.fixture
def desk(skew_database: DatabaseURI) -> Iterator[Desk]:
    """Thirty sessions of two features, written; nothing served yet."""
    name = uuid.uuid4().hex[:6]
    strategy = f"momentum {name}"
    monitor = DriftMonitor(skew_database, strategy, tracking_uri=False, notify=())
    monitor.configure(min_n=5)
    days = monitor.calendar.sessions_in_range(date(2024, 3, 1), date(2024, 6, 1))[:20]
    rng = np.random.default_rng(7)
    store = FeatureStore(skew_database, producer="feature job", producer_version="1")
    live = Serving(skew_database, strategy, model_name="gbm", model_version="7")
    desk = Desk(skew_database, strategy, days, monitor, store, live)
    for feature in ("rsi", "ret"):
        desk.values[f"{feature} {name}"] = rng.normal(size=(len(days), len(NAMES)))
    desk.write_all()
    yield desk
    live.close()
    store.close()


@pytest.fixture
def rsi(desk: Desk) -> str:
    return next(name for name in desk.values if name.startswith("rsi"))
