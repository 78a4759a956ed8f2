"""Types and options that only the feature commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mlflow_timescale.cli.kit.types import ParamType


class Lag(ParamType):
    """A duration, or a rule of a trading calendar."""

    name = "LAG"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from ..write.availability import availability

        try:
            return availability(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Version(ParamType):
    """A version of every feature, or of one: 2, or rsi_14=2."""

    name = "VERSION"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str | None, int | str]:
        name, _, version = value.rpartition("=")
        if version != "newest" and not version.isdigit():
            self.fail(f"{value!r} is not a version: write 2, newest, or rsi_14=2", param, ctx)
        return name or None, version if version == "newest" else int(version)


def _versions(ctx: Any, param: Any, value: tuple[tuple[str | None, int | str], ...]) -> Any:
    """What `feature_version` takes, from the options that were given."""
    if not value:
        return None
    if value[0][0] is None:
        if len(value) > 1:
            raise click.BadParameter(
                "give one version for all features, or name=version for each", ctx, param
            )
        return value[0][1]
    if any(name is None for name, _ in value):
        raise click.BadParameter(
            "give one version for all features, or name=version for each", ctx, param
        )
    return {str(name): version for name, version in value}


universe_option = click.option(
    "--universe", metavar="NAME", help="Only entities while they are part of this universe."
)

version_option = click.option(
    "--feature-version",
    type=Version(),
    multiple=True,
    callback=_versions,
    help="Version: 2, newest, or rsi_14=2 for one feature; may be repeated; default: the newest.",
)
one_version_option = click.option(
    "--feature-version", type=int, metavar="N", help="Version; default: all."
)
spine_argument = click.argument("spine", type=click.Path(exists=True))


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--entity-column and --as-of-column: the columns of a spine."""
    entity = click.option(
        "--entity-column",
        "entity",
        default="entity_key",
        show_default=True,
        metavar="NAME",
        help="Column of the entities.",
    )
    as_of = click.option(
        "--as-of-column",
        "as_of",
        default="as_of",
        show_default=True,
        metavar="NAME",
        help="Column of the times at which values must have been known.",
    )
    return entity(as_of(command))
