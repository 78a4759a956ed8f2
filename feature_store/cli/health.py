"""`mlflow-timescale features health`: a table for people, JSON and an exit code for machines."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from mlflow_timescale.cli.options import console, uri_option
from mlflow_timescale.db.uri import DatabaseURI

from ..health import Health, check_health
from ..store import FeatureStore
from .options import Duration, as_of_option, json_option

_SHOWN = 10


@click.command()
@click.option("-f", "--features", "names", help="Names, with commas between; default: all.")
@click.option("-e", "--entities", help="Entities, with commas between; default: all.")
@as_of_option
@click.option("--calendar", help="Trading calendar, for example XNYS: only sessions age a value.")
@click.option("--zone", help="Where days begin, if not at the exchange: UTC for midnight stamps.")
@click.option("--sessions", type=click.IntRange(1), default=20, show_default=True)
@click.option("--max-staleness", type=Duration(), help="For features without a definition.")
@json_option
@uri_option
@click.pass_context
def health(
    ctx: click.Context,
    names: str | None,
    entities: str | None,
    as_of: datetime | None,
    calendar: str | None,
    zone: str | None,
    sessions: int,
    max_staleness: timedelta | None,
    as_json: bool,
    uri: DatabaseURI,
) -> None:
    """Freshness, gaps, statistics and write lag of features; exit code 2 if anything is stale."""
    with FeatureStore(uri) as store:
        report = check_health(
            store.database,
            names.split(",") if names else None,
            entities.split(",") if entities else None,
            as_of=as_of,
            calendar=calendar,
            zone=zone,
            sessions=sessions,
            max_staleness=max_staleness,
        )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        show(report, console())
    ctx.exit(2 if report.is_stale else 0)


def show(report: Health, console: Console) -> None:
    """Print a report: one line a feature, then what is stale and what is missing."""
    console.print(_overview(report))
    for entry in sorted(report.stale, key=lambda e: e.age or timedelta.max, reverse=True)[:_SHOWN]:
        console.print(
            f"stale: {entry.feature_name} of {entry.entity_key} is {_span(entry.age)} old "
            f"(allowed: {_span(entry.max_staleness)})",
            style="red",
            markup=False,
        )
    for never in report.never_written:
        console.print(f"never written: {never.feature_name} ({never.view})", style="red")
    for gap in report.gaps[:_SHOWN]:
        days = ", ".join(day.isoformat() for day in gap.sessions[:5])
        more = f" and {len(gap.sessions) - 5} more" if len(gap.sessions) > 5 else ""
        console.print(f"gap: {gap.feature_name} of {gap.entity_key}: {days}{more}", markup=False)
    hidden = max(len(report.stale) - _SHOWN, 0) + max(len(report.gaps) - _SHOWN, 0)
    if hidden:
        console.print(f"... and {hidden} more; --json shows all")


def _overview(report: Health) -> Table:
    clock = report.calendar or "every day counts"
    table = Table(title=f"as of {report.as_of.isoformat(timespec='seconds')}, {clock}")
    for name in ("feature", "entities", "oldest", "allowed", "stale", "gaps", "NaN", "lag p50/p99"):
        table.add_column(name, justify="left" if name == "feature" else "right", no_wrap=True)
    for name in sorted({entry.feature_name for entry in report.freshness}):
        table.add_row(name, *_row(report, name))
    return table


def _row(report: Health, name: str) -> list[str]:
    fresh = [entry for entry in report.freshness if entry.feature_name == name]
    days = [entry for entry in report.statistics if entry.feature_name == name]
    lags = [entry for entry in report.write_lag if entry.feature_name == name]
    total = sum(entry.n for entry in days)
    ages = [entry.age for entry in fresh if entry.age is not None]
    stale = sum(entry.is_stale for entry in fresh)
    return [
        str(len(fresh)),
        _span(max(ages, default=None)),
        _span(fresh[0].max_staleness),
        f"[red]{stale}[/red]" if stale else "0",
        str(sum(len(gap.sessions) for gap in report.gaps if gap.feature_name == name)),
        f"{sum(entry.undefined for entry in days) / total:.1%}" if total else "",
        _lag(lags[-1].p50, lags[-1].p99, lags[-1].assumed) if lags else "",
    ]


def _lag(p50: float | None, p99: float | None, assumed: float) -> str:
    if p50 is None or p99 is None:
        return "assumed" if assumed else ""
    return f"{_span(timedelta(seconds=p50))}/{_span(timedelta(seconds=p99))}"


def _span(span: timedelta | None) -> str:
    """A duration in its two largest units, such as 3d 4h."""
    if span is None:
        return "-"
    seconds = int(span.total_seconds())
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min")]
    shown = [f"{count}{unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or f"{seconds}s"
