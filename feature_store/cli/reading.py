"""`features latest | history | diff`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from mlflow_timescale.cli.kit import (
    Moment,
    as_of_option,
    calendar_option,
    database_option,
    entity_option,
    features_option,
    json_option,
    max_age_option,
    print_columns,
)
from mlflow_timescale.common.time import Duration
from mlflow_timescale.db.uri import DatabaseURI

from .options import one_version_option, version_option

_COLUMNS = (
    "feature_name",
    "feature_version",
    "value",
    "event_time",
    "ingest_time",
    "producer",
    "run_id",
    "assumed_lag",
)


@click.command()
@click.argument("entity")
@click.argument("names", nargs=-1)
@database_option
@as_of_option
@max_age_option
@calendar_option
@version_option
@json_option
def latest(
    entity: str,
    names: tuple[str, ...],
    as_of: datetime | None,
    max_age: Duration | None,
    calendar: str | None,
    feature_version: Any,
    uri: DatabaseURI,
    as_json: bool,
) -> None:
    """Show the latest values of an ENTITY, now or at a past time.

    NAMES are the features; default: all.
    """
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        values = store.get_latest(
            entity,
            list(names) or None,
            as_of=as_of,
            max_age=max_age,
            calendar=calendar,
            feature_version=feature_version,
        )
    rows = [values[name] for name in sorted(values)]
    print_columns({name: [getattr(row, name) for row in rows] for name in _COLUMNS}, as_json)


@click.command()
@click.argument("entity")
@click.argument("feature")
@database_option
@one_version_option
@json_option
def history(
    entity: str, feature: str, feature_version: int | None, uri: DatabaseURI, as_json: bool
) -> None:
    """Show every revision of a FEATURE of an ENTITY."""
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        print_columns(store.history(entity, feature, feature_version=feature_version), as_json)


@click.command()
@click.argument("earlier", type=Moment())
@click.argument("later", type=Moment())
@database_option
@features_option()
@entity_option
@click.option(
    "--change",
    type=click.Choice(["new", "revised", "all"]),
    help="List the values of this kind; by default their numbers and sizes.",
)
@json_option
def diff(
    earlier: datetime,
    later: datetime,
    names: list[str] | None,
    entities: list[str] | None,
    change: str | None,
    uri: DatabaseURI,
    as_json: bool,
) -> None:
    """Show what became known after EARLIER and by LATER.

    Changes are counted by kind. Sizes are absolute differences of a revised number from the one
    before, in the unit of the feature. With --json every value is listed.
    """
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        changes = store.diff(
            earlier,
            later,
            entities=entities,
            features=names,
            change=None if change == "all" else change,
            summary=change is None and not as_json,
        )
    print_columns(changes, as_json)
