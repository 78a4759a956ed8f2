"""The settings and recorded data of one strategy: the base of `DriftMonitor`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import date, datetime
from typing import Any, cast

from mlflow_timescale import db
from mlflow_timescale.common.calendar_overrides import read_calendar, record_override
from mlflow_timescale.common.calendars import Override, TradingCalendar
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import InvalidTime, parse_day
from mlflow_timescale.db import Connection, DatabaseURI, load

from . import strategies
from .alerts import targets
from .alerts.messages import Messages
from .alerts.rules import Rule
from .computation.computed import ComputedSessions
from .inputs import recording
from .strategies import Strategy

_queries = load("drift")


class WatchedStrategy:
    """The part of `DriftMonitor` that configures and records; it holds the connections."""

    def __init__(
        self,
        uri: str | DatabaseURI | db.Database | None = None,
        strategy_id: str = "default",
        *,
        calendar: str | None = None,
        rules: strategies.Rules | None = None,
        signal: str | None = None,
        model_name: str | None = None,
        model_version: str | None = None,
        features: Sequence[str] | None = None,
        min_n: int | None = None,
        periods_per_year: float | None = None,
        notify: Sequence[str] | None = None,
        on_alert: targets.OnAlert | None = None,
        tracking_uri: str | bool | None = None,
        conninfo: str | None = None,
        dsn: str | None = None,
    ) -> None:
        self.database = db.Database.of(
            db.one_of(uri, conninfo, dsn), application="drift", translate=True
        )
        self.uri = self.database.uri
        check_text(strategy_id, "strategy_id")
        self.strategy_id = strategy_id
        receivers = targets.configured(notify, on_alert)
        self._messages = Messages(self.database, strategy_id, receivers)
        self._tracking_uri = tracking_uri
        self._calendar = calendar
        self._options = strategies.options_as_json(
            rules=rules,
            signal=signal,
            model_name=model_name,
            model_version=model_version,
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
        """The strategy with its settings, as stored.

        Examples
        --------
        >>> monitor.strategy.strategy_id, monitor.strategy.min_n
        ('momentum', 20)
        """
        if self._strategy is None:
            with self._connect():
                pass
        return cast("Strategy", self._strategy)

    @property
    def calendar(self) -> TradingCalendar:
        """The trading calendar of the strategy, with its overrides.

        Examples
        --------
        >>> monitor.calendar.is_session(date(2024, 1, 15))  # Martin Luther King Day
        False
        """
        return self.strategy.calendar

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force.

        Examples
        --------
        >>> monitor.rules[0].name
        'ic drift'
        """
        return self.strategy.rules

    def configure(
        self,
        *,
        calendar: str | None = None,
        rules: strategies.Rules | None = None,
        signal: str | None = None,
        model_name: str | None = None,
        model_version: str | None = None,
        features: Sequence[str] | None = None,
        min_n: int | None = None,
        periods_per_year: float | None = None,
        research: Mapping[str, Any] | None = None,
        tolerances: Mapping[str, float] | None = None,
        create: bool = True,
    ) -> Strategy:
        """Store settings of the strategy, and the strategy if it is new; return it.

        Parameters
        ----------
        calendar, rules, signal, model_name, model_version, features, min_n, periods_per_year
            As in the class; a setting that is given neither here nor there stays as it is.
        research, tolerances
            As of `reconcile`, for every morning: files, versions and views, which can be stored.
        create
            False raises UnknownStrategy for a new strategy.

        Returns
        -------
        Strategy

        Raises
        ------
        ValueError
            A preset or a rule is unknown, or a source of research cannot be stored.
        UnknownCalendar
            No exchange has that calendar.

        Warns
        -----
        UnknownFeatures
            The feature store of the database has features, but none of a name in `features`.

        Examples
        --------
        >>> monitor.configure(rules="classic", min_n=10).rules[0].name
        'ic low'
        """
        self._calendar = calendar or self._calendar
        self._options |= strategies.options_as_json(
            rules=rules,
            signal=signal,
            model_name=model_name,
            model_version=model_version,
            features=features,
            min_n=min_n,
            periods_per_year=periods_per_year,
            research=research,
            tolerances=tolerances,
        )
        self._strategy = None
        with self._connect(create=create) as conn:
            strategies.warn_of_unknown_features(conn, self._options.get("features") or ())
            return self.strategy

    def record_predictions(self, frame: Any, *, columns: Mapping[str, str] | None = None) -> int:
        """Record signals of models; the last one recorded for a name and session counts.

        Columns: entity_key, signal, and signal_time (aware) or session; optional horizon (in
        sessions, by default 1), signal_name, model_name, model_version, group. A pandas frame may
        have them as levels of its index.

        Parameters
        ----------
        columns
            The columns that have other names: a mapping of ours to the frame's, such as
            `{"entity_key": "instrument", "session": "datetime", "signal": "score"}` for qlib.

        Returns
        -------
        int
            How many rows were new.

        Raises
        ------
        InvalidFrame
            A column is missing, or a value is unusable.
        NotASession
            A row belongs to a date on which the exchange is closed.
        Contradiction
            The frame has two values for one key.

        Examples
        --------
        >>> monitor.record_predictions(predictions)
        0
        """
        with self._connect(create=True) as conn:
            return recording.record_predictions(
                conn, self.strategy_id, self.calendar, frame, columns
            )

    def record_returns(self, frame: Any, *, columns: Mapping[str, str] | None = None) -> int:
        """Record the returns of names after their signals.

        Columns: entity_key, session (the signal's) or event_time (aware, when the return begins),
        value (a fraction: 0.01 is 1%); optional horizon (in sessions, by default 1) and known_at
        (aware). `feature_store.forward_returns` gives such a frame.

        Parameters
        ----------
        columns
            The columns that have other names, as for `record_predictions`.

        Returns
        -------
        int
            How many rows were new.

        Raises
        ------
        InvalidFrame
            A column is missing, or a value is unusable.
        NotASession
            A row belongs to a date on which the exchange is closed.
        Contradiction
            The frame has two values for one key.

        Examples
        --------
        >>> late = {"entity_key": ["N00"], "session": [days[-1]], "value": [0.012]}
        >>> monitor.record_returns(late)
        1
        """
        with self._connect(create=True) as conn:
            return recording.record_returns(conn, self.strategy_id, self.calendar, frame, columns)

    def record_strategy_returns(
        self, frame: Any, *, columns: Mapping[str, str] | None = None
    ) -> int:
        """Record the returns of the strategy itself.

        Columns: session, value (a fraction); optional known_at (aware).

        Parameters
        ----------
        columns
            The columns that have other names, as for `record_predictions`.

        Returns
        -------
        int
            How many rows were new.

        Raises
        ------
        InvalidFrame
            A column is missing, or a value is unusable.
        NotASession
            A row belongs to a date on which the exchange is closed.
        Contradiction
            The frame has two values for one key.

        Examples
        --------
        >>> monitor.record_strategy_returns({"session": days[:2], "value": [0.004, -0.001]})
        2
        """
        with self._connect(create=True) as conn:
            return recording.record_strategy_returns(
                conn, self.strategy_id, self.calendar, frame, columns
            )

    def override_session(
        self, session: date, *, is_session: bool, why: str, close: datetime | None = None
    ) -> None:
        """Correct the calendar on one date: closed, open, or with another close.

        Parameters
        ----------
        is_session
            Whether the exchange is open.
        why
            The reason, kept with the override.
        close
            The close (aware), if it differs.

        Raises
        ------
        InvalidTime
            `close` has no time zone.

        Examples
        --------
        >>> monitor.override_session(date(2024, 2, 1), is_session=False, why="storm")
        >>> monitor.calendar.sessions_in_range(date(2024, 1, 31), date(2024, 2, 2))
        [datetime.date(2024, 1, 31), datetime.date(2024, 2, 2)]
        """
        check_text(why, "why")
        override = Override(parse_day(session, "session"), is_session, close, why)
        with self._connect() as conn:
            record_override(conn, self.calendar.name, override)
            calendar = read_calendar(conn, self.calendar.name)
            self._strategy = replace(self.strategy, calendar=calendar)

    @property
    def tracking_uri(self) -> str | None:
        """Where sessions become MLflow runs; None for nowhere. It may contain a password.

        Examples
        --------
        >>> monitor.tracking_uri is None
        True
        """
        if self._tracking_uri is False:
            return None
        return str(self._tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or self.uri.url)

    def connect(self) -> AbstractContextManager[Connection]:
        """A connection to the monitor's database, in UTC, for a `with` block.

        Returns
        -------
        context manager of psycopg.Connection

        Examples
        --------
        >>> with monitor.connect() as conn:
        ...     conn.execute("SELECT count(*) FROM mlops.drift_predictions").fetchone()
        (630,)
        """
        return self.database.connection()

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

    def _session(self, session: date) -> date:
        day = parse_day(session, "session")
        self.calendar.session_close(day)
        return day


def parse_period(start: str | date, end: str | date) -> tuple[date, date]:
    """The first and the last date of a period. Raises InvalidTime if it ends before it begins.

    >>> parse_period("2024-01-12", "2024-01-16")
    (datetime.date(2024, 1, 12), datetime.date(2024, 1, 16))
    """
    period = parse_day(start, "start"), parse_day(end, "end")
    if period[1] < period[0]:
        raise InvalidTime(f"the end {period[1]} lies before the start {period[0]}")
    return period
