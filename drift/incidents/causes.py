"""What is wrong, one line for each cause: from the answers to the questions, with the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ..alerts.lifecycle import Alert
from ..alerts.rules import SEVERITIES
from ..computation.served_version import METRIC as VERSION_METRIC
from ..skew.clock import ClockChange, signed
from ..skew.findings import Finding
from ..skew.mornings import METRIC as SKEW_METRIC
from ..skew.mornings import named
from ..skew.reconciliation import FeatureSkew, Reconciliation
from ..skew.sentences import clock_text, counted, finding_text, revision_text
from .answers import Answers
from .onset import Decay
from .replay import OUTCOMES, Replay
from .versions import DIFFERS, ServedVersions

__all__ = ["CHANGED", "NOTE", "Cause", "following", "main", "of_answers", "ordered", "shows"]

NOTE = "note"  # below a warning: nothing has to be repaired
HARMLESS = ("rounded",)
CHANGED = ("other checksum", "changed files")  # the obstacles that are faults themselves
SERVING = ("skew", "clock", "version", "replay")  # faults that others follow from
# The metric of the alerts that show a kind of cause.
BEHIND = {"skew": SKEW_METRIC, "version": VERSION_METRIC, "decay": "ic", "clock": "clock_shift"}


@dataclass(frozen=True)
class Cause:
    """One thing that is or was wrong.

    Attributes
    ----------
    kind
        "skew", "clock", "revision", "version", "replay", "decay" or "alert".
    subject
        The feature, the version that served, the prediction, or the rule of the alert.
    text
        In words, without the sessions.
    severity
        "note", "warning", "critical" or "emergency".
    first, last
        The first session, and the last one; `last` is None while it holds in the last session.
    sessions
        In how many sessions; 0 where they are not counted.
    evidence
        What shows it.
    details
        Its numbers, for the decisions.
    is_cut
        Whether it may have begun before the sessions that were looked at.

    Examples
    --------
    >>> day = date(2024, 4, 18)
    >>> Cause("skew", "rsi_14", "rsi_14 was served 1 session late", "critical", day, None, 31).line
    'rsi_14 was served 1 session late, since 2024-04-18 (31 sessions, still so)'
    """

    kind: str
    subject: str
    text: str
    severity: str
    first: date
    last: date | None
    sessions: int
    evidence: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    is_cut: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it does not hold any more in the last session."""
        return self.last is not None

    @property
    def line(self) -> str:
        """The text with its sessions."""
        return f"{self.text}, {self.period}"

    @property
    def period(self) -> str:
        """Since when, until when, in how many sessions."""
        counts = [counted(self.sessions, "session")] if self.sessions > 1 else []
        first = f"{self.first} or earlier" if self.is_cut else str(self.first)
        if self.last is None:
            still = ["still so"] if self.sessions != 1 else []
            return f"since {first}{_bracket([*counts, *still])}"
        if self.first == self.last:
            return f"on {self.first}"
        return f"from {first} to {self.last}{_bracket(counts)}"


def _bracket(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def ordered(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """What still holds first, faults of serving before what follows from them, then the worse."""
    kinds = (*SERVING, "decay", "alert", "revision")

    def place(cause: Cause) -> tuple[bool, bool, int, int, date]:
        is_fault = cause.kind in SERVING and loudness(cause.severity) >= loudness("critical")
        position = kinds.index(cause.kind)
        return cause.is_over, not is_fault, -loudness(cause.severity), position, cause.first

    return tuple(sorted(causes, key=place))


def loudness(severity: str) -> int:
    """Severities in order, a note below all.

    >>> loudness("note") < loudness("warning") < loudness("critical") < loudness("emergency")
    True
    """
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1


def main(causes: Iterable[Cause]) -> Cause | None:
    """The first fault of ordered causes; None if there are only notes."""
    return next((cause for cause in causes if cause.severity != NOTE), None)


def following(alert: Cause, causes: Iterable[Cause]) -> Cause | None:
    """The fault of serving that began before an alert did, and holds; None for none."""
    for cause in causes:
        if cause.kind in SERVING and not cause.is_over and cause.first <= alert.first:
            return cause if alert.kind == "alert" else None
    return None


def of_answers(answers: Answers) -> tuple[Cause, ...]:
    """All causes, in order."""
    found: list[Cause] = []
    if answers.skew is not None:
        found += of_skew(answers.skew)
    if answers.versions is not None:
        found += of_versions(answers.versions)
    found += of_replays(answers.replays)
    if answers.decay is not None:
        found.append(of_decay(answers.decay, answers.alerts))
    found += of_alerts(answers.alerts, found)
    return ordered(found)


def of_skew(result: Reconciliation) -> Iterator[Cause]:
    """Features whose served values, or clocks, are not those of research."""
    days = result.cells_by_session
    span = min(days, default=result.start), max(days, default=result.end)
    for feature in result.features:
        yield from _of_feature(feature, result, span)
        for change in feature.clocks:
            yield _of_clock(feature, change, span)
        if feature.revised is not None:
            yield Cause(
                "revision",
                feature.feature,
                f"{feature.feature} was revised after it was served",
                NOTE,
                feature.revised.first,
                feature.revised.last,
                feature.revised.sessions,
                (revision_text(feature.revised),),
            )


def _of_feature(
    feature: FeatureSkew, result: Reconciliation, span: tuple[date, date]
) -> Iterator[Cause]:
    for found in feature.findings:
        yield Cause(
            "skew" if found.is_fault else "revision",
            feature.feature,
            f"{feature.feature} {_served(found)}",
            _severity(found),
            found.first,
            None if found.last >= span[1] else found.last,
            found.sessions,
            (finding_text(found, result),),
            {"kind": found.kind, "source": feature.source, **found.parameters},
            found.first <= span[0],
        )
    if feature.differing and not feature.findings:
        days = sorted(feature.by_session)
        yield Cause(
            "skew",
            feature.feature,
            f"{feature.feature} differs from research",
            "critical",
            days[0],
            None if days[-1] >= span[1] else days[-1],
            len(days),
            (f"{feature.differing:,} of {feature.cells:,} cells differ",),
            {"kind": "unexplained", "source": feature.source},
            days[0] <= span[0],
        )


def _severity(found: Finding) -> str:
    if not found.is_fault:
        return NOTE
    return "warning" if found.kind in HARMLESS else "critical"


def _served(found: Finding) -> str:
    """A kind of fault in the words of a person who knows no cells."""
    if found.kind == "shifted":
        sessions = int(found.parameters["sessions"])
        late = "late" if sessions > 0 else "early, which is look-ahead"
        return f"was served {counted(abs(sessions), 'session')} {late}"
    plain = {
        "stale": f"was served with old values ({found.text})",
        "sign": "was served with the opposite sign",
        "scaled": f"was served in another unit ({found.text})",
        "offset": f"was served with {found.text} added",
        "affine": f"was served as {found.text}",
        "standardised": f"was served as {found.text}",
        "rounded": f"was served with less precision ({found.text})",
        "missing": "was not served where research has a value",
        "filled": f"was served with invented values ({found.text})",
        "clipped": f"was served {found.text}",
        "entities": f"was served with values of other names ({found.text})",
        "column": f"was served with the {found.text}",
        "version": f"was served from {found.text} of its definition",
        "written late": "was written after the decision, and dated before it",
        "known later": "was served with values that were known only after the decision",
        "revised": "was revised after it was served",
        "unexplained": "differs from research, and no explanation fits",
    }
    return plain.get(found.kind, f"was served wrong: {named(found.kind, found.text)}")


def _of_clock(feature: FeatureSkew, change: ClockChange, span: tuple[date, date]) -> Cause:
    return Cause(
        "clock",
        feature.feature,
        f"the event times of {feature.feature} moved by {signed(change.moved)}",
        "critical",
        change.first,
        None if change.last >= span[1] else change.last,
        change.sessions,
        (clock_text(change),),
        {"reading": change.reading},
    )


def of_versions(versions: ServedVersions) -> Iterator[Cause]:
    """Versions that served while the alias pointed at another one."""
    end = max((part.last for part in versions.intervals), default=versions.end)
    for part in versions.intervals:
        if part.verdict != DIFFERS:
            continue
        should = f"{versions.alias} was {part.alias_version}"
        yield Cause(
            "version",
            part.served,
            f"{part.served} served while {should}",
            "critical",
            part.first,
            None if part.last >= end else part.last,
            part.sessions,
            tuple(_ic_of(part.mean_ic, part.n_ic)),
            {
                "model": part.model_name,
                "version": part.model_version,
                "alias": versions.alias,
                "champion": part.alias_version,
                "moved": _moved(versions, part.first),
            },
            part is versions.intervals[0],
        )


def _ic_of(mean: float | None, sessions: int) -> Iterator[str]:
    if mean is not None:
        yield f"mean IC {mean:.3f} in {counted(sessions, 'session')}"


def _moved(versions: ServedVersions, first: date) -> bool:
    """Whether the alias moved within five days before a session: then serving did not follow."""
    return any(0 <= (first - move.since.date()).days <= 5 for move in versions.moves)


def of_replays(replays: Iterable[Replay]) -> Iterator[Cause]:
    """Predictions whose model gives another output today, or whose files are not those of then."""
    for replay in replays:
        if replay.outcome == "differs" or replay.obstacle in CHANGED:
            version = f"{replay.model_name}/{replay.model_version}"
            what = "does not give the output that was recorded for"
            if replay.obstacle in CHANGED:
                what = "has other files than when it predicted"
            yield Cause(
                "replay",
                version,
                f"{version} {what} {replay.entity}",
                "critical",
                replay.session,
                None,
                1,
                (replay.reason or OUTCOMES[replay.outcome],),
                {"model": replay.model_name, "version": replay.model_version},
            )


def of_decay(decay: Decay, alerts: Sequence[Alert]) -> Cause:
    """The fall of the IC."""
    rules = [alert for alert in alerts if alert.metric == "ic" and alert.session >= decay.first]
    worst = max((alert.severity for alert in rules), key=loudness, default="warning")
    low, high = decay.interval
    verb = "has been" if decay.recovered is None else "was"
    return Cause(
        "decay",
        "IC",
        f"the IC {verb} low ({decay.onset.after:.3f}, before {decay.onset.before:.3f})",
        worst,
        decay.first,
        decay.recovered,
        0,
        (f"first bad session {decay.first} [{low}, {high}], beyond doubt on {decay.seen}",),
        {"low": low, "high": high, "reading": decay.reading},
    )


def shows(alert: Alert, cause: Cause) -> bool:
    """Whether an alert is about a cause: of its kind, and open in its time."""
    if cause.kind == "alert":
        return alert.alert_id == cause.details.get("alert_id")
    is_of_its_kind = alert.metric == BEHIND.get(cause.kind)
    overlaps = cause.last is None or alert.session <= cause.last
    return is_of_its_kind and overlaps and alert.last_session >= cause.first


def of_alerts(alerts: Iterable[Alert], causes: Sequence[Cause]) -> Iterator[Cause]:
    """Open alerts that no other cause stands behind."""
    for alert in alerts:
        if not alert.inhibited and not any(shows(alert, cause) for cause in causes):
            value = f"{alert.metric} {alert.value:.4g}" if alert.value is not None else alert.metric
            yield Cause(
                "alert",
                alert.rule,
                f"{alert.rule}: {alert.note}" if alert.note else alert.rule,
                alert.severity,
                alert.session,
                None,
                0,
                (f"{value} on {alert.session}",),
                {"action": alert.action, "alert_id": alert.alert_id},
            )
