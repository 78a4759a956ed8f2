"""`features list | describe | lineage | register | watermark`."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from mlflow_timescale.cli.options import uri_option
from mlflow_timescale.db.uri import DatabaseURI

from ..catalogue.definitions import FeatureView
from ..errors import DefinitionError
from ..store import FeatureStore
from .options import Duration, json_option, show


@click.command("list")
@uri_option
@json_option
def list_features(uri: DatabaseURI, as_json: bool) -> None:
    """List all features: versions, entities, first and last event, view and type."""
    with FeatureStore(uri) as store:
        show(store.features(), as_json)


@click.command()
@click.argument("view")
@click.option("--version", type=int, help="Default: the newest.")
@uri_option
@json_option
def describe(view: str, version: int | None, uri: DatabaseURI, as_json: bool) -> None:
    """Describe a registered feature VIEW."""
    with FeatureStore(uri) as store:
        found = store.view(view, version)
    described: dict[str, Any] = {f.name: getattr(found, f.name) for f in fields(found)}
    described["features"] = dict(found.features)
    described["max_staleness"] = str(found.max_staleness or "") or None
    if as_json:
        click.echo(json.dumps(described, indent=2))
    else:
        show({"property": list(described), "value": list(described.values())}, as_json=False)


@click.command()
@click.argument("feature")
@click.option("--version", type=int, help="Default: all.")
@uri_option
@json_option
def lineage(feature: str, version: int | None, uri: DatabaseURI, as_json: bool) -> None:
    """Show who wrote a FEATURE: producers, code versions, MLflow runs, assumed lags."""
    with FeatureStore(uri) as store:
        show(store.lineage(feature, feature_version=version), as_json)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@uri_option
def register(file: Path, uri: DatabaseURI) -> None:
    """Register the feature views of a JSON FILE: one object, or a list of them.

    The keys are name, features (a list of names, or name to type), and if wanted version,
    description, entity_kind, owner, max_staleness (5d) and code_reference.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    views = [_view(item) for item in (content if isinstance(content, list) else [content])]
    with FeatureStore(uri) as store:
        for view in views:
            new = store.register(view)
            click.echo(f"{view.name} v{view.version}: {'registered' if new else 'unchanged'}")


@click.command()
@uri_option
def watermark(uri: DatabaseURI) -> None:
    """Print the newest moment that is settled: no write can still appear at or before it."""
    with FeatureStore(uri) as store:
        click.echo(store.watermark().isoformat())


def _view(item: dict[str, Any]) -> FeatureView:
    known = {field.name for field in fields(FeatureView)}
    unknown = sorted(set(item) - known)
    if unknown or "name" not in item or "features" not in item:
        raise DefinitionError(
            f"a view has name, features and if wanted {', '.join(sorted(known))}; "
            f"got {', '.join(item)}"
        )
    staleness = item.get("max_staleness")
    lag: timedelta | None = Duration().convert(staleness, None, None) if staleness else None
    return FeatureView(**{**item, "max_staleness": lag})
