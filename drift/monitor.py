"""The monitor of one strategy: compute sessions, notify people, log MLflow runs."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timezone
from typing import Any

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import require_zone
from mlflow_timescale.db import Connection, is_rehearsal, load

from .alerts import lifecycle
from .computation import lateness, pipeline, provisional
from .incidents import collecting
from .incidents.explanation import Explanation
from .incidents.questions import IncidentQuestions
from .metrics.psi import Reference
from .results import values
from .results.drift_metrics import DriftMetrics
from .results.references import References
from .serving import memory
from .skew import mornings
from .skew.reconciliation import Reconciliation, reconcile
from .training import training_references
from .watched import parse_period

_queries = load("drift")
TOGETHER = 250  # sessions computed in one transaction by a backfill
CATCH_UP = 10  # sessions in a row without signals that a daily run makes up for


class DriftMonitor(IncidentQuestions):
    """Monitor of one strategy: IC, PSI and Sharpe per trading session, alerts, MLflow runs.

    Parameters
    ----------
    uri, conninfo, dsn
        The database, "postgresql+timescaledb://...", under one of these names.
    strategy_id
        The strategy. The settings below (except `notify`, `on_alert` and `tracking_uri`) are stored
        with it, so that later runs and the command line need only the name. Creating the object
        does no I/O; the first `record_*`, or `configure`, records a new strategy.
    calendar
        An exchange's MIC, "24/7" or "weekdays"; by default the stored one, else "XNYS".
    rules
        A preset ("default", "classic"), an `AlertConfig`, or a list of `Rule`.
    signal, model_name, model_version
        Which of the recorded signals the strategy is judged by; others are computed beside it. Of
        several versions, the champion's is judged, else the one that covers most names, else the
        one that judged the session before.
    features
        Names of features to watch; by default those of the reference, `()` for none. "ranked"
        compares their ranks across names, which a shock to all of them does not move, from the next
        `accept` on; "raw", the default, compares their values.
    min_n
        A session with fewer names has no IC.
    periods_per_year
        For annualised Sharpe ratios; by default 252, or 365 on calendar "24/7".
    notify
        Webhook or Apprise URLs; by default MLFLOW_TIMESCALE_NOTIFY, separated by spaces.
    on_alert
        A function that is called with each `drift.alerts.notify.Message`, or a command that is run
        for it (`drift.alerts.commands`); by default MLFLOW_TIMESCALE_ON_ALERT.
    tracking_uri
        Where sessions become MLflow runs; by default MLFLOW_TRACKING_URI, else `uri`; False for
        nowhere.

    Shared parameters
    -----------------
    frame
        Any source of `mlflow_timescale.common.frames.Frame`: pandas, polars, Arrow, a mapping of
        columns, a CSV or Parquet file, ... Names, models, versions and groups are text.
    session
        A date on which the exchange is open.
    start, end
        The first and the last date, both included.

    Raises
    ------
    db.Error
        The database cannot be reached, or data of the strategy is stored on another calendar.
    UnknownStrategy
        Any method but `configure` and `record_*`: the strategy is not recorded.
    NotASession
        Any method that takes a session: the exchange is closed on that date.

    Examples
    --------
    The examples of the methods continue from here.

    >>> import numpy as np
    >>> from datetime import date, datetime, timedelta, timezone
    >>> monitor = DriftMonitor(uri, "momentum", tracking_uri=False)
    >>> calendar = monitor.configure(calendar="XNYS").calendar
    >>> days = calendar.sessions_in_range(date(2024, 1, 2), date(2024, 1, 31))
    >>> names = [f"N{i:02d}" for i in range(30)]
    >>> signals = np.random.default_rng(1).normal(size=(len(days), 30))
    >>> noise = np.random.default_rng(2).normal(size=signals.shape)
    >>> long = {"entity_key": names * len(days), "session": np.repeat(days, 30).tolist()}
    >>> predictions = {**long, "signal": signals.ravel().tolist()}
    >>> returns = {**long, "value": (0.01 * signals + 0.02 * noise).ravel().tolist()}
    >>> monitor.record_predictions(predictions), monitor.record_returns(returns)
    (630, 630)
    >>> history = monitor.backfill(days[0], days[-1])
    """

    def calculate_metrics(self, session: date) -> DriftMetrics:
        """Compute one session from the data known now, without storing the result.

        Returns
        -------
        DriftMetrics

        Raises
        ------
        NotASession
            The exchange is closed on that date.

        Examples
        --------
        >>> metrics = monitor.calculate_metrics(days[-1])
        >>> round(metrics.ic, 3), metrics.n_signals
        (0.467, 30)
        """
        day = self._session(session)
        with self._connect() as conn, conn.transaction():
            batch = pipeline.compute(conn, self.strategy, [day], skew=self._skew)
        values = [value for value in batch.values if value.session == day]
        run = next((run for run in batch.runs if run.session == day), None)
        alerts = lifecycle.loud(
            lifecycle.of_episode(episode, day)
            for episode in batch.episodes
            if episode.opened <= day <= episode.last
        )
        metrics = DriftMetrics.of(self.strategy_id, day, values, run, alerts)
        self._computed[id(metrics)] = batch
        weakref.finalize(metrics, self._computed.pop, id(metrics), None)
        return metrics

    def save_metrics(self, metrics: DriftMetrics) -> None:
        """Store metrics of a session; values that changed become a new revision.

        Parameters
        ----------
        metrics
            From `calculate_metrics`, or made by hand.

        Examples
        --------
        >>> from drift import DriftMetrics
        >>> monitor.save_metrics(DriftMetrics(date(2024, 2, 1), "momentum", ic=0.03))
        >>> monitor.metrics(date(2024, 2, 1), date(2024, 2, 1))[0].ic
        0.03
        """
        batch = self._computed.get(id(metrics))
        with self._connect() as conn, self._computing(conn):
            if batch is not None:
                pipeline.store(conn, self.strategy, batch)
            else:
                run = _bare_run(metrics, self.calendar)
                values.save(conn, self.strategy_id, metrics.as_values(), [run], whole=())
                pipeline.renumber(conn, self.strategy)

    def run_daily(
        self, session: date | None = None, *, now: datetime | None = None
    ) -> DriftMetrics:
        """Compute a session, notify people of its alerts, and log it in MLflow.

        Sessions that earlier runs missed, and those whose data changed since (late returns), are
        computed too. A second run changes nothing. Messages are queued in the transaction that
        opens or resolves their alerts; messages and MLflow runs that fail are retried by the next
        run.

        Parameters
        ----------
        session
            By default the last one that has closed.
        now
            The present moment (aware), for tests and replays.

        Returns
        -------
        DriftMetrics
            Of the session.

        Raises
        ------
        NotASession
            The exchange is closed on that date.

        Examples
        --------
        >>> monitor.run_daily(now=datetime(2024, 2, 3, tzinfo=timezone.utc)).date
        datetime.date(2024, 2, 2)
        """
        moment = require_zone(now, "now") if now else datetime.now(timezone.utc)
        day = (
            self.calendar.last_sessions(1, moment)[-1]
            if session is None
            else self._session(session)
        )
        with self._connect() as conn:
            stale = self._stale(conn)
            complete = {
                day,
                *self._missed(conn, day),
                *(s for s, partial in stale.items() if not partial),
            }
            self._compute(conn, sorted(complete | set(stale)), set(stale) - complete, day)
            self._judge_without_acceptance(conn, day)
            metrics = self._stored_metrics(conn, day)
            self._messages.deliver(day)
            self._log(conn)
        return metrics

    def backfill(
        self, start: date, end: date, *, notify: bool = False, reports: bool = False
    ) -> list[DriftMetrics]:
        """Compute past sessions, without notifications by default.

        Parameters
        ----------
        notify
            True notifies people of the alerts that are open in the end.
        reports
            True gives every session its pictures in MLflow; by default only the last one has them.

        Returns
        -------
        list of DriftMetrics
            One for each session.

        Raises
        ------
        InvalidTime
            The end lies before the start.

        Examples
        --------
        >>> [round(metrics.ic, 2) for metrics in monitor.backfill(days[0], days[2])]
        [0.59, 0.5, 0.14]
        """
        days = self.calendar.sessions_in_range(*parse_period(start, end))
        with self._connect() as conn:
            stale = self._stale(conn)
            day = days[-1] if notify and days else None
            self._compute(conn, sorted({*days, *stale}), set(stale) - set(days), day)
            self._judge_without_acceptance(conn, day)
            if day is not None:
                self._messages.deliver(day)
            elif not notify:
                lifecycle.mark_notified(conn, self.strategy_id)
            results = [self._stored_metrics(conn, day) for day in days]
            self._log(conn, reports=reports)
        return results

    def reconcile(
        self,
        start: date,
        end: date,
        *,
        research: Mapping[str, Any] | None = None,
        tolerances: Mapping[str, float] | None = None,
        now: datetime | None = None,
    ) -> Reconciliation:
        """Compare every feature value that was served with research, and explain what differs.

        Values that serving read from the feature store are compared exactly, with what was known
        at the decision; values that the caller's own code computed within a tolerance.

        Parameters
        ----------
        research
            Where the right values of a feature come from ("*": of all): a frame or a Parquet file
            with the columns entity_key, session (or as_of) and the features; a function from such
            a frame without features to one with them; a FeatureView, or the number of a version.
            By default what `configure` stored, else the feature store.
        tolerances
            Relative tolerances by feature ("*": of all); by default what `configure` stored, else
            1e-9.
        now
            The present moment (aware), for tests and replays.

        Returns
        -------
        drift.skew.reconciliation.Reconciliation

        Raises
        ------
        InvalidTime
            The end lies before the start.
        InvalidFrame
            A source lacks a column.
        Removed
            Retention removed what was served in these sessions.

        Examples
        --------
        >>> monitor.reconcile(days[0], days[-1]).cells  # nothing was recorded by `Serving`
        0
        """
        first, last = parse_period(start, end)
        with self._connect() as conn:
            memory.refuse_removed(conn, first)
            return reconcile(
                conn,
                self.strategy,
                first,
                last,
                research=research,
                tolerances=tolerances,
                now=require_zone(now, "now") if now else None,
            )

    def explain(
        self,
        start: date | None = None,
        end: date | None = None,
        *,
        log: bool = True,
        now: datetime | None = None,
    ) -> Explanation:
        """What is wrong, since when and why, and what to decide; or that nothing is wrong.

        A question that cannot be answered is a line of the explanation, and no error.

        Parameters
        ----------
        start, end
            By default the last quarter, and further back if an alert or a fall of the IC began
            earlier. Without `start`, the sessions before `end`.
        log
            Whether the page becomes the artifact `incident/<end>.html` of the strategy's MLflow
            run. Without MLflow there is a warning.
        now
            The present moment (aware), for tests and replays.

        Returns
        -------
        drift.incidents.explanation.Explanation
            `lines()` is its text, `html()` its page.

        Raises
        ------
        InvalidTime
            The end lies before the start.
        Error
            No session was computed or served.

        Examples
        --------
        >>> explanation = monitor.explain(log=False)
        >>> explanation.status, len(explanation.causes)
        ('ok', 0)
        >>> explanation.headline
        'Nothing wrong was found, but not every question has an answer.'
        """
        if start is not None:
            start, end = parse_period(start, end or start)
        moment = require_zone(now, "now") if now else None
        explanation = collecting.explain(self, start, end, now=moment)
        if log and self.tracking_uri is not None and not is_rehearsal():
            from .mlflow_runs import log_incident

            with self._connect() as conn:
                log_incident(
                    conn, self.strategy, self.tracking_uri, explanation.end, explanation.html()
                )
        return explanation

    def confirm_repair(self, session: date, *, feature: str = "", by: str, reason: str) -> None:
        """Confirm that a feature that was late is right again; the sessions since are judged again.

        A late feed that catches up looks like any other day unless its late sessions are corrected
        in the feature store, so that the alert `feature late` may need a person.

        Parameters
        ----------
        session
            The first session whose values are its own again.
        feature
            Its name, or "signal", "returns", "strategy returns"; by default all of them.
        by, reason
            The person, and how it was repaired.

        Raises
        ------
        ValueError
            The reason is empty, or no such feature is watched.

        Examples
        --------
        >>> monitor.confirm_repair(days[-1], feature="signal", by="ann", reason="job rerun")
        """
        if not reason.strip():
            raise ValueError("a repair needs a reason, which is kept with it")
        check_text({"feature": feature, "by": by, "reason": reason}, "confirm_repair")
        day = self._session(session)
        row = {"strategy_id": self.strategy_id, "session": day, "feature": feature}
        with self._connect() as conn:
            if feature:
                References(conn, self.strategy_id).require(feature, lateness.NEVER_IN_STEP)
            conn.execute(_queries.add_repair, {**row, "by": by, "reason": reason})
            if values.runs(conn, self.strategy_id, day, day):
                conn.execute(_queries.mark_stale, {**row, "reason": "repair"})
                self._compute(conn, sorted(self._stale(conn)), set())

    def _judge_without_acceptance(self, conn: Connection, day: date | None) -> None:
        """Keep the provisional references that are due, and judge the later sessions by them."""

        def training(model: str, version: str) -> Mapping[str, Reference]:
            return training_references(self.tracking_uri, model, version, provisional.BINS)

        while provisional.keep_due(conn, self.strategy, training):
            self._compute(conn, sorted(self._stale(conn)), set(), day)

    @contextmanager
    def _computing(self, conn: Connection) -> Iterator[None]:
        with conn.transaction():
            conn.execute(_queries.lock_to_compute, {"strategy_id": self.strategy_id})
            yield

    def _stale(self, conn: Connection) -> dict[date, bool]:
        """Sessions to compute again, and whether only returns have changed."""
        row = {"strategy_id": self.strategy_id}
        stale = conn.execute(_queries.stale_sessions, row).fetchall()
        # A correction of the calendar may have removed a session that was computed.
        return {day: partial for day, partial in stale if self.calendar.is_session(day)}

    def _missed(self, conn: Connection, day: date) -> list[date]:
        """Sessions before `day` that were never computed: after an outage, or with signals.

        A long gap without signals is a time in which nothing was watched, and stays one.
        """
        computed = [run.session for run in values.runs(conn, self.strategy_id, end=day)]
        if not computed:
            return []
        missing = sorted(set(self.calendar.sessions_in_range(computed[0], day)) - set(computed))
        row = {"strategy_id": self.strategy_id, "sessions": missing}
        with_signals = {session for [session] in conn.execute(_queries.sessions_signalled, row)}
        recent = [session for session in missing if session > computed[-1]]
        short = set(recent if len(recent) <= CATCH_UP else ())
        return [session for session in missing if session in with_signals | short]

    def _compute(
        self,
        conn: Connection,
        days: Sequence[date],
        only_returns: set[date],
        told: date | None = None,
    ) -> None:
        """Compute sessions; messages on their alerts are queued as of the session `told`."""
        for start in range(0, len(days), TOGETHER):
            group = days[start : start + TOGETHER]
            with self._computing(conn):
                batch = pipeline.compute(
                    conn,
                    self.strategy,
                    group,
                    only_returns=sorted(only_returns),
                    skew=self._skew,
                )
                pipeline.store(conn, self.strategy, batch)
                if told is not None:
                    self._messages.queue(conn, told)

    def _skew(self, days: Sequence[date]) -> mornings.SessionSkew:
        """What was served in some sessions against research, on a connection of its own."""
        return mornings.of_sessions(self.database, self.strategy, days)

    def _log(self, conn: Connection, *, reports: bool = False) -> None:
        uri = self.tracking_uri
        if uri is not None and not is_rehearsal():
            from .mlflow_runs import log_pending

            log_pending(self.database, conn, self.strategy, uri, reports=reports)


def _bare_run(metrics: DriftMetrics, calendar: TradingCalendar) -> values.Run:
    return values.Run(metrics.date, 0, "ok", "", "", calendar.session_close(metrics.date))
