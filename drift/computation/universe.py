"""Whether a session's names are those of the reference, or a new universe."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.db import Connection, load

from ..inputs.signals_and_returns import Observed
from ..results.references import AcceptedWindow, References
from ..results.values import Value
from ..strategies import Strategy
from .computed import ComputedSessions

_queries = load("drift")
SAMPLED = 12  # sessions of the reference whose names are read
LISTED = 3

Numbers = NDArray[np.int64]


class Universe:
    """The names of the reference windows of a strategy; each window's are read on first use."""

    def __init__(self, conn: Connection, strategy: Strategy, references: References) -> None:
        self._conn, self._strategy, self._references = conn, strategy, references
        self._names: dict[int, Numbers] = {}

    def of_session(self, observed: Observed, batch: ComputedSessions) -> Iterator[Value]:
        """The share of the session's names that never had a signal in its reference."""
        window = self._references.at(observed.session)
        primary, session = observed.primary, observed.session
        if primary is None or window is None or session <= window.window_end:
            return
        usual = self._of(window)
        if not len(usual):
            return
        is_new = ~np.isin(primary.entities, usual)
        yield Value(session, "new_names", "", float(is_new.mean()), len(is_new), "ok")
        if is_new.any():
            new = self._listed(primary.entities[is_new])
            old = self._listed(np.setdiff1d(usual, primary.entities))
            text = f"{int(is_new.sum())} of {len(is_new)} names are new: {new}"
            batch.note("new_names", session, f"{text}; without a signal: {old or 'none'}")

    def _of(self, window: AcceptedWindow) -> Numbers:
        if window.reference_id not in self._names:
            days = self._strategy.calendar.sessions_in_range(window.window_start, window.window_end)
            row = {
                "strategy_id": self._strategy.strategy_id,
                "sessions": days[:: max(len(days) // SAMPLED, 1)],
            }
            numbers = [entity for [entity] in self._conn.execute(_queries.names_signalled, row)]
            self._names[window.reference_id] = np.array(sorted(numbers), dtype=np.int64)
        return self._names[window.reference_id]

    def _listed(self, numbers: Numbers) -> str:
        row = {"entity_ids": numbers[:LISTED].tolist()}
        names = sorted(name for _, name in self._conn.execute(_queries.entity_names, row))
        return ", ".join(names) + ("..." if len(numbers) > LISTED else "")
