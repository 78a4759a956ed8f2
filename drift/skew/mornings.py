"""The differing cells of each session, as values of the monitor: `skew` alerts follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from mlflow_timescale.db import Database

from ..results.values import Value
from ..serving import memory
from ..strategies import Strategy
from .clock import listed
from .findings import KINDS
from .reconciliation import FeatureSkew, Reconciliation, reconcile

__all__ = ["METRIC", "SessionSkew", "of_sessions", "sentence"]

METRIC = "skew"
TOGETHER = 25  # sessions whose cells are in memory at once
APART = timedelta(days=10)
NAMED = 10  # groups of features in a note: those of one group have the same diagnosis
PATIENCE = 60.0  # seconds for the explanation of the features of a chunk, the worst ones first


@dataclass
class SessionSkew:
    """Values by session, and a sentence for the alert of each session that differs."""

    values: list[Value] = field(default_factory=list)
    notes: dict[tuple[str, date], str] = field(default_factory=dict)


def of_sessions(database: Database, strategy: Strategy, days: Sequence[date]) -> SessionSkew:
    """How many served cells of each session differ from research; nothing where none was served.

    Reads on a connection of its own: the monitor's is in a transaction.
    """
    found = SessionSkew()
    with database.connection() as conn:
        last = memory.last_session(conn, strategy.strategy_id, max(days, default=None))
        removed = memory.removed_before(conn)
        if last is None:
            return found
        kept = [day for day in days if day <= last and (removed is None or day >= removed)]
        for chunk in _chunks(kept):
            result = reconcile(
                conn, strategy, chunk[0], chunk[-1], revisions=False, within=PATIENCE
            )
            _add(found, result, set(chunk))
    return found


def _chunks(days: Sequence[date]) -> Iterator[list[date]]:
    chunk: list[date] = []
    for day in sorted(days):
        if chunk and (len(chunk) == TOGETHER or day - chunk[-1] > APART):
            yield chunk
            chunk = []
        chunk.append(day)
    if chunk:
        yield chunk


def _add(found: SessionSkew, result: Reconciliation, days: set[date]) -> None:
    totals = {day: 0 for day in result.cells_by_session if day in days}
    for feature in result.features:
        for day, count in _wrong(feature).items():
            if day in totals:
                totals[day] += count
                cells = result.cells_by_session[day]
                found.values.append(Value(day, METRIC, feature.feature, float(count), cells, "ok"))
    for day, count in totals.items():
        cells = result.cells_by_session[day]
        found.values.append(Value(day, METRIC, "", float(count), cells, "ok"))
        if count:
            found.notes[METRIC, day] = _note(result, day)


def _wrong(feature: FeatureSkew) -> Mapping[date, int]:
    """By session, the cells of a feature whose value, or whose event time, is wrong."""
    values = feature.by_session if feature.is_fault else {}
    days = {*values, *feature.misdated}
    return {day: values.get(day, 0) + feature.misdated.get(day, 0) for day in sorted(days)}


def _note(result: Reconciliation, day: date) -> str:
    """The features that are wrong in a session, those with most cells first."""
    differing = sorted(
        (feature for feature in result.features if _wrong(feature).get(day)),
        key=lambda feature: -_wrong(feature)[day],
    )
    groups: dict[str, list[str]] = {}
    for feature in differing:
        groups.setdefault(_why(feature, day), []).append(feature.feature)
    parts = [f"{', '.join(names)} {text}" for text, names in list(groups.items())[:NAMED]]
    others = sum(len(names) for names in list(groups.values())[NAMED:])
    return "; ".join(parts) + (f"; and {others} more features" if others else "")


def _why(feature: FeatureSkew, day: date) -> str:
    clocks = listed(feature.clocks) if feature.misdated.get(day) else ""
    return ", and ".join(filter(None, [sentence(feature, day), clocks])) or "differs"


def sentence(feature: FeatureSkew, day: date | None = None) -> str:
    """The diagnosis of one feature in a line: every fault with its cells; of one session, if any.

    >>> from .findings import Finding
    >>> first = date(2024, 4, 18)
    >>> found = Finding("sign", "sign exchanged", {}, 60, 60, 0.0, first, first, 1, 60)
    >>> sentence(FeatureSkew("ret", 60, 60, "the feature store", True, {first: 60}, (found,)))
    'sign exchanged, 60 of 60 cells'
    """
    findings = [f for f in feature.findings if day is None or f.first <= day <= f.last]
    return ", and ".join(
        f"{named(found.kind, found.text)}, {found.cells:,} of {found.differing:,} cells"
        for found in findings
    )


def named(kind: str, text: str) -> str:
    """An explanation with the name of its kind, unless it has it already.

    >>> named("shifted", "value served at t = research value of t-1")
    'shifted: value served at t = research value of t-1'
    >>> named("sign", "sign exchanged")
    'sign exchanged'
    """
    name = KINDS[kind]
    return text if name.split(" ")[0] in text else f"{name}: {text}"
