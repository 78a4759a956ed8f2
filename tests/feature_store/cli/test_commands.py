"""The commands: what they print, and what they refuse."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from support.bitemporal import at

from feature_store.cli import COMMANDS
from mlflow_timescale.cli import cli, main


@pytest.fixture
def run(store):
    """Call a command on the store's database; return what it printed."""

    def call(*arguments: object, uri: bool = True, code: int = 0) -> str:
        where = ["--uri", store.uri.url] if uri else []
        done = CliRunner().invoke(cli, ["features", *map(str, arguments), *where])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.output

    return call


@pytest.fixture
def filled(store, tmp_path):
    """rsi of AAPL, known 4 hours after each of three days, and a spine of two rows, as files."""
    frame = pd.DataFrame(
        {"entity_key": "AAPL", "event_time": [at(24 * d) for d in range(3)], "rsi": [1.0, 2.0, 3.0]}
    )
    frame.to_parquet(tmp_path / "features.parquet")
    spine = pd.DataFrame({"entity_key": ["AAPL", "MSFT"], "as_of": [at(25), at(25)], "y": [7, 8]})
    spine.to_parquet(tmp_path / "spine.parquet")
    spine.to_csv(tmp_path / "spine.csv", index=False)
    return tmp_path


@pytest.fixture
def written(filled, run):
    run("write", filled / "features.parquet", "--lag", "4h")
    return filled


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(run, name):
    text = run(name, "--help", uri=False)
    assert "Usage:" in text
    assert len(text.splitlines()[2].strip()) > 20


def test_a_file_is_written_once(run, filled):
    assert run("write", filled / "features.parquet", "--lag", "4h") == "3 new values\n"
    again = run("write", filled / "features.parquet", "--lag", "4h")
    assert again == "0 new values (everything was there already)\n"


def test_latest_shows_what_was_known_then(run, written):
    known = json.loads(run("latest", "AAPL", "rsi", "--as-of", "2024-01-16T03:59Z", "--json"))
    assert known[0] | {"ingest_time": "", "producer": ""} == {
        "feature_name": "rsi",
        "feature_version": 1,
        "value": 1.0,
        "event_time": "2024-01-15T00:00:00+00:00",
        "ingest_time": "",
        "producer": "",
        "run_id": None,
        "assumed_lag": "event_time + 4:00:00",
    }
    assert json.loads(run("latest", "AAPL", "--max-age", "1d", "--json")) == []
    assert "2024-01-17 00:00Z" in run("latest", "AAPL", "--feature-version", "rsi=1")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_training_adds_what_was_known_to_a_spine(run, written, kind):
    spine = written / f"spine.{kind}"
    rows = json.loads(run("training", spine, "-f", "rsi", "--json"))
    assert [(row["entity_key"], row["y"], row["rsi"]) for row in rows] == [
        ("AAPL", 7, 1.0),
        ("MSFT", 8, "NaN"),
    ]
    out = written / f"out.{kind}"
    assert run("training", spine, "-f", "rsi", "--event-times", "-o", out).startswith("2 rows")
    assert "rsi__event_time" in (pd.read_csv(out) if kind == "csv" else pd.read_parquet(out))
    cells = json.loads(run("training", spine, "-f", "rsi", "--explain", "--json"))
    assert [cell["reason"] for cell in cells] == [None, "never written"]


def test_revisions_are_shown(run, written, store):
    store.write_features("AAPL", at(0), {"rsi": 9.0}, ingest_time=at(30))
    history = json.loads(run("history", "AAPL", "rsi", "--json"))
    assert [(row["revision"], row["value"]) for row in history[:2]] == [(1, 1.0), (2, 9.0)]
    change = json.loads(run("diff", "2024-01-16T05:00Z", "2024-01-16T07:00Z", "--json"))
    assert [(row["change"], row["value"], row["previous_value"]) for row in change] == [
        ("revised", 9.0, 1.0)
    ]
    leak = json.loads(run("leaks", written / "spine.parquet", "-f", "rsi", "--json"))
    assert (leak[0]["cells"], leak[0]["leaked"]) == (1, 1)


def test_the_catalogue_is_shown(run, written):
    view = {"name": "momentum", "features": {"ret": "number"}, "max_staleness": "3d", "owner": "x"}
    (written / "views.json").write_text(json.dumps([view, view | {"version": 2}]))
    assert run("register", written / "views.json").splitlines() == [
        "momentum v1: registered",
        "momentum v2: registered",
    ]
    assert "momentum v1: unchanged" in run("register", written / "views.json")
    described = json.loads(run("describe", "momentum", "--json"))
    assert (described["version"], described["max_staleness"]) == (2, "3d")
    assert json.loads(run("list", "--json"))[0]["feature_name"] == "rsi"
    assert json.loads(run("lineage", "rsi", "--json"))[0]["points"] == 3
    assert "momentum" in run("describe", "momentum", "--view-version", 1)
    assert run("watermark").startswith("20")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("latest", "AAPL", "--as-of", "2024-01-16T00:00"), "has no time zone"),
        (("latest", "AAPL", "--as-of", "yesterday"), "yesterday"),
        (("latest", "AAPL", "--max-age", "5 weeks"), "write 5d, 4h, 45m, 90s"),
        (("latest", "AAPL", "--feature-version", "two"), "write 2, newest, or rsi_14=2"),
    ],
)
def test_an_argument_that_is_not_understood_is_refused(run, arguments, message):
    assert message in " ".join(run(*arguments, code=2).split())


def test_an_error_is_one_line_and_exit_code_1(store, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["features", "latest", "AAPL", "nope", "--uri", store.uri.url])
    assert exit_.value.code == 1
    said = capsys.readouterr().err
    assert "no feature 'nope' has ever been written" in said
    assert len(said.splitlines()) == 1
