"""What to decide about an incident: from its causes, each decision with its reason and a command.

Pure functions. Nothing is decided or done here: a person weighs what the page recommends.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from ..alerts.lifecycle import Alert
from ..skew.mornings import METRIC as SKEW_METRIC
from .causes import Cause, following

__all__ = ["Circumstances", "Decision", "decisions"]

MOST_ALERTS = 5
NAMED = 3
BEFORE_THE_DECISION = ("written late", "known later", "stale", "version")
CLEAN = "decay of the signal itself"
REACH = 10  # days before the interval of an onset in which a fault may have caused it


@dataclass(frozen=True)
class Decision:
    """One decision: what to do, why, and the command that does or checks it.

    `after` states what the command is for; "" where it is plain.
    """

    text: str
    reason: str
    command: str
    after: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON.

        Examples
        --------
        >>> Decision("retrain", "decay", "mlflow-timescale reproduce gbm/1").to_dict()["reason"]
        'decay'
        """
        return asdict(self)


@dataclass(frozen=True)
class Circumstances:
    """What the commands need: the strategy, its last session, its open alerts, the model."""

    strategy_id: str
    end: date
    now: datetime
    alerts: Sequence[Alert] = ()
    model: str = ""

    def command(self, *words: str) -> str:
        """A command of the strategy.

        >>> from datetime import timezone
        >>> then = datetime(2024, 6, 1, tzinfo=timezone.utc)
        >>> Circumstances("momentum us", date(2024, 5, 31), then).command("incident", "skew")
        "mlflow-timescale incident skew -s 'momentum us'"
        """
        return shlex.join(["mlflow-timescale", *words[:2], "-s", self.strategy_id, *words[2:]])


def decisions(causes: Sequence[Cause], given: Circumstances) -> tuple[Decision, ...]:
    """The decisions that the causes ask for, the first to take first.

    Examples
    --------
    >>> from datetime import timezone
    >>> day, then = date(2024, 4, 18), datetime(2024, 6, 1, tzinfo=timezone.utc)
    >>> late = Cause("skew", "rsi_14", "rsi_14 was served 1 session late", "critical", day, None, 9)
    >>> decisions([late], Circumstances("momentum", date(2024, 5, 31), then))[0].command
    'mlflow-timescale incident skew -s momentum'
    """
    parts = [
        *_inputs(causes, given),
        *_versions(causes, given),
        *_replays(causes),
        *_decay(causes, given),
        *_alerts(causes, given),
        *_past(causes, given),
        *_revisions(causes, given),
    ]
    return tuple({decision.text: decision for decision in parts}.values())


def _of(causes: Sequence[Cause], *kinds: str) -> list[Cause]:
    return [cause for cause in causes if cause.kind in kinds]


def _inputs(causes: Sequence[Cause], given: Circumstances) -> Iterator[Decision]:
    """Repair what is served, and decide whether the strategy trades meanwhile."""
    wrong = [cause for cause in _of(causes, "skew", "clock") if not cause.is_over]
    clocks = {cause.subject for cause in wrong if cause.kind == "clock"}
    skewed = [c for c in wrong if c.kind == "skew" and c.subject not in clocks]
    for cause in skewed[:NAMED]:
        kind = cause.details.get("kind")
        if kind in BEFORE_THE_DECISION:
            lineage = _plain("features", "lineage", cause.subject)
            yield Decision(
                f"Have the job that writes {cause.subject} repaired.", cause.line, lineage,
                "shows who wrote it, when",
            )  # fmt: skip
    repaired = list(dict.fromkeys(cause.subject for cause in skewed))
    if repaired:
        yield Decision(
            f"Have {_listed(repaired)} repaired in the live code, before the next session.",
            "; ".join(dict.fromkeys(cause.line for cause in skewed[:NAMED])),
            given.command("incident", "skew"),
            "has the exit code 0 once served values agree again",
        )
    if clocks:
        moved = [cause for cause in wrong if cause.kind == "clock"]
        reading = moved[0].details.get("reading")
        yield Decision(
            f"Have the time zone corrected in the job that writes {_listed(sorted(clocks))}.",
            moved[0].line + (f": it {reading}" if reading else ""),
            _plain("features", "lineage", moved[0].subject),
            "shows who writes it",
        )
    if any(cause.severity == "critical" for cause in wrong):
        yield _halt(wrong[0], given)


def _halt(cause: Cause, given: Circumstances) -> Decision:
    alert = next((a for a in given.alerts if a.metric == SKEW_METRIC), None)
    text = "Decide whether the strategy trades until then: its inputs are wrong."
    reason = f"{cause.text}; every signal since {cause.first} was made from it"
    if alert is None:
        return Decision(text, reason, given.command("drift", "alerts"), "lists what is open")
    note = f"halted until {cause.subject} is repaired"
    return Decision(
        text,
        reason,
        given.command("drift", "ack", str(alert.alert_id), "--note", note),
        "records the decision; the monitor halts nothing",
    )


def _versions(causes: Sequence[Cause], given: Circumstances) -> Iterator[Decision]:
    for cause in _of(causes, "version"):
        if cause.is_over:
            continue
        details, alias = cause.details, f"{cause.details['model']}@{cause.details['alias']}"
        yield Decision(
            f"Let the live process load version {details['champion']}: restart it, or call "
            f"Serving.refresh().",
            cause.line,
            given.command("incident", "version"),
            "has the exit code 0 once the version that serves is the right one",
        )
        if details.get("moved"):
            rollback = _plain("registry", "rollback", alias, "--reason", "promoted too early")
            yield Decision(
                f"Or let {details['alias']} point back at the version before.",
                f"the alias moved just before {cause.first}",
                rollback,
                "changes the registry; use `registry history` first",
            )
        else:
            yield _why(cause, alias)


def _why(cause: Cause, alias: str) -> Decision:
    moved = (
        f"{cause.details['alias']} moved just before {cause.first}, and the live process kept the "
        f"version before"
        if cause.details.get("moved")
        else f"{cause.details['alias']} did not move around {cause.first}: the live process loaded "
        f"another version by itself"
    )
    return Decision(
        f"Find out why {cause.subject} served.",
        moved,
        _plain("registry", "history", alias),
        "shows who promoted what, and why",
    )


def _replays(causes: Sequence[Cause]) -> Iterator[Decision]:
    for cause in _of(causes, "replay"):
        version = f"{cause.details['model']}/{cause.details['version']}"
        yield Decision(
            f"Check the files of {version}.",
            cause.line,
            _plain("artifacts", "verify", "--version", version),
            "compares every file with its SHA-256",
        )


def _decay(causes: Sequence[Cause], given: Circumstances) -> Iterator[Decision]:
    for cause in _of(causes, "decay"):
        if cause.is_over:
            continue
        fault = _behind(cause, causes)
        if fault is not None:
            yield Decision(
                "Do not retrain yet.",
                f"the IC fell while {fault.text} ({fault.period}): repair that first, and see "
                f"whether the IC comes back",
                given.command("incident", "onset"),
                "shows whether the IC is back",
            )
            continue
        yield from _retraining(cause, given)
        alert = next((a for a in given.alerts if a.metric == "ic"), None)
        if alert is not None:
            yield Decision(
                alert.action,
                f"{alert.rule} is {alert.severity} since {alert.session}",
                given.command("drift", "ack", str(alert.alert_id), "--note", "position cut"),
                "records the decision; the monitor trades nothing",
            )


def _retraining(cause: Cause, given: Circumstances) -> Iterator[Decision]:
    reading = str(cause.details.get("reading", ""))
    if reading and not reading.startswith(CLEAN):
        yield Decision(
            "Look at what changed before you retrain.",
            f"the IC is low since {cause.first}; it looks like {reading}",
            given.command("incident", "onset"),
            "shows what moved and what changed around that day",
        )
    elif given.model:
        yield Decision(
            f"Retrain {given.model.partition('/')[0]}.",
            f"{cause.line}; it looks like {CLEAN}, not of a broken input",
            _plain("reproduce", given.model),
            "shows whether its training can be repeated",
        )


def _behind(decay: Cause, causes: Sequence[Cause]) -> Cause | None:
    """The fault of serving in whose time the IC began to fall."""
    low, high = decay.details["low"], decay.details["high"]
    for cause in _of(causes, "skew", "version", "clock"):
        begins_before = cause.first <= high
        ends_after = cause.last is None or (low - cause.last).days <= REACH
        if begins_before and ends_after and cause.severity == "critical":
            return cause
    return None


def _alerts(causes: Sequence[Cause], given: Circumstances) -> Iterator[Decision]:
    alerts = _of(causes, "alert")
    later = [cause for cause in alerts if following(cause, causes) is not None]
    for cause in [cause for cause in alerts if cause not in later][:MOST_ALERTS]:
        alert_id = cause.details["alert_id"]
        yield Decision(
            str(cause.details["action"] or f"Have {cause.subject} looked at."),
            cause.line,
            given.command("drift", "ack", str(alert_id), "--note", "being looked at"),
            "records that a person handles it",
        )
    if later:
        fault = following(later[0], causes)
        rules = _listed(list(dict.fromkeys(cause.subject for cause in later)))
        yield Decision(
            f"Look at {rules} again once that is repaired.",
            f"it may follow from the fault: {fault.text if fault else ''}",
            given.command("drift", "alerts"),
            "lists what is open",
        )


def _past(causes: Sequence[Cause], given: Circumstances) -> Iterator[Decision]:
    """Sessions of a fault that is over."""
    for cause in _of(causes, "skew", "version", "clock"):
        if cause.is_over and cause.severity == "critical":
            kind = "version" if cause.kind == "version" else "skew"
            yield Decision(
                f"Judge no model by the sessions {cause.first} to {cause.last}, and accept no "
                f"reference that holds them.",
                cause.line,
                given.command("incident", kind, str(cause.first), str(cause.last)),
                "shows them again",
            )
        if cause.is_over and cause.kind == "version":
            alias = f"{cause.details['model']}@{cause.details['alias']}"
            yield _why(cause, alias)


def _revisions(causes: Sequence[Cause], given: Circumstances) -> Iterator[Decision]:
    revised = _of(causes, "revision")
    if revised:
        first = min(cause.first for cause in revised)
        names = list(dict.fromkeys(cause.subject for cause in revised))
        span = (f"{first}T00:00Z", f"{given.now:%Y-%m-%dT%H:%MZ}")
        yield Decision(
            "Decide whether the next training set takes the revised values.",
            f"{_listed(names)} changed after serving, which was right by what was known then",
            _plain("features", "diff", *span, "-f", ",".join(names), "--change", "revised"),
            "lists every revision",
        )


def _plain(*words: str) -> str:
    """A command that takes no strategy."""
    return shlex.join(["mlflow-timescale", *words])


def _listed(names: Sequence[str]) -> str:
    """At most three names, and how many more."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
