"""`mlflow-timescale features snapshot | verify | export`: training sets and the lake, as files."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from mlflow_timescale.cli.kit import (
    Exit,
    Moment,
    calendar_option,
    database_option,
    exit_with,
    features_option,
    json_option,
    max_age_option,
    print_json,
    print_message,
    require_server,
    uri_option,
)
from mlflow_timescale.db.uri import DatabaseURI

from .options import column_options, spine_argument, version_option


@click.command()
@spine_argument
@click.argument("path")
@database_option
@features_option(required=True)
@column_options
@max_age_option
@calendar_option
@version_option
@click.option("--written-by", type=Moment(), help="Past watermark to read at; default: now.")
@click.option(
    "--partition",
    type=click.Choice(["year", "month", "day", "none"]),
    default="month",
    show_default=True,
    help="Period of one file.",
)
@click.option("--name", help="Name of the dataset in MLflow; default: the last part of PATH.")
@json_option
def snapshot(
    spine: str,
    path: str,
    names: list[str],
    written_by: datetime | None,
    partition: str,
    name: str | None,
    as_json: bool,
    uri: DatabaseURI,
    **options: Any,
) -> None:
    """Write a training set to PATH, with its fingerprint.

    SPINE is a Parquet or CSV file with an entity and a time in each row; its other columns are
    kept. PATH is a new directory or any fsspec URL.
    """
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        written = store.snapshot(
            spine,
            names,
            path,
            written_by=written_by,
            name=name,
            partition=None if partition == "none" else partition,
            **options,
        )
    manifest = written.manifest
    if as_json:
        click.echo(manifest.to_json(), nl=False)
        return
    print_message(f"{written.url}: {manifest.rows} rows x {len(written.feature_names)} features")
    print_message(f"fingerprint {written.fingerprint}")
    print_message(f"written by  {manifest.written_by.isoformat()}")


@click.command()
@click.argument("path")
@uri_option
@click.option("--rebuild", is_flag=True, help="Read it from the database again, and compare.")
@json_option
def verify(path: str, rebuild: bool, as_json: bool, uri: DatabaseURI) -> None:
    """Check the files of a snapshot or lake at PATH.

    Every file must have its hash, a snapshot's content its fingerprint. With --rebuild the same
    rows and features, read from the database at the snapshot's watermark, must have it too. Exit
    code 3: something differs.
    """
    if rebuild:
        require_server(uri)
    from ..files.manifest import ContentMismatch
    from ..files.storage import CorruptFile
    from ..files.verification import Verified, verify
    from ..store import FeatureStore

    result = Verified(0, 0)
    problem = ""
    try:
        with FeatureStore(uri) as store:
            result = verify(path, store.database if rebuild else None)
    except (CorruptFile, ContentMismatch) as exc:
        problem = str(exc)
    if as_json:
        print_json(
            {"path": path, "verified": not problem, "problem": problem or None, **vars(result)}
        )
    elif problem:
        print_message(f"mismatch: {problem}", style="red")
    else:
        proof = result.fingerprint or "every file is as it was written"
        again = ", and the database gives the same again" if rebuild else ""
        print_message(f"{path}: {result.files} files, {result.rows} rows, verified{again}: {proof}")
    exit_with(Exit.NO if problem else Exit.OK)


@click.command()
@click.argument("path")
@database_option
@features_option()
@click.option(
    "--buckets",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    help="Parts by entity, which can be joined separately.",
)
@json_option
def export(
    path: str, names: list[str] | None, buckets: int, as_json: bool, uri: DatabaseURI
) -> None:
    """Create or update the feature lake at PATH.

    Only what was written since the last export is added. PATH is a directory or any fsspec URL.
    --features and --buckets are fixed by the first export.
    """
    from ..files.lake_export import export_lake
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        done = export_lake(store.database, path, features=names, buckets=buckets)
    if as_json:
        print_json(done)
        return
    print_message(
        f"{path}: {done.points} new points, {done.appended} rows appended, {done.overtaken} "
        f"overtaken; {done.files_written} files written, {done.files_removed} removed"
    )
    print_message(f"written by {done.written_by.isoformat()}")
