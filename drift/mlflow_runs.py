"""Sessions as MLflow runs: one parent per strategy that carries the series, one child per session.

Values are stored before anything is logged, and what was logged is noted per session: a run that
cannot reach MLflow leaves the rest to the next one. A revised value is logged at the same step with
a later timestamp (the close plus the revision, in milliseconds): MLflow's latest is the greatest
(step, timestamp, value), so a value revised downwards would else never show. What cannot be
computed is a tag, never a NaN, which breaks MLflow's pages.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import (
    Experiment,
    Metric,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException

from mlflow_timescale.common import logs
from mlflow_timescale.db import Connection, Database, load
from mlflow_timescale.db.rows import records, scalar

from . import mlflow_pages
from .mlflow_pages import EXPERIMENT_TAGS, NOTE
from .mlflow_sessions import (
    RETRAINING,
    Log,
    belongs_to_series,
    changed_values,
    describe_session,
    log_child,
    log_metrics,
    log_report,
    metric_name,
    open_status,
    to_metric,
)
from .results import values
from .results.references import References
from .results.values import Run
from .strategies import Strategy

__all__ = ["log_incident", "log_pending", "metric_name"]

_queries = load("drift")
logger = logs.logger(__name__)

REACH_TIMEOUT = 5.0
INCIDENTS = "incident"  # a folder of the strategy's run
GROUP = 20  # sessions that share a call for the parent's series
_SERIES = "tags.`drift.role` = 'series'"


class Unreachable(Exception):
    """MLflow does not answer."""


def log_pending(
    database: Database,
    conn: Connection,
    strategy: Strategy,
    tracking_uri: str,
    *,
    reports: bool = False,
) -> int:
    """Log every session that MLflow does not have as it is now; return how many were logged.

    Never raises for MLflow's sake: what fails is left to the next run, with a warning. The last
    session gets its report, with `reports` every one.
    """
    with database.lock(_queries.try_to_log, {"strategy_id": strategy.strategy_id}) as alone:
        pending = _pending(conn, strategy) if alone else []
        misnumbered = alone and _is_misnumbered(conn, strategy)
        if not pending and not misnumbered:
            return 0
        done = 0
        try:
            log = _open(conn, strategy, tracking_uri)
            if misnumbered:
                log = _with_new_series(log)
            for start in range(0, len(pending), GROUP):
                group = pending[start : start + GROUP]
                _log_sessions(log, group, group if reports else [pending[-1]])
                done += len(group)
            _describe_strategy(log, pending[-1])
            log.client.set_terminated(log.parent_id, "FINISHED")
            if pending:
                _tag_version(log, pending[-1])
        except (MlflowException, Unreachable, OSError) as exc:
            logger.warning(
                "MLflow has %d of %d sessions of %s; the next run tries again: %s",
                done,
                len(pending),
                strategy.strategy_id,
                _first_line(exc),
            )
        return done


def log_incident(
    conn: Connection, strategy: Strategy, tracking_uri: str, session: date, page: str
) -> str | None:
    """Make a page the artifact `incident/<session>.html` of the strategy's run; return the run.

    Never raises for MLflow's sake: None, with a warning, where it cannot be reached.
    """
    try:
        log = _open(conn, strategy, tracking_uri)
        log.client.log_text(log.parent_id, page, f"{INCIDENTS}/{session}.html")
    except (MlflowException, Unreachable, OSError) as exc:
        logger.warning(
            "the page of the incident of %s on %s is not in MLflow: %s",
            strategy.strategy_id,
            session,
            _first_line(exc),
        )
        return None
    return log.parent_id


def _pending(conn: Connection, strategy: Strategy) -> list[Run]:
    runs = records(conn, Run, _queries.runs_to_log, {"strategy_id": strategy.strategy_id})
    # A correction of the calendar may have removed a session that was computed.
    return [run for run in runs if strategy.calendar.is_session(run.session)]


def _open(conn: Connection, strategy: Strategy, tracking_uri: str) -> Log:
    _reach(tracking_uri)
    client = MlflowClient(tracking_uri=tracking_uri)
    name = f"drift/{strategy.strategy_id}"
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        experiment_id = client.create_experiment(name, tags=EXPERIMENT_TAGS)
    else:
        experiment_id = experiment.experiment_id
        for key in set(EXPERIMENT_TAGS) - set(experiment.tags):
            client.set_experiment_tag(experiment_id, key, EXPERIMENT_TAGS[key])
    parent = _parent(client, str(experiment_id), strategy, experiment)
    judging = References(conn, strategy.strategy_id).judging
    newest = judging[-1] if judging else None
    reference = f"{newest.version}: {newest.window_start} to {newest.window_end}" if newest else ""
    if newest and newest.role == "provisional":
        reference = f"provisional {reference}"
    return Log(conn, strategy, client, str(experiment_id), parent, reference)


def _reach(tracking_uri: str) -> None:
    """Ask once: MLflow's client would retry a server that is down for minutes."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https"):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=REACH_TIMEOUT).close()
    except OSError as exc:
        raise Unreachable(f"no answer from {parts.hostname}:{port} ({exc})") from exc


def _parent(
    client: MlflowClient, experiment_id: str, strategy: Strategy, experiment: Experiment | None
) -> str:
    found: Sequence[Any] = ()
    if experiment is not None:
        found = client.search_runs([experiment_id], _SERIES, ViewType.ACTIVE_ONLY, 1)
    if found:
        return str(found[0].info.run_id)
    return _create_series(client, experiment_id, strategy)


def _create_series(client: MlflowClient, experiment_id: str, strategy: Strategy) -> str:
    tags = {"drift.role": "series", "drift.strategy": strategy.strategy_id}
    run = client.create_run(experiment_id, tags=tags, run_name=strategy.strategy_id)
    return str(run.info.run_id)


def _is_misnumbered(conn: Connection, strategy: Strategy) -> bool:
    row = {"strategy_id": strategy.strategy_id}
    return bool(scalar(conn, _queries.misnumbered_runs, row))


def _with_new_series(log: Log) -> Log:
    """The log with a new series run in which each session is at its number; old ones are deleted.

    A point of MLflow cannot be deleted. The numbers change where an earlier session was computed
    later, where the calendar was corrected, and once for series of versions that numbered wrongly.
    """
    new = _create_series(log.client, log.experiment_id, log.strategy)
    log = replace(log, parent_id=new)
    row = {"strategy_id": log.strategy.strategy_id}
    runs = records(log.conn, Run, _queries.logged_runs, row)
    for start in range(0, len(runs), GROUP):
        series: list[Metric] = []
        for run in runs[start : start + GROUP]:
            if log.strategy.calendar.is_session(run.session):
                series += _series_of(log, replace(run, logged_revision=None))
            if run.mlflow_run_id is not None:
                log.client.set_tag(run.mlflow_run_id, "mlflow.parentRunId", new)
        log_metrics(log, new, series)
    log.conn.execute(_queries.series_renumbered, row)
    for old in log.client.search_runs([log.experiment_id], _SERIES, ViewType.ACTIVE_ONLY):
        if old.info.run_id != new:
            log.client.delete_run(old.info.run_id)
    return log


def _series_of(log: Log, run: Run) -> list[Metric]:
    changed = changed_values(log, run)
    return [to_metric(log, v, run) for v in changed if belongs_to_series(v)]


def _log_sessions(log: Log, runs: Sequence[Run], reported: Sequence[Run]) -> None:
    """Log some sessions, and note that they are logged when all of it is."""
    series: list[Metric] = []
    for run in runs:
        changed = changed_values(log, run)
        child = log_child(log, run, changed)
        series += [to_metric(log, v, run) for v in changed if belongs_to_series(v)]
        if run in reported:
            log_report(log, run.session, child)
        describe_session(log, run, child, is_reported=run in reported)
    log_metrics(log, log.parent_id, series)
    for run in runs:
        _note_logged(log, run)


def _describe_strategy(log: Log, logged: Run) -> None:
    """Put the last session's status and report on the strategy's run, which is opened first."""
    last = values.runs(log.conn, log.strategy.strategy_id)[-1]
    if last.session != logged.session or last.mlflow_run_id is None:
        return
    page = log.page(last, last.mlflow_run_id, has_report=True)
    tags = {
        NOTE: mlflow_pages.strategy_note(page),
        "drift.status": page.status,
        "drift.alerts": ", ".join(alert.rule for alert in page.alerts),
        "drift.session": last.session.isoformat(),
        RETRAINING: log.retraining(last.session),
    }
    log.client.log_batch(log.parent_id, tags=[RunTag(key, value) for key, value in tags.items()])
    log_report(log, last.session, log.parent_id)


def _note_logged(log: Log, run: Run) -> None:
    row = {
        "strategy_id": log.strategy.strategy_id,
        "session": run.session,
        "revision": run.revision,
    }
    log.conn.execute(_queries.logged, row)


def _tag_version(log: Log, run: Run) -> None:
    """Tell the registry how the judged version fares; setting the tag fires its webhooks."""
    row = {"strategy_id": log.strategy.strategy_id, "session": run.session}
    # A session without predictions judges the model that should have made them.
    named = log.conn.execute(_queries.judged_model, row).fetchone()
    name, version = named or (log.strategy.model_name, "")
    if not name:
        return
    try:
        found = (
            log.client.get_model_version(name, version)
            if version
            else log.client.get_model_version_by_alias(name, "champion")
        )
    except MlflowException:
        return  # predictions may name a model that was never registered
    status = open_status(log.conn, log.strategy.strategy_id, run.session).worst
    if found.tags.get("drift.status") != status:
        log.client.set_model_version_tag(name, found.version, "drift.status", status)
        log.client.set_model_version_tag(
            name, found.version, "drift.session", run.session.isoformat()
        )


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0][:200]
