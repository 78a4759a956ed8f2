"""Sessions as MLflow runs: one parent per strategy that carries the series, one child per session.

Values are stored before anything is logged, and what was logged is noted per session: a run that
cannot reach MLflow leaves the rest to the next one. A revised value is logged at the same step with
a later timestamp (the close plus the revision, in milliseconds): MLflow's latest is the greatest
(step, timestamp, value), so a value revised downwards would else never show. What cannot be
computed is a tag, never a NaN, which breaks MLflow's pages.
"""

from __future__ import annotations

import logging
import re
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LoggedModelInput,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException

from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db import Connection, Database, load
from mlflow_timescale.db.rows import records, scalar

from . import mlflow_pages
from .alerts import lifecycle
from .alerts.headroom import headroom
from .alerts.lifecycle import Alert
from .alerts.rules import Evaluation
from .computation.history import History
from .mlflow_pages import EXPERIMENT_TAGS, NOTE, SessionPage
from .results import values
from .results.references import References
from .results.values import Run, Value
from .strategies import Strategy

_queries = load("drift")
logger = logging.getLogger(__name__)

REACH_TIMEOUT = 5.0
REPORTED = "drift.report"
BATCH = 1000  # MLflow's limit of metrics in a call
GROUP = 20  # sessions that share a call for the parent's series
PARENT_FEATURES = 100  # beyond these, features are drawn in their sessions' runs only
_SERIES = "tags.`drift.role` = 'series'"
_FORBIDDEN = re.compile(r"[^\w\-. /:]")


class Unreachable(Exception):
    """MLflow does not answer."""


class Status(NamedTuple):
    """The worst severity open on a session ("ok" if none), and the rules that are open."""

    worst: str
    rules: str


@dataclass(frozen=True)
class Log:
    """Where one strategy's sessions are logged."""

    conn: Connection
    strategy: Strategy
    client: MlflowClient
    experiment_id: str
    parent_id: str
    reference: str

    @cached_property
    def history(self) -> History:
        """All that reports draw."""
        from .report import contents as reporting

        return reporting.read_history(self.conn, self.strategy)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The rules over all sessions."""
        return self.history.judge(self.strategy.rules)

    @cached_property
    def alerts(self) -> Sequence[Alert]:
        """All stored alerts."""
        return lifecycle.find(self.conn, self.strategy.strategy_id)

    def page(self, run: Run, run_id: str, *, has_report: bool) -> SessionPage:
        """What a session's description shows."""
        strategy, session = self.strategy, run.session
        return SessionPage(
            session=session,
            experiment_id=self.experiment_id,
            run_id=run_id,
            values=values.of_sessions(self.conn, strategy.strategy_id, session, session),
            alerts=lifecycle.loud(lifecycle.as_of(self.alerts, strategy.rules, session)),
            rooms=headroom(self.evaluation, self.history.sessions.index(session)),
            model=f"{run.model_name}/{run.model_version}".strip("/"),
            has_report=has_report,
        )


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
        _log_metrics(log, new, series)
    log.conn.execute(_queries.series_renumbered, row)
    for old in log.client.search_runs([log.experiment_id], _SERIES, ViewType.ACTIVE_ONLY):
        if old.info.run_id != new:
            log.client.delete_run(old.info.run_id)
    return log


def _series_of(log: Log, run: Run) -> list[Metric]:
    changed = _changed(log, run)
    return [_metric(log, v, run) for v in changed if _belongs_to_series(v, changed)]


def _log_sessions(log: Log, runs: Sequence[Run], reported: Sequence[Run]) -> None:
    """Log some sessions, and note that they are logged when all of it is."""
    series: list[Metric] = []
    for run in runs:
        changed = _changed(log, run)
        child = _log_child(log, run, changed)
        series += [_metric(log, v, run) for v in changed if _belongs_to_series(v, changed)]
        if run in reported:
            _report(log, run.session, child)
        _describe_session(log, run, child, is_reported=run in reported)
    _log_metrics(log, log.parent_id, series)
    for run in runs:
        _note_logged(log, run)


def _log_child(log: Log, run: Run, changed: Sequence[Value]) -> str:
    started = time.monotonic()
    tags = _tags(run, open_status(log.conn, log.strategy.strategy_id, run.session), changed)
    params: list[Param] = []
    child = run.mlflow_run_id
    if child is None:
        child, params = _create_child(log, run), _params(log, run)
    metrics = [_metric(log, v, run) for v in changed if v.value is not None]
    run_tags = [RunTag(key, value) for key, value in tags.items()]
    log.client.log_batch(child, metrics[:BATCH], params=params, tags=run_tags)
    _log_metrics(log, child, metrics[BATCH:])
    # The run starts at the session's close; it lasts as long as its computation, not until today.
    elapsed = int(1000 * (time.monotonic() - started))
    end = _millis(log.strategy.calendar.session_close(run.session)) + elapsed
    log.client.set_terminated(child, "FINISHED", end)
    return child


def _describe_session(log: Log, run: Run, child: str, *, is_reported: bool) -> None:
    if not is_reported and run.mlflow_run_id is not None:
        is_reported = REPORTED in log.client.get_run(child).data.tags
    note = mlflow_pages.session_note(log.page(run, child, has_report=is_reported))
    tags = {NOTE: note, **({REPORTED: "report.html"} if is_reported else {})}
    log.client.log_batch(child, tags=[RunTag(key, value) for key, value in tags.items()])


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
    }
    log.client.log_batch(log.parent_id, tags=[RunTag(key, value) for key, value in tags.items()])
    _report(log, last.session, log.parent_id)


def _log_metrics(log: Log, run_id: str, metrics: Sequence[Metric]) -> None:
    for start in range(0, len(metrics), BATCH):
        log.client.log_batch(run_id, metrics[start : start + BATCH])


def _note_logged(log: Log, run: Run) -> None:
    row = {
        "strategy_id": log.strategy.strategy_id,
        "session": run.session,
        "revision": run.revision,
    }
    log.conn.execute(_queries.logged, row)


def _create_child(log: Log, run: Run) -> str:
    tags = {
        "mlflow.parentRunId": log.parent_id,
        "drift.role": "session",
        "drift.session": run.session.isoformat(),
        "drift.strategy": log.strategy.strategy_id,
    }
    child = log.client.create_run(
        log.experiment_id,
        start_time=_millis(log.strategy.calendar.session_close(run.session)),
        tags=tags,
        run_name=run.session.isoformat(),
    )
    child_id = str(child.info.run_id)
    log.conn.execute(
        _queries.claim_run,
        {"strategy_id": log.strategy.strategy_id, "session": run.session, "run_id": child_id},
    )
    log.client.log_inputs(child_id, datasets=_datasets(log, run), models=_models(log, run))
    return child_id


def _models(log: Log, run: Run) -> list[LoggedModelInput]:
    """The logged model behind the version that was judged; MLflow links the run to it."""
    if not run.model_version:
        return []
    try:
        version = log.client.get_model_version(run.model_name, run.model_version)
        # The registry keeps no model_id; a version of a logged model has it in its source.
        source = version.source or ""
        model_id = version.model_id or source.removeprefix("models:/")
        if not model_id.startswith("m-"):
            return []
        log.client.get_logged_model(model_id)
    except MlflowException:
        return []  # not registered, or the logged model is deleted
    return [LoggedModelInput(model_id)]


def _params(log: Log, run: Run) -> list[Param]:
    strategy = log.strategy
    params = {
        "strategy": strategy.strategy_id,
        "calendar": log.strategy.calendar.name,
        "signal": strategy.signal,
        "rules": ", ".join(rule.name for rule in strategy.rules),
        "min_n": strategy.min_n,
        "reference": log.reference or "none",
        "model": f"{run.model_name}/{run.model_version}".strip("/") or "none",
    }
    return [Param(key, str(value)) for key, value in params.items()]


def _datasets(log: Log, run: Run) -> list[DatasetInput]:
    """What the session was computed from: the predictions' content decides the digest."""
    source = f'{{"strategy_id": "{log.strategy.strategy_id}", "session": "{run.session}"}}'
    dataset = Dataset(
        name=f"predictions {run.session}",
        digest=run.digest,
        source_type="timescaledb",
        source=source,
        profile=f'{{"as_of": "{run.as_of.isoformat()}"}}',
    )
    return [DatasetInput(dataset, [InputTag("mlflow.data.context", "monitoring")])]


def _changed(log: Log, run: Run) -> list[Value]:
    """What MLflow has not seen of a session."""
    row = {
        "strategy_id": log.strategy.strategy_id,
        "session": run.session,
        "since": -1 if run.logged_revision is None else run.logged_revision,
    }
    return records(log.conn, Value, _queries.revised_values, row)


def _belongs_to_series(value: Value, among: Sequence[Value]) -> bool:
    if value.value is None:
        return False
    if value.metric == "psi" and value.dimension:
        return sum(v.metric == "psi" for v in among) <= PARENT_FEATURES
    # Others with a dimension exist on some sessions only, and would be charts of single dots.
    return not value.dimension or value.metric == "ic"


def metric_name(metric: str, dimension: str) -> str:
    """A value's name in MLflow, whose names allow few characters.

    >>> metric_name("psi", "rsi_14@2"), metric_name("ic", "group Tech"), metric_name("ic", "")
    ('psi/rsi_14.2', 'ic/group Tech', 'ic')
    """
    name = f"{metric}/{dimension}" if dimension else metric
    return _FORBIDDEN.sub(".", name)[:250]


def _metric(log: Log, value: Value, run: Run) -> Metric:
    stamp = _millis(log.strategy.calendar.session_close(run.session)) + run.revision
    name = metric_name(value.metric, value.dimension)
    return Metric(name, value.value, stamp, run.session_number)


def _tags(run: Run, status: Status, changed: Sequence[Value]) -> dict[str, str]:
    missing = {
        f"drift.status.{v.metric}": v.status if v.value is None else "ok"
        for v in changed
        if not v.dimension and (v.value is None or run.logged_revision is not None)
    }
    return {
        "drift.status": status.worst if run.status == "ok" else run.status,
        "drift.alerts": status.rules,
        "drift.revision": str(run.revision),
        "drift.model": f"{run.model_name}/{run.model_version}".strip("/"),
        **missing,
    }


def open_status(conn: Connection, strategy_id: str, session: date) -> Status:
    """What was open on a session."""
    row = {"strategy_id": strategy_id, "session": session}
    found = conn.execute(_queries.open_alerts_of, row).fetchall()
    loud = [(rule, severity) for rule, severity, inhibited in found if not inhibited]
    return Status(loud[0][1] if loud else "ok", ", ".join(rule for rule, _ in loud))


def _report(log: Log, session: date, child: str) -> None:
    from .report import contents as reporting
    from .report import page as report

    page = reporting.gather(log.conn, log.strategy, session, log.history)
    pictures = report.figures(page)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "report.html").write_text(report.render(page, pictures), encoding="utf-8")
        for name, data in pictures.items():
            (folder / f"{name}.png").write_bytes(data)
        log.client.log_artifacts(child, directory)


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


def _millis(instant: datetime) -> int:
    return to_micros(instant) // 1000


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0][:200]
