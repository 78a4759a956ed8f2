"""Step 9: back to step 2 with today's data, and a new champion if it is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from mlflow_timescale import ModelRegistry
from mlflow_timescale.features import Snapshot

from .registration import champion, register
from .settings import Settings
from .training import daily_ic, split, train_once


@dataclass(frozen=True)
class Comparison:
    """The ICs on the same test data: of the champion so far, and of each new version."""

    champion: int
    champion_ic: float
    challengers: dict[int, float]

    @property
    def best(self) -> int:
        """The new version with the highest IC."""
        return max(self.challengers, key=self.challengers.__getitem__)


def retrain(registry: ModelRegistry, snapshot: Snapshot, settings: Settings) -> Comparison:
    """Train and register every candidate again, and compare them with the champion.

    All are judged by the sessions after `settings.retrain_until`, which none was trained on.
    """
    runs = [
        train_once(snapshot, name, settings.retrain_until, settings) for name in settings.candidates
    ]
    versions = [register(registry, run_id, settings) for run_id in runs]
    before = _champion_before(registry, versions, settings)
    _, rows = split(snapshot.to_pandas(), settings.retrain_until)
    ics = {
        version: float(daily_ic(registry.load_model(f"{settings.name}/{version}"), rows).mean())
        for version in (before, *versions)
    }
    return Comparison(before, ics.pop(before), ics)


def _champion_before(registry: ModelRegistry, versions: Sequence[int], settings: Settings) -> int:
    """The champion that is no new version: an interrupted story may have moved the alias."""
    present = champion(settings)
    if present not in versions and present is not None:
        return present
    history = registry.alias_history(settings.name, "champion")
    return next(state.version for state in reversed(history) if state.version not in versions)


def promote(
    registry: ModelRegistry, comparison: Comparison, trigger: date, settings: Settings
) -> bool:
    """Make the best new version champion if it is better; return whether it is champion."""
    best, ic = comparison.best, comparison.challengers[comparison.best]
    if ic <= comparison.champion_ic:
        return False
    if champion(settings) != best:
        reason = (
            f"retrained after the alert of {trigger}: IC {ic:.4f} after "
            f"{settings.retrain_until}, version {comparison.champion} {comparison.champion_ic:.4f}"
        )
        registry.set_alias(settings.name, "champion", best, reason=reason)
    return True
