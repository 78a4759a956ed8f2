"""The questions of an incident as methods of `DriftMonitor`."""

from __future__ import annotations

from datetime import date, datetime

from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import parse_day, require_zone
from mlflow_timescale.db import Error, load
from mlflow_timescale.db.rows import scalar

from ..review import StrategyReview
from ..watched import parse_period
from . import decay, timeline
from .onset import Decay
from .recorded import NotPredicted, find_recorded
from .replay import Replay
from .versions import ServedVersions

__all__ = ["IncidentQuestions", "NotPredicted", "NothingServed"]

_queries = load("incidents")
TOLERANCE = 1e-9


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

    def replay(
        self,
        entity: str,
        at: datetime | date | None = None,
        *,
        tolerance: float = TOLERANCE,
        model: str | None = None,
        version: str | None = None,
        column: str | None = None,
        whole_request: bool = False,
    ) -> Replay:
        """Make a recorded prediction again: the same inputs, the same model, verified.

        Parameters
        ----------
        entity
            A name that was predicted.
        at
            The last prediction up to this moment (aware), or in this session; by default the last
            of all.
        tolerance
            The largest relative difference of the output that agrees.
        model
            The registered version to run, such as "models:/momentum/2"; by default the one that
            served, whose SHA-256 must be the recorded one.
        version
            The version whose prediction is meant, where several predicted at once; by default the
            one that judged the session.
        column
            The column of the model's output that is the prediction, where it has several.
        whole_request
            True runs the model on the whole request, too; this is done anyway where the row alone
            gives another output.

        Returns
        -------
        drift.incidents.replay.Replay
            Its `outcome` is "refused", with a `reason`, where the model cannot be run.

        Raises
        ------
        NotPredicted
            No such prediction is recorded.
        InvalidTime
            `at` is naive.

        Examples
        --------
        >>> again = monitor.replay("N00", days[-1])
        >>> again.outcome, again.obstacle, again.recorded == predictions["signal"][-30]
        ('refused', 'not recorded', True)
        """
        from . import rerun  # imports MLflow

        check_text({"entity": entity, "model": model, "version": version}, "replay")
        moment = require_zone(at, "at") if isinstance(at, datetime) else None
        session = None if moment or at is None else parse_day(at, "at")
        with self._connect() as conn:
            recorded = find_recorded(conn, self.strategy, entity, moment, session, version)
            return rerun.replay(
                conn,
                self.database,
                recorded,
                self.strategy_id,
                tolerance=tolerance,
                model=model,
                column=column,
                whole_request=whole_request,
            )

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
