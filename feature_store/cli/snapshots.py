"""`mlflow-timescale features snapshot | verify | export`: training sets and the lake, as files."""

from __future__ import annotations

import json
from typing import Any

import click

from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI

from ..files import lake, snapshots
from ..files.lake_export import export_lake
from ..files.manifest import SnapshotError
from ..files.storage import Folder
from ..read.query import PointInTimeQuery
from ..store import FeatureStore
from .options import (
    Moment,
    json_option,
    max_age_option,
    version_option,
    versions,
)

_features = click.option(
    "-f", "--features", "names", help="Names, with commas between; default: all."
)


@click.command()
@click.argument("spine", type=click.Path(exists=True))
@click.argument("path")
@click.option("-f", "--features", "names", required=True, help="Names, with commas between.")
@click.option("--entity", default="entity_key", show_default=True, help="Its column.")
@click.option("--as-of", default="as_of", show_default=True, help="Its column.")
@max_age_option
@version_option
@click.option("--written-by", type=Moment(), help="A past watermark; default: the present one.")
@click.option(
    "--partition",
    type=click.Choice(["year", "month", "day", "none"]),
    default="month",
    show_default=True,
)
@click.option("--name", help="The dataset's name in MLflow; default: the last part of PATH.")
@json_option
@uri_option
def snapshot(
    spine: str, path: str, names: str, as_json: bool, uri: DatabaseURI, **options: Any
) -> None:
    """Write a training set to PATH, for ever, with proof of what it is.

    SPINE is a Parquet or CSV file with an entity and an as-of time in each row; its other columns
    are kept. PATH is a new directory or any fsspec URL.
    """
    with FeatureStore(uri) as store:
        made = snapshots.write_snapshot(
            store.database,
            spine,
            _query(names, **options),
            path,
            name=options["name"],
            partition=None if options["partition"] == "none" else options["partition"],
        )
    if as_json:
        click.echo(made.manifest.to_json(), nl=False)
        return
    click.echo(f"{made.url}: {made.manifest.rows} rows x {len(made.feature_names)} features")
    click.echo(f"fingerprint {made.fingerprint}")
    click.echo(f"written by  {made.manifest.written_by.isoformat()}")


def _query(names: str, **options: Any) -> PointInTimeQuery:
    return PointInTimeQuery(
        names.split(","),
        options["entity"],
        options["as_of"],
        versions(options["feature_version"]),
        options["max_age"],
        options["written_by"],
    )


@click.command()
@click.argument("path")
@click.option("--rebuild", is_flag=True, help="Also read it again from the database, and compare.")
@json_option
@uri_option
def verify(path: str, rebuild: bool, as_json: bool, uri: DatabaseURI) -> None:
    """Check a snapshot, or a lake: every file's hash, and the fingerprint of the content.

    With --rebuild the same rows and features are read from the database at the snapshot's
    watermark; they must have the same fingerprint.
    """
    if Folder(path).exists(lake.FILE):
        found = lake.Lake(path)
        found.verify()
        files, rows, proof = len(found.files()), found.rows, "every file is as it was written"
    else:
        made = snapshots.load_snapshot(path)
        if rebuild:
            _compare(made, uri)
        files, rows, proof = len(made.manifest.files), made.manifest.rows, made.fingerprint
    if as_json:
        click.echo(json.dumps({"path": path, "files": files, "rows": rows, "proof": proof}))
    else:
        again = ", and the database gives the same again" if rebuild else ""
        click.echo(f"{path}: {files} files, {rows} rows, verified{again}: {proof}")


def _compare(made: Any, uri: DatabaseURI) -> None:
    with FeatureStore(uri) as store:
        again = snapshots.rebuild(store.database, made)
    if again != made.fingerprint:
        raise SnapshotError(
            f"{made.url} has fingerprint {made.fingerprint}, the database {uri} gives {again}: "
            f"it is another database, or its history was changed"
        )


@click.command()
@click.argument("path")
@_features
@click.option("--buckets", type=click.IntRange(1, 1000), default=8, show_default=True,
              help="Parts by entity, which can be joined apart.")  # fmt: skip
@json_option
@uri_option
def export(path: str, names: str | None, buckets: int, as_json: bool, uri: DatabaseURI) -> None:
    """Bring the feature lake at PATH up to date, or begin one: only what was written since.

    PATH is a directory or any fsspec URL. -f and --buckets hold for a lake from its beginning.
    """
    with FeatureStore(uri) as store:
        done = export_lake(
            store.database, path, features=names.split(",") if names else None, buckets=buckets
        )
    if as_json:
        plain = {**done.__dict__, "written_by": done.written_by.isoformat()}
        click.echo(json.dumps(plain))
        return
    click.echo(
        f"{path}: {done.points} new points, {done.appended} rows appended, {done.overtaken} "
        f"overtaken; {done.files_written} files written, {done.files_removed} removed"
    )
    click.echo(f"written by {done.written_by.isoformat()}")
