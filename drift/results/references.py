"""Reference windows: what a strategy and its features looked like while all was well.

A session is judged by the newest window accepted that ends before it. The first window ever
accepted also stays as the fixed reference, whatever is accepted later: retraining on drifted data
and accepting the result as the new normal must not make the alarm go deaf.

Until a window is accepted, provisional ones judge: the strategy's first sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.common.errors import did_you_mean, first_of
from mlflow_timescale.db import Connection, Error, load
from mlflow_timescale.db.rows import records

from ..metrics.psi import Reference
from ..metrics.spread import mean_and_sd

_queries = load("drift")
MIN_SESSIONS = 120
_LISTED = 20
TRAINED = "features as in the training snapshot"  # ends the reason of a provisional window


class NotWatched(Error, ValueError):
    """A feature that no reference of the strategy has."""


class NotAcceptable(Error, ValueError):
    """A window that cannot be a reference."""


@dataclass(frozen=True)
class AcceptedWindow:
    """One accepted window: mean and standard deviation (ddof 1) of its daily IC."""

    reference_id: int
    role: str
    version: int
    window_start: date
    window_end: date
    ic_mean: float | None
    ic_sd: float | None
    ic_n: int
    accepted_at: datetime
    accepted_by: str
    reason: str
    db_user: str | None = None

    @property
    def is_short(self) -> bool:
        """Whether it is provisional, and of too few sessions to know how features vary."""
        of_training = self.reason.endswith(TRAINED)
        return self.role == "provisional" and self.ic_n == 0 and not of_training


class References:
    """The accepted windows of a strategy; their distributions are read on first use."""

    def __init__(self, conn: Connection, strategy_id: str) -> None:
        self._conn = conn
        rows = records(conn, AcceptedWindow, _queries.references, {"strategy_id": strategy_id})
        self.windows = tuple(rows)
        self._distributions: dict[int, dict[str, Reference]] = {}

    def __bool__(self) -> bool:
        return bool(self.windows)

    @cached_property
    def accepted(self) -> tuple[AcceptedWindow, ...]:
        return tuple(window for window in self.windows if window.role == "accepted")

    @cached_property
    def provisional(self) -> tuple[AcceptedWindow, ...]:
        return tuple(window for window in self.windows if window.role == "provisional")

    @property
    def judging(self) -> tuple[AcceptedWindow, ...]:
        """The windows that judge sessions: the accepted ones, else the provisional ones."""
        return self.accepted or self.provisional

    @property
    def fixed(self) -> AcceptedWindow | None:
        """The window that never changes; None before anything was accepted."""
        return next((window for window in self.windows if window.role == "fixed"), None)

    def at(self, session: date) -> AcceptedWindow | None:
        """The window that judges a session; for sessions before all windows, the first."""
        before = [window for window in self.judging if window.window_end < session]
        return before[-1] if before else next(iter(self.judging), None)

    def distributions(self, window: AcceptedWindow) -> Mapping[str, Reference]:
        """The window's distributions, by feature."""
        key = window.reference_id
        if key not in self._distributions:
            rows = self._conn.execute(_queries.distributions, {"reference_id": key}).fetchall()
            self._distributions[key] = {name: Reference.from_json(text) for name, text in rows}
        return self._distributions[key]

    def require(self, feature: str, others: Iterable[str] = ()) -> None:
        """Raise NotWatched unless the feature is in one of the windows, or among `others`."""
        watched = {name for window in self.windows for name in self.distributions(window)}
        names = sorted({*watched, *others} if watched else watched)
        if feature not in names:
            listed = f"watched are: {first_of(names, _LISTED)}" if names else "none is watched yet"
            raise NotWatched(f"no feature {feature!r}{did_you_mean(feature, names)}; {listed}")


def accept(
    conn: Connection,
    strategy_id: str,
    window: tuple[date, date],
    ic: NDArray[np.float64],
    distributions: Iterable[tuple[str, Reference]],
    *,
    reason: str,
    accepted_by: str | None = None,
    min_sessions: int = MIN_SESSIONS,
    hint: str = "",
) -> int:
    """Keep a window as the newest accepted one (the first also as the fixed); return its version.

    `ic` holds the window's daily IC, shape (sessions,), NaN where none. The sessions after it that
    are computed already become stale. Raises NotAcceptable for fewer than `min_sessions` ICs, with
    `hint`, another reason why sessions have none.
    """
    if not reason.strip():
        raise NotAcceptable("accepting a reference needs a reason: it decides what counts as drift")
    finite = ic[np.isfinite(ic)]
    if len(finite) < min_sessions:
        raise NotAcceptable(
            f"the window {window[0]} to {window[1]} has {len(finite)} sessions with an IC; a mean "
            f"and a spread that hold need {min_sessions}: widen the window, or backfill it first"
            f"{hint}"
        )
    mean, sd = mean_and_sd(finite)
    if sd == 0:
        raise NotAcceptable(
            f"every IC of the window {window[0]} to {window[1]} is {mean:.6g}: without a spread no "
            f"fall can be judged; check the recorded signals and returns"
        )
    row = _row(strategy_id, window, finite, reason, accepted_by)
    fitted = [(name, reference.to_json()) for name, reference in distributions]
    with conn.transaction():
        conn.execute(_queries.lock_to_compute, row)
        before = References(conn, strategy_id)
        conn.execute(_queries.drop_provisional, row)
        for role in ("accepted",) if before.fixed else ("accepted", "fixed"):
            _keep(conn, {**row, "role": role}, fitted)
        conn.execute(_queries.mark_all_stale, row)
    return len(before.accepted) + 1


def keep_provisional(
    conn: Connection,
    strategy_id: str,
    window: tuple[date, date],
    ic: NDArray[np.float64],
    distributions: Iterable[tuple[str, Reference]],
    *,
    reason: str,
) -> None:
    """Keep a window that judges until one is accepted; the sessions after it become stale."""
    row = _row(strategy_id, window, ic[np.isfinite(ic)], reason, None)
    fitted = [(name, reference.to_json()) for name, reference in distributions]
    with conn.transaction():
        conn.execute(_queries.lock_to_compute, row)
        _keep(conn, {**row, "role": "provisional"}, fitted)
        conn.execute(_queries.mark_all_stale, row)


def _row(
    strategy_id: str,
    window: tuple[date, date],
    ic: NDArray[np.float64],
    reason: str,
    accepted_by: str | None,
) -> dict[str, object]:
    mean, sd = mean_and_sd(ic)
    return {
        "strategy_id": strategy_id,
        "window_start": window[0],
        "window_end": window[1],
        "ic_mean": mean if len(ic) else None,
        "ic_sd": sd if len(ic) > 1 else None,
        "ic_n": len(ic),
        "accepted_by": accepted_by,
        "reason": reason,
    }


def _keep(conn: Connection, row: dict[str, object], fitted: list[tuple[str, str]]) -> None:
    stored = conn.execute(_queries.add_reference, row).fetchone()
    rows = [
        {"reference_id": stored and stored[0], "dimension": name, "distribution": text}
        for name, text in fitted
    ]
    with conn.cursor() as cursor:
        cursor.executemany(_queries.add_distribution, rows)
