"""`mlflow-timescale artifacts`: verify, adopt and list logged files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.cli.kit import (
    Cell,
    Duration,
    Exit,
    Moment,
    database_option,
    dry_run_option,
    exit_with,
    jobs_option,
    json_option,
    output_option,
    print_json,
    print_message,
    print_table,
    progress,
    require_admin,
    workspace_option,
    yes_option,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.artifacts.adopt import Adoption
    from mlflow_timescale.artifacts.verify import Audit
    from mlflow_timescale.artifacts.versions import Former


@click.group()
def artifacts() -> None:
    """Verify, adopt and list artifacts by their SHA-256."""


run_option = click.option("--run", "run_id", metavar="ID", help="Only the files of this run.")
model_option = click.option(
    "--model", "model_id", metavar="ID", help="Only the files of this logged model (m-...)."
)


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """--run, --model, --version: which artifacts; without any, all."""
    version_option = click.option(
        "--version",
        metavar="NAME/N",
        help="Only the files of this model version; NAME@ALIAS works too.",
    )
    for option in (version_option, model_option, run_option):
        command = option(command)
    return command


@artifacts.command()
@database_option
@workspace_option
@selection_options
@jobs_option
@click.option("--sample", type=int, metavar="N", help="Only the N files checked longest ago.")
@click.option("--resume", is_flag=True, help="Continue an interrupted audit.")
@json_option
def verify(
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

    Exit code 3: a file is changed, missing or unreadable, or the --version has no files. Without a
    selection every artifact of the database is checked; `--sample N` every day checks all of them
    in time.
    """
    from mlflow_timescale.artifacts.verify import audit

    selection = _selection(uri, run_id, model_id, version)
    with _checks_bar(quiet=as_json) as (start, step):
        report = audit(
            uri,
            selection,
            sample=sample,
            resume=resume,
            jobs=jobs,
            on_start=start,
            on_check=lambda check: step(),
        )
    is_empty = version is not None and not report.total and not report.outcomes
    passed = report.passed and not is_empty
    if as_json:
        print_json({**_report(report), "passed": passed})
    else:
        _print_audit(report)
        if is_empty:
            print_message(f"The ledger holds no file of {version}.", style="red")
    exit_with(Exit.OK if passed else Exit.NO)


def _report(report: Audit) -> dict[str, Any]:
    return {
        "audit_id": report.audit_id,
        "resumed": report.resumed,
        "outcomes": dict(report.outcomes),
        "passed": report.passed,
        "failures": [check.as_dict() for check in report.failures],
    }


def _print_audit(report: Audit) -> None:
    from mlflow_timescale.db.rights import OPERATOR, needs

    for check in report.failures:
        print_message(f"{check.outcome}  {check.location}", style="red")
        if check.found:
            print_message(f"  expected {check.expected}")
            print_message(f"  found    {check.found}")
        elif check.detail:
            print_message(f"  {' '.join(check.detail.split())}")
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.outcomes.items()))
    name = f"Audit {report.audit_id}"
    if report.audit_id is None:
        name = f"Not recorded, because {needs(OPERATOR)}"
    print_message(f"{name}: {counts or 'nothing to check'}.")


@artifacts.command()
@database_option
@run_option
@model_option
@click.option(
    "--artifacts-destination",
    metavar="URI",
    help="Where the server keeps the files of mlflow-artifacts: locations.",
)
@jobs_option
@dry_run_option
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
    """Add files to the ledger that were logged without it.

    Their present content counts as the logged one: an earlier change cannot be detected.
    """
    from mlflow_timescale.artifacts.adopt import adopt as adopt_files

    adoption = adopt_files(
        uri,
        run_id=run_id,
        model_id=model_id,
        destination=artifacts_destination,
        dry_run=dry_run,
        jobs=jobs,
    )
    if as_json:
        print_json({"adopted": adoption.adopted, "skipped": adoption.skipped})
    else:
        _print_adoption(adoption, "unknown" if dry_run else "adopted")


def _print_adoption(adoption: Adoption, state: str) -> None:
    for location in adoption.adopted:
        print_message(f"{state}  {location}")
    for location, reason in adoption.skipped.items():
        print_message(f"skipped  {location}: {reason}", style="yellow")
    print_message(f"{len(adoption.adopted)} {state}.")


@artifacts.command("list")
@database_option
@workspace_option
@selection_options
@click.option("--history", is_flag=True, help="Include replaced and deleted files.")
@json_option
def list_artifacts(
    uri: DatabaseURI,
    run_id: str | None,
    model_id: str | None,
    version: str | None,
    history: bool,
    as_json: bool,
) -> None:
    """List the files in the ledger, with size and SHA-256."""
    from mlflow_timescale.artifacts import ledger
    from mlflow_timescale.artifacts.databases import connection

    selection = _selection(uri, run_id, model_id, version)
    with connection(uri) as conn:
        entries = ledger.select(conn, selection, history=history)
    if as_json:
        print_json([entry.as_dict() for entry in entries])
        return
    header = ("owner", "path", "type", "bytes", "SHA-256", "logged", "by")
    rows = [
        (
            entry.model_id or entry.run_id,
            entry.path + (f" ({entry.ended})" if entry.ended else ""),
            entry.artifact_type,
            Cell(entry.fingerprint.size),
            entry.fingerprint.sha256[:16],
            entry.created_at.replace(microsecond=0),
            entry.by,
        )
        for entry in entries
    ]
    print_table(header, rows)


@artifacts.command()
@click.argument("run")
@click.argument("path")
@database_option
@json_option
def history(uri: DatabaseURI, run: str, path: str, as_json: bool) -> None:
    """List every version that file PATH of RUN had, with its period.

    RUN is the id of a run or logged model, which may be deleted. The SHA-256 of every version is
    known; `stored` shows whether its bytes are in the database, too (`history keep-path`).
    """
    from mlflow_timescale.artifacts.versions import artifact_versions

    run = run.removeprefix("runs:/")
    versions = artifact_versions(uri, run, path)
    if as_json:
        print_json([version.as_dict() for version in versions])
        return
    if not versions:
        print_message(
            f"The ledger holds no file {path} of {run}; `mlflow-timescale artifacts list --run "
            f"{run} --history` lists those that it has."
        )
        return
    header = ("from", "to", "ended", "bytes", "SHA-256", "stored", "by")
    rows = [
        (
            version.logged_at,
            version.ended_at,
            version.ended or "",
            Cell(version.fingerprint.size),
            version.fingerprint.sha256[:16],
            "yes" if version.is_stored else "no",
            version.by,
        )
        for version in versions
    ]
    print_table(header, rows)


@artifacts.command()
@click.argument("run")
@click.argument("path")
@database_option
@click.option("--at", "moment", type=Moment(), help="As of this time; default: now.")
@output_option(required=True)
@json_option
def fetch(
    uri: DatabaseURI, run: str, path: str, moment: datetime | None, output: Path, as_json: bool
) -> None:
    """Write file PATH of RUN to a file, as it was at a time.

    RUN is the id of a run or logged model. The bytes are compared with their SHA-256.
    """
    from mlflow_timescale.artifacts import versions
    from mlflow_timescale.artifacts.databases import connection

    moment = moment or datetime.now(timezone.utc)
    with connection(uri) as conn:
        of_file = versions.versions(conn, run, path)
        version = versions.require_version(of_file, run, path, moment)
        versions.write(conn, version, output)
    if as_json:
        print_json(version.as_dict())
    else:
        until = f"until {version.ended_at.isoformat()}" if version.ended_at else "and still is"
        print_message(
            f"{output}: {version.fingerprint}, {path} since {version.logged_at.isoformat()} {until}"
        )


@artifacts.command()
@database_option
@click.option(
    "--former",
    "age",
    type=Duration(),
    help="Free former versions too that were replaced or deleted longer ago than this.",
)
@dry_run_option
@yes_option
@json_option
def prune(uri: DatabaseURI, age: timedelta | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete files of what is gone, and free disk space.

    `mlflow gc` deletes the files of what it removes; this finds those that were left: by older
    versions, by gc while a registered version needed them, by a store that could not be reached.
    Files that a registered version needs stay, and so do former versions of the paths that
    `history keep-path` names. Then the free space of the in-database store goes back to the
    operating system, without a lock that others wait for.
    """
    from mlflow_timescale.operations import pruning

    if not dry_run:
        require_admin(uri)
    orphans, before = pruning.orphans(uri), None
    if age is not None:
        before = datetime.now(timezone.utc) - age
    going, kept = pruning.former(uri, before)
    if not as_json:
        _print_prunable(orphans, going, kept)
    if dry_run:
        if as_json:
            print_json({"unreferenced": orphans, "former": going._asdict()})
        return
    if (orphans or going.versions) and not yes:
        click.confirm("Delete these files?", abort=True, err=as_json)
    _prune(uri, orphans, before, as_json)


def _print_prunable(orphans: Mapping[str, int], going: Former, kept: Former) -> None:
    from mlflow_timescale.operations.doctor import in_bytes

    for location, size in orphans.items():
        print_message(f"unreferenced  {location} ({in_bytes(size)})")
    print_message(f"{len(orphans)} unreferenced files, {in_bytes(sum(orphans.values()))}")
    if going.versions:
        print_message(f"{going.versions:,} former versions to free, {in_bytes(going.size)}")
    if kept.versions:
        print_message(f"{kept.versions:,} former versions are kept, {in_bytes(kept.size)}")


def _prune(
    uri: DatabaseURI, orphans: Mapping[str, int], before_time: datetime | None, as_json: bool
) -> None:
    from mlflow_timescale.operations import pruning
    from mlflow_timescale.operations.doctor import in_bytes

    before, after = pruning.prune(uri, orphans, before_time)
    if as_json:
        print_json({"deleted": orphans, "bytes": before.taken, "bytes_now": after.taken})
        return
    print_message(
        f"{len(orphans)} deleted; the in-database store took {in_bytes(before.taken)} on disk, now "
        f"{in_bytes(after.taken)} for {in_bytes(after.used)} of artifacts"
    )


def _selection(
    uri: DatabaseURI, run_id: str | None, model_id: str | None, version: str | None
) -> Any:
    from mlflow_timescale.artifacts.ledger import Selection
    from mlflow_timescale.artifacts.verify import selection_of

    if version is None:
        return Selection(run_id=run_id, model_id=model_id)
    if run_id or model_id:
        raise click.UsageError("--version names the run or model; omit --run and --model")
    from mlflow_timescale.registry.model_registry import ModelRegistry

    return selection_of(ModelRegistry(uri).artifact_uri(version))


@contextmanager
def _checks_bar(quiet: bool) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("verify"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress(*columns, quiet=quiet, transient=False) as bar:
        task = bar.add_task("verify", total=None)
        yield (lambda total: bar.update(task, total=total), lambda: bar.advance(task))
