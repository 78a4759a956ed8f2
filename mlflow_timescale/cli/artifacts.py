"""`mlflow-timescale artifacts`: audit, adopt and list what was logged."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mlflow_timescale.cli.options import uri_option, workspace_option
from mlflow_timescale.db.uri import DatabaseURI

console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
FAILED = 2


@click.group()
def artifacts() -> None:
    """Audit, adopt and list artifacts by their SHA-256."""


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """--run, --model, --version: which artifacts; without any, all."""
    for option in (
        workspace_option,
        click.option(
            "--version", "version", metavar="NAME/N", help="A model version, or NAME@ALIAS."
        ),
        click.option("--model", "model_id", metavar="ID", help="A logged model (m-...)."),
        click.option("--run", "run_id", metavar="ID", help="A run."),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@artifacts.command()
@uri_option
@selection_options
@click.option("--jobs", default=4, show_default=True, help="Files to read at the same time.")
@click.option("--sample", type=int, metavar="N", help="Only the N files checked least recently.")
@click.option("--resume", is_flag=True, help="Go on with an audit that was interrupted.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    uri: DatabaseURI,
    run_id: str | None,
    model_id: str | None,
    version: str | None,
    jobs: int,
    sample: int | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Read stored artifacts again and compare them with what was logged.

    Exits with 2 if a file is changed, missing or cannot be read. Without a selection every
    artifact of the database is audited; --sample N every day gets round to all of them in time.
    """
    from mlflow_timescale.artifacts.verify import audit

    selection = _selection(uri, run_id, model_id, version)
    with _progress(quiet=as_json) as (start, step):
        report = audit(
            uri,
            selection,
            sample=sample,
            resume=resume,
            jobs=jobs,
            on_start=start,
            on_check=lambda found: step(),
        )
    if as_json:
        click.echo(json.dumps(_report(report), indent=2))
    else:
        for check in report.failures:
            console.print(f"[red]{check.outcome}[/]  {check.location}", soft_wrap=True)
            if check.found:
                console.print(f"  expected {check.expected}", soft_wrap=True)
                console.print(f"  found    {check.found}", soft_wrap=True)
            elif check.detail:
                console.print(f"  {check.detail}", markup=False, soft_wrap=True)
        counted = ", ".join(f"{count} {name}" for name, count in sorted(report.outcomes.items()))
        console.print(f"Audit {report.audit_id}: {counted or 'nothing to check'}.")
    ctx.exit(0 if report.passed else FAILED)


def _report(report: Any) -> dict[str, Any]:
    return {
        "audit_id": report.audit_id,
        "resumed": report.resumed,
        "outcomes": dict(report.outcomes),
        "passed": report.passed,
        "failures": [check.as_dict() for check in report.failures],
    }


@artifacts.command()
@uri_option
@click.option("--run", "run_id", metavar="ID", help="A run.")
@click.option("--model", "model_id", metavar="ID", help="A logged model (m-...).")
@click.option(
    "--artifacts-destination",
    metavar="URI",
    help="Where the server keeps what it proxies, for mlflow-artifacts: locations.",
)
@click.option("--jobs", default=4, show_default=True, help="Files to read at the same time.")
@click.option("--dry-run", is_flag=True, help="Only list what the ledger does not know.")
@json_option
def adopt(
    uri: DatabaseURI,
    run_id: str | None,
    model_id: str | None,
    artifacts_destination: str | None,
    jobs: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Enter files into the ledger that were logged without it.

    They are taken as they are now: a change before today cannot be seen any more.
    """
    from mlflow_timescale.artifacts.adopt import adopt as run

    done = run(
        uri,
        run_id=run_id,
        model_id=model_id,
        destination=artifacts_destination,
        dry_run=dry_run,
        jobs=jobs,
    )
    if as_json:
        click.echo(json.dumps({"adopted": done.adopted, "skipped": done.skipped}, indent=2))
        return
    for location in done.adopted:
        console.print(f"{'unknown' if dry_run else 'adopted'}  {location}", soft_wrap=True)
    for location, reason in done.skipped.items():
        console.print(f"[yellow]skipped[/]  {location}: {reason}", soft_wrap=True)
    console.print(f"{len(done.adopted)} {'unknown' if dry_run else 'adopted'}.")


@artifacts.command("list")
@uri_option
@selection_options
@click.option("--history", is_flag=True, help="Also what was replaced or deleted.")
@json_option
def list_artifacts(
    uri: DatabaseURI,
    run_id: str | None,
    model_id: str | None,
    version: str | None,
    history: bool,
    as_json: bool,
) -> None:
    """List the ledger."""
    from mlflow_timescale.artifacts import ledger
    from mlflow_timescale.artifacts.databases import connection

    selection = _selection(uri, run_id, model_id, version)
    with connection(uri) as conn:
        entries = ledger.select(conn, selection, history=history)
    if as_json:
        click.echo(json.dumps([entry.as_dict() for entry in entries], indent=2))
        return
    table = Table("Owner", "Path", "Type", "Bytes", "SHA-256", "Logged", "By", box=None)
    for entry in entries:
        table.add_row(
            entry.model_id or entry.run_id or "",
            entry.path + (f" ({entry.ended})" if entry.ended else ""),
            entry.artifact_type,
            f"{entry.fingerprint.size:,}",
            entry.fingerprint.sha256[:16],
            f"{entry.created_at:%Y-%m-%d %H:%M:%S}",
            entry.mlflow_user or entry.db_user,
        )
    console.print(table)


def _selection(
    uri: DatabaseURI, run_id: str | None, model_id: str | None, version: str | None
) -> Any:
    from mlflow_timescale.artifacts.ledger import Selection
    from mlflow_timescale.artifacts.verify import selection_of

    if version is None:
        return Selection(run_id=run_id, model_id=model_id)
    if run_id or model_id:
        raise click.UsageError(
            "--version says which run or model it is; leave --run and --model out"
        )
    from mlflow_timescale.registry.model_registry import ModelRegistry

    return selection_of(ModelRegistry(uri).artifact_uri(version))


@contextmanager
def _progress(quiet: bool) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """A bar on standard error while a person watches."""
    columns = (
        TextColumn("verify"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    err = Console(stderr=True)
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal) as progress:
        task = progress.add_task("verify", total=None)
        yield (
            lambda total: progress.update(task, total=total),
            lambda: progress.advance(task),
        )
