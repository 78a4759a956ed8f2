"""`mlflow-timescale features health`: a table for people, JSON and an exit code for machines."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.cli.kit import (
    Age,
    Cell,
    Exit,
    as_of_option,
    calendar_option,
    database_option,
    entity_option,
    exit_with,
    features_option,
    json_option,
    print_json,
    print_message,
    print_table,
)
from mlflow_timescale.common.errors import first_of
from mlflow_timescale.db.uri import DatabaseURI

from .options import universe_option

if TYPE_CHECKING:
    from mlflow_timescale.common.time import Duration

    from ..health import Health

_LIMIT = 10


@click.command()
@database_option
@features_option()
@entity_option
@as_of_option
@calendar_option
@click.option("--zone", metavar="NAME", help="Time zone of days; default: the calendar's, or UTC.")
@click.option(
    "--sessions",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Number of sessions to examine.",
)
@click.option("--max-staleness", type=Age(), help="Allowed age of features without a definition.")
@universe_option
@json_option
def health(
    names: list[str] | None,
    entities: list[str] | None,
    as_of: datetime | None,
    calendar: str | None,
    zone: str | None,
    sessions: int,
    max_staleness: Duration | None,
    universe: str | None,
    as_json: bool,
    uri: DatabaseURI,
) -> None:
    """Check freshness, gaps, statistics and write lag of features.

    With a calendar only its sessions age a value. Exit code 3: something is stale.
    """
    from ..health import check_health
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        report = check_health(
            store.database,
            names,
            entities,
            as_of=as_of,
            calendar=calendar,
            zone=zone,
            sessions=sessions,
            max_staleness=max_staleness,
            universe=universe,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    exit_with(Exit.NO if report.is_stale else Exit.OK)


def _print(report: Health) -> None:
    """One row a feature, then what is stale and what is missing."""
    clock = report.calendar or "every day counts"
    print_message(f"as of {report.as_of.isoformat(timespec='seconds')}, {clock}")
    names = sorted({entry.feature_name for entry in report.freshness})
    header = ("feature", "entities", "oldest", "allowed", "stale", "gaps", "NaN", "lag p50/p99")
    print_table(header, [_row(report, name) for name in names])
    if report.outside:
        gone = ", ".join(entry.entity_key for entry in report.outside[:_LIMIT])
        print_message(f"outside of the universe: {len(report.outside)} entities, such as {gone}")
    for entry in sorted(report.stale, key=lambda e: e.age or timedelta.max, reverse=True)[:_LIMIT]:
        print_message(
            f"stale: {entry.feature_name} of {entry.entity_key} is {_span(entry.age)} old "
            f"(allowed: {_span(entry.max_staleness)})",
            style="red",
        )
    for never in report.never_written:
        print_message(f"never written: {never.feature_name} ({never.view})", style="red")
    for gap in report.gaps[:_LIMIT]:
        days = first_of(gap.sessions, 5)
        print_message(f"gap: {gap.feature_name} of {gap.entity_key}: {days}")
    hidden = max(len(report.stale) - _LIMIT, 0) + max(len(report.gaps) - _LIMIT, 0)
    if hidden:
        print_message(f"... and {hidden} more; --json shows all")


def _row(report: Health, name: str) -> tuple[Any, ...]:
    fresh = [entry for entry in report.freshness if entry.feature_name == name]
    days = [entry for entry in report.statistics if entry.feature_name == name]
    lags = [entry for entry in report.write_lag if entry.feature_name == name]
    total = sum(entry.n for entry in days)
    ages = [entry.age for entry in fresh if entry.age is not None]
    stale = sum(entry.is_stale for entry in fresh)
    return (
        name,
        len(fresh),
        _span(max(ages, default=None)),
        _span(fresh[0].max_staleness),
        Cell(stale, "red" if stale else ""),
        sum(len(gap.sessions) for gap in report.gaps if gap.feature_name == name),
        f"{sum(entry.undefined for entry in days) / total:.1%}" if total else "",
        _lag(lags[-1].p50, lags[-1].p99, lags[-1].assumed) if lags else "",
    )


def _lag(p50: float | None, p99: float | None, assumed: float) -> str:
    if p50 is None or p99 is None:
        return "assumed" if assumed else ""
    return f"{_span(timedelta(seconds=p50))}/{_span(timedelta(seconds=p99))}"


def _span(span: timedelta | None) -> str:
    """A duration in its two largest units, such as 3d 4h."""
    if span is None:
        return "-"
    seconds = int(span.total_seconds())
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m")]
    shown = [f"{count}{unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or f"{seconds}s"
