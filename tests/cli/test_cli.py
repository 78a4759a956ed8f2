"""The command line: help, errors in one line, migrate."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click
import psycopg
import pytest

from mlflow_timescale import db
from mlflow_timescale.cli import COMMANDS, cli, main
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.version import __version__

UNREACHABLE = "postgresql+timescaledb://ann:s3cret@127.0.0.1:1/trading"


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def _run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        return Result(int(end.value.code or 0), *capsys.readouterr())

    return _run


def commands() -> list[str]:
    """Every command, those of groups too, as it is typed."""
    found = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        subcommands = command.commands if isinstance(command, click.Group) else {}
        found += [name, *(f"{name} {sub}" for sub in subcommands)]
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help(command: str, run) -> None:
    result = run(*command.split(), "--help")
    assert result.code == 0
    usage, description, *_ = result.out.split("\n\n")
    assert usage.startswith(f"Usage: mlflow-timescale {command}")
    assert len(description.split()) >= 3


def test_the_list_of_commands_says_what_each_does(run) -> None:
    result = run("--help")
    assert result.code == 0
    for name in COMMANDS:
        (line,) = [line for line in result.out.splitlines() if line.startswith(f"  {name} ")]
        assert len(line.split()) > 3


@pytest.mark.parametrize("target", COMMANDS.values())
def test_every_command_is_where_the_list_says(target: str) -> None:
    module, _, attribute = target.partition(":")
    assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)


def test_version(run) -> None:
    assert run("--version") == (0, f"mlflow-timescale, version {__version__}\n", "")


@pytest.mark.parametrize("command", ["migrate", "doctor", "server", "demo"])
def test_an_error_is_one_line_without_the_password(
    command: str, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TIMESCALE_URI", UNREACHABLE)
    result = run(command)
    assert result.code == 1
    last = result.err.strip().splitlines()[-1]
    assert "Traceback" not in result.err
    assert "127.0.0.1" in last
    assert "refused" in last
    assert "s3cret" not in result.out + result.err


def test_debug_shows_the_traceback_without_the_password(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TIMESCALE_URI", UNREACHABLE)
    result = run("--debug", "migrate")
    assert result.code == 1
    assert "Traceback (most recent call last)" in result.err
    assert "ConnectionFailed" in result.err
    assert "s3cret" not in result.err


def test_a_uri_that_cannot_be_read_is_refused_with_the_forms_that_can(run) -> None:
    result = run("doctor", "--uri", "sqlite:///mlflow.db")
    assert result.code == 2
    assert "postgresql+timescaledb://user:password@host:5432/database" in result.err


def test_migrate_says_what_it_would_do_does_it_and_then_has_nothing_to_do(
    empty_database: DatabaseURI, run
) -> None:
    uri = empty_database.url
    before = run("migrate", "--dry-run", "--uri", uri)
    assert before.code == 0
    assert "waiting tracking/002_metrics_layout (needs metrics_rebuild, mlflow)" in before.out
    with db.connect(empty_database, autocommit=True) as conn:
        assert conn.execute("SELECT to_regclass('mlops.migrations')").fetchone() == (None,)
    done = run("migrate", "--uri", uri)
    assert done.code == 0
    assert "apply   tracking/002_metrics_layout" in done.out
    again = run("migrate", "--uri", uri)
    assert "The schema is up to date." in again.out


def test_a_dry_run_lists_what_is_pending(
    database: DatabaseURI, conn: psycopg.Connection, run
) -> None:
    conn.execute("DELETE FROM mlops.migrations WHERE name = 'tracking/001_search_indexes'")
    result = run("migrate", "--dry-run", "--uri", database.url)
    assert "pending tracking/001_search_indexes" in result.out
    found = conn.execute("SELECT count(*) FROM mlops.migrations WHERE name ~ 'indexes'").fetchone()
    assert found == (0,)
