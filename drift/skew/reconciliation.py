"""Served cells against research: which differ, why, and since when."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np

from mlflow_timescale.common import packages
from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db import Connection
from mlflow_timescale.features import known

from ..serving import memory
from ..strategies import Strategy
from .cells import Floats, same
from .clock import ClockChange, changes, misdated
from .comparing import Comparison, Sources, compare
from .diagnosis import diagnose
from .explaining import Context, cells_of, current
from .findings import Finding
from .research import Research, Texts
from .served import STORE, ServedTable, tables

__all__ = ["FeatureSkew", "Reconciliation", "Revised", "reconcile"]

LATELY = 10 * 86_400_000_000  # µs before the first decision, in which most events lie
EARLIER = 10  # sessions before the range, in which a fault may have begun
stored = packages.attribute("feature_store", "values.stored")

Findings = Mapping[tuple[int, str], tuple[Finding, ...]]  # by the number of a table, and feature


@dataclass(frozen=True)
class Revised:
    """Values that were served right, and are known otherwise today: no fault of serving.

    Attributes
    ----------
    cells, sessions, entities
        How many, in how many sessions, of how many entities.
    first, last
        The first and last session with one.
    median_factor
        The median of the new value over the served one; None where it is not finite.
    known_after
        From the decision to the revision, of one of the cells.
    producer, run_id
        Who wrote that one.
    """

    cells: int
    sessions: int
    entities: int
    first: date
    last: date
    median_factor: float | None
    known_after: timedelta | None = None
    producer: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class FeatureSkew:
    """One feature: how many cells were served, how many differ, and why.

    Attributes
    ----------
    feature
        Its name.
    cells, differing
        Cells served, and those that differ from research.
    source
        What it was compared with.
    is_independent
        False where serving read the same store: a fault of the store itself cannot differ.
    by_session
        Differing cells by session, those without any left out.
    findings
        The diagnosis, the explanation of most cells first; empty without one.
    clocks
        When the event times of what was served left their usual hour.
    revised
        What was revised since; None for nothing, or where it was not looked for.
    misdated
        By session, the cells whose value agrees and whose event time moved in serving alone: the
        store has another one.
    """

    feature: str
    cells: int
    differing: int
    source: str
    is_independent: bool
    by_session: Mapping[date, int]
    findings: tuple[Finding, ...] = ()
    clocks: tuple[ClockChange, ...] = ()
    revised: Revised | None = None
    misdated: Mapping[date, int] = field(default_factory=dict)

    @property
    def matches(self) -> float:
        """The share of the cells that agree with research.

        Examples
        --------
        >>> FeatureSkew("rsi_14", 60, 15, "the feature store", False, {}).matches
        0.75
        """
        return 1 - self.differing / self.cells if self.cells else 1.0

    @property
    def is_fault(self) -> bool:
        """Whether cells differ by a fault; a difference that was not explained counts as one.

        Examples
        --------
        >>> FeatureSkew("rsi_14", 60, 15, "the feature store", False, {}).is_fault
        True
        """
        return self.differing > 0 and not (
            self.findings and all(not found.is_fault for found in self.findings)
        )


@dataclass(frozen=True)
class Reconciliation:
    """What a strategy served from one session to another, against research.

    Attributes
    ----------
    strategy_id, start, end
        The strategy and the range.
    sessions, entities, cells
        How many sessions it served in, for how many entities, and how many cells.
    features
        The features that were compared, in the order in which they are served.
    not_compared
        Features that neither the store nor a registered source has.
    cells_by_session
        Cells served by session.
    """

    strategy_id: str
    start: date
    end: date
    sessions: int
    entities: int
    cells: int
    features: tuple[FeatureSkew, ...]
    not_compared: tuple[str, ...] = ()
    cells_by_session: Mapping[date, int] = field(default_factory=dict)

    @property
    def differing(self) -> int:
        """Cells that differ.

        Examples
        --------
        >>> day = date(2024, 4, 18)
        >>> Reconciliation("momentum", day, day, 0, 0, 0, ()).differing
        0
        """
        return sum(feature.differing for feature in self.features)

    @property
    def agrees(self) -> bool:
        """Whether every cell agrees with research, or differs without a fault of serving.

        Examples
        --------
        >>> day = date(2024, 4, 18)
        >>> Reconciliation("momentum", day, day, 0, 0, 0, ()).agrees
        True
        """
        return not any(feature.is_fault or feature.clocks for feature in self.features)


def reconcile(
    conn: Connection,
    strategy: Strategy,
    start: date,
    end: date,
    *,
    research: Mapping[str, Any] | None = None,
    tolerances: Mapping[str, float] | None = None,
    now: datetime | None = None,
    revisions: bool = True,
    within: float | None = None,
) -> Reconciliation:
    """Compare every cell that a strategy served with research, and explain those that differ.

    Parameters
    ----------
    conn
        In autocommit mode.
    research
        Sources of the right values by feature ("*": of all): a frame, a file or a function as
        `Research` takes it, a FeatureView, or the number of a version. By default the store's
        value as it was known at the decision.
    tolerances
        Relative, by feature ("*": of all), for values that the caller's own code computed.
    now
        The present moment (aware).
    revisions
        Whether to look for values that were revised since.
    within
        Seconds after which no further feature is explained; None for all. Those with most cells
        that differ are the first.
    """
    stored.register(conn)
    moment = now or datetime.now(timezone.utc)
    first = strategy.calendar.session_offset(start, -EARLIER)
    served = tables(memory.served(conn, strategy.strategy_id, first, end))
    sources = Sources.of(
        conn,
        strategy.calendar,
        {**strategy.research, **(research or {})},
        {**strategy.tolerances, **(tolerances or {})},
    )
    texts = Texts()
    compared = [
        compare(conn, part, sources, texts, now=moment if revisions else None)
        for table in served
        if len(part := table.of_sessions(start, end))
    ]
    earlier = {
        number: table.of_sessions(first, strategy.calendar.session_offset(start, -1))
        for number, table in enumerate(
            table for table in served if len(table.of_sessions(start, end))
        )
    }
    context = Context(conn, strategy.calendar, sources, texts, moment, earlier)
    known_now = [_current(context, comparison) if revisions else {} for comparison in compared]
    findings = _explained(compared, context, known_now, within)
    return _result(strategy.strategy_id, (start, end), compared, context, known_now, findings)


def _explained(
    compared: Sequence[Comparison],
    context: Context,
    now: Sequence[Mapping[str, Floats]],
    within: float | None,
) -> Findings:
    """The diagnosis of every feature that differs, by table and name; the worst ones first."""
    counts = {
        (number, name): int(differs.sum())
        for number, comparison in enumerate(compared)
        for name, differs in zip(comparison.features, comparison.differs, strict=True)
        if differs.any()
    }
    begun, findings = time.monotonic(), {}
    for number, name in sorted(counts, key=lambda key: -counts[key]):
        if within is not None and time.monotonic() - begun > within:
            break
        cells = cells_of(context, number, compared[number], name, now[number].get(name))
        findings[number, name] = tuple(diagnose(cells))
    return findings


def _result(
    strategy_id: str,
    span: tuple[date, date],
    compared: Sequence[Comparison],
    context: Context,
    now: Sequence[Mapping[str, Floats]],
    findings: Findings,
) -> Reconciliation:
    parts = [comparison.table for comparison in compared]
    names = {name for part in parts for name in np.unique(part.entities.astype(str)).tolist()}
    features = list(dict.fromkeys(name for part in parts for name in part.features))
    known_names = {name for comparison in compared for name in comparison.features}
    return Reconciliation(
        strategy_id,
        *span,
        len({day for part in parts for day in part.sessions}),
        len(names),
        sum(part.values.size for part in parts),
        tuple(
            _merged(name, list(_of_feature(name, compared, context, now, findings)))
            for name in features
            if name in known_names
        ),
        tuple(name for name in features if name not in known_names),
        _cells_by_session(parts),
    )


def _cells_by_session(tables: Sequence[ServedTable]) -> dict[date, int]:
    cells: dict[date, int] = {}
    for table in tables:
        days, counts = np.unique(table.sessions.astype("datetime64[D]"), return_counts=True)
        for day, count in zip(days.tolist(), counts.tolist(), strict=True):
            cells[day] = cells.get(day, 0) + count * len(table.features)
    return dict(sorted(cells.items()))


def _current(context: Context, comparison: Comparison) -> Mapping[str, Floats]:
    """What is known today of the events of each feature: the recent ones in one pass."""
    events = dict(zip(comparison.features, comparison.events, strict=True))
    known_events = {
        name: of
        for name, of in events.items()
        if name not in comparison.now and (of != MISSING).any()
    }
    start = int(comparison.table.as_of.min()) - LATELY
    recent = {n: of for n, of in known_events.items() if of[of != MISSING].min() > start}
    values = current(context.conn, comparison.table, recent, context.now)
    for name, of in known_events.items():
        if name not in recent:
            values |= current(context.conn, comparison.table, {name: of}, context.now)
    return {**values, **comparison.now}


def _of_feature(
    name: str,
    compared: Sequence[Comparison],
    context: Context,
    now: Sequence[Mapping[str, Floats]],
    findings: Findings,
) -> Iterator[FeatureSkew]:
    """The feature in each table that has it: usually one."""
    for number, comparison in enumerate(compared):
        if name not in comparison.features:
            continue
        i, table = comparison.features.index(name), comparison.table
        differs = comparison.differs[i]
        source = context.sources.of_feature(name)
        is_store = not isinstance(source, Research)
        days, counts = np.unique(
            table.sessions[differs].astype("datetime64[D]"), return_counts=True
        )
        clocks = tuple(changes(name, table, context.earlier.get(number), context.calendar))
        yield FeatureSkew(
            name,
            len(table),
            int(differs.sum()),
            _source_name(source),
            not (table.source == STORE and is_store),
            dict(zip(days.tolist(), counts.tolist(), strict=True)),
            findings.get((number, name), ()),
            clocks,
            _revised(context, comparison, i, now[number].get(name)),
            misdated(comparison, i, clocks),
        )


def _source_name(source: Research | int | None) -> str:
    if isinstance(source, Research):
        return source.name
    return "the feature store" if source is None else f"version {source} in the feature store"


def _merged(name: str, parts: Sequence[FeatureSkew]) -> FeatureSkew:
    """One feature of several tables (its version changed, or two models read it)."""
    by_session: dict[date, int] = {}
    for part in parts:
        for day, count in part.by_session.items():
            by_session[day] = by_session.get(day, 0) + count
    return FeatureSkew(
        name,
        sum(part.cells for part in parts),
        sum(part.differing for part in parts),
        parts[0].source,
        all(part.is_independent for part in parts),
        dict(sorted(by_session.items())),
        tuple(found for part in parts for found in part.findings),
        tuple(change for part in parts for change in part.clocks),
        max((p.revised for p in parts if p.revised), key=lambda r: r.cells, default=None),
        {day: count for part in parts for day, count in part.misdated.items()},
    )


def _revised(
    context: Context, comparison: Comparison, i: int, now: Floats | None
) -> Revised | None:
    """What of the cells that agree is known otherwise today."""
    name, table = comparison.features[i], comparison.table
    if now is None:
        return None
    was = comparison.stored[i]
    changed = ~same(now, was, 0.0) & ~np.isnan(was) & ~np.isnan(now) & ~comparison.differs[i]
    if not changed.any():
        return None
    at = np.flatnonzero(changed)
    days = table.sessions[at]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = float(np.median(now[at] / was[at]))
    one, decided = int(at[0]), from_micros(int(table.as_of[at[0]]))
    revision = known.revision(
        context.conn, str(table.entities[one]), name, int(comparison.events[i][one]), decided
    )
    return Revised(
        len(at),
        len(set(days)),
        len(set(table.entities[at])),
        min(days),
        max(days),
        factor if np.isfinite(factor) else None,
        revision and revision.known_at - decided,
        revision and revision.producer,
        revision and revision.run_id,
    )
