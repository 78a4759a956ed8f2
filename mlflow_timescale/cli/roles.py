"""`mlflow-timescale roles`."""

from __future__ import annotations

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


@click.command()
@database_option
@click.option("--revoke", is_flag=True, help="Take all rights in this database back.")
@dry_run_option
@json_option
def roles(uri: DatabaseURI, revoke: bool, dry_run: bool, as_json: bool) -> None:
    """Create the roles of readers, writers, operators and admins.

    The roles mlops_reader, mlops_writer, mlops_operator and mlops_admin belong to the server; what
    they may do is granted in this database. People and services get a role by membership: GRANT
    mlops_writer TO alice. Safe to repeat; `migrate` grants the rights on what it makes.
    """
    from mlflow_timescale.db.roles import members
    from mlflow_timescale.operations.roles import TASKS, set_up, take_back

    with maintenance(uri, changes=not dry_run) as conn:
        require_schema(conn, uri)
        done = (take_back if revoke else set_up)(conn, dry_run=dry_run)
        present = members(conn)
    if as_json:
        listed = [{"role": role, "members": logins} for role, logins in present]
        print_json({"pending" if dry_run else "executed": done, "roles": listed})
        return
    for statement in done if dry_run else ():
        print_message(f"{statement};")
    if done and not dry_run:
        print_message(f"Executed {len(done)} statements; --dry-run shows them before.")
    elif not done:
        print_message(
            "The roles have no rights here." if revoke else "The roles have their rights here."
        )
    if not (revoke or dry_run):
        print_table(
            ("role", "members", "may"),
            [(role, ", ".join(logins), TASKS[role]) for role, logins in present],
        )
