"""`mlflow-timescale drift ...` and `mlflow-timescale daily`: a skin over `DriftMonitor`.

Exit codes: 0 healthy, 2 open alerts, 1 an error.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db import DatabaseURI, Error

from ..alerts import presets
from ..alerts.lifecycle import Alert
from ..daily import Daily, daily_job
from ..monitor import DriftMonitor
from ..results.drift_metrics import DriftMetrics

# Cron and pipes have no width of their own: a table is not folded there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
ALERTS = 2
SHOWN = ("ic", "ic_5d_avg", "ic_cusum", "psi", "sharpe_5d", "sharpe_20d", "sharpe_60d", "n_signals")

Command = Callable[..., Any]


class Day(click.ParamType):  # type: ignore[type-arg]
    """A date such as 2024-01-12."""

    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date such as 2024-01-12", param, ctx)


class Instant(click.ParamType):  # type: ignore[type-arg]
    """A point in time with its zone, such as 2024-01-12T21:00+00:00."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2024-01-12T21:00+00:00", param, ctx)
        if found.tzinfo is None:
            self.fail(f"{value!r} has no time zone; write 2024-01-12T21:00+00:00", param, ctx)
        return found


strategy_option = click.option(
    "-s", "--strategy", default="default", show_default=True, help="Which strategy."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_mlflow = click.option(
    "--mlflow/--no-mlflow", default=True, help="Log the sessions as MLflow runs (default)."
)


@click.group()
def drift() -> None:
    """Watch strategies for drift: IC, PSI and Sharpe per trading session, with alerts.

    Exit codes of `run`, `status` and `daily`: 0 healthy, 2 open alerts, 1 an error.
    """


@drift.command()
@uri_option
@strategy_option
@click.option("--calendar", help="The exchange's MIC; of a new strategy, XNYS if not given.")
@click.argument("what", type=click.Choice(["predictions", "returns", "strategy-returns"]))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def record(uri: DatabaseURI, strategy: str, calendar: str | None, what: str, file: Path) -> None:
    """Record predictions, returns or the strategy's own returns from a CSV or Parquet FILE.

    Predictions: entity_key, signal, and signal_time or session; optional horizon, model_name,
    model_version, signal_name, group. Returns: entity_key, session, value; optional horizon,
    known_at. Strategy returns: session, value; optional known_at.
    """
    monitor = DriftMonitor(uri, strategy, calendar=calendar)
    recorders: dict[str, Callable[[Path], int]] = {
        "predictions": monitor.record_predictions,
        "returns": monitor.record_returns,
        "strategy-returns": monitor.record_strategy_returns,
    }
    console.print(f"{recorders[what](file)} new rows")


@drift.command()
@uri_option
@strategy_option
@click.option("--session", type=Day(), help="Which session; the last one closed if not given.")
@quiet_mlflow
@json_option
def run(uri: DatabaseURI, strategy: str, session: date | None, mlflow: bool, as_json: bool) -> int:
    """Compute a session, and tell people and MLflow; run it every day."""
    monitor = _monitor(uri, strategy, mlflow=mlflow)
    metrics = monitor.run_daily(session)
    return _show(monitor, metrics, as_json)


@drift.command()
@uri_option
@strategy_option
@click.argument("start", type=Day())
@click.argument("end", type=Day())
@click.option("--notify", is_flag=True, help="Tell people of the alerts found; quiet if not given.")
@click.option("--reports", is_flag=True, help="Pictures for every session, not only the last.")
@quiet_mlflow
def backfill(
    uri: DatabaseURI,
    strategy: str,
    start: date,
    end: date,
    notify: bool,
    reports: bool,
    mlflow: bool,
) -> None:
    """Compute the sessions from START to END, from what is known now."""
    monitor = _monitor(uri, strategy, mlflow=mlflow)
    found = monitor.backfill(start, end, notify=notify, reports=reports)
    known = sum(metrics.ic is not None for metrics in found)
    console.print(f"{len(found)} sessions computed, {known} with an IC")


@drift.command()
@uri_option
@strategy_option
@json_option
def status(uri: DatabaseURI, strategy: str, as_json: bool) -> int:
    """Show the last session computed, and the open alerts."""
    monitor = _monitor(uri, strategy)
    last = monitor.last_session()
    if last is None:
        raise Error(f"no session of {strategy!r} has been computed yet; use `drift run`")
    return _show(monitor, monitor.metrics(last, last)[0], as_json)


@drift.command()
@uri_option
@strategy_option
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
@click.option("--since", type=Day(), help="Those not resolved before this session.")
@json_option
def alerts(
    uri: DatabaseURI, strategy: str, everything: bool, since: date | None, as_json: bool
) -> None:
    """List alerts: open, acknowledged and silenced ones."""
    states = None if everything or since else ["open", "acknowledged", "silenced"]
    found = _monitor(uri, strategy).alerts(states=states, since=since)
    if as_json:
        _print_json([dataclasses.asdict(alert) for alert in found])
    else:
        console.print(_alert_table(found) if found else "No alerts.")


@drift.command()
@uri_option
@strategy_option
@click.argument("alert_id", type=int)
@click.option("--by", default=getpass.getuser, show_default="you", help="Who looks after it.")
@click.option("--note", default="", help="What is known.")
def ack(uri: DatabaseURI, strategy: str, alert_id: int, by: str, note: str) -> None:
    """Acknowledge an open alert: somebody looks after it."""
    _monitor(uri, strategy).acknowledge(alert_id, by=by, note=note)
    console.print(f"alert {alert_id} is acknowledged by {by}")


@drift.command()
@uri_option
@strategy_option
@click.argument("rule")
@click.option("--until", type=Instant(), required=True, help="Sessions that close until then.")
@click.option("--since", type=Instant(), help="Sessions that close since then; now if not given.")
@click.option("--why", required=True, help="For whoever asks why nobody was told.")
@click.option("--by", default=getpass.getuser, show_default="you")
def silence(
    uri: DatabaseURI,
    strategy: str,
    rule: str,
    until: datetime,
    since: datetime | None,
    why: str,
    by: str,
) -> None:
    """Say nothing of a RULE for a time, counted by the sessions' close."""
    monitor = _monitor(uri, strategy)
    hushed = monitor.silence(rule, until=until, since=since, by=by, why=why)
    console.print(f"{rule!r} is silent until {until.isoformat()} ({hushed} open alerts)")


@drift.command()
@uri_option
@strategy_option
@click.option("--session", type=Day(), help="Which session; the last computed if not given.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where to.",
)
def report(uri: DatabaseURI, strategy: str, session: date | None, output: Path) -> None:
    """Write a session's report, one HTML file with its pictures inside."""
    output.write_text(_monitor(uri, strategy).report(session), encoding="utf-8")
    console.print(f"wrote {output}")


@drift.command()
@uri_option
@strategy_option
@click.argument("start", type=Day())
@click.argument("end", type=Day())
@click.option("--reason", required=True, help="Why this is normal.")
@click.option("--by", default=getpass.getuser, show_default="you")
@click.option(
    "--min-sessions", default=120, show_default=True, help="Sessions with an IC it needs."
)
def accept(
    uri: DatabaseURI,
    strategy: str,
    start: date,
    end: date,
    reason: str,
    by: str,
    min_sessions: int,
) -> None:
    """Accept the sessions from START to END as the reference that later ones are judged by."""
    monitor = _monitor(uri, strategy)
    version = monitor.accept(start, end, reason, accepted_by=by, min_sessions=min_sessions)
    console.print(f"reference {version} accepted: {start} to {end}")


@drift.command()
@uri_option
@strategy_option
@json_option
def onset(uri: DatabaseURI, strategy: str, as_json: bool) -> None:
    """Say when the IC began to fall below its accepted level, with a 95% interval."""
    found = _monitor(uri, strategy).onset()
    if found is None:
        _print_json(None) if as_json else console.print("The IC has not left its accepted level.")
        return
    fall, sessions = found
    at, low, high, alarm = (sessions[i] for i in (fall.index, fall.low, fall.high, fall.alarm))
    if as_json:
        names = ("onset", "low", "high", "alarm", "before", "after")
        numbers = (at, low, high, alarm, fall.before, fall.after)
        _print_json(dict(zip(names, numbers, strict=True)))
        return
    console.print(f"The IC began to fall on {at} (95% interval {low} to {high}); alarm on {alarm}.")
    over = "since" if fall.until is None else f"in it; made up for by {sessions[fall.until]}"
    console.print(f"Mean IC {fall.before:.4f} before, {fall.after:.4f} {over}.")


@drift.group()
def rules() -> None:
    """Show, choose and simulate the alert rules."""


@rules.command("list")
@uri_option
@strategy_option
@json_option
def list_rules(uri: DatabaseURI, strategy: str, as_json: bool) -> None:
    """Show the rules in force."""
    found = _monitor(uri, strategy).rules
    if as_json:
        _print_json([rule.to_dict() for rule in found])
        return
    rows = [(rule.name, rule.severity, rule.condition, rule.action) for rule in found]
    console.print(_table(("rule", "severity", "when", "recommendation"), rows))


@rules.command("use")
@uri_option
@strategy_option
@click.argument("preset", type=click.Choice(sorted(presets.PRESETS)))
def use_rules(uri: DatabaseURI, strategy: str, preset: str) -> None:
    """Judge the strategy by a PRESET from now on."""
    _monitor(uri, strategy).configure(rules=preset, create=False)
    console.print(f"{strategy!r} is judged by the rules of {preset!r} from its next run on")


@rules.command("simulate")
@uri_option
@strategy_option
@click.option("--preset", type=click.Choice(sorted(presets.PRESETS)), help="Other rules to try.")
@click.option("--paths", default=4000, show_default=True, help="Years to simulate.")
@json_option
def simulate_rules(
    uri: DatabaseURI, strategy: str, preset: str | None, paths: int, as_json: bool
) -> None:
    """Say how often each rule cries wolf and how soon it notices, on the strategy's own history."""
    found = _monitor(uri, strategy).simulate(preset, n_paths=paths)
    if as_json:
        _print_json([dataclasses.asdict(result) for result in found])
        return
    rows = [
        (
            result.rule.name,
            result.rule.severity,
            f"{result.false_alarm_share:.1%}",
            f"{result.false_alarms_per_year:.1f}",
            *(_delay(result.delays.get(change)) for change in ("fade", "flip")),
        )
        for result in found
    ]
    header = ("rule", "severity", "healthy years with alarm", "alarms a year", "fade", "flip")
    console.print(_table(header, rows))
    console.print("fade, flip: median sessions until the IC's fall to zero, or below, is noticed")


@click.command()
@uri_option
@click.option("-s", "--strategy", "strategies", multiple=True, help="Which; all if not given.")
@click.option("--session", type=Day(), help="Which session; the last one closed if not given.")
@quiet_mlflow
@json_option
def daily(
    uri: DatabaseURI,
    strategies: Sequence[str],
    session: date | None,
    mlflow: bool,
    as_json: bool,
) -> int:
    """Run the daily job: feature health, model status, drift, decision, for every strategy.

    Exit codes: 0 healthy, 2 alerts, 1 an error. For cron, after the close and the feature jobs:
    `30 22 * * 1-5  mlflow-timescale daily`
    """
    options: dict[str, Any] = {} if mlflow else {"tracking_uri": False}
    found = daily_job(uri, list(strategies) or None, session=session, **options)
    if as_json:
        _print_json([_daily_json(item) for item in found])
    else:
        for item in found:
            _print_daily(item)
    return 0 if all(item.healthy for item in found) else ALERTS


def _monitor(uri: DatabaseURI, strategy: str, *, mlflow: bool = True) -> DriftMonitor:
    return DriftMonitor(uri, strategy, tracking_uri=None if mlflow else False)


def _show(monitor: DriftMonitor, metrics: DriftMetrics, as_json: bool) -> int:
    found = [a for a in monitor.alerts(states=["open"]) if not a.inhibited]
    if as_json:
        _print_json({**_metrics_json(metrics), "alerts": [dataclasses.asdict(a) for a in found]})
    else:
        console.print(f"{monitor.strategy_id} {metrics.date}")
        console.print(_metrics_table(metrics))
        console.print(_alert_table(found) if found else "No open alerts.")
    return ALERTS if found else 0


def _metrics_table(metrics: DriftMetrics) -> Table:
    rows = [(name, _number(getattr(metrics, name)), _why(metrics, name)) for name in SHOWN]
    return _table(("metric", "value", ""), rows)


def _why(metrics: DriftMetrics, name: str) -> str:
    metric = "psi_max" if name == "psi" else name
    missing = "no reference yet" if name in ("psi", "ic_cusum") else ""
    return metrics.statuses.get(metric, missing if getattr(metrics, name) is None else "")


def _alert_table(found: Sequence[Alert]) -> Table:
    rows = [
        (
            str(a.alert_id),
            a.severity,
            a.rule,
            a.state + (" (inhibited)" if a.inhibited and a.state != "resolved" else ""),
            str(a.session),
            str(a.resolved_session or ""),
            _number(a.value),
            a.note or a.action,
        )
        for a in found
    ]
    header = ("id", "severity", "rule", "state", "since", "resolved", "value", "")
    return _table(header, rows)


def _print_daily(item: Daily) -> None:
    console.print(f"[bold]{item.strategy_id}[/bold] {item.session}")
    console.print(_table(("", "", ""), list(_daily_rows(item))))


def _daily_rows(item: Daily) -> Iterator[tuple[str, str, str]]:
    fresh = sum(not feature.is_stale for feature in item.features)
    yield "features", f"{fresh} of {len(item.features)} fresh", _stale(item)
    model = f"{item.model.name} {item.model.version}".strip() or "unknown"
    yield "model", model, item.model.note or _registered(item)
    for name in SHOWN:
        yield name, _number(getattr(item.metrics, name)), _why(item.metrics, name)
    for index, line in enumerate(item.decision):
        yield "" if index else "decision", line, ""


def _stale(item: Daily) -> str:
    return ", ".join(
        f"{f.feature_name} since {f.event_time:%Y-%m-%d}" if f.event_time else f"{f.feature_name}"
        for f in item.features
        if f.is_stale
    )


def _registered(item: Daily) -> str:
    created = f"created {item.model.created:%Y-%m-%d}" if item.model.created else ""
    return ", ".join([created, *(f"@{alias}" for alias in item.model.aliases)])


def _daily_json(item: Daily) -> dict[str, Any]:
    return {
        "strategy_id": item.strategy_id,
        "session": item.session,
        "healthy": item.healthy,
        "features": [feature.to_dict() for feature in item.features],
        "model": dataclasses.asdict(item.model),
        "metrics": _metrics_json(item.metrics),
        "alerts": [dataclasses.asdict(alert) for alert in item.alerts],
        "decision": item.decision,
    }


def _metrics_json(metrics: DriftMetrics) -> dict[str, Any]:
    plain = {name: getattr(metrics, name) for name in ("date", "strategy_id", *SHOWN)}
    flags = {name: getattr(metrics, name) for name in ("ic_alert", "psi_alert", "sharpe_alert")}
    return {**plain, **flags, "statuses": metrics.statuses}


def _delay(delay: Any) -> str:
    if delay is None:
        return ""
    return "never" if delay.median is None else f"{delay.median:.0f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*header, box=None, pad_edge=False, show_header=any(header))
    for row in rows:
        table.add_row(*row)
    return table


def _print_json(content: Any) -> None:
    json.dump(content, sys.stdout, default=str, indent=2)
    sys.stdout.write("\n")
