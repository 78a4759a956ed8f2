"""`features write`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlflow_timescale.cli.kit import (
    database_option,
    features_option,
    print_message,
    progress,
    rehearsal_option,
)
from mlflow_timescale.db.uri import DatabaseURI

from .options import Lag


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@database_option
@features_option()
@click.option(
    "--layout",
    type=click.Choice(["wide", "long"]),
    default="wide",
    show_default=True,
    help="A column for each feature, or columns feature_name and value.",
)
@click.option(
    "--entity-column",
    "entity",
    default="entity_key",
    show_default=True,
    metavar="NAME",
    help="Column of the entities.",
)
@click.option(
    "--event-time-column",
    "event_time",
    default="event_time",
    show_default=True,
    metavar="NAME",
    help="Column of the event times.",
)
@click.option(
    "--ingest-time-column",
    "ingest_time",
    metavar="NAME",
    help="Column of the times at which values became known; default: now.",
)
@click.option(
    "--lag", type=Lag(), help="Assume that values became known later: 4h, or 'XNYS next open'."
)
@click.option(
    "--feature-version", type=int, metavar="N", default=1, show_default=True, help="Version."
)
@click.option("--view", metavar="NAME", help="Registered view to write for, in its newest version.")
@click.option("--producer", metavar="NAME", help="Who writes; default: this command.")
@click.option("--run-id", metavar="ID", help="MLflow run that computed the values.")
@click.option("--restate", is_flag=True, help="Store different values as revisions known from now.")
@click.option("--forecast", is_flag=True, help="Allow values that are known before their event.")
@rehearsal_option
def write(
    file: Path,
    names: list[str] | None,
    producer: str | None,
    lag: Any,
    uri: DatabaseURI,
    **options: Any,
) -> None:
    """Write the features in FILE, all or nothing.

    FILE is Parquet or CSV, or a directory of such files.
    """
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    from ..store import FeatureStore

    columns = (TextColumn("{task.completed:,.0f} values"), BarColumn(), TimeElapsedColumn())
    with (
        FeatureStore(uri, producer=producer or "mlflow-timescale features write") as store,
        progress(*columns) as bar,
    ):
        task = bar.add_task("", total=None)
        stored = store.write_frame(
            file,
            availability_lag=lag,
            features=names,
            progress=lambda n: bar.advance(task, n),
            **options,
        )
    already = "" if stored else " (everything was there already)"
    print_message(f"{stored:,} new values{already}")
