"""`drift alerts | ack | silence | repaired`."""

from __future__ import annotations

from datetime import date, datetime

import click

from mlflow_timescale.cli.kit import (
    Day,
    Moment,
    by_option,
    database_option,
    json_option,
    print_json,
    print_message,
    reason_option,
    rehearsal_option,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .monitors import open_monitor
from .tables import deliveries_json, print_alerts, print_deliveries


@click.command()
@database_option
@strategy_option()
@click.option("--all", "everything", is_flag=True, help="Include resolved alerts.")
@click.option("--since", type=Day(), help="Alerts that were not resolved before this session.")
@click.option("--undelivered", is_flag=True, help="List the messages that no target has taken.")
@json_option
def alerts(
    uri: DatabaseURI,
    strategy: str,
    everything: bool,
    since: date | None,
    undelivered: bool,
    as_json: bool,
) -> None:
    """List open, acknowledged and silenced alerts."""
    if undelivered:
        waiting = open_monitor(uri, strategy).undelivered()
        print_json(deliveries_json(waiting)) if as_json else print_deliveries(waiting)
        return
    states = None if everything or since else ["open", "acknowledged", "silenced"]
    listed = open_monitor(uri, strategy).alerts(states=states, since=since)
    if as_json:
        print_json(listed)
    else:
        print_alerts(listed, none="No alerts.")


@click.command()
@database_option
@strategy_option()
@click.argument("alert_id", type=int)
@click.option("--note", default="", help="What is known about it.")
@by_option
@rehearsal_option
def ack(uri: DatabaseURI, strategy: str, alert_id: int, by: str, note: str) -> None:
    """Acknowledge the open alert ALERT_ID: someone works on it."""
    open_monitor(uri, strategy).acknowledge(alert_id, by=by, note=note)
    print_message(f"alert {alert_id} is acknowledged by {by}")


@click.command()
@database_option
@strategy_option()
@click.argument("rule")
@click.option(
    "--from", "since", type=Moment(), help="First session, by its close; default: from now on."
)
@click.option("--until", type=Moment(), required=True, help="Last session, by its close.")
@reason_option
@by_option
@rehearsal_option
def silence(
    uri: DatabaseURI,
    strategy: str,
    rule: str,
    since: datetime | None,
    until: datetime,
    reason: str,
    by: str,
) -> None:
    """Mute a RULE for sessions that close in a period."""
    monitor = open_monitor(uri, strategy)
    count = monitor.silence(rule, until=until, since=since, by=by, why=reason)
    print_message(f"{rule!r} is silent until {until.isoformat()} ({count} open alerts)")


@click.command()
@database_option
@strategy_option()
@click.argument("feature")
@click.argument("session", type=Day())
@reason_option
@by_option
@rehearsal_option
def repaired(
    uri: DatabaseURI, strategy: str, feature: str, session: date, reason: str, by: str
) -> None:
    """Confirm that a late FEATURE is right from SESSION on.

    "all" stands for every late feature.
    """
    monitor = open_monitor(uri, strategy)
    name = "" if feature == "all" else feature
    monitor.confirm_repair(session, feature=name, by=by, reason=reason)
    late = [a for a in monitor.alerts(states=["open"]) if a.rule == "feature late"]
    print_message(f"still late: {late[0].note}" if late else "no feature is late")
