"""The questions of an incident as methods of `DriftMonitor`."""

from __future__ import annotations

from datetime import date

from mlflow_timescale.db import Error, load
from mlflow_timescale.db.rows import scalar

from ..review import StrategyReview
from ..watched import parse_period
from . import decay, timeline
from .onset import Decay
from .versions import ServedVersions

_queries = load("incidents")


class NothingServed(Error, LookupError):
    """No prediction of the strategy is recorded."""


class IncidentQuestions(StrategyReview):
    """The part of `DriftMonitor` that answers the questions of an incident."""

    def served_versions(
        self, start: date | None = None, end: date | None = None, *, alias: str | None = None
    ) -> ServedVersions:
        """Which version served in each session, beside the version that the alias pointed at.

        Without dates of the last session that signalled.

        Parameters
        ----------
        alias
            By default the alias by which `Serving` loaded the model, else "champion".

        Returns
        -------
        drift.incidents.versions.ServedVersions

        Raises
        ------
        NothingServed
            No date is given, and no prediction is recorded.
        InvalidTime
            The end lies before the start.

        Examples
        --------
        >>> versions = monitor.served_versions(days[0], days[-1])
        >>> [(part.sessions, part.verdict) for part in versions.intervals]
        [(21, 'no version')]
        """
        with self._connect() as conn:
            if start is None:
                start = scalar(conn, _queries.last_signalled, {"strategy_id": self.strategy_id})
            if start is None:
                raise NothingServed(
                    f"no prediction of {self.strategy_id!r} is recorded: use `drift record "
                    f"predictions`, or `mlflow_timescale.Serving`"
                )
            period = parse_period(start, end or start)
            return timeline.read_versions(conn, self.strategy, *period, alias)

    def onset(self) -> Decay | None:
        """The beginning of the latest fall of the IC, as a change point, and what happened then.

        Returns
        -------
        drift.incidents.onset.Decay or None
            Iterating gives the change point, whose indices point into the list of sessions, and
            that list. None where the IC never fell far below the accepted level, or no level was
            accepted.

        Examples
        --------
        >>> monitor.onset() is None
        True
        """
        with self._connect() as conn:
            return decay.read_decay(conn, self.strategy)
