"""Every command that changes or removes has `--dry-run`, and changes nothing with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from support.commands import leaves
from support.strategies import Strategy

from drift import DriftMonitor
from mlflow_timescale import ModelRegistry, db
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI

# Commands without --dry-run: they read, or write only the file that the caller names, or start what
# the caller works with.
WITHOUT = {
    "artifacts fetch",
    "artifacts history",
    "artifacts list",
    "artifacts verify",  # notes that and when a file was read; changes no file
    "demo",
    "doctor",
    "drift alerts",
    "drift from-qlib",
    "drift onset",
    "drift report",
    "drift rules list",
    "drift rules simulate",
    "drift status",
    "features describe",
    "features diff",
    "features export",
    "features health",
    "features history",
    "features latest",
    "features leaks",
    "features lineage",
    "features list",
    "features snapshot",
    "features training",
    "features verify",
    "features watermark",
    "history list",
    "history tags",
    "incident explain",  # --no-mlflow adds no page to the strategy's run
    "incident onset",
    "incident replay",
    "incident skew",
    "incident version",
    "postmortem",
    "qlib online",
    "registry at",
    "registry history",
    "reproduce",
    "server",
    "spool drain",  # its dry run is the next one
    "spool status",
}


def test_every_command_that_changes_has_a_dry_run() -> None:
    lacking = {
        name
        for name, command in leaves()
        if not any("--dry-run" in each.opts for each in command.params)
    }
    assert lacking == WITHOUT


@dataclass(frozen=True)
class Watched:
    """A database with a strategy, an open alert and a model, and files to be read."""

    uri: DatabaseURI
    days: list[date]
    alert: int
    files: Path

    def run(self, *words: str) -> str:
        place = 3 if words[:2] == ("drift", "rules") else 1 if words[0] == "daily" else 2
        arguments = [*words[:place], "--uri", self.uri.url, *words[place:]]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code in (0, 4), result.output
        return result.output

    def content(self) -> dict[str, tuple[int, int]]:
        """The number of rows of every table, and a sum over them."""
        with db.connect(self.uri, autocommit=True) as conn:
            names = conn.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                " WHERE schemaname IN ('mlops', 'public')"
            ).fetchall()
            query = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {} t"
            return {name: conn.execute(query.format(name)).fetchone() for (name,) in names}


@pytest.fixture(scope="module")
def watched(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    with new_database() as uri:
        monitor = DriftMonitor(uri, "momentum", tracking_uri=False, notify=())
        monitor.configure()
        days = monitor.calendar.sessions_in_range(date(2024, 1, 2), date(2024, 12, 31))[:130]
        strategy = Strategy.of(days, [0.3] * 125 + [-0.9] * 5)
        strategy.record(monitor, slice(129))
        monitor.backfill(days[0], days[122])
        monitor.accept(days[0], days[122], "a good time", min_sessions=60)
        monitor.backfill(days[123], days[127])
        [alert, *_] = monitor.alerts()
        registry = ModelRegistry(uri)
        for number in (1, 2):
            registry.register_model("momentum")
            registry.set_alias("momentum", "live", number, reason="deploy")
        files = tmp_path_factory.mktemp("files")
        pd.DataFrame(strategy.predictions(slice(129, 130))).to_csv(
            files / "signals.csv", index=False
        )
        wide = {"entity_key": ["A", "B"], "event_time": ["2024-01-02T21:00:00Z"] * 2, "x": [1, 2]}
        pd.DataFrame(wide).to_csv(files / "wide.csv", index=False)
        (files / "day.txt").write_text("2024-10-07\n2024-10-08\n")
        (files / "view.json").write_text(json.dumps({"name": "v", "features": ["x"]}))
        yield Watched(uri, days, alert.alert_id, files)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("features write {files}/wide.csv", "2 new values"),
        ("features register {files}/view.json", "registered"),
        ("drift record -s momentum predictions {files}/signals.csv", "40 new rows"),
        ("drift record -s another predictions {files}/signals.csv", "40 new rows"),
        ("drift accept -s momentum {first} {last} --min-sessions 60 --reason r", "accepted"),
        ("drift ack -s momentum {alert}", "is acknowledged"),
        ("drift silence -s momentum ic_level --until {until} --reason r", "is silent"),
        ("drift repaired -s momentum all {next} --reason r", "late"),
        ("drift rules use -s momentum classic", "is judged"),
        ("drift run -s momentum --session {next}", "ic"),
        ("drift backfill -s momentum {next} {next} --notify", "1 sessions computed"),
        ("daily --session {next}", "momentum"),
        ("sessions import {files}/day.txt --calendar XSHG", "imported: 2 sessions of XSHG"),
        ("metrics extremes on", "would have 0 generated metrics"),
        ("registry rollback momentum live --reason r", "would go from version 2 to 1"),
    ],
)
def test_a_dry_run_shows_what_would_be_done_and_changes_nothing(
    watched: Watched, command: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a dry run sends no message")

    monkeypatch.setattr("drift.alerts.notify.send", refuse)
    words = command.format(
        files=watched.files,
        first=watched.days[0],
        last=watched.days[120],
        next=watched.days[128],
        alert=watched.alert,
        until="2099-01-01T00:00Z",
    ).split()
    before = watched.content()
    output = watched.run(*words, "--dry-run")
    assert shown in output
    assert watched.content() == before
    if "would" not in shown:
        assert "dry run: nothing was changed" in output


def test_a_dry_run_sets_up_no_database(empty_database: DatabaseURI, watched: Watched) -> None:
    arguments = ["features", "write", str(watched.files / "wide.csv"), "--dry-run"]
    result = CliRunner().invoke(cli, [*arguments, "--uri", empty_database.url])
    assert "has no schema" in str(result.exception)
    with db.connect(empty_database, autocommit=True) as conn:
        assert conn.execute("SELECT to_regnamespace('mlops')").fetchone() == (None,)
