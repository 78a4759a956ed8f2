"""Every command, as each role. The commands are those of click, so that none can be missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mlflow
import pandas as pd
import pytest
from support.commands import leaves
from support.databases import dispose_engines
from support.logins import Logins
from support.role_calls import NEEDS, Outcome
from support.role_database import (
    DAYS,
    MOMENT,
    fill_features,
    fill_monitor,
    fill_registry,
    fill_served,
    monitor_of,
    waiting,
)

from feature_store import FeatureStore
from mlflow_timescale.cli import main
from mlflow_timescale.db.rights import ADMIN, OPERATOR, READER, WRITER

PAGE = Path(__file__).parents[2] / "docs" / "roles.md"
READERS = (READER, WRITER, OPERATOR, ADMIN)
WRITERS, OPERATORS, EITHER, ADMINS = (
    (WRITER, ADMIN),
    (OPERATOR, ADMIN),
    (WRITER, OPERATOR, ADMIN),
    (ADMIN,),
)
EVERYONE = ("none", *READERS)
ANSWERS = {0, 3, 4}  # done, or the answer of a check


# The roles that docs/roles.md names; those that are members of them are left out.
LEAST = {
    EVERYONE: ("none",),
    READERS: (READER,),
    WRITERS: (WRITER,),
    OPERATORS: (OPERATOR,),
    EITHER: (WRITER, OPERATOR),
    ADMINS: (ADMIN,),
}


class Entry(NamedTuple):
    """Who may use a command, with arguments that give it something to do.

    `error` is in the error of a call that is permitted, where the command cannot go on after it has
    read, or written, what the role decides about; `not_called` is why no call is made.
    """

    roles: tuple[str, ...]
    words: str = ""
    error: str = ""
    not_called: str = ""


COMMANDS = {
    # First: the daily job resolves the alert.
    "drift ack": Entry(OPERATORS, "-s momentum {alert}"),
    "adopt": Entry(ADMINS),
    "artifacts adopt": Entry(WRITERS),
    "artifacts fetch": Entry(
        READERS, "{run} none.pkl -o {folder}/none", error="has no file none.pkl"
    ),
    "artifacts history": Entry(READERS, "{run} pred.pkl"),
    "artifacts list": Entry(READERS, "--version momentum/1"),
    "artifacts prune": Entry(ADMINS, "--yes"),
    "artifacts verify": Entry(READERS),  # a reader's result is not recorded
    "daily": Entry(EITHER, "--session {next}"),
    "demo": Entry(WRITERS, not_called="trains a model: log, register and set_alias of the stores"),
    "doctor": Entry(EVERYONE),  # what it cannot read is one of its findings
    "drift accept": Entry(OPERATORS, "-s momentum {first} {last} --min-sessions 3 --reason calm"),
    "drift alerts": Entry(READERS, "-s momentum"),
    "drift backfill": Entry(EITHER, "-s momentum {first} {last}"),
    "drift from-qlib": Entry(READERS, not_called="reads runs as `artifacts list` does"),
    "drift onset": Entry(READERS, "-s momentum"),
    "drift record": Entry(WRITERS, "-s momentum returns {folder}/returns.csv"),
    "drift repaired": Entry(OPERATORS, not_called="needs a late feature; test_role_matrix.py"),
    "drift report": Entry(READERS, "-s momentum -o {folder}/report-{role}.html"),
    "drift rules list": Entry(READERS, "-s momentum"),
    "drift rules simulate": Entry(READERS, "-s momentum", error="sessions of history"),
    "drift rules use": Entry(EITHER, "-s momentum classic"),
    "drift run": Entry(EITHER, "-s momentum --session {next}"),
    "drift silence": Entry(OPERATORS, "-s momentum ic --reason calm --until 2099-01-02T00:00Z"),
    "drift status": Entry(READERS, "-s momentum"),
    "features describe": Entry(READERS, "prices"),
    "features diff": Entry(READERS, "2024-01-02T00:00Z 2024-01-03T00:00Z"),
    "features export": Entry(READERS, "{folder}/lake-{role}"),
    "features health": Entry(READERS),
    "features history": Entry(READERS, "AAPL close"),
    "features latest": Entry(READERS, "AAPL"),
    "features leaks": Entry(READERS, "{folder}/spine.csv -f close"),
    "features lineage": Entry(READERS, "close"),
    "features list": Entry(READERS),
    "features register": Entry(WRITERS, "{folder}/view-{role}.json"),
    "features snapshot": Entry(READERS, "{folder}/spine.csv {folder}/snapshot-{role} -f close"),
    "features training": Entry(READERS, "{folder}/spine.csv -f close"),
    "features universe": Entry(WRITERS, "us {folder}/members.csv"),
    "features verify": Entry(READERS, "{folder}/snapshot --rebuild"),
    "features watermark": Entry(READERS),
    "features write": Entry(WRITERS, "{folder}/values.csv"),
    "history keep-path": Entry(ADMINS, "signals/*"),
    "history keep-tag": Entry(ADMINS, "stage"),
    "history list": Entry(READERS),
    "history tags": Entry(READERS, "{run}"),
    "import": Entry(ADMINS, "{folder}/import"),
    "incident explain": Entry(READERS, "-s momentum --no-mlflow"),
    "incident onset": Entry(READERS, "-s momentum"),
    "incident replay": Entry(READERS, "served AAPL"),
    "incident skew": Entry(READERS, "-s served {served} {served}"),
    "incident version": Entry(READERS, "-s served"),
    "metrics extremes": Entry(ADMINS, "on"),
    "migrate": Entry(ADMINS),
    "pack": Entry(ADMINS),
    "postmortem": Entry(EVERYONE, not_called="needs no database"),
    "qlib online": Entry(READERS, "Default"),
    "qlib run": Entry(WRITERS, not_called="trains a model: writes of the store"),
    "registry at": Entry(READERS, "momentum champion 2099-01-02T00:00Z"),
    "registry history": Entry(READERS, "momentum"),
    "registry rollback": Entry(EITHER, "momentum {role} --reason worse"),
    "release": Entry(ADMINS, not_called="takes the rights of the other calls; test_roles.py"),
    "reproduce": Entry(READERS, "{run}"),
    "retention": Entry(ADMINS, "--days 9999 --yes"),
    "roles": Entry(ADMINS),
    "server": Entry(READERS, not_called="serves, with the rights of its login, of any role"),
    "sessions import": Entry(EITHER, "{folder}/day-{role}.txt --calendar XSHG"),
    "spool drain": Entry(WRITERS, "--spool {folder}/spool-{role}"),
    "spool status": Entry(EVERYONE, not_called="needs no database"),
    "sync": Entry(WRITERS, "{folder}/sync"),
    # Last: others read what it removes.
    "drift forget": Entry(ADMINS, "--before {forgotten} --yes"),
}


def test_every_command_is_in_the_matrix() -> None:
    assert sorted(COMMANDS) == sorted(name for name, _ in leaves())


def test_the_page_on_roles_lists_every_command_with_its_role() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("\n## Commands\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    listed = {
        command: tuple(re.findall("`([^`]*)`", roles))
        for roles, commands in rows
        for command in re.findall("`([^`]*)`", commands)
    }
    assert listed == {name: LEAST[entry.roles] for name, entry in COMMANDS.items()}


@pytest.fixture(scope="module")
def words(people: Logins, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The values of the placeholders in `COMMANDS`, and a database where they exist."""
    folder = tmp_path_factory.mktemp("files")
    run = fill_registry(people, "momentum", aliases=READERS).run_id
    fill_features(people)
    fill_monitor(people)
    fill_served(people)
    unrecorded_artifact(people, folder)
    files(people, folder)
    yield {
        "folder": str(folder),
        "run": run,
        "first": str(DAYS[0]),
        "last": str(DAYS[5]),
        "next": str(DAYS[7]),
        "served": str(MOMENT.date()),
        "forgotten": str(DAYS[-1]),
        "alert": str(monitor_of(people, READER).alerts()[0].alert_id),
    }
    dispose_engines()


def unrecorded_artifact(people: Logins, folder: Path) -> None:
    """A file that the ledger does not have, for `artifacts adopt`."""
    mlflow.set_tracking_uri(people.uri(WRITER).url)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("plain", f"file://{folder}/artifacts")
    client.log_text(client.create_run(experiment).info.run_id, "plain", "plain.txt")


def files(people: Logins, folder: Path) -> None:
    tables = {
        "spine": {"entity_key": ["AAPL"], "as_of": ["2024-01-08T22:00Z"]},
        "members": {"entity_key": ["AAPL"]},
        "values": {"entity_key": ["MSFT"], "event_time": ["2024-01-08T22:00Z"], "close": [1.0]},
        "returns": {"entity_key": ["N00"], "session": [DAYS[9]], "value": [1.0]},
    }
    for name, columns in tables.items():
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)
    for name in ("import", "sync"):
        (folder / name / "7").mkdir(parents=True)
        (folder / name / "7" / "meta.yaml").write_text(
            f"{{name: {name}, experiment_id: '7', artifact_location: file:///other, "
            "lifecycle_stage: active, creation_time: 1, last_update_time: 1}"
        )
    for day, role in enumerate(("none", *READERS), 1):
        # XSHG is closed on New Year's Day, and in the Golden Week.
        (folder / f"day-{role}.txt").write_text(f"2024-10-0{day}\n2024-10-08\n")
        (folder / f"view-{role}.json").write_text(f'{{"name": "{role}", "features": ["{role}"]}}')
        waiting(folder / f"spool-{role}")
    with FeatureStore(people.uri(READER)) as store:
        store.snapshot({"entity_key": ["AAPL"], "as_of": [MOMENT]}, ["close"], folder / "snapshot")


def ended(
    command: str,
    people: Logins,
    role: str,
    words: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> tuple[Outcome, str]:
    """How a command ended for a login, and what it printed."""
    entry = COMMANDS[command]
    arguments = entry.words.format(**words, role=role).split()
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--uri", people.uri(role).url, *arguments])
    out, err = capsys.readouterr()
    if end.value.code == 1 and NEEDS in out + err:
        return "refused", out + err
    if end.value.code in ANSWERS or (entry.error and entry.error in err):
        return "ok", out + err
    return "failed", f"exit code {end.value.code}: {out}{err}"


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name, e in COMMANDS.items() if not e.not_called])
def test_a_command_works_for_its_roles_and_names_one_to_the_others(
    people: Logins, words: dict[str, str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = COMMANDS[command].roles
    # Those who may not come first: what the command has to do is still to be done then.
    for role in sorted(EVERYONE, key=lambda role: role in roles):
        state, text = ended(command, people, role, words, capsys)
        assert state == ("ok" if role in roles else "refused"), f"{role}: {text}"
        if state == "refused":
            [named] = set(re.findall(rf"{NEEDS}(\w+)", text))
            assert role == "none" or f"mlops_{named}" in roles, text
