"""`mlflow-timescale registry`: history, at, rollback."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from click.testing import CliRunner, Result

from mlflow_timescale import ModelRegistry
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI

NAME = "momentum"


@pytest.fixture
def registry(database: DatabaseURI) -> ModelRegistry:
    registry = ModelRegistry(database)
    for number in (1, 2):
        registry.register_model(NAME)
        registry.set_alias(NAME, "live", number, reason=f"deploy {number}")
    return registry


def command(registry: ModelRegistry, name: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["registry", name, "--uri", registry.uri.url, *arguments])


def test_at_names_the_version_that_ran(registry: ModelRegistry) -> None:
    first, second = registry.alias_history(NAME, "live")
    result = command(registry, "at", NAME, "live", first.valid_from.isoformat())
    assert result.exit_code == 0
    assert "was version 1 at" in result.output
    result = command(registry, "at", NAME, "live", second.valid_from.isoformat(), "--json")
    assert json.loads(result.stdout)["version"] == 2


def test_at_exits_with_3_where_nothing_was_set(registry: ModelRegistry) -> None:
    result = command(registry, "at", NAME, "live", "2001-01-01T00:00:00Z")
    assert (result.exit_code, "pointed at no version" in result.output) == (3, True)


def test_a_time_without_an_offset_is_refused(registry: ModelRegistry) -> None:
    result = command(registry, "at", NAME, "live", "2024-01-15T09:30:00")
    assert result.exit_code == 2
    assert "has no time zone" in result.output


def test_history_and_rollback(registry: ModelRegistry) -> None:
    result = command(registry, "rollback", NAME, "live", "--reason", "IC fell")
    assert result.output == "momentum@live: version 2 -> 1.\n"
    shown = command(registry, "history", NAME, "live", "--json")
    reasons = [change["reason"] for change in json.loads(shown.stdout)]
    assert reasons == ["deploy 1", "deploy 2", "IC fell"]
    assert "IC fell" in command(registry, "history", NAME).output
    kinds = json.loads(command(registry, "history", NAME, "--kind", "all", "--json").stdout)
    assert {change["kind"] for change in kinds} == {"alias", "model", "stage", "version"}
    assert registry.version_at(NAME, "live", datetime.now(timezone.utc)) == 1


def test_a_reason_with_markup_and_escapes_is_shown_as_text(registry: ModelRegistry) -> None:
    registry.set_alias(NAME, "live", 1, reason="notes are in [/srv/notes] \x1b]0;owned\x07")
    shown = command(registry, "history", NAME)
    assert shown.exit_code == 0
    assert "[/srv/notes]" in shown.output
    assert "\\x1b]0;owned\\x07" in shown.output
    assert "\x1b" not in shown.output
