"""What the steps of the story share, and how it goes from session to session.

Each part looks first at what the database has already. So a story that was killed goes on where it
was, and one that is complete is shown again within seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mlflow

from mlflow_timescale import ModelRegistry, Serving
from mlflow_timescale.drift import Alert, DriftMonitor
from mlflow_timescale.features import FeatureStore, Snapshot

from . import evening, live, market, registration, research, training
from .market import Market
from .settings import Settings

__all__ = ["Story"]


@dataclass
class Story:
    """What the steps share: the database, the folder of the files, and what they have made.

    Attributes
    ----------
    uri, folder
        The database; the folder for snapshots and pages, which is created.
    at
        Called with a few words on where a long step is.
    """

    uri: str
    folder: Path
    settings: Settings = field(default_factory=Settings)
    at: Callable[[str], Any] = lambda words: None

    def __post_init__(self) -> None:
        mpl.use("Agg")
        self.folder = self.folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(self.uri)

    @cached_property
    def market(self) -> Market:
        """Prices, features and labels."""
        return market.load(self.settings)

    @cached_property
    def store(self) -> FeatureStore:
        """The feature store, with the name of the job that writes."""
        return FeatureStore(self.uri, producer="features of the evening")

    @cached_property
    def registry(self) -> ModelRegistry:
        """The model registry."""
        return ModelRegistry(self.uri)

    @cached_property
    def live(self) -> Serving:
        """Live code: it keeps the version that it has loaded until `refresh()`."""
        name = self.settings.name
        return Serving(self.uri, name, model=f"models:/{name}@champion")

    @cached_property
    def monitor(self) -> DriftMonitor:
        """The monitor without MLflow, where each session becomes a run."""
        monitor = evening.monitor_of(self.uri, self.settings, tracking_uri=False)
        monitor.configure()
        return monitor

    @cached_property
    def snapshot(self) -> Snapshot:
        """The training set of the first models."""
        last = self.settings.test_until
        return self.training_set(last, "training")

    @property
    def experiment_id(self) -> str:
        """The experiment of the models."""
        return str(mlflow.set_experiment(self.settings.name).experiment_id)

    def training_set(self, last: date, name: str) -> Snapshot:
        """What was known at the decision of a session, as Parquet files in a folder."""
        return research.training_set(
            self.store, self.market, self.settings, last, self.folder / name
        )

    @cached_property
    def versions(self) -> dict[str, int]:
        """The first versions, by candidate."""
        settings, until = self.settings, self.settings.train_until
        runs = {
            name: training.train_once(self.snapshot, name, until, settings)
            for name in settings.candidates
        }
        return {
            name: registration.register(self.registry, run_id, settings)
            for name, run_id in runs.items()
        }

    def serve(self, last: date) -> None:
        """Decide every session up to one that is not decided yet."""
        settings, done = self.settings, live.last_decided(self.live)
        for day in self.market.sessions(settings.accepted[0], last):
            if done is not None and day <= done:
                continue
            self.at(f"{day}")
            if settings.fault <= day < settings.repair:
                live.decide_with_late_feature(
                    self.live, self.store, self.market, day, settings.late_feature
                )
            else:
                live.decide(self.live, self.market, day)

    def judge_together(self, last: date) -> None:
        """Judge all sessions up to one that are not judged yet, at once."""
        days = self._unjudged(last)
        if days:
            self.at(f"{days[0]} to {last}")
            self._record_returns(days)
            self.monitor.backfill(days[0], last)

    def judge_each_evening(self, last: date) -> Iterator[Any]:
        """Decide and judge session by session; yield the result of each daily job."""
        for day in self._unjudged(last):
            self.serve(day)
            self._record_returns([day])
            yield evening.judge(self.monitor, self.market, day, tracking_uri=False)

    def alert(self, rule: str) -> Alert | None:
        """The first alert of a rule in live trading, if there was one."""
        first = self.settings.live
        alerts = (alert for alert in self.monitor.alerts() if alert.session >= first)
        return next((alert for alert in alerts if alert.rule == rule), None)

    def _unjudged(self, last: date) -> Sequence[date]:
        days = self.market.sessions(self.settings.accepted[0], last)
        judged = self.monitor.last_session()
        return [day for day in days if judged is None or day > judged]

    def _record_returns(self, days: Sequence[date]) -> None:
        """Record the returns that became known in some sessions: of these, and of some before."""
        all_days = self.market.sessions(self.settings.accepted[0], days[-1])
        decided = all_days[max(0, all_days.index(days[0]) - 4) :]
        close = self.market.closes[days[-1]]
        evening.record_returns(self.monitor, self.live, self.market, decided, close)
