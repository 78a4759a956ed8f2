"""The daily job: are the features fresh, which model runs, does it drift, what should a person do.

One call for cron: it runs the monitor of each strategy and decides between: healthy,
alerts, or (by raising) that it could not find out. What it recommends it never does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

from mlflow_timescale.common import logs
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Database, DatabaseURI, Error, load

from .alerts.deliveries import Delivery
from .alerts.headroom import Headroom
from .alerts.lifecycle import Alert, handled_text
from .alerts.retraining import RetrainingTrigger, triggers
from .inputs import feature_values
from .monitor import DriftMonitor
from .results import values
from .results.drift_metrics import DriftMetrics
from .results.limits import outlook
from .strategies import names as recorded_strategies

if TYPE_CHECKING:
    from mlflow_timescale.features import Freshness

_queries = load("drift")
logger = logs.logger(__name__)

NAMES = 50  # enough to see a feed that stopped
HEALTHY = "All metrics are within their accepted range."


@dataclass(frozen=True)
class Model:
    """The model that the session's predictions name, and its entry in the registry.

    `created` and `aliases` are empty where the registry does not know it, `note` is the reason.
    `champion` describes the present champion if it is another version.
    """

    name: str
    version: str
    created: datetime | None = None
    aliases: tuple[str, ...] = ()
    note: str = ""
    champion: str = ""


@dataclass(frozen=True)
class Daily:
    """One strategy on one day. `decision` is a recommendation to a person.

    `retraining` holds the open alerts that are reasons to consider retraining; nothing is started
    by them. `undelivered` are the messages that a target has not taken after an attempt.

    `closed_at` is the close of the session, `computed_at` the time of this run (both aware, UTC).
    `cautions` say how far the monitor can be trusted, `last_known` what earlier sessions knew of
    the figures that this one does not have yet.
    """

    strategy_id: str
    session: date
    features: tuple[Freshness, ...]
    model: Model
    metrics: DriftMetrics
    alerts: tuple[Alert, ...]
    decision: tuple[str, ...]
    closed_at: datetime
    computed_at: datetime
    limits: tuple[Headroom, ...] = ()
    cautions: tuple[str, ...] = ()
    last_known: Mapping[str, str] = field(default_factory=dict)
    retraining: tuple[RetrainingTrigger, ...] = ()
    undelivered: tuple[Delivery, ...] = ()

    @property
    def healthy(self) -> bool:
        """No open alert (acknowledged and silenced ones aside), and no stale feature."""
        return not self.alerts and not any(feature.is_stale for feature in self.features)


@dataclass(frozen=True)
class Unchecked:
    """A strategy that could not be checked. `error` is one line."""

    strategy_id: str
    error: str


def daily_job(
    uri: str | DatabaseURI,
    strategies: Sequence[str] | None = None,
    *,
    session: date | None = None,
    now: datetime | None = None,
    **options: Any,
) -> list[Daily | Unchecked]:
    """Run every strategy (or some) for the last closed session, each by itself.

    A strategy that fails (its exchange was closed, its name is not recorded, its settings cannot be
    read) becomes an `Unchecked`; the others are computed all the same. `options` go to
    `DriftMonitor`. Raises Error if no strategy is recorded, ConnectionFailed without a database.
    """
    database = Database.of(uri, application="drift", translate=True)
    if strategies is None:
        with database.connection() as conn:
            strategies = recorded_strategies(conn)
    if not strategies:
        raise Error("no strategy is watched yet; record predictions first: `drift record`")
    return [
        _by_itself(DriftMonitor(database, name, **options), session, now) for name in strategies
    ]


def _by_itself(
    monitor: DriftMonitor, session: date | None, now: datetime | None
) -> Daily | Unchecked:
    try:
        return _daily(monitor, session, now)
    except Exception as exc:  # whatever stops one strategy must not stop the others
        logger.debug("strategy %s could not be checked", monitor.strategy_id, exc_info=True)
        text = one_line(exc) or type(exc).__name__
        kind = "" if isinstance(exc, Error) else f"{type(exc).__name__}: "
        return Unchecked(monitor.strategy_id, f"{kind}{text}")


def _daily(monitor: DriftMonitor, session: date | None, now: datetime | None) -> Daily:
    metrics = monitor.run_daily(session, now=now)
    limits = tuple(monitor.headroom(metrics.date))
    fresh = _freshness(monitor, metrics.date, now)
    return Daily(
        strategy_id=monitor.strategy_id,
        session=metrics.date,
        features=fresh,
        model=_model(monitor, metrics.date),
        metrics=metrics,
        alerts=metrics.alerts,
        decision=tuple(_decide(metrics, fresh, outlook(limits))),
        closed_at=monitor.calendar.session_close(metrics.date),
        computed_at=now or datetime.now(timezone.utc),
        limits=limits,
        cautions=tuple(monitor.cautions(_moment(monitor, session, now))),
        last_known=monitor.last_known(metrics),
        retraining=triggers(metrics.alerts),
        undelivered=tuple(each for each in monitor.undelivered() if each.attempts),
    )


def _moment(monitor: DriftMonitor, session: date | None, now: datetime | None) -> datetime | None:
    """The present, or the next open after a session that is asked for: later ones are not known."""
    if session is None:
        return now
    over = monitor.calendar.session_open(monitor.calendar.next_session(session))
    return min(now or datetime.now(timezone.utc), over)


def _freshness(monitor: DriftMonitor, session: date, now: datetime | None) -> tuple[Freshness, ...]:
    """Of some of the names that the strategy trades, as known now, or when the session was over."""
    over = monitor.calendar.session_open(monitor.calendar.next_session(session))
    as_of = min(now or datetime.now(timezone.utc), over)
    asked = {
        "strategy_id": monitor.strategy_id,
        "signal": monitor.strategy.signal,
        "session": session,
        "names": NAMES,
    }
    with monitor.connect() as conn:
        if not feature_values.exist(conn):
            return ()
        names = [row[0] for row in conn.execute(_queries.names_predicted, asked)]
        wanted = monitor.strategy.features
        runs = values.runs(conn, monitor.strategy_id, session, session)
        early = bool(runs) and runs[0].as_of < monitor.calendar.session_close(session)
        found = feature_values.freshness(
            conn, monitor.calendar, session, names, wanted, as_of=as_of, before_close=early
        )
    return tuple(found)


def _model(monitor: DriftMonitor, session: date) -> Model:
    with monitor.connect() as conn:
        runs = values.runs(conn, monitor.strategy_id, session, session)
    name, version = "", ""
    if runs:
        name, version = runs[0].model_name or monitor.strategy.model_name, runs[0].model_version
    if not name:
        return Model("", "", note="the predictions name no model")
    model, champion = _registered(monitor, name, version), monitor.champion()
    if champion is None or not version or champion.names(version):
        return model
    return replace(model, champion=str(champion))


def _registered(monitor: DriftMonitor, name: str, version: str) -> Model:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = monitor.tracking_uri
    if uri is None:
        return Model(name, version, note="MLflow is switched off")
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI"))
        found = (
            client.get_model_version(name, version)
            if version
            else client.get_model_version_by_alias(name, "champion")
        )
        aliases = client.get_registered_model(name).aliases
    except MlflowException as exc:
        return Model(name, version, note=str(exc).partition("\n")[0][:200])
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, tz=timezone.utc)
    own = tuple(sorted(a for a, v in aliases.items() if str(v) == str(found.version)))
    return Model(name, str(found.version), created, own)


def _decide(metrics: DriftMetrics, fresh: Sequence[Freshness], near: str) -> Iterator[str]:
    stale = [feature.feature_name for feature in fresh if feature.is_stale]
    if stale:
        yield f"Check the feature job: nothing new of {', '.join(stale[:10])}."
    for alert in metrics.alerts:
        note = f" {alert.note}." if alert.note else ""
        yield f"{alert.severity}: {alert.rule} since {alert.session}.{note} {alert.action}".strip()
    yield from map(handled_text, metrics.handled)
    for trigger in triggers(metrics.alerts):
        yield f"Retraining trigger: {trigger.text}."
    if not stale and not metrics.alerts and not metrics.handled:
        yield f"{HEALTHY} But {near}" if near else HEALTHY
