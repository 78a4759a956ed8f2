"""The monitor of one strategy: record what happened, compute sessions, ask for alerts."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import date, datetime, timezone
from typing import Any, cast

import numpy as np

from mlflow_timescale import db
from mlflow_timescale.common.calendar_overrides import read_calendar, record_override
from mlflow_timescale.common.calendars import NotASession, Override, TradingCalendar
from mlflow_timescale.common.time import parse_day, require_zone
from mlflow_timescale.db import Connection, DatabaseURI, load

from . import strategy as strategies
from .alerts import lifecycle as alerts
from .alerts import notify
from .alerts.lifecycle import Alert
from .alerts.rules import Rule
from .alerts.simulation import RuleSimulation
from .computation import pipeline, reference_fit
from .computation.computed import ComputedSessions
from .computation.history import History
from .inputs import recording as inputs
from .metrics import cusum
from .metrics.cusum import Onset
from .results import references, values
from .results.drift_metrics import DriftMetrics
from .strategy import Strategy

_queries = load("drift")
TOGETHER = 250  # sessions computed in one transaction by a backfill
CATCH_UP = 10  # sessions that a daily run makes up for; more is a backfill's work


class DriftMonitor:
    """Watches one strategy: IC, PSI and Sharpe per trading session, alerts, MLflow runs.

    Parameters
    ----------
    uri
        The database, `postgresql+timescaledb://...`.
    strategy_id
        What is watched. How it is watched (the options below, but not `notify`) is stored with the
        strategy by the first call that needs the database, so that later runs and the command line
        need only the name. A new strategy is recorded by the first `record_*`, or by `configure`;
        all other methods raise UnknownStrategy for a name that is not recorded.
    calendar
        An exchange's MIC, "24/7" or "weekdays"; by default the remembered one, else "XNYS".
    rules
        A preset's name ("default", "classic"), an `AlertConfig`, or rules.
    signal, model_name
        Which of the recorded signals the strategy is judged by; the others are shown beside it.
    features
        Names of features to watch; by default those of the reference, `()` for none.
    min_n
        Names below which a session has no IC.
    notify
        Webhook or Apprise URLs; by default MLFLOW_TIMESCALE_NOTIFY, separated by spaces.
    on_alert
        Called with each `notify.Message`: the hook for recommendations.
    tracking_uri
        Where sessions become MLflow runs; by default MLFLOW_TRACKING_URI, else `uri`; False for
        nowhere.

    Examples
    --------
    >>> monitor = DriftMonitor(uri, "momentum")  # doctest: +SKIP
    >>> monitor.record_predictions(predictions)  # doctest: +SKIP
    >>> monitor.run_daily().ic  # doctest: +SKIP
    0.041
    """

    def __init__(
        self,
        uri: str | DatabaseURI | db.Database,
        strategy_id: str = "default",
        *,
        calendar: str | None = None,
        rules: strategies.Rules | None = None,
        signal: str | None = None,
        model_name: str | None = None,
        features: Sequence[str] | None = None,
        min_n: int | None = None,
        periods_per_year: float | None = None,
        notify: Sequence[str] | None = None,
        on_alert: notify.Hook | None = None,
        tracking_uri: str | bool | None = None,
    ) -> None:
        self.database = db.Database.of(uri, application="drift")
        self.uri = self.database.uri
        self.strategy_id = strategy_id
        self.on_alert = on_alert
        self._targets = strategies.notification_targets(notify)
        self._tracking_uri = tracking_uri
        self._calendar = calendar
        self._options = strategies.options_as_json(
            rules=rules,
            signal=signal,
            model_name=model_name,
            features=features,
            min_n=min_n,
            periods_per_year=periods_per_year,
        )
        self._strategy: Strategy | None = None
        # What `calculate_metrics` computed beside its result, by the result's id, for
        # `save_metrics`; an entry goes with its result.
        self._computed: dict[int, ComputedSessions] = {}

    def __repr__(self) -> str:
        return f"DriftMonitor({str(self.uri)!r}, {self.strategy_id!r})"

    @property
    def strategy(self) -> Strategy:
        """How the strategy is watched. Raises UnknownStrategy if it is not recorded."""
        if self._strategy is None:
            with self._connect():
                pass
        return cast("Strategy", self._strategy)

    @property
    def calendar(self) -> TradingCalendar:
        """The calendar of the strategy's sessions. Raises UnknownStrategy."""
        return self.strategy.calendar

    def configure(
        self,
        *,
        calendar: str | None = None,
        rules: strategies.Rules | None = None,
        signal: str | None = None,
        model_name: str | None = None,
        features: Sequence[str] | None = None,
        min_n: int | None = None,
        periods_per_year: float | None = None,
        create: bool = True,
    ) -> Strategy:
        """Store how the strategy is watched, and the strategy if it is new; return it.

        The arguments are those of the class. What is not given here or to the class stays as it
        is. Raises Error if the strategy is recorded on another calendar, and UnknownStrategy for a
        new one without `create`.
        """
        self._calendar = calendar or self._calendar
        self._options |= strategies.options_as_json(
            rules=rules,
            signal=signal,
            model_name=model_name,
            features=features,
            min_n=min_n,
            periods_per_year=periods_per_year,
        )
        self._strategy = None
        with self._connect(create=create):
            return self.strategy

    # Recording

    def record_predictions(self, frame: Any) -> int:
        """Keep what the models said; return how many rows were new.

        `frame` is any source of `mlflow_timescale.common.frames.Frame`. Columns entity_key, signal,
        and signal_time (aware) or session; optional horizon in sessions (1), signal_name,
        model_name, model_version, group. Names, models, versions and groups are text: a CSV file
        gives them as written. Raises InvalidFrame, NotASession, Contradiction.
        """
        with self._connect(create=True) as conn:
            return inputs.record_predictions(conn, self.strategy_id, self.calendar, frame)

    def record_returns(self, frame: Any) -> int:
        """Keep what names returned after their signal; return how many rows were new.

        Columns entity_key, session (the signal's), value; optional horizon (1), known_at.
        """
        with self._connect(create=True) as conn:
            return inputs.record_returns(conn, self.strategy_id, self.calendar, frame)

    def record_strategy_returns(self, frame: Any) -> int:
        """Keep what the strategy returned; return how many rows were new.

        Columns session, value; optional known_at.
        """
        with self._connect(create=True) as conn:
            return inputs.record_strategy_returns(conn, self.strategy_id, self.calendar, frame)

    # Computing

    def calculate_metrics(self, session: date) -> DriftMetrics:
        """Compute one session from what is known now, and store nothing. Raises NotASession."""
        day = self._session(session)
        with self._connect() as conn, conn.transaction():
            batch = pipeline.compute(conn, self.strategy, [day])
        values = [value for value in batch.values if value.session == day]
        metrics = DriftMetrics.of(self.strategy_id, day, values)
        self._computed[id(metrics)] = batch
        weakref.finalize(metrics, self._computed.pop, id(metrics), None)
        return metrics

    def save_metrics(self, metrics: DriftMetrics) -> None:
        """Keep a session's metrics, as a new revision where they differ from what is known."""
        batch = self._computed.get(id(metrics))
        with self._connect() as conn, self._computing(conn):
            if batch is not None:
                pipeline.store(conn, self.strategy, batch)
            else:
                run = _bare_run(metrics, self.calendar)
                values.save(conn, self.strategy_id, metrics.as_values(), [run], whole=())

    def run_daily(
        self, session: date | None = None, *, now: datetime | None = None
    ) -> DriftMetrics:
        """Compute a session, by default the last one closed, and tell people and MLflow.

        Sessions that the last runs missed, or that have learned something since (late returns), are
        computed too. Running it again changes nothing. People or MLflow that cannot be reached are
        told by the next run. Raises NotASession.
        """
        moment = require_zone(now, "now") if now else datetime.now(timezone.utc)
        day = (
            self.calendar.last_sessions(1, moment)[-1]
            if session is None
            else self._session(session)
        )
        with self._connect() as conn:
            stale = self._stale(conn)
            whole = {
                day,
                *self._missed(conn, day),
                *(s for s, partial in stale.items() if not partial),
            }
            self._compute(conn, sorted(whole | set(stale)), set(stale) - whole)
            metrics = self._stored_metrics(conn, day)
            self._tell(conn, day)
            self._log(conn)
        return metrics

    def backfill(
        self, start: date, end: date, *, notify: bool = False, reports: bool = False
    ) -> list[DriftMetrics]:
        """Compute the sessions from `start` to `end`; quiet, unless `notify`.

        With `reports` every session gets its pictures in MLflow; without, only the last one.
        """
        days = self.calendar.sessions_in_range(parse_day(start, "start"), parse_day(end, "end"))
        with self._connect() as conn:
            stale = self._stale(conn)
            self._compute(conn, sorted({*days, *stale}), set(stale) - set(days))
            if notify and days:
                self._tell(conn, days[-1])
            elif not notify:
                alerts.mark_notified(conn, self.strategy_id)
            found = [self._stored_metrics(conn, day) for day in days]
            self._log(conn, reports=reports)
        return found

    # References

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
        """Accept the sessions from `start` to `end` as normal; return the reference's version.

        Their IC must have been computed (`backfill`). Raises NotAcceptable.
        """
        window = parse_day(start, "start"), parse_day(end, "end")
        days = self.calendar.sessions_in_range(*window)
        with self._connect() as conn:
            found = values.of_sessions(conn, self.strategy_id, *window, metrics=["ic"])
            ics = values.on_sessions(found, days).get(("ic", ""), np.full(len(days), np.nan))
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
            )

    def references(self) -> tuple[references.Window, ...]:
        """The windows accepted so far."""
        with self._connect() as conn:
            return references.References(conn, self.strategy_id).windows

    # Alerts

    def alerts(
        self, *, states: Sequence[str] | None = None, since: date | None = None
    ) -> list[Alert]:
        """Alerts by session; only those in some states, or not resolved before `since`."""
        with self._connect() as conn:
            return alerts.find(conn, self.strategy_id, states=states, since=since)

    def acknowledge(self, alert_id: int, *, by: str, note: str = "") -> None:
        """Say that somebody looks after an alert. Raises NoSuchAlert."""
        with self._connect() as conn:
            alerts.acknowledge(conn, self.strategy_id, alert_id, by, note)

    def silence(
        self, rule: str, *, until: datetime, by: str, why: str, since: datetime | None = None
    ) -> int:
        """Say nothing of a rule for sessions that close between `since` (now) and `until`."""
        begin = require_zone(since, "since") if since else datetime.now(timezone.utc)
        period = begin, require_zone(until, "until")
        with self._connect() as conn:
            return alerts.silence(conn, self.strategy_id, rule, period, by, why)

    # Reading

    def metrics(self, start: date, end: date) -> list[DriftMetrics]:
        """What is stored of the sessions from `start` to `end`."""
        with self._connect() as conn:
            days = [run.session for run in values.runs(conn, self.strategy_id, start, end)]
            return [self._stored_metrics(conn, day) for day in days]

    def last_session(self) -> date | None:
        """The last session computed; None before any."""
        with self._connect() as conn:
            row = conn.execute(_queries.last_run, {"strategy_id": self.strategy_id}).fetchone()
        return row[0] if row else None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force."""
        return self.strategy.rules

    def override_session(
        self, session: date, *, is_session: bool, why: str, close: datetime | None = None
    ) -> None:
        """Correct the calendar on one day: closed after all, open after all, another close."""
        override = Override(parse_day(session, "session"), is_session, close, why)
        with self._connect() as conn:
            record_override(conn, self.calendar.name, override)
            calendar = read_calendar(conn, self.calendar.name)
            self._strategy = replace(self.strategy, calendar=calendar)

    @property
    def tracking_uri(self) -> str | None:
        """Where sessions become MLflow runs; None for nowhere. It may hold a password."""
        if self._tracking_uri is False:
            return None
        return str(self._tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or self.uri.url)

    def report(self, session: date | None = None) -> str:
        """One session (by default the last computed) as a self-contained HTML page.

        Raises NotASession if it was not computed.
        """
        from .report import contents as reporting
        from .report import page as report

        with self._connect() as conn:
            history = reporting.read_history(conn, self.strategy)
            if not history.sessions:
                raise NotASession(f"no session of {self.strategy_id!r} has been computed yet")
            day = history.sessions[-1] if session is None else self._session(session)
            return report.render(reporting.gather(conn, self.strategy, day, history))

    def simulate(
        self, rules: strategies.Rules | None = None, *, n_paths: int = 4000
    ) -> list[RuleSimulation]:
        """The false alarms and delay of rules, drawn from the strategy's own healthy history.

        Raises ValueError for a history of fewer than 60 sessions.
        """
        from .alerts.simulation import simulate
        from .report import contents as reporting

        with self._connect() as conn:
            history = reporting.read_history(conn, self.strategy)
            accepted = references.References(conn, self.strategy_id).accepted
        levels = [level for level in history.levels if level is not None]
        healthy = slice(None)
        if accepted:
            ends = [day for day in history.sessions if day <= accepted[-1].window_end]
            healthy = slice(len(ends))
        known = {name: array[healthy] for name, array in history.arrays.items()}
        return simulate(
            self.rules
            if rules is None
            else strategies.rules_from_json(strategies.rules_as_json(rules)),
            {name: array for name, array in known.items() if np.isfinite(array).any()},
            {"ic": levels[-1]} if levels else None,
            n_paths=n_paths,
            periods_per_year=self.strategy.periods_per_year,
        )

    def onset(self) -> tuple[Onset, list[date]] | None:
        """When the latest fall of the IC began, and the sessions its indices point into.

        None where the IC never fell far below the accepted level, or none was accepted.
        """
        with self._connect() as conn:
            accepted = references.References(conn, self.strategy_id)
            history = History.read(conn, self.strategy, accepted)
        judged = [i for i, level in enumerate(history.levels) if level is not None]
        if not judged:
            return None
        level = history.levels[judged[-1]]
        first = next(i for i in judged if history.levels[i] == level)
        found = cusum.onset(history.of("ic")[first:], level) if level else None
        return (found, list(history.sessions[first:])) if found else None

    def connect(self) -> AbstractContextManager[Connection]:
        """A connection to the monitor's database, in UTC; close it."""
        return self.database.connection()

    # Below: the steps of the above.

    @contextmanager
    def _connect(self, *, create: bool = False) -> Iterator[Connection]:
        """A connection, after the strategy was read; with `create` a new one is recorded first."""
        with self.connect() as conn:
            if self._strategy is None:
                strategies.record(
                    conn, self.strategy_id, self._calendar, self._options, create=create
                )
                self._strategy = strategies.read(conn, self.strategy_id)
            yield conn

    @contextmanager
    def _computing(self, conn: Connection) -> Iterator[None]:
        with conn.transaction():
            conn.execute(_queries.lock_to_compute, {"strategy_id": self.strategy_id})
            yield

    def _session(self, session: date) -> date:
        day = parse_day(session, "session")
        self.calendar.session_close(day)
        return day

    def _stale(self, conn: Connection) -> dict[date, bool]:
        """Sessions to compute again, and whether only returns have changed."""
        row = {"strategy_id": self.strategy_id}
        return dict(conn.execute(_queries.stale_sessions, row).fetchall())

    def _missed(self, conn: Connection, day: date) -> list[date]:
        """Sessions between the last one computed and `day`."""
        row = conn.execute(_queries.last_run, {"strategy_id": self.strategy_id}).fetchone()
        last = row[0] if row else None
        if last is None or not last < day or self.calendar.sessions_apart(last, day) > CATCH_UP:
            return []
        return self.calendar.sessions_in_range(last, day)[1:]

    def _compute(self, conn: Connection, days: Sequence[date], only_returns: set[date]) -> None:
        for start in range(0, len(days), TOGETHER):
            together = days[start : start + TOGETHER]
            with self._computing(conn):
                batch = pipeline.compute(
                    conn, self.strategy, together, only_returns=sorted(only_returns)
                )
                pipeline.store(conn, self.strategy, batch)

    def _stored_metrics(self, conn: Connection, day: date) -> DriftMetrics:
        here = values.of_sessions(conn, self.strategy_id, day, day)
        return DriftMetrics.of(self.strategy_id, day, here)

    def _tell(self, conn: Connection, day: date) -> None:
        found = alerts.to_notify(conn, self.strategy_id)
        if not found:
            return
        message = notify.Message.of(self.strategy_id, day, found)
        try:
            notify.send(message, self._targets, self.on_alert)
        except notify.NotificationFailed as exc:
            notify.logger.warning("%s; the next run tries again", exc)
        else:
            alerts.mark_notified(conn, self.strategy_id, found)

    def _log(self, conn: Connection, *, reports: bool = False) -> None:
        uri = self.tracking_uri
        if uri is not None:
            from .mlflow_runs import log_pending

            log_pending(self.database, conn, self.strategy, uri, reports=reports)


def _bare_run(metrics: DriftMetrics, calendar: TradingCalendar) -> values.Run:
    return values.Run(metrics.date, 0, "ok", "", "", calendar.session_close(metrics.date))
