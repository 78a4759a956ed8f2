"""The text of an explanation: one chapter for each question to which something was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from ..alerts.lifecycle import Alert
from ..skew.findings import Finding
from ..skew.reconciliation import FeatureSkew, Reconciliation
from ..skew.sentences import (
    NOT_INDEPENDENT,
    clock_text,
    counted,
    finding_text,
    percent,
    revision_text,
)
from .causes import Cause, following, shows
from .decisions import Decision
from .evidence import Evidence
from .replay import Replay
from .text import aligned
from .versions import DIFFERS

__all__ = ["Chapter", "Listing", "chapters"]

MOST_FEATURES = 20
MOST_EXAMPLES = 3
MOST_EVENTS = 25
HANDLED = ("acknowledged", "silenced")


@dataclass(frozen=True)
class Listing:
    """A table of texts; `numeric` are columns that stand to the right, `loud` marked rows."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    loud: tuple[int, ...] = ()
    caption: str = ""

    def lines(self) -> list[str]:
        """Aligned columns."""
        caption = [self.caption] if self.caption else []
        return [*caption, *aligned([self.header, *self.rows], self.numeric)]


@dataclass(frozen=True)
class Chapter:
    """One question: its title, sentences, tables, decisions; `picture` is True for one to draw."""

    title: str
    sentences: tuple[str, ...] = ()
    listings: tuple[Listing, ...] = ()
    notes: tuple[str, ...] = ()
    picture: bool = False
    decisions: tuple[Decision, ...] = ()

    def lines(self) -> list[str]:
        """The chapter as text."""
        tables = [line for listing in self.listings for line in listing.lines()]
        return ["", self.title, *self.sentences, *tables, *self.decided(), *self.notes]

    def decided(self) -> list[str]:
        """The decisions as text."""
        numbered = enumerate(self.decisions, start=1)
        return [line for number, decision in numbered for line in _numbered(number, decision)]


def _numbered(number: int, decision: Decision) -> Iterator[str]:
    yield f"{number}. {decision.text}"
    yield f"   because {decision.reason}"
    yield f"   $ {decision.command}"
    if decision.after:
        yield f"     {decision.after}"


def chapters(evidence: Evidence) -> list[Chapter]:
    """The chapters in the order of a reader; only those with something to show."""
    parts = [
        _how_bad(evidence),
        _since_when(evidence),
        _inputs(evidence),
        _versions(evidence),
        _replays(evidence),
        _changes(evidence),
        _decisions(evidence),
        _checked(evidence),
        _unanswered(evidence),
    ]
    return [part for part in parts if part is not None]


def _how_bad(evidence: Evidence) -> Chapter | None:
    if not evidence.causes:
        return None
    listings = [_effects(evidence)] if evidence.effects else []
    causes = evidence.causes if len(evidence.causes) > 1 else ()
    lines = tuple(f"{cause.severity}: {cause.line}{_follows(cause, evidence)}." for cause in causes)
    heading = "What is wrong, and how bad is it?"
    if evidence.faults and not evidence.present:
        heading = "What was wrong, and how bad was it?"
    return Chapter(heading, lines, tuple(listings))


def _follows(cause: Cause, evidence: Evidence) -> str:
    return "; it may follow from the first" if following(cause, evidence.causes) else ""


def _effects(evidence: Evidence) -> Listing:
    is_over = any(effect.after is not None for effect in evidence.effects)
    main = evidence.main
    during = f"since {main.first}" if main and not main.is_over else "during the fault"
    header = ("figure", "before", during, *(["after"] if is_over else []), "")
    rows = []
    for effect in evidence.effects:
        values = (effect.before, effect.during, *([effect.after] if is_over else []))
        rows.append((effect.name, *map(effect.text, values), effect.limit))
    return Listing(header, tuple(rows), tuple(range(1, len(header) - 1)))


def _since_when(evidence: Evidence) -> Chapter | None:
    if evidence.is_healthy:
        return None
    sentences: list[str] = []
    decay = evidence.decay
    if decay is not None:
        low, high = decay.interval
        until = "since" if decay.recovered is None else f"until {decay.recovered}"
        sentences.append(
            f"The IC fell on {decay.first} (95% interval {low} to {high}), beyond doubt on "
            f"{decay.seen}: mean {decay.onset.before:.3f} before, {decay.onset.after:.3f} {until}."
        )
        sentences += [f"What it looks like: {decay.reading}."] if decay.reading else []
    events = sorted(_events(evidence))[:MOST_EVENTS]
    rows = tuple(
        (text, str(first), last or "still so", alert) for first, last, text, alert in events
    )
    listing = Listing(("what", "from", "to", "alert that shows it"), rows)
    return Chapter("Since when?", tuple(sentences), (listing,) if rows else (), picture=True)


def _events(evidence: Evidence) -> Iterator[tuple[date, str, str, str]]:
    """Causes with the alert that shows them, and other alerts that were open during the fault."""
    alerts = [*evidence.alerts, *evidence.resolved]
    for cause in evidence.faults:
        alert = next((alert for alert in alerts if shows(alert, cause)), None)
        yield cause.first, str(cause.last or ""), cause.text, "" if alert is None else _alert(alert)
    for alert in evidence.resolved:
        is_known = any(shows(alert, cause) for cause in evidence.faults)
        if not is_known and evidence.first and alert.last_session >= evidence.first:
            yield alert.session, str(alert.last_session), alert.rule, _alert(alert)


def _alert(alert: Alert) -> str:
    by = f", {alert.state} by {alert.changed_by}" if alert.state in HANDLED else ""
    note = f": {alert.note}" if by and alert.note else ""
    return f"{alert.severity} on {alert.session}{by}{note}"


def _inputs(evidence: Evidence) -> Chapter | None:
    result = evidence.skew
    if result is None or not any(f.differing or f.clocks or f.revised for f in result.features):
        return None
    named = [f for f in result.features if f.differing or f.clocks or f.revised]
    shown = named[:MOST_FEATURES]
    rows: list[tuple[str, ...]] = []
    loud: list[int] = []
    for feature in shown:
        if feature.is_fault or feature.clocks:
            loud.append(len(rows))
        rows += _diagnoses(feature, result)
    right = len(result.features) - len(named)
    rest = f" Every cell of {counted(right, 'other feature')} agrees." if right else ""
    sentence = (
        f"{counted(result.cells, 'cell')} served in {counted(result.sessions, 'session')} for "
        f"{counted(result.entities, 'name')} were compared.{rest}"
    )
    header = ("feature", "matches", "since", "diagnosis")
    listings = [Listing(header, tuple(rows), (1,), tuple(loud))]
    examples = [row for feature in shown for row in _examples(feature)]
    if examples:
        columns = ("feature", "session", "name", "served", "research")
        listings.append(Listing(columns, tuple(examples), (3, 4), caption="For example:"))
    return Chapter(
        "Were the live inputs those of research?", (sentence,), tuple(listings), _sources(result)
    )


def _diagnoses(feature: FeatureSkew, result: Reconciliation) -> list[tuple[str, str, str, str]]:
    lines = [(found.first, finding_text(found, result)) for found in feature.findings]
    lines += [(change.first, clock_text(change)) for change in feature.clocks]
    if feature.revised is not None:
        lines.append((feature.revised.first, revision_text(feature.revised)))
    if not lines:
        lines = [(min(feature.by_session), f"{feature.differing:,} cells differ")]
    names = [(feature.feature, percent(feature)), *[("", "")] * (len(lines) - 1)]
    return [
        (name, share, str(first), text)
        for (name, share), (first, text) in zip(names, lines, strict=True)
    ]


def _examples(feature: FeatureSkew) -> Iterator[tuple[str, ...]]:
    faults: Sequence[Finding] = [found for found in feature.findings if found.is_fault]
    for found in faults[:1]:
        for one in found.examples[:MOST_EXAMPLES]:
            values = (_value(one.served), _value(one.research))
            yield feature.feature, str(one.session), one.entity, *values


def _value(value: float | None) -> str:
    return "no value" if value is None else f"{value:.6g}"


def _sources(result: Reconciliation) -> tuple[str, ...]:
    sources = sorted({feature.source for feature in result.features})
    notes = [f"Compared with {', '.join(sources)}."] if sources else []
    if any(not feature.is_independent for feature in result.features):
        notes.append(NOT_INDEPENDENT)
    if result.not_compared:
        notes.append(f"Not compared, no research has them: {', '.join(result.not_compared)}.")
    return tuple(notes)


def _versions(evidence: Evidence) -> Chapter | None:
    versions = evidence.versions
    if versions is None or (versions.agrees and len(versions.intervals) < 2):
        return None
    rows = [
        (
            part.served or "not named",
            str(part.first),
            str(part.last),
            str(part.sessions),
            _alias(part.alias_version, part.verdict),
            "" if part.mean_ic is None else f"{part.mean_ic:.3f}",
        )
        for part in versions.intervals
    ]
    loud = tuple(i for i, part in enumerate(versions.intervals) if part.verdict == DIFFERS)
    header = ("served", "from", "to", "sessions", versions.alias, "mean IC")
    listing = Listing(header, tuple(rows), (3, 5), loud)
    lines = tuple(versions.sentences())
    return Chapter("Which version ran, and which should have?", lines, (listing,))


def _alias(version: int | None, verdict: str) -> str:
    known = "not known" if version is None else str(version)
    return f"{known} (differs)" if verdict == DIFFERS else known


def _replays(evidence: Evidence) -> Chapter | None:
    replays = [replay for replay in evidence.replays if replay.outcome != "refused"]
    if evidence.is_healthy or not replays:
        return None
    rows = tuple(_replay(replay) for replay in replays)
    loud = tuple(i for i, replay in enumerate(replays) if not replay.agrees)
    header = ("name", "session", "version", "recorded", "replayed", "outcome")
    listings = [Listing(header, rows, (3, 4), loud)]
    if seen := _seen(replays[0], evidence.skew):
        listings.append(seen)
    return Chapter(
        "Does a replay reproduce what was served?", _meaning(evidence, replays), tuple(listings)
    )


def _replay(replay: Replay) -> tuple[str, ...]:
    again = replay.in_request if replay.in_request is not None else replay.alone
    return (
        replay.entity,
        str(replay.session),
        f"{replay.model_name}/{replay.model_version}".strip("/"),
        _value(replay.recorded),
        "" if again is None else _value(again),
        replay.outcome + (f": {replay.reason}" if replay.reason else ""),
    )


def _seen(replay: Replay, skew: Reconciliation | None) -> Listing | None:
    """What the model saw of one prediction, beside what research has, where that is known."""
    research = {
        feature.feature: one.research
        for feature in (skew.features if skew else ())
        for found in feature.findings
        for one in found.examples
        if found.is_fault and (one.entity, one.session) == (replay.entity, replay.session)
    }
    if not research:
        return None
    rows = tuple(
        (
            given.feature,
            _given(given.value),
            _value(research[given.feature]) if given.feature in research else "",
            f"{given.event_time:%Y-%m-%d %H:%MZ}" if given.event_time else "",
        )
        for given in replay.inputs
    )
    loud = tuple(i for i, given in enumerate(replay.inputs) if given.feature in research)
    header = ("feature", "the model saw", "research has", "event time")
    caption = f"What the model saw of {replay.entity} on {replay.session}:"
    return Listing(header, rows, (1, 2), loud, caption)


def _given(value: object) -> str:
    return _value(value) if isinstance(value, float) or value is None else str(value)


def _meaning(evidence: Evidence, replays: Sequence[Replay]) -> tuple[str, ...]:
    if not all(replay.agrees for replay in replays):
        return ()
    kinds = {cause.kind for cause in evidence.faults}
    if kinds & {"skew", "clock"}:
        return ("Yes: the model did what its inputs asked for. The inputs are what is wrong.",)
    if "version" in kinds:
        return ("Yes: each version gives what was recorded. The wrong one was loaded.",)
    return ("Yes: the model gives what was recorded.",)


def _changes(evidence: Evidence) -> Chapter | None:
    movers = evidence.decay.movers if evidence.decay is not None else ()
    if evidence.is_healthy or not (evidence.changes or movers):
        return None
    listings = []
    if evidence.changes:
        rows = tuple((c.kind, str(c.session), c.text) for c in evidence.changes[:MOST_EVENTS])
        listings.append(Listing(("what", "date", "who and why"), rows))
    if movers:
        moved = tuple((m.feature, str(m.first), m.text) for m in movers[:MOST_FEATURES])
        header = ("input", "since", "what")
        listings.append(Listing(header, moved, caption="Inputs that moved near the fall:"))
    return Chapter(f"What changed around {evidence.first}?", (), tuple(listings))


def _decisions(evidence: Evidence) -> Chapter | None:
    if not evidence.decisions:
        return None
    return Chapter("Decisions", decisions=evidence.decisions)


def _checked(evidence: Evidence) -> Chapter | None:
    heading = "What was checked" if evidence.is_healthy else "Checked, and nothing found"
    return Chapter(heading, tuple(evidence.checked)) if evidence.checked else None


def _unanswered(evidence: Evidence) -> Chapter | None:
    lines = tuple(f"{part.question} {part.reason}" for part in evidence.unanswered)
    return Chapter("Not answered", lines) if lines else None
