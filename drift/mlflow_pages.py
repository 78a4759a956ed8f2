"""What MLflow's pages of a session and of a strategy say first: a description, with links.

MLflow draws Markdown from the tag `mlflow.note.content`; links that begin with `#/` stay on the
server that shows the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from mlflow_timescale.common.text import printable

from .alerts.headroom import Headroom
from .alerts.lifecycle import Alert, handled_text
from .results.limits import limit_of, limit_of_psi, outlook
from .results.remarks import remarks
from .results.values import Value

# An underscore inside of a word is none.
_MARKS = re.compile(r"[\\`*\[\]<>|]|(?<!\w)_|_(?!\w)")
NOTE = "mlflow.note.content"
KIND = "mlflow.experimentKind"
EXPERIMENT_TAGS = {
    # Without it MLflow opens the page of agents and traces.
    KIND: "custom_model_development",
    NOTE: (
        "The drift monitor's sessions. Open the run named like the strategy: its description shows "
        "how the strategy is, its charts are the series. Each run below it is one session."
    ),
}
FIGURES = {
    "ic": "IC",
    "ic_5d_avg": "mean IC, 5 sessions",
    "ic_60d_avg": "mean IC, 60 sessions",
    "ic_cusum": "fall of the IC (CUSUM)",
    "psi_max": "largest PSI",
    "sharpe_60d": "Sharpe, 60 sessions",
    "drawdown": "drawdown",
    "n_signals": "names with a signal",
}


@dataclass(frozen=True)
class SessionPage:
    """One session for its description: its run in MLflow, values, alerts, and limits."""

    session: date
    experiment_id: str
    run_id: str
    values: Sequence[Value]
    alerts: Sequence[Alert]
    rooms: Sequence[Headroom]
    model: str = ""
    has_report: bool = False
    handled: Sequence[Alert] = ()
    changes: Sequence[str] = ()
    cautions: Sequence[str] = ()

    @property
    def status(self) -> str:
        if self.alerts:
            return self.alerts[0].severity
        return self.handled[0].state if self.handled else "ok"


def session_note(page: SessionPage) -> str:
    """The description of a session's run."""
    return "\n\n".join(_status(page, _links(page)))


def strategy_note(page: SessionPage) -> str:
    """The description of a strategy's run, about its last session."""
    session = f"[Session {page.session}](#/experiments/{page.experiment_id}/runs/{page.run_id})"
    guide = (
        "The charts are the strategy's series: start with `ic`, `ic_60d_avg` and `ic_cusum`. The "
        "table of metrics shows each one's last value, which may be of an earlier session."
    )
    return "\n\n".join([*_status(page, f"{_links(page)} · {session}"), _table(page), guide])


def _status(page: SessionPage, links: str) -> Iterable[str]:
    """The status with its links first: MLflow shows three lines until a reader opens the rest."""
    if not page.alerts:
        near = outlook(page.rooms)
        calm = (
            "No alert needs a person." if page.handled else "Nothing is out of its accepted range."
        )
        headline = f"{calm} But {near}" if near else calm
        yield f"**{page.status}** on {page.session}. {headline} {links}"
    else:
        names = ", ".join(alert.rule for alert in page.alerts)
        headline = f"{len(page.alerts)} open: {names}."
        yield f"**{page.status}** on {page.session}. {headline} {links}"
        yield "\n".join(f"- {_alert(alert)}" for alert in page.alerts)
    if page.handled:
        yield "\n".join(f"- {unmarked(handled_text(alert))}" for alert in page.handled)
    if page.changes:
        yield f"Since the session before: {unmarked('; '.join(page.changes))}."
    yield from (f"Caution: {unmarked(caution)}" for caution in page.cautions)
    yield from (f"Note: {unmarked(remark)}" for remark in remarks(page.values))


def _alert(alert: Alert) -> str:
    note = f" {alert.note}." if alert.note else ""
    text = f"{alert.rule} since {alert.session}.{note} {alert.action}".strip()
    return f"**{alert.severity}** {unmarked(text)}"


def unmarked(text: str) -> str:
    """A text that Markdown draws as it is: no link, picture, HTML or emphasis, in one line.

    >>> unmarked("![x](http://h/p.png) of rsi_14")
    '!\\\\[x\\\\](http://h/p.png) of rsi_14'
    """
    return _MARKS.sub(r"\\\g<0>", printable(text))


def _table(page: SessionPage) -> str:
    by_metric = {v.metric: v for v in page.values if not v.dimension}
    rows = ["| figure | value | limit |", "|---|---|---|"]
    for metric, label in FIGURES.items():
        value = by_metric.get(metric)
        if value is not None:
            known = value.value is not None
            shown = f"{value.value:.4g}" if known else value.status.replace("_", " ")
            rows.append(f"| {label} | {shown} | {_limit(metric, page) if known else ''} |")
    return "\n".join(rows)


def _limit(metric: str, page: SessionPage) -> str:
    limit = limit_of(metric, page.rooms)
    return limit_of_psi(page.values, page.rooms) if metric == "psi_max" and not limit else limit


def _links(page: SessionPage) -> str:
    run = f"#/experiments/{page.experiment_id}/runs/{page.run_id}"
    links = [f"[Report]({run}/artifacts/report.html)"] if page.has_report else []
    name, _, version = page.model.partition("/")
    if version:
        links.append(f"Judged model: [{page.model}](#/models/{name}/versions/{version})")
    elif name:
        links.append(f"Judged model: [{name}](#/models/{name})")
    return " · ".join(links) or "The predictions name no model."
