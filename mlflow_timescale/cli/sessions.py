"""`mlflow-timescale sessions`: trading calendars whose sessions are imported."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.cli.kit import (
    Exit,
    database_option,
    exit_with,
    json_option,
    print_json,
    print_message,
    rehearsal_option,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_timescale.common.imported_sessions import Hours
    from mlflow_timescale.operations.sessions import SessionsImport


@click.group()
def sessions() -> None:
    """Import the sessions of trading calendars."""


_clock = click.DateTime(["%H:%M", "%H:%M:%S"])


@sessions.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@database_option
@click.option(
    "--calendar",
    required=True,
    metavar="NAME",
    help="An exchange such as XSHG, or own:NAME for a calendar of its own.",
)
@click.option("--like", metavar="MIC", help="For own:NAME: the exchange with the same hours.")
@click.option("--open", "opens", type=_clock, metavar="HH:MM", help="When sessions open.")
@click.option("--close", "closes", type=_clock, metavar="HH:MM", help="When they close.")
@click.option("--zone", metavar="NAME", help="Time zone of --open and --close.")
@rehearsal_option
@json_option
def import_sessions(
    file: Path,
    uri: DatabaseURI,
    calendar: str,
    like: str | None,
    opens: Any,
    closes: Any,
    zone: str | None,
    as_json: bool,
) -> None:
    """Take the sessions of a calendar from FILE, one date a line.

    FILE is qlib's calendars/day.txt or day_future.txt. Between its first and last date, only its
    dates are sessions from now on; before and after them the exchange's own calendar counts. The
    hours are those of the exchange, unless --open and --close are given. A second import adds new
    dates. Exit code 3: the file lacks sessions of recorded inputs; nothing is changed.
    """
    from mlflow_timescale import db
    from mlflow_timescale.common.imported_sessions import parse_sessions
    from mlflow_timescale.operations.sessions import import_sessions as import_days

    try:
        days = parse_sessions(file.read_text(encoding="utf-8"))
        hours = _hours(calendar, like, opens, closes, zone)
    except UnicodeDecodeError as exc:
        raise click.ClickException(f"{file} is no text file with one date a line") from exc
    except ValueError as exc:
        raise click.ClickException(f"{file}: {exc}") from exc
    with db.Database(uri, application="sessions", translate=True).connection() as conn:
        change = import_days(conn, calendar, days, like=like, hours=hours)
    if as_json:
        print_json(_as_json(change))
    else:
        _print(change)
    exit_with(Exit.NO if change.in_use else Exit.OK)


def _hours(name: str, like: str | None, opens: Any, closes: Any, zone: str | None) -> Hours | None:
    from mlflow_timescale.common.calendars import TradingCalendar
    from mlflow_timescale.common.imported_sessions import Hours
    from mlflow_timescale.common.schedules import is_own

    if opens is None and closes is None and zone is None:
        return None
    if opens is None or closes is None:
        raise click.UsageError("--open and --close belong together")
    if zone is None:
        exchange = like if is_own(name) else name
        if exchange is None:
            raise click.UsageError("give the time zone of --open and --close: --zone or --like")
        zone = str(TradingCalendar(exchange).tz)
    return Hours(zone, opens.time(), closes.time())


def _print(change: SessionsImport) -> None:
    from mlflow_timescale.common.schedules import WEEKDAYS

    name = change.calendar.name
    if change.in_use:
        print_message(
            f"not imported: the file lacks sessions of {name} that are in use", style="red"
        )
        for use in change.in_use:
            print_message(f"  {use.session}  strategy {use.strategy_id}: {use.kinds}")
        return
    if not change.changed:
        print_message(f"nothing to import: {name} has these sessions")
        return
    number = f"{change.imported:,} session{'s' * (change.imported != 1)}"
    print_message(f"imported: {number} of {name}")
    imported = change.calendar.imported
    assert imported is not None  # nosec B101  # for mypy
    first, end = imported.days[0].item(), imported.days[-1].item()
    added = [day for day in change.added if first <= day <= end]
    for text, days in (("new", added), ("no session any more", change.removed)):
        if days:
            print_message(f"  {text}: {_listed(days)}")
    if change.calendar.known_to == end:
        assumed = "all weekdays" if imported.base == WEEKDAYS else f"sessions of {imported.base}"
        print_message(f"  after {end} {assumed} are assumed")
    last = _last(change)
    hours = change.calendar.session_open(last), change.calendar.session_close(last)
    opens, closes = (f"{moment.astimezone(change.calendar.tz):%H:%M}" for moment in hours)
    print_message(f"  the last, {last}, is open from {opens} to {closes}, {change.calendar.tz}")


def _listed(days: Sequence[date]) -> str:
    if len(days) > 10:
        return f"{len(days):,} days, {days[0]} to {days[-1]}"
    return ", ".join(map(str, days))


def _last(change: SessionsImport) -> date:
    from mlflow_timescale.common.schedules import to_date

    assert change.calendar.imported is not None  # nosec B101  # for mypy
    last = to_date(change.calendar.imported.days[-1])
    return change.calendar.date_to_session(last, "previous")


def _as_json(change: SessionsImport) -> dict[str, Any]:
    return {
        "calendar": change.calendar.name,
        "changed": change.changed and not change.in_use,
        "imported": change.imported,
        "added": change.added,
        "removed": change.removed,
        "in_use": [use._asdict() for use in change.in_use],
        "known_to": change.calendar.known_to,
    }
