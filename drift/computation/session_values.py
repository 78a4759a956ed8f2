"""From what is known of sessions to their values: numbers only, no database.

`of_session` takes one session by itself; `of_series` what follows from the sessions before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..alerts.rules import Rule
from ..inputs.signals_and_returns import Observed, Signal, align
from ..metrics import feed_quality, ic, sharpe
from ..metrics.arrays import Counts, Floats
from ..metrics.cusum import Baseline
from ..metrics.feed_quality import Shares
from ..metrics.plausible_returns import LARGEST_STRATEGY_RETURN
from ..metrics.psi import (
    BREAK,
    POOLED_SESSIONS,
    PSIResult,
    Reference,
    SessionPSI,
    psi_from_counts,
    session_psi,
)
from ..metrics.spread import is_constant
from ..results.values import Value

SHARPE_WINDOWS = (5, 20, 60)
USUAL = 20  # sessions whose median number of signals is the usual one
CUSUM = Rule("ic_cusum", "ic", ">", 6.0, statistic="cusum", cap=15.0)
NOTHING_DUE = "nothing_due"
PREDICTIONS = "signal"  # the dimension under which the predictions' own distribution is watched


@dataclass(frozen=True)
class Histograms:
    """One session's values in the buckets of a reference window, by feature."""

    session: date
    counts: Mapping[str, Counts]
    references: Mapping[str, Reference]

    @classmethod
    def of(
        cls, session: date, counts: Mapping[str, Counts], references: Mapping[str, Reference]
    ) -> Histograms:
        """Features of the reference without any value get empty buckets."""
        empty = {n: np.zeros(r.buckets, np.int64) for n, r in references.items() if n not in counts}
        return cls(session, {**counts, **empty}, references)

    @cached_property
    def results(self) -> dict[str, PSIResult]:
        return {n: psi_from_counts(self.references[n], counts) for n, counts in self.counts.items()}


def of_session(observed: Observed, min_n: int) -> Iterator[Value]:
    """The number of signals, and the ICs: of every signal at its horizon, and of the primary one
    at each horizon and in each group.
    """
    primary, session = observed.primary, observed.session
    n_signals = int(np.isfinite(primary.values).sum()) if primary else 0
    yield Value(session, "n_signals", "", n_signals, n_signals, "ok" if n_signals else "no_data")
    yield _named_versions(observed)
    if primary is None:
        yield Value(session, "ic", "", None, 0, "no_predictions")
        return
    yield from _unrankable(observed, primary, min_n)
    for horizon in sorted({s.horizon for s in observed.signals} | set(observed.returns)):
        yield from _at_horizon(observed, primary, horizon, min_n)
    yield from _by_group(observed, primary)


def _named_versions(observed: Observed) -> Value:
    """Whether the judged signal names the version of its model."""
    primary = observed.primary
    named = bool(primary and primary.model_version)
    status = "ok" if named else "no_version" if primary else NOTHING_DUE
    return Value(observed.session, "n_versions", "", 1.0 if named else None, int(named), status)


def _unrankable(observed: Observed, primary: Signal, min_n: int) -> Iterator[Value]:
    """Why a session will have no IC although it has signals: too few names, or all alike."""
    signals = primary.values[np.isfinite(primary.values)]
    n = len(signals)
    yield Value(observed.session, "few_names", "", float(n < min_n), n, "ok")
    alike = n >= min_n and is_constant(signals)
    yield Value(observed.session, "constant", "", float(alike), n, "ok")


def _at_horizon(observed: Observed, primary: Signal, horizon: int, min_n: int) -> Iterator[Value]:
    signals = [s for s in observed.signals if s.horizon == horizon or s is primary]
    matrix = np.stack([align(observed.entities, s.entities, s.values) for s in signals])
    ics = ic.rank_ic_matrix(matrix, _returns(observed, horizon), min_n)
    labels = observed.labels()
    for row, signal in enumerate(signals):
        result = ics.result(row)
        has_own_label = signal is not primary or horizon == primary.horizon
        dimension = labels[signal.key] if has_own_label else f"h{horizon}"
        yield Value(observed.session, "ic", dimension, result.value, result.n, result.status)


def _by_group(observed: Observed, primary: Signal) -> Iterator[Value]:
    if primary.groups is None:
        return
    returns = align(primary.entities, *_realized(observed, primary.horizon))
    for group, result in ic.rank_ic_by_group(primary.values, returns, primary.groups).items():
        if group:
            name = f"group {group}"
            yield Value(observed.session, "ic", name, result.value, result.n, result.status)


def _returns(observed: Observed, horizon: int) -> Floats:
    return align(observed.entities, *_realized(observed, horizon))


def _realized(observed: Observed, horizon: int) -> tuple[NDArray[np.int64], Floats]:
    returns = observed.returns.get(horizon)
    if returns is None:
        return np.empty(0, dtype=np.int64), np.empty(0)
    return returns.entities, returns.values


def of_features(
    histograms: Histograms, fixed: Histograms | None, recent: Sequence[Histograms]
) -> Iterator[Value]:
    """PSI of each feature, and of all of them together.

    `fixed` holds the same session in the fixed reference's buckets, None where that is the accepted
    one; `recent` the last sessions in the accepted one's, this one included, for the pooled PSI.
    """
    session, results = histograms.session, histograms.results
    for name, result in results.items():
        yield Value(session, "psi", name, result.value, result.n, result.status)
        if result.n:
            missing = result.counts[-1] / result.n
            yield Value(session, "psi_limit", name, result.limit, result.n, "ok")
            yield Value(session, "missing", name, missing, result.n, "ok")
    worst = session_psi(results, before=_last_present(recent[:-1]))
    yield Value(session, "n_features", "", *_present(results))
    yield Value(session, "n_drifted", "", len(worst.drifted), worst.n_features, "ok")
    yield _worst(session, "psi_max", worst.value, worst)
    yield _worst(session, "psi_ratio", worst.ratio, worst)
    yield from _drifted(session, "psi_ratio", results, worst)
    yield _worst(session, "psi_shared_ratio", worst.shared, worst)
    if (worst.shared or 0.0) > BREAK:
        yield from _drifted(session, "psi_shared_ratio", results, worst)
    if fixed is not None:
        unmoved = session_psi(fixed.results)
        yield from _drifted(session, "psi_fixed_ratio", fixed.results, unmoved)
        yield _worst(session, "psi_fixed_max", unmoved.value, unmoved)
        yield _worst(session, "psi_fixed_ratio", unmoved.ratio, unmoved)
    together = pooled(recent) if len(recent) == POOLED_SESSIONS else {}
    week = session_psi(together) if together else None
    yield _worst(session, "psi_5d_ratio", week.ratio if week else None, week)
    if week is not None:
        yield from _drifted(session, "psi_5d_ratio", together, week)


def _last_present(recent: Sequence[Histograms]) -> dict[str, PSIResult]:
    """The last result of each feature on a session that had values of it."""
    return {
        name: result
        for histograms in recent
        for name, result in histograms.results.items()
        if result.n_present
    }


def _drifted(
    session: date, metric: str, results: Mapping[str, PSIResult], found: SessionPSI
) -> Iterator[Value]:
    """The features beyond their limit, by name: what an alert on them is about."""
    for name in found.drifted:
        yield Value(session, metric, name, results[name].ratio, results[name].n, "ok")


def of_short_reference(values: Iterable[Value]) -> Iterator[Value]:
    """The values of `of_features` against a reference of few sessions.

    It has seen a part of what common shocks do to features that are not standardised: slow drifts
    are not judged, and a feature breaks at twice its limit, alone or with others.

    >>> day = date(2024, 1, 3)
    >>> metrics = ("psi_ratio", "psi_5d_ratio")
    >>> ratios = [Value(day, metric, "", 4.0, 3, "ok") for metric in metrics]
    >>> [(value.metric, value.value, value.status) for value in of_short_reference(ratios)]
    [('psi_ratio', 2.0, 'ok'), ('psi_5d_ratio', None, 'short_reference')]
    """
    for v in values:
        if v.metric in ("psi_ratio", "psi_shared_ratio") and v.value is not None:
            yield replace(v, value=v.value / 2)
        elif v.metric in ("psi_5d_ratio", "psi_fixed_ratio"):
            yield replace(v, value=None, status="short_reference")
        else:
            yield v


def of_feeds(
    session: date, found: Mapping[str, Shares], references: Mapping[str, Reference]
) -> Iterator[Value]:
    """How far each feature's feed is beyond what its reference's days did, where it is, and the
    worst of them.
    """
    for kind in feed_quality.KINDS:
        metric, above = f"{kind}_excess", {}
        for name, shares in found.items():
            habits = references[name].habits
            if habits is not None:
                above[name] = feed_quality.excess(getattr(shares, kind), getattr(habits, kind))
        finite = {name: value for name, value in above.items() if np.isfinite(value)}
        for name, value in finite.items():
            if value > 0:
                yield Value(session, metric, name, value, len(finite), "ok")
        worst = max(finite.values(), default=None)
        status = "no_data" if worst is None else "ok"
        yield Value(session, metric, "", worst, len(finite), status)


def pooled(recent: Sequence[Histograms]) -> dict[str, PSIResult]:
    """PSI of the last sessions' values put together, by feature of the last one."""
    last = recent[-1]
    sums = {
        name: sum((h.counts[name] for h in recent[:-1] if name in h.counts), counts)
        for name, counts in last.counts.items()
    }
    return {
        name: psi_from_counts(last.references[name], counts, sessions=len(recent))
        for name, counts in sums.items()
    }


def _present(results: Mapping[str, PSIResult]) -> tuple[int | None, int, str]:
    """How many features have a value; the predictions themselves are none."""
    features = [result for name, result in results.items() if name != PREDICTIONS]
    if not features:
        return None, 0, NOTHING_DUE
    present = sum(result.n > result.counts[-1] for result in features if result.n)
    return present, len(features), "ok" if present else "no_data"


def _worst(session: date, metric: str, value: float | None, found: SessionPSI | None) -> Value:
    n = found.n_features if found else 0
    return Value(session, metric, "", value, n, "no_data" if value is None else "ok")


@dataclass(frozen=True)
class SessionSeries:
    """What the values of a session are derived from: arrays of shape (sessions,), NaN if unknown.

    `n_ic` counts the names behind each IC. `levels` are the accepted levels of the IC, `windows`
    the positions of the window that judges each session, None without one.
    """

    sessions: Sequence[date]
    ic: Floats
    n_ic: Floats
    n_signals: Floats
    returns: Floats
    levels: Sequence[Baseline | None]
    windows: Sequence[slice | None]
    horizon: int
    periods_per_year: float


def of_series(series: SessionSeries, start: int) -> Iterator[Value]:
    """Moving averages, CUSUM, rolling Sharpe, and what came in of what was due, from session number
    `start` on.
    """
    for metric, array in derived_arrays(series).items():
        for index in range(start, len(array)):
            follows_ic = metric.startswith("ic") and not np.isfinite(series.ic[index])
            missing = "no_ic" if follows_ic else "not_enough"
            yield _derived(series.sessions[index], metric, float(array[index]), missing)
    yield from _arrived(series, start)
    yield from _fewer_signals(series, start)
    yield from _gaps(series, start)


def derived_arrays(series: SessionSeries) -> dict[str, Floats]:
    """Moving averages and CUSUM of the IC, rolling Sharpe ratios and drawdown, by metric."""
    due = np.isfinite(series.ic)
    windows = {
        f"sharpe_{window}d": sharpe.rolling(series.returns, window, series.periods_per_year)
        for window in SHARPE_WINDOWS
    }
    return {
        "ic_5d_avg": np.where(due, ic.moving_average(series.ic, 5), np.nan),
        "ic_60d_avg": np.where(due, ic.moving_average(series.ic, 60), np.nan),
        "ic_cusum": CUSUM.of(series.ic, series.levels),
        "strategy_return": series.returns,
        "drawdown": _drawdown(series.returns),
        **windows,
    }


def _fewer_signals(series: SessionSeries, start: int) -> Iterator[Value]:
    """The share of names without a signal, of the usual number."""
    for index in range(start, len(series.sessions)):
        habit, now = usual(series.n_signals, series.windows[index], index), series.n_signals[index]
        if habit and now > 0:
            missing = max(0.0, 1.0 - float(now) / habit)
            yield Value(series.sessions[index], "signals_missing", "", missing, int(now), "ok")


def usual(series: Floats, window: slice | None, index: int) -> float:
    """The usual value at session number `index`; 0 where there is none yet.

    The median of the 20 sessions before, or of the reference if that is larger: twenty sessions get
    used to a fault that lasts.

    >>> usual(np.array([60.0, 60.0, 60.0, 30.0, 30.0, 30.0]), slice(0, 2), 5)
    60.0
    """
    spans = [series[max(index - USUAL, 0) : index]]
    if window is not None and window.stop <= index:
        spans.append(series[window])
    known = [span[np.isfinite(span) & (span > 0)] for span in spans]
    return max((float(np.median(span)) for span in known if len(span)), default=0.0)


def pnl_implausible(series: SessionSeries, start: int) -> Iterator[tuple[int, list[int]]]:
    """For each session from `start` on: the positions of strategy returns too large to be one.

    In the longest window of the Sharpe ratio; beyond 25%, and beyond five times the largest of the
    reference.
    """
    sizes = np.nan_to_num(np.abs(series.returns))
    for index in range(start, len(series.returns)):
        window = series.windows[index]
        largest = sizes[window].max(initial=0.0) if window is not None else 0.0
        begin = max(index - SHARPE_WINDOWS[-1] + 1, window.stop if window is not None else 0)
        limit = max(LARGEST_STRATEGY_RETURN, 5 * float(largest))
        yield index, (begin + np.flatnonzero(sizes[begin : index + 1] > limit)).tolist()


def pnl_gaps(series: SessionSeries, start: int) -> Iterator[tuple[int, list[int]]]:
    """For each session from `start` on: the positions of strategy returns that are missing.

    In the longest window of the Sharpe ratio; the last session's return may come with the next one.
    """
    present = np.isfinite(series.returns)
    first = int(np.argmax(present)) if present.any() else len(present)
    for index in range(max(start, first + 1), len(series.sessions)):
        begin = max(index - SHARPE_WINDOWS[-1] + 1, first)
        yield index, (begin + np.flatnonzero(~present[begin:index])).tolist()


def _gaps(series: SessionSeries, start: int) -> Iterator[Value]:
    for index, missing in pnl_gaps(series, start):
        yield Value(series.sessions[index], "pnl_gaps", "", len(missing), SHARPE_WINDOWS[-1], "ok")
    for index, large in pnl_implausible(series, start):
        yield Value(
            series.sessions[index], "pnl_implausible", "", len(large), SHARPE_WINDOWS[-1], "ok"
        )


def _derived(session: date, metric: str, value: float, missing: str) -> Value:
    if not np.isfinite(value):
        return Value(session, metric, "", None, 0, missing)
    return Value(session, metric, "", value, _window(metric), "ok")


def _arrived(series: SessionSeries, start: int) -> Iterator[Value]:
    """How many signals have a known return, at the session on which it was due."""
    for index in range(start, len(series.sessions)):
        signalled = index - series.horizon
        if signalled < 0 or not series.n_signals[signalled] > 0:
            yield Value(series.sessions[index], "n_returns", "", None, 0, NOTHING_DUE)
        else:
            n = int(np.nan_to_num(series.n_ic[signalled]))
            yield Value(series.sessions[index], "n_returns", "", n, n, "ok" if n else "no_data")


def _window(metric: str) -> int:
    digits = "".join(character for character in metric if character.isdigit())
    return int(digits) if digits else 1


def _drawdown(returns: Floats) -> Floats:
    """Loss since the highest point so far, as a fraction; NaN where the return is not known."""
    wealth = np.cumprod(1.0 + np.nan_to_num(returns))
    peak = np.maximum.accumulate(np.maximum(wealth, 1.0)) if len(wealth) else wealth
    return np.where(np.isfinite(returns), wealth / peak - 1.0, np.nan)
