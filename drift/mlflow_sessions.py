"""One session as a run of MLflow: metrics, tags, params, inputs, description and report.

A value that cannot be computed is a tag, never a NaN, which breaks MLflow's pages.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import records

from . import mlflow_pages
from .alerts import lifecycle
from .alerts.headroom import headroom
from .alerts.lifecycle import Alert
from .alerts.retraining import causes, triggers
from .alerts.rules import Evaluation
from .cautions import cautions
from .changes import changes
from .computation.history import History
from .mlflow_pages import NOTE, SessionPage
from .results import values
from .results.values import Run, Value
from .strategies import Strategy

_queries = load("drift")

REPORTED = "drift.report"
RETRAINING = "drift.retraining"
BATCH = 1000  # MLflow's limit of metrics in a call
CHARTED = ("ic", "psi", "sharpe", "drawdown", "strategy_return", "turnover", "n_")
UNCHARTED = (
    "ic_earlier",
    "ic_later",
    "ic_dating",
    "n_versions",
    "psi_shared_ratio",
    "ic_alert",
    "psi_alert",
    "sharpe_alert",
)
INTERNAL = ("return_size", "returns_alike", "returns_elsewhere", "returns_unit")  # not tagged
# MLflow orders charts by name: the IC comes first.
RENAMED = {"drawdown": "strategy_drawdown"}
_FORBIDDEN = re.compile(r"[^\w\-. /:]")


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
        return self.history.judge(self.strategy.judging)

    @cached_property
    def alerts(self) -> Sequence[Alert]:
        """All stored alerts."""
        return lifecycle.find(self.conn, self.strategy.strategy_id)

    def retraining(self, session: date) -> str:
        """The causes of the retraining triggers of a session; "" for none."""
        then = lifecycle.as_of(self.alerts, self.strategy.judging, session)
        return causes(triggers(lifecycle.loud(then)))

    def page(self, run: Run, run_id: str, *, has_report: bool) -> SessionPage:
        """What a session's description shows."""
        strategy, session = self.strategy, run.session
        then = lifecycle.as_of(self.alerts, strategy.judging, session)
        over = strategy.calendar.session_open(strategy.calendar.next_session(session))
        return SessionPage(
            session=session,
            experiment_id=self.experiment_id,
            run_id=run_id,
            values=values.of_sessions(self.conn, strategy.strategy_id, session, session),
            alerts=lifecycle.loud(then),
            handled=lifecycle.handled(then),
            changes=changes(self.conn, strategy, session, self.alerts),
            cautions=cautions(self.conn, strategy, over),
            rooms=headroom(self.evaluation, self.history.sessions.index(session)),
            model=f"{run.model_name}/{run.model_version}".strip("/"),
            has_report=has_report,
        )


def log_child(log: Log, run: Run, changed: Sequence[Value]) -> str:
    started = time.monotonic()
    tags = _tags(run, open_status(log.conn, log.strategy.strategy_id, run.session), changed)
    tags[RETRAINING] = log.retraining(run.session)
    params: list[Param] = []
    child = run.mlflow_run_id
    if child is None:
        child, params = _create_child(log, run), _params(log, run)
    metrics = [to_metric(log, v, run) for v in changed if v.value is not None]
    run_tags = [RunTag(key, value) for key, value in tags.items()]
    log.client.log_batch(child, metrics[:BATCH], params=params, tags=run_tags)
    log_metrics(log, child, metrics[BATCH:])
    # The run starts at the session's close; it lasts as long as its computation, not until today.
    elapsed = int(1000 * (time.monotonic() - started))
    end = _millis(log.strategy.calendar.session_close(run.session)) + elapsed
    log.client.set_terminated(child, "FINISHED", end)
    return child


def describe_session(log: Log, run: Run, child: str, *, is_reported: bool) -> None:
    if not is_reported and run.mlflow_run_id is not None:
        is_reported = REPORTED in log.client.get_run(child).data.tags
    note = mlflow_pages.session_note(log.page(run, child, has_report=is_reported))
    tags = {NOTE: note, **({REPORTED: "report.html"} if is_reported else {})}
    log.client.log_batch(child, tags=[RunTag(key, value) for key, value in tags.items()])


def log_metrics(log: Log, run_id: str, metrics: Sequence[Metric]) -> None:
    for start in range(0, len(metrics), BATCH):
        log.client.log_batch(run_id, metrics[start : start + BATCH])


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


def changed_values(log: Log, run: Run) -> list[Value]:
    """What MLflow has not seen of a session."""
    row = {
        "strategy_id": log.strategy.strategy_id,
        "session": run.session,
        "since": -1 if run.logged_revision is None else run.logged_revision,
    }
    return records(log.conn, Value, _queries.revised_values, row)


def belongs_to_series(value: Value) -> bool:
    """Whether a value is drawn as a chart of the strategy's run.

    MLflow draws names with a slash first, in sections of their own: features would stand above the
    IC. They are in the runs of the sessions, and in the report. Flags of inputs are no charts.
    """
    if value.value is None or (value.dimension and value.metric != "ic"):
        return False
    return value.metric.startswith(CHARTED) and value.metric not in UNCHARTED


def metric_name(metric: str, dimension: str) -> str:
    """A value's name in MLflow, whose names allow few characters.

    >>> metric_name("psi", "rsi_14@2"), metric_name("ic", "group Tech"), metric_name("ic", "")
    ('psi/rsi_14.2', 'ic/group Tech', 'ic')
    """
    metric = RENAMED.get(metric, metric)
    name = f"{metric}/{dimension}" if dimension else metric
    return _FORBIDDEN.sub(".", name)[:250]


def to_metric(log: Log, value: Value, run: Run) -> Metric:
    stamp = _millis(log.strategy.calendar.session_close(run.session)) + run.revision
    name = metric_name(value.metric, value.dimension)
    return Metric(name, value.value, stamp, run.session_number)


def _tags(run: Run, status: Status, changed: Sequence[Value]) -> dict[str, str]:
    missing = {
        f"drift.status.{v.metric}": v.status if v.value is None else "ok"
        for v in changed
        if not v.dimension
        and v.metric not in INTERNAL
        and (v.value is None or run.logged_revision is not None)
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


def log_report(log: Log, session: date, child: str) -> None:
    from .report import contents as reporting
    from .report import page as report

    page = reporting.gather(
        log.conn, log.strategy, session, log.history, registry=log.client.tracking_uri
    )
    pictures = report.figures(page)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "report.html").write_text(report.render(page, pictures), encoding="utf-8")
        for name, data in pictures.items():
            (folder / f"{name}.png").write_bytes(data)
        log.client.log_artifacts(child, directory)


def _millis(instant: datetime) -> int:
    return to_micros(instant) // 1000
