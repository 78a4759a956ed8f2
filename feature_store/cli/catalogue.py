"""`features list | describe | lineage | register | watermark`."""

from __future__ import annotations

from pathlib import Path

import click

from mlflow_timescale.cli.kit import (
    database_option,
    json_option,
    print_columns,
    print_json,
    print_message,
    print_table,
    rehearsal_option,
)
from mlflow_timescale.db.uri import DatabaseURI

from .options import one_version_option


@click.command("list")
@database_option
@json_option
def list_features(uri: DatabaseURI, as_json: bool) -> None:
    """List all features, with versions, first and last event."""
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        print_columns(store.features(), as_json)


@click.command()
@click.argument("view")
@database_option
@click.option("--view-version", type=int, metavar="N", help="Version; default: the newest.")
@json_option
def describe(view: str, view_version: int | None, uri: DatabaseURI, as_json: bool) -> None:
    """Show the definition of a registered feature VIEW."""
    from ..catalogue.view_files import view_to_dict
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        definition = view_to_dict(store.view(view, view_version))
    if as_json:
        print_json(definition)
    else:
        rows = [(name, value) for name, value in definition.items() if value not in (None, "")]
        print_table(("property", "value"), rows)


@click.command()
@click.argument("feature")
@database_option
@one_version_option
@json_option
def lineage(feature: str, feature_version: int | None, uri: DatabaseURI, as_json: bool) -> None:
    """Show who wrote a FEATURE: producers, code versions, runs, lags."""
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        print_columns(store.lineage(feature, feature_version=feature_version), as_json)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@database_option
@rehearsal_option
@json_option
def register(file: Path, uri: DatabaseURI, as_json: bool) -> None:
    """Register the feature views of a JSON FILE.

    It holds one object, or a list of them, with name, features (a list of names, or name to type),
    and optionally version, description, entity_kind, owner, max_staleness (5d) and code_reference.
    """
    from ..catalogue.view_files import read_views
    from ..store import FeatureStore

    views = read_views(file)
    with FeatureStore(uri) as store:
        states = ["registered" if store.register(view) else "unchanged" for view in views]
    if as_json:
        rows = zip(views, states, strict=True)
        print_json([{"view": v.name, "version": v.version, "state": state} for v, state in rows])
        return
    for view, state in zip(views, states, strict=True):
        print_message(f"{view.name} v{view.version}: {state}")


@click.command()
@database_option
@json_option
def watermark(uri: DatabaseURI, as_json: bool) -> None:
    """Print the time up to which no write can appear any more."""
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        settled = store.watermark()
    if as_json:
        print_json({"watermark": settled})
    else:
        print_message(settled.isoformat())
