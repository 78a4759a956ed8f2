"""References, alerts and stored results of one strategy, for `DriftMonitor`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timezone

import numpy as np

from mlflow_timescale.common.calendars import NotASession
from mlflow_timescale.common.rows import Rows
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import require_zone
from mlflow_timescale.db import Connection, load

from . import strategies
from .alerts import deliveries, lifecycle
from .alerts.deliveries import Delivery
from .alerts.headroom import Headroom, headroom
from .alerts.lifecycle import Alert
from .alerts.simulation import RuleSimulation
from .cautions import cautions
from .computation import healthy_history, reference_fit
from .computation.history import History
from .inputs.champions import Champions, Championship
from .results import references, values
from .results.drift_metrics import DriftMetrics
from .results.values import Value
from .watched import WatchedStrategy, parse_period

_queries = load("drift")


class StrategyReview(WatchedStrategy):
    """The part of `DriftMonitor` that reads results, and accepts references and alerts."""

    def accept(
        self,
        start: date,
        end: date,
        reason: str,
        *,
        accepted_by: str | None = None,
        min_sessions: int = references.MIN_SESSIONS,
        bins: int = 10,
    ) -> int:
        """Accept past sessions as the normal state that later ones are compared with.

        Parameters
        ----------
        reason
            Kept with the reference.
        accepted_by
            By default the database user.
        min_sessions
            The smallest number of sessions with an IC.
        bins
            Quantile bins of the features' distributions.

        Returns
        -------
        int
            The version of the reference, from 1.

        Raises
        ------
        NotAcceptable
            Too few sessions have an IC (`backfill` them first), or there is no reason.
        InvalidTime
            The end lies before the start.

        Examples
        --------
        >>> monitor.accept(days[0], days[-1], "calm start", min_sessions=20)
        1
        """
        check_text({"reason": reason, "accepted_by": accepted_by}, "accept")
        window = parse_period(start, end)
        days = self.calendar.sessions_in_range(*window)
        with self._connect() as conn:
            stored = values.of_sessions(conn, self.strategy_id, *window, metrics=["ic"])
            ics = values.on_sessions(stored, days).get(("ic", ""), np.full(len(days), np.nan))
            with conn.transaction():
                fitted = list(reference_fit.distributions(conn, self.strategy, days, bins))
            return references.accept(
                conn,
                self.strategy_id,
                window,
                ics,
                fitted,
                reason=reason,
                accepted_by=accepted_by,
                min_sessions=min_sessions,
                hint=self._few_names(stored),
            )

    def _few_names(self, stored: Sequence[Value]) -> str:
        few = sum(value.status == "too_few" and not value.dimension for value in stored)
        if not few:
            return ""
        min_n = self.strategy.min_n
        return (
            f"; {few} sessions have fewer names than min_n {min_n}: configure(min_n=...) lowers it"
        )

    def references(self) -> tuple[references.AcceptedWindow, ...]:
        """The accepted and provisional windows, with mean and deviation of their daily IC.

        Returns
        -------
        tuple of AcceptedWindow

        Examples
        --------
        >>> _ = monitor.accept(days[0], days[-1], "calm start", min_sessions=20)
        >>> [(window.role, window.ic_n) for window in monitor.references()]
        [('accepted', 21), ('fixed', 21)]
        """
        with self._connect() as conn:
            return references.References(conn, self.strategy_id).windows

    def alerts(
        self, *, states: Sequence[str] | None = None, since: date | None = None
    ) -> list[Alert]:
        """Alerts, by session.

        Parameters
        ----------
        states
            Only these: "open", "acknowledged", "silenced", "resolved".
        since
            Leave out alerts that were resolved before this date.

        Returns
        -------
        list of Alert

        Examples
        --------
        >>> quiet = monitor.run_daily(date(2024, 2, 1))
        >>> [(alert.rule, alert.severity) for alert in monitor.alerts(states=["open"])]
        [('no signals', 'critical')]
        """
        with self._connect() as conn:
            return Rows(lifecycle.find(conn, self.strategy_id, states=states, since=since))

    def undelivered(self) -> list[Delivery]:
        """Messages on alerts that their targets have not taken, of the last 90 days.

        Returns
        -------
        list of Delivery
            The oldest first, each with its attempts and the last error.

        Examples
        --------
        >>> monitor.undelivered()
        []
        """
        with self._connect() as conn:
            return Rows(deliveries.undelivered(conn, self.strategy_id))

    def headroom(self, session: date | None = None) -> list[Headroom]:
        """How far each rule was from opening at a session, by default the last computed one.

        Returns
        -------
        list of Headroom
            One for each rule that has values; `Headroom.text` is its limit in words.

        Examples
        --------
        >>> quiet = monitor.run_daily(date(2024, 2, 1))
        >>> [room.text for room in monitor.headroom() if room.rule.name == "no signals"]
        ['critical from 1 session without a value: open']
        """
        with self._connect() as conn:
            accepted = references.References(conn, self.strategy_id)
            history = History.read(conn, self.strategy, accepted)
        if not history.sessions:
            return []
        day = history.sessions[-1] if session is None else self._session(session)
        if day not in history.computed:
            raise NotASession(f"session {day} of {self.strategy_id!r} has not been computed yet")
        return headroom(history.judge(self.strategy.judging), history.sessions.index(day))

    def acknowledge(self, alert_id: int, *, by: str, note: str = "") -> None:
        """Record that a person handles an alert.

        Parameters
        ----------
        alert_id
            The number of an open alert.
        by, note
            The person, and a remark.

        Raises
        ------
        NoSuchAlert
            The strategy has no open alert of that number.

        Examples
        --------
        >>> quiet = monitor.run_daily(date(2024, 2, 1))
        >>> monitor.acknowledge(monitor.alerts()[-1].alert_id, by="ann", note="feed is down")
        >>> monitor.alerts()[-1].state
        'acknowledged'
        """
        check_text({"by": by, "note": note}, "acknowledge")
        with self._connect() as conn:
            lifecycle.acknowledge(conn, self.strategy_id, alert_id, by, note)

    def silence(
        self, rule: str, *, until: datetime, by: str, why: str, since: datetime | None = None
    ) -> int:
        """Mute a rule for the sessions that close in a period.

        Parameters
        ----------
        rule
            The name of a rule.
        until, since
            The end and the start of the period (aware); it starts now by default.
        by, why
            The person, and the reason.

        Returns
        -------
        int
            How many open alerts were muted.

        Raises
        ------
        InvalidTime
            A time has no time zone.
        ValueError
            The period ends before it begins, or the reason is empty.

        Examples
        --------
        >>> until = datetime.now(timezone.utc) + timedelta(days=1)
        >>> monitor.silence("no signals", until=until, by="ann", why="exchange test day")
        0
        """
        check_text({"rule": rule, "by": by, "why": why}, "silence")
        begin = require_zone(since, "since") if since else datetime.now(timezone.utc)
        period = begin, require_zone(until, "until")
        with self._connect() as conn:
            return lifecycle.silence(conn, self.strategy_id, rule, period, by, why)

    def metrics(self, start: date, end: date) -> list[DriftMetrics]:
        """The stored metrics of past sessions.

        Returns
        -------
        list of DriftMetrics
            One for each session that was computed; `to_frame()` returns a frame of them.

        Raises
        ------
        InvalidTime
            The end lies before the start.

        Examples
        --------
        >>> len(monitor.metrics(days[0], days[-1]))
        21
        """
        with self._connect() as conn:
            period = parse_period(start, end)
            days = [run.session for run in values.runs(conn, self.strategy_id, *period)]
            return Rows(self._stored_metrics(conn, day) for day in days)

    def last_known(self, metrics: DriftMetrics) -> dict[str, str]:
        """What the five sessions before knew of the figures that a session does not have yet.

        Parameters
        ----------
        metrics
            Of a session: its IC is known when the returns after its signals are.

        Returns
        -------
        dict of str
            A value with its session, by the name of the figure.

        Examples
        --------
        >>> quiet = monitor.run_daily(date(2024, 2, 1))
        >>> monitor.last_known(quiet)["ic"].partition(" on ")[2]
        '2024-01-31'
        """
        start = self.calendar.session_offset(metrics.date, -5)
        return metrics.last_known(self.metrics(start, self.calendar.previous_session(metrics.date)))

    def last_session(self) -> date | None:
        """The last session that was computed; None before any.

        Examples
        --------
        >>> monitor.last_session()
        datetime.date(2024, 1, 31)
        """
        with self._connect() as conn:
            row = conn.execute(_queries.last_run, {"strategy_id": self.strategy_id}).fetchone()
        return row[0] if row else None

    def report(self, session: date | None = None) -> str:
        """One session, by default the last computed one, as a self-contained HTML page.

        Returns
        -------
        str
            HTML with inline pictures.

        Raises
        ------
        NotASession
            The session was not computed.

        Examples
        --------
        >>> monitor.report(days[-1]).startswith("<!")
        True
        """
        from .report import contents as reporting
        from .report import page as report

        with self._connect() as conn:
            history = reporting.read_history(conn, self.strategy)
            if not history.sessions:
                raise NotASession(f"no session of {self.strategy_id!r} has been computed yet")
            day = history.sessions[-1] if session is None else self._session(session)
            is_last = day == history.sessions[-1]
            page = reporting.gather(
                conn,
                self.strategy,
                day,
                history,
                now=datetime.now(timezone.utc) if is_last else None,
                registry=self.tracking_uri or "",
            )
            return report.render(page)

    def simulate(
        self,
        rules: strategies.Rules | None = None,
        *,
        n_paths: int = 4000,
        features: str | None = None,
    ) -> list[RuleSimulation]:
        """False-alarm rates and detection delays of rules, from the strategy's own healthy history.

        Parameters
        ----------
        rules
            As in the constructor; by default those in force.
        n_paths
            Simulated years.
        features
            "raw" or "ranked" simulates the rules on features so; by default as configured.

        Returns
        -------
        list of RuleSimulation
            One for each rule; one that cannot be simulated has a `reason`.

        Raises
        ------
        ValueError
            The history has fewer than 60 sessions.

        Examples
        --------
        >>> monitor.simulate()
        Traceback (most recent call last):
            ...
        ValueError: ...
        """
        from .alerts.simulation import RuleSimulation, simulate

        chosen = self.rules if rules is None else strategies.as_rules(rules)
        ranked = self.strategy.ranked if features is None else features == "ranked"
        with self._connect() as conn:
            series, level = healthy_history.read(conn, self.strategy, chosen, ranked=ranked)
        simulations = simulate(
            chosen,
            series,
            {"ic": level} if level else None,
            n_paths=n_paths,
            periods_per_year=self.strategy.periods_per_year,
        )
        done = {simulation.rule.name for simulation in simulations}
        missing = [rule for rule in chosen if rule.name not in done]
        return [*simulations, *(RuleSimulation.impossible(rule) for rule in missing)]

    def cautions(self, now: datetime | None = None) -> list[str]:
        """How far the monitor can be trusted: without an accepted reference, with gaps, stopped.

        Parameters
        ----------
        now
            The present moment (aware), for tests and replays.

        Returns
        -------
        list of str
            Sentences; none of them is an alert.

        Examples
        --------
        >>> monitor.cautions(datetime(2024, 2, 1, tzinfo=timezone.utc))[0].partition(":")[0]
        'no reference has been accepted'
        """
        moment = require_zone(now, "now") if now else datetime.now(timezone.utc)
        with self._connect() as conn:
            return cautions(conn, self.strategy, moment)

    def champion(self) -> Championship | None:
        """The present champion of the model that the last session was judged by.

        Returns
        -------
        Championship or None
            None where the predictions name no model, or this database keeps no history of it.

        Examples
        --------
        >>> monitor.champion() is None
        True
        """
        with self._connect() as conn:
            row = conn.execute(
                _queries.judged_model, {"strategy_id": self.strategy_id, "session": values.LAST}
            ).fetchone()
            return Champions(conn).now(row[0] if row else self.strategy.model_name)

    def _stored_metrics(self, conn: Connection, day: date) -> DriftMetrics:
        stored = values.of_sessions(conn, self.strategy_id, day, day)
        runs = values.runs(conn, self.strategy_id, day, day)
        then = lifecycle.open_at(conn, self.strategy_id, self.strategy.judging, day)
        return DriftMetrics.of(
            self.strategy_id,
            day,
            stored,
            runs[0] if runs else None,
            lifecycle.loud(then),
            lifecycle.handled(then),
        )
