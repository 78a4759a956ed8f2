"""`mlflow-timescale metrics ...`: what the database adds to the metrics of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    database_option,
    dry_run_option,
    json_option,
    maintenance,
    print_json,
    print_message,
    print_table,
    require_schema,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.db import Connection


@click.group()
def metrics() -> None:
    """What the database adds to the metrics of runs."""


@metrics.command()
@click.argument("state", type=click.Choice(["on", "off"]), required=False)
@database_option
@click.option(
    "--experiment", metavar="NAME", help="One experiment, by name or id; default: all of them."
)
@dry_run_option
@json_option
def extremes(
    state: str | None, uri: DatabaseURI, experiment: str | None, dry_run: bool, as_json: bool
) -> None:
    """Show the best values of metrics in MLflow.

    They are separate metrics, KEY/min and KEY/max, at the first step with that value, so that
    MLflow's web interface and search sort by them: `metrics."loss/min" < 0.3`. They follow every
    new point; existing runs get them at once. A metric that was logged under such a name does not
    change. STATE `off` removes the generated metrics only. Without a STATE, the settings are
    printed; the setting of an experiment overrides that of all.
    """
    from mlflow_timescale.operations.extremes import switch

    with maintenance(uri, changes=state is not None and not dry_run) as conn:
        require_schema(conn, uri)
        if state is None:
            _print_settings(conn, as_json)
            return
        done = switch(conn, on=state == "on", experiment=experiment, dry_run=dry_run)
    if as_json:
        print_json({"state": state, "experiment": experiment, "dry_run": dry_run, **vars(done)})
        return
    would = "would have" if dry_run else "have"
    lost = "would lose" if dry_run else "lost"
    verb = would if state == "on" else lost
    print_message(f"{done.runs:,} runs {verb} {done.metrics:,} generated metrics")


def _print_settings(conn: Connection, as_json: bool) -> None:
    from mlflow_timescale.operations.extremes import settings

    all_settings = settings(conn)
    if as_json:
        print_json([vars(setting) for setting in all_settings])
        return
    if not all_settings:
        print_message("extremes are shown in no experiment")
        return
    table = [(s.experiment or "all others", "on" if s.is_on else "off") for s in all_settings]
    print_table(["experiment", "extremes"], table)
