"""`features write | latest | training | history | diff | leaks`."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from feature_store.cli.options import (
    Lag,
    Moment,
    as_of_option,
    json_option,
    max_age_option,
    show,
    version_option,
    versions,
)
from feature_store.errors import InvalidFrame
from feature_store.store import FeatureStore
from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI

_features = click.option(
    "-f", "--features", "names", required=True, help="Names of features, with commas between."
)
_spine = click.argument("spine", type=click.Path(exists=True))
_SHOWN = (
    "feature_name",
    "feature_version",
    "value",
    "event_time",
    "ingest_time",
    "producer",
    "run_id",
    "assumed_lag",
)
_entity = click.option("--entity", default="entity_key", show_default=True, help="Its column.")
_as_of_column = click.option("--as-of", default="as_of", show_default=True, help="Its column.")


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--layout", type=click.Choice(["wide", "long"]), default="wide", show_default=True)
@click.option("--entity", default="entity_key", show_default=True, help="Its column.")
@click.option("--event-time", default="event_time", show_default=True, help="Its column.")
@click.option("--ingest-time", help="Its column; default: known from now on.")
@click.option("--lag", type=Lag(), help="Assume an ingest time: 4h, or 'XNYS next open'.")
@click.option("--feature-version", type=int, default=1, show_default=True)
@click.option("--view", help="Write for a registered view: its features, its newest version.")
@click.option("--producer", help="Who writes; default: this command.")
@click.option("--run-id", help="The MLflow run that computed the values.")
@click.option("--restate", is_flag=True, help="Store different values as revisions known from now.")
@click.option("--forecast", is_flag=True, help="Allow values that are known before their event.")
@uri_option
def write(file: Path, producer: str | None, lag: Any, uri: DatabaseURI, **options: Any) -> None:
    """Write a Parquet or CSV FILE, or a directory of Parquet files, whole or not at all."""
    columns = (TextColumn("{task.completed:,.0f} values"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with (
        FeatureStore(uri, producer=producer or "mlflow-timescale features write") as store,
        Progress(*columns, console=console, transient=True, disable=quiet) as bar,
    ):
        task = bar.add_task("", total=None)
        stored = store.write_frame(
            file, availability_lag=lag, progress=lambda n: bar.advance(task, n), **options
        )
    already = "" if stored else " (everything was there already)"
    click.echo(f"{stored:,} new values{already}")


@click.command()
@click.argument("entity")
@click.argument("names", nargs=-1)
@as_of_option
@max_age_option
@version_option
@uri_option
@json_option
def latest(
    entity: str,
    names: tuple[str, ...],
    as_of: datetime | None,
    max_age: timedelta | None,
    feature_version: Any,
    uri: DatabaseURI,
    as_json: bool,
) -> None:
    """Show what is known of an ENTITY, or was: all features, or those of these NAMES."""
    with FeatureStore(uri) as store:
        found = store.get_latest(
            entity,
            list(names) or None,
            as_of=as_of,
            max_age=max_age,
            feature_version=versions(feature_version),
        )
    values = [found[name] for name in sorted(found)]
    show({name: [getattr(value, name) for value in values] for name in _SHOWN}, as_json)


@click.command()
@_spine
@_features
@_entity
@_as_of_column
@max_age_option
@version_option
@click.option("--event-times", is_flag=True, help="Add the event time of every value.")
@click.option(
    "--explain", is_flag=True, help="A row for each cell: its source, or why it has none."
)
@click.option("-o", "--output", help="A .parquet or .csv file; default: print.")
@uri_option
@json_option
def training(
    spine: str,
    names: str,
    event_times: bool,
    explain: bool,
    output: str | None,
    feature_version: Any,
    uri: DatabaseURI,
    as_json: bool,
    **options: Any,
) -> None:
    """Add to a SPINE (a Parquet or CSV file of entities and times) what was known then."""
    options["feature_version"] = versions(feature_version)
    chosen = names.split(",")
    with FeatureStore(uri) as store:
        if explain:
            found = store.explain(spine, chosen, output="arrow", **options)
        else:
            found = store.training_frame(
                spine, chosen, event_times=event_times, output="arrow", **options
            )
    if output is None:
        show(found.to_pydict(), as_json)
    else:
        _save(found, output)
        click.echo(f"{found.num_rows:,} rows in {output}")


@click.command()
@click.argument("entity")
@click.argument("feature")
@click.option("--feature-version", type=int, help="Default: all.")
@uri_option
@json_option
def history(
    entity: str, feature: str, feature_version: int | None, uri: DatabaseURI, as_json: bool
) -> None:
    """Show every value that was ever believed of a FEATURE of an ENTITY."""
    with FeatureStore(uri) as store:
        show(store.history(entity, feature, feature_version=feature_version), as_json)


@click.command()
@click.argument("earlier", type=Moment())
@click.argument("later", type=Moment())
@click.option("--entity", "entities", multiple=True, help="Only these; may be repeated.")
@click.option("--feature", "names", multiple=True, help="Only these; may be repeated.")
@uri_option
@json_option
def diff(
    earlier: datetime,
    later: datetime,
    entities: tuple[str, ...],
    names: tuple[str, ...],
    uri: DatabaseURI,
    as_json: bool,
) -> None:
    """Show what became known after EARLIER and by LATER: new values and revisions."""
    with FeatureStore(uri) as store:
        found = store.diff(
            earlier, later, entities=list(entities) or None, features=list(names) or None
        )
        show(found, as_json)


@click.command()
@_spine
@_features
@_entity
@_as_of_column
@version_option
@uri_option
@json_option
def leaks(
    spine: str, names: str, feature_version: Any, uri: DatabaseURI, as_json: bool, **options: Any
) -> None:
    """Report in what share of cells a join on event time alone would look into the future."""
    with FeatureStore(uri) as store:
        report = store.leak_report(
            spine,
            names.split(","),
            feature_version=versions(feature_version),
            **options,
        )
        show(report, as_json)


def _save(table: pa.Table, path: str) -> None:
    if path.endswith(".csv"):
        pa.csv.write_csv(table, path)
    elif path.endswith(".parquet"):
        pa.parquet.write_table(table, path)
    else:
        raise InvalidFrame(f"output {path!r} ends neither in .parquet nor in .csv")
