"""`mlflow-timescale features universe`: from when to when entities are part of something."""

from __future__ import annotations

import click

from mlflow_timescale.cli.kit import database_option, print_message, rehearsal_option
from mlflow_timescale.db.uri import DatabaseURI


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True))
@database_option
@rehearsal_option
def universe(name: str, file: str, uri: DatabaseURI) -> None:
    """Record the members of universe NAME from a FILE.

    A CSV or Parquet file with the columns entity_key, valid_from and valid_to: times with a zone,
    exclusive at the end; an empty one is open.
    """
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        changed = store.record_universe(name, file)
    print_message(f"{name}: {changed} intervals recorded")
