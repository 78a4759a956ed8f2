"""One computation: read what some sessions know, work out their values, judge them, keep it all.

`compute` only reads; `store` writes all of it or nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta

import numpy as np

from mlflow_timescale.common.errors import first_of
from mlflow_timescale.db import Connection, load, rows

from ..alerts import lifecycle
from ..inputs import feature_values
from ..inputs.champions import Champions
from ..inputs.feed_quality import EARLIER
from ..inputs.signals_and_returns import Observed
from ..metrics.arrays import Counts
from ..metrics.buckets import count
from ..metrics.psi import POOLED_SESSIONS, Reference
from ..results import values
from ..results.references import AcceptedWindow, References
from ..results.values import Run, Value
from ..skew.mornings import SessionSkew
from ..strategies import Strategy
from . import clocks, due_returns, feed_values, input_checks, series_values, session_values
from .computed import ComputedSessions
from .lateness import earlier_sessions
from .observing import as_of, observe_all, signal_section, window
from .served_version import served_version
from .session_values import PREDICTIONS, Histograms
from .universe import Universe

_queries = load("drift")

CHUNK = 25  # sessions whose features are in memory at once
APART = timedelta(days=10)


def compute(
    conn: Connection,
    strategy: Strategy,
    days: Sequence[date],
    *,
    only_returns: Sequence[date] = (),
    skew: Callable[[Sequence[date]], SessionSkew] | None = None,
) -> ComputedSessions:
    """Compute `days` (sessions in order), and the values of later sessions that depend on them.

    On the days in `only_returns` only returns have changed: their features are not read again.
    `skew` compares what was served in some sessions with research.
    """
    # Before anything else is read: recorders do not wait, and mark what this computation misses.
    marks = rows.scalars(conn, _queries.stale_marks, {"strategy_id": strategy.strategy_id})
    batch, champions = ComputedSessions(days, marks), Champions(conn)
    references = References(conn, strategy.strategy_id)
    universe = Universe(conn, strategy, references)
    for chunk in _chunks(days):
        observations = observe_all(conn, strategy, chunk, champions)
        for observed in observations:
            batch.values += universe.of_session(observed, batch)
            batch.values += session_values.of_session(observed, strategy.min_n)
            _explain_names(observed, strategy, batch)
        checks = list(_checks(conn, strategy, observations, champions))
        batch.values += checks
        batch.values += _withdrawn(conn, strategy, checks, [d for d in chunk if d in only_returns])
        complete = [observed for observed in observations if observed.session not in only_returns]
        for observed in complete:
            _compare_versions(observed, strategy, champions, batch)
        if references and complete:
            batch.values += _feature_values(conn, strategy, references, complete, batch)
        batch.runs += _runs(strategy, complete, batch.values)
    if skew is not None:
        found = skew([day for day in days if day not in only_returns])
        batch.values += found.values
        batch.notes |= found.notes
    series_values.follow(conn, strategy, references, batch)
    return batch


def _explain_names(observed: Observed, strategy: Strategy, batch: ComputedSessions) -> None:
    if observed.primary is None and observed.signals:
        wanted = (strategy.signal, strategy.model_name, strategy.model_version)
        others = {
            (signal.name, signal.model_name, signal.model_version) for signal in observed.signals
        }
        listed = first_of(["/".join(filter(None, each)) for each in sorted(others)], 3)
        text = f"none of {'/'.join(filter(None, wanted))}, but of {listed}"
        batch.note("n_signals", observed.session, text)
    few = next((v for v in reversed(batch.values) if v.metric == "few_names"), None)
    if few is not None and few.session == observed.session and few.value:
        text = f"{few.n} names, and an IC needs min_n {strategy.min_n}"
        batch.notes["few_names", observed.session] = text


def _compare_versions(
    observed: Observed, strategy: Strategy, champions: Champions, batch: ComputedSessions
) -> None:
    value, note = served_version(observed, champions, strategy.calendar)
    batch.values.append(value)
    if note:
        batch.notes[value.metric, value.session] = note


def _checks(
    conn: Connection,
    strategy: Strategy,
    observations: Sequence[Observed],
    champions: Champions,
) -> Iterator[Value]:
    by_session = {observed.session: observed for observed in observations}

    def names(numbers: list[int]) -> dict[int, str]:
        return dict(conn.execute(_queries.entity_names, {"entity_ids": numbers}).fetchall())

    for observed in observations:
        day = strategy.calendar.previous_session(observed.session)
        before = by_session.get(day) or observe_all(conn, strategy, [day], champions)[0]
        yield from input_checks.of_session(observed, before, strategy.min_n, names)
        yield from due_returns.of_session(observed, before)


def _withdrawn(
    conn: Connection, strategy: Strategy, checks: Sequence[Value], days: Sequence[date]
) -> Iterator[Value]:
    """The implausible returns of `days` that a revision has replaced.

    A session of which only returns were read again keeps the other values that it has.
    """
    if not days:
        return
    kept = {(v.session, v.metric, v.dimension) for v in checks}
    row = (strategy.strategy_id, days[0], days[-1], ["implausible_return"])
    for v in values.of_sessions(conn, *row):
        if v.session in days and (v.session, v.metric, v.dimension) not in kept:
            yield Value(v.session, v.metric, v.dimension, None, 0, "withdrawn")


def _chunks(days: Sequence[date]) -> Iterator[list[date]]:
    """Small, contiguous chunks: reading one reads every row between its first and last day."""
    chunk: list[date] = []
    for day in days:
        if chunk and (len(chunk) == CHUNK or day - chunk[-1] > APART):
            yield chunk
            chunk = []
        chunk.append(day)
    if chunk:
        yield chunk


def store(conn: Connection, strategy: Strategy, batch: ComputedSessions) -> list[date]:
    """Keep a batch, and bring the alerts to what was found; return the sessions that changed."""
    row = {"strategy_id": strategy.strategy_id}
    if batch.runs:
        conn.execute(_queries.anchor_strategy, {**row, "session": batch.runs[0].session})
    changed = values.save(conn, strategy.strategy_id, batch.values, batch.runs)
    renumber(conn, strategy)
    _store_histograms(conn, strategy, batch)
    batch.feeds.save(conn, strategy.strategy_id)
    lifecycle.reconcile(
        conn,
        strategy.strategy_id,
        batch.episodes,
        strategy.calendar,
        batch.judged_after,
        note=lambda episode: series_values.note(episode, batch),
    )
    cleared = {"sessions": list(batch.days), "marks": list(batch.marks)}
    conn.execute(_queries.clear_stale, {**row, **cleared})
    return changed


def _store_histograms(conn: Connection, strategy: Strategy, batch: ComputedSessions) -> None:
    rows = [
        {
            "strategy_id": strategy.strategy_id,
            "session": session,
            "reference_id": reference_id,
            "dimension": name,
            "counts": counts.tolist(),
        }
        for session, reference_id, name, counts in batch.histograms
    ]
    with conn.cursor() as cursor:
        cursor.executemany(_queries.save_histogram, rows)


def renumber(conn: Connection, strategy: Strategy) -> None:
    """Number the sessions from the earliest one computed: their steps in MLflow."""
    runs = values.runs(conn, strategy.strategy_id)
    if not runs:
        return
    sessions = strategy.calendar.sessions_in_range(runs[0].session, runs[-1].session)
    numbers = {session: number for number, session in enumerate(sessions)}
    changed = {
        run.session: numbers[run.session]
        for run in runs
        if run.session in numbers and numbers[run.session] != run.session_number
    }
    if changed:
        row = {"strategy_id": strategy.strategy_id, "sessions": list(changed)}
        conn.execute(_queries.renumber_runs, {**row, "numbers": list(changed.values())})


def _runs(
    strategy: Strategy, observations: Sequence[Observed], found: Sequence[Value]
) -> list[Run]:
    with_data = {v.session for v in found if v.metric in ("n_signals", "n_features") and v.value}
    return [
        Run(
            session=o.session,
            session_number=0,  # `renumber` follows
            status="ok" if o.session in with_data else "no_data",
            model_name=o.primary.model_name if o.primary else "",
            model_version=o.primary.model_version if o.primary else "",
            as_of=as_of(o, strategy.calendar),
            digest=_digest(o),
        )
        for o in observations
    ]


def _digest(observed: Observed) -> str:
    """A hash of the signals of a session, 16 hexadecimal digits."""
    sha = hashlib.sha256()
    for signal in observed.signals:
        sha.update(f"{signal.name} {signal.horizon} {signal.model_name} ".encode())
        sha.update(signal.entities.tobytes() + signal.values.tobytes())
    return sha.hexdigest()[:16]


def _feature_values(
    conn: Connection,
    strategy: Strategy,
    references: References,
    observations: Sequence[Observed],
    batch: ComputedSessions,
) -> Iterator[Value]:
    judges = {o.session: _judges(references, o.session) for o in observations}
    previous = earlier_sessions(strategy.calendar, observations[0].session, EARLIER)
    before = previous[0]
    has_prints, *_ = [batch.feeds.knows(conn, strategy.strategy_id, day) for day in previous]
    earlier = [] if has_prints else observe_all(conn, strategy, [before], Champions(conn))
    counted = _counted(conn, strategy, [*earlier, *observations], judges, batch)
    if not batch.recent or batch.recent[-1].session != before:
        batch.recent = _stored(conn, strategy, before, judges[observations[0].session][0])
    for observed in observations:
        session = observed.session
        accepted, fixed = (
            Histograms.of(session, counted[session, judge.reference_id], judge_distributions)
            for judge, judge_distributions in judges[session]
        )
        same = judges[session][0][0].window_start == judges[session][1][0].window_start
        batch.histograms += [
            (session, judge.reference_id, name, counts)
            for (judge, _), histograms in zip(judges[session], (accepted, fixed), strict=True)
            for name, counts in histograms.counts.items()
            if judge.role == "accepted" or not same
        ]
        alike = [h for h in batch.recent if h.references is accepted.references]
        batch.recent = [*alike, accepted][-POOLED_SESSIONS:]
        moved = session_values.of_features(accepted, None if same else fixed, batch.recent)
        is_short = judges[session][0][0].is_short
        yield from session_values.of_short_reference(moved) if is_short else moved
        watched = [name for name in accepted.references if _is_watched(strategy, name)]
        expected = bool(len(observed.entities))
        past = earlier_sessions(strategy.calendar, session, EARLIER)
        shares = batch.feeds.of(session, past[0], watched, expected=expected)
        yield from session_values.of_feeds(session, shares, accepted.references)
        yield from feed_values.of_units(session, shares, accepted.references, batch)
        yield from feed_values.of_clocks(observed, watched, accepted.references, batch)
        yield from feed_values.of_repeats(session, past, watched, accepted.references, batch)
        yield from feed_values.of_stopped(observed, shares, accepted.references, batch)
    batch.feeds.forget(earlier_sessions(strategy.calendar, observations[-1].session, EARLIER)[-1])


Judges = Mapping[date, Sequence[tuple[AcceptedWindow, Mapping[str, Reference]]]]


def _judges(
    references: References, session: date
) -> list[tuple[AcceptedWindow, Mapping[str, Reference]]]:
    """The judging and the fixed reference of a session; a provisional one is both."""
    judging = references.at(session)
    windows = [window for window in (judging, references.fixed or judging) if window is not None]
    return [(window, references.distributions(window)) for window in windows]


def _counted(
    conn: Connection,
    strategy: Strategy,
    observations: Sequence[Observed],
    judges: Judges,
    batch: ComputedSessions,
) -> dict[tuple[date, int], dict[str, Counts]]:
    """Values per bucket, by session and reference, then feature; adds to feeds and clocks."""
    counted: dict[tuple[date, int], dict[str, Counts]] = {
        (session, judge.reference_id): {} for session in judges for judge, _ in judges[session]
    }

    def add(session: date, name: str, section: feature_values.Section) -> None:
        batch.feeds.add(session, name, section)
        clock = clocks.reading(section, session, strategy.calendar)
        if clock is not None:
            batch.clocks[session, name] = clock
        for judge, distributions in judges.get(session, ()):
            if name in distributions:
                counts = count(distributions[name], section.values)
                counted[session, judge.reference_id][name] = counts

    for observed in observations:
        if observed.primary is not None:
            add(observed.session, PREDICTIONS, signal_section(observed.primary))
    names = {name for pairs in judges.values() for _, d in pairs for name in d}
    for sample in _samples(conn, strategy, observations, names):
        for session, section in sample.sections.items():
            add(session, sample.feature, section)
    return counted


def _samples(
    conn: Connection,
    strategy: Strategy,
    observations: Sequence[Observed],
    names: Collection[str],
) -> Iterator[feature_values.Sample]:
    watched = {
        feature_values.base(n) for n in names if n != PREDICTIONS and _is_watched(strategy, n)
    }
    if not watched or not feature_values.exist(conn):
        return iter(())
    return feature_values.samples(
        conn, [window(o, strategy.calendar) for o in observations], sorted(watched)
    )


def _is_watched(strategy: Strategy, name: str) -> bool:
    return (
        name == PREDICTIONS
        or strategy.features is None
        or feature_values.base(name) in strategy.features
    )


def _stored(
    conn: Connection,
    strategy: Strategy,
    last: date,
    judge: tuple[AcceptedWindow, Mapping[str, Reference]],
) -> list[Histograms]:
    """The sessions that a pooled PSI adds, up to `last`, in the buckets of one reference."""
    window, distributions = judge
    row = {
        "strategy_id": strategy.strategy_id,
        "reference_id": window.reference_id,
        "start": strategy.calendar.session_offset(last, 2 - POOLED_SESSIONS),
        "end": last,
    }
    by_session: dict[date, dict[str, Counts]] = {}
    for session, name, counts in conn.execute(_queries.histograms, row):
        by_session.setdefault(session, {})[name] = np.asarray(counts, dtype=np.int64)
    return [Histograms(day, counts, distributions) for day, counts in sorted(by_session.items())]
