"""The results of all models as table rows, lines of text and JSON; the worst model first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import numpy as np

from mlflow_timescale.common.errors import first_of
from mlflow_timescale.operations.bringing.run_list import ListedRun

from ..alerts.lifecycle import Episode
from ..incidents.onset import Decay
from ..metrics.arrays import Floats
from ..skew.sentences import counted
from .judging import NEWEST, STATES, Judged, Terms
from .recorders import Outcome, title

__all__ = ["HEADER", "Retrospect"]

HEADER = (
    *("model", "state", "decays since", "sessions", "to", "mean IC", "reference IC", "newest IC"),
    *("Sharpe", "PSI of limit", "open alerts"),
)
SERIES = (
    *("ic", "ic_60d_avg", "ic_cusum", "psi", "psi_ratio", "strategy_return", "sharpe_20d"),
    *("sharpe_60d", "n_signals"),
)
_NAMED = 3  # models that the headline names
_ALIKE = 5  # runs that are left out for one reason, from which they share a line
_WORDS = {
    "decayed": ("has decayed", "have decayed"),
    "suspected": ("is suspected to decay", "are suspected to decay"),
    "alert": ("has an open alert", "have an open alert"),
    "recovered": ("fell and is back", "fell and are back"),
    "no skill": ("had no skill in its reference", "had no skill in their references"),
    "healthy": ("is healthy", "are healthy"),
    "too short": ("is too short to judge", "are too short to judge"),
}


@dataclass(frozen=True)
class Retrospect:
    """The models of a source.

    Attributes
    ----------
    source
        The URI or folder that was read, without secrets.
    outcomes
        One for each run.
    terms
        The settings of the judgement.
    why_none
        The reason why there is no run, and what to do; "" if there are runs.
    """

    source: str
    outcomes: tuple[Outcome, ...]
    terms: Terms
    why_none: str = ""

    @cached_property
    def judged(self) -> list[tuple[Outcome, Judged]]:
        """The models that were judged, sorted by state; the largest loss of IC comes first."""
        pairs = [(o, o.judged) for o in self.outcomes if o.judged is not None]
        return sorted(pairs, key=lambda p: (STATES.index(p[1].state), -p[1].lost, p[1].name))

    @cached_property
    def left_out(self) -> list[Outcome]:
        """The runs that could not be judged."""
        return [outcome for outcome in self.outcomes if outcome.judged is None]

    @property
    def counts(self) -> dict[str, int]:
        """The number of models in each state, without states that have none."""
        counts = Counter(judged.state for _, judged in self.judged)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def is_alarming(self) -> bool:
        """Whether a model has decayed, is suspected to, or has an open alert."""
        return any(judged.state in STATES[:3] for _, judged in self.judged)

    @property
    def headline(self) -> str:
        """Which models decayed, and since when, in a sentence or two."""
        if not self.outcomes:
            return f"No model could be judged: {self.why_none or 'there is no run.'}"
        if not self.judged:
            return f"No model could be judged: {counted(len(self.left_out), 'run')} left out."
        total = len(self.judged)
        fallen = [pair for pair in self.judged if pair[1].state == "decayed"]
        if not fallen:
            if total == 1:
                return f"{self._only()} {self._left_out_text()}".strip()
            return f"None of {total:,} models has decayed. {self._others()}".strip()
        named = ", ".join(
            f"{self._name(outcome, judged)} since {judged.fall.first}"
            for outcome, judged in fallen[:_NAMED]
            if judged.fall
        )
        more = f" and {len(fallen) - _NAMED} more" if len(fallen) > _NAMED else ""
        verb = _WORDS["decayed"][len(fallen) > 1]
        text = f"{len(fallen)} of {counted(total, 'model')} {verb}: {named}{more}."
        return f"{text} {self._others()}".strip()

    def _only(self) -> str:
        [(_, judged)] = self.judged
        return f"{judged.name} {_WORDS[judged.state][0]}."

    def _others(self) -> str:
        parts = [
            f"{number} {_WORDS[state][number > 1]}"
            for state, number in self.counts.items()
            if state != "decayed"
        ]
        text = f"{', '.join(parts)}." if parts else ""
        return f"{text} {self._left_out_text()}".strip()

    def _left_out_text(self) -> str:
        return f"{counted(len(self.left_out), 'run')} left out." if self.left_out else ""

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A row for each model, in the order of `HEADER`."""
        for outcome, judged in self.judged:
            yield (
                self.label(outcome, judged),
                judged.state,
                since(judged),
                len(judged.sessions),
                judged.sessions[-1],
                rounded(judged.summary.mean),
                rounded(judged.level.mean if judged.level else None),
                rounded(judged.newest_ic),
                rounded(judged.sharpe, 2),
                rounded(judged.last("psi_ratio"), 2),
                alerts_text(judged.open_alerts),
            )

    @cached_property
    def _repeated(self) -> set[str]:
        names = Counter(judged.name for _, judged in self.judged)
        return {name for name, number in names.items() if number > 1}

    def label(self, outcome: Outcome, judged: Judged) -> str:
        """The name of a model, with its experiment or run id where the name is not unique."""
        text = self._name(outcome, judged)
        if len({o.run.experiment for o in self.outcomes}) > 1:
            text = f"{outcome.run.experiment}/{text}"
        return text

    def _name(self, outcome: Outcome, judged: Judged) -> str:
        """The name, with the run id where several have it: qlib calls all mlflow_recorder."""
        is_unique = judged.name not in self._repeated
        return judged.name if is_unique else f"{judged.name} ({outcome.run.short_id})"

    def notes(self) -> Iterator[str]:
        """One line for each change to the data of a model, and for each run that is left out."""
        for outcome, judged in self.judged:
            for note in judged.notes:
                yield f"{self.label(outcome, judged)}: {note}"
        for reason, runs in self._left_out_by_reason().items():
            if len(runs) > _ALIKE:
                names = first_of([title(run) for run in runs], _NAMED)
                yield f"{counted(len(runs), 'run')} left out: {reason}: {names}"
                continue
            for run in runs:
                known_as = [run.experiment, *({run.short_id} - {title(run)})]
                yield f"{title(run)} ({', '.join(known_as)}): left out: {reason}"

    def _left_out_by_reason(self) -> dict[str, list[ListedRun]]:
        runs: dict[str, list[ListedRun]] = {}
        for outcome in self.left_out:
            runs.setdefault(outcome.reason, []).append(outcome.run)
        return runs

    def conditions(self) -> str:
        """The settings of the judgement, in words."""
        return (
            f"Judged by the rules {self.terms.rules} against the first {self.terms.reference} "
            f"sessions with an IC (rank IC, {self.terms.min_n} names at least); newest: the last "
            f"{NEWEST} sessions; Sharpe: a long-short book that is linear in the ranks, earning "
            f"the labels, {self.terms.periods_per_year:g} periods a year, without costs. In a year "
            "4% of healthy models seem decayed (CUSUM of the IC above 12), 28% suspected (above 8)."
        )

    def to_dict(self) -> dict[str, Any]:
        """All results for JSON, with the values of each session."""
        return {
            "source": self.source,
            "headline": self.headline,
            "counts": self.counts,
            "terms": self.terms,
            "models": [_model(outcome, judged) for outcome, judged in self.judged],
            "left_out": [
                {**_identity(outcome), "reason": outcome.reason} for outcome in self.left_out
            ],
        }


def since(judged: Judged) -> str:
    """The first session of the fall with its 95% interval; "" without one."""
    if judged.fall is None:
        return ""
    low, high = judged.fall.interval
    back = f", back {judged.fall.recovered}" if judged.fall.recovered else ""
    return f"{judged.fall.first} [{low}, {high}]{back}"


def alerts_text(alerts: Sequence[Episode]) -> str:
    """Open alerts with their sessions, the most severe first."""
    return ", ".join(f"{alert.rule.name} {alert.opened}" for alert in alerts)


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A rounded number for a table; None for a missing one."""
    return None if value is None or not np.isfinite(value) else round(value, digits)


def _identity(outcome: Outcome) -> dict[str, Any]:
    run = outcome.run
    started = datetime.fromtimestamp(run.started / 1000, timezone.utc) if run.started else None
    return {
        "run_id": run.run_id,
        "model": title(run),
        "experiment": run.experiment,
        "started": started,
    }


def _model(outcome: Outcome, judged: Judged) -> dict[str, Any]:
    level = judged.level
    return {
        **_identity(outcome),
        "state": judged.state,
        "sessions": len(judged.sessions),
        "start": judged.sessions[0],
        "end": judged.sessions[-1],
        "horizon": judged.horizon,
        "horizon_from": judged.horizon_from,
        "ic_mean": judged.summary.mean,
        "ic_t_newey_west": judged.summary.t_newey_west,
        "ic_newest": judged.newest_ic,
        "reference": judged.reference,
        "ic_reference": level.mean if level else None,
        "sharpe": judged.sharpe,
        "psi": judged.last("psi"),
        "psi_ratio": judged.last("psi_ratio"),
        "decay": judged.fall and _decay(judged.fall),
        "alerts": [_alert(alert) for alert in judged.alerts if not alert.inhibited],
        "notes": list(judged.notes),
        "series": {
            "session": list(judged.sessions),
            **{name: _nullable(judged.values[name]) for name in SERIES},
        },
    }


def _decay(decay: Decay) -> dict[str, Any]:
    return {
        "onset": decay.first,
        "low": decay.interval[0],
        "high": decay.interval[1],
        "alarm": decay.seen,
        "recovered": decay.recovered,
        "before": decay.onset.before,
        "after": decay.onset.after,
    }


def _alert(alert: Episode) -> dict[str, Any]:
    return {
        "rule": alert.rule.name,
        "severity": alert.rule.severity,
        "opened": alert.opened,
        "resolved": alert.resolved,
        "value": alert.value,
        "action": alert.rule.action,
    }


def _nullable(values: Floats) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
