from __future__ import annotations

import re
from importlib.resources import files

import psycopg
import pytest
from psycopg import sql

from mlflow_timescale.db.queries import SQL_PACKAGE, load, split

AREAS = [
    entry.name.removesuffix(".sql")
    for entry in (files(SQL_PACKAGE) / "queries").iterdir()
    if entry.name.endswith(".sql")
]


def test_a_query_is_ready_to_be_executed(conn: psycopg.Connection) -> None:
    found = conn.execute(load("server").database_exists, {"name": conn.info.dbname}).fetchone()
    assert found == (1,)


def test_a_query_with_an_identifier_takes_it_quoted(conn: psycopg.Connection) -> None:
    statement = load("server").create_database.format(name=sql.Identifier('a "b"'))
    assert statement.as_string(conn) == 'CREATE DATABASE "a ""b"""'


def test_an_unknown_query_is_named_beside_those_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no query 'datbase_exists'; this file has .*facts"):
        load("server").datbase_exists  # noqa: B018


def test_several_statements_stay_together() -> None:
    text = "-- name: both\n-- Two.\nSELECT 1;\nSELECT 2;\n\n-- name: one\nSELECT ';';\n"
    assert split(text) == {"both": "SELECT 1;\nSELECT 2", "one": "SELECT ';'"}


@pytest.mark.parametrize("area", AREAS)
def test_every_query_says_in_its_second_line_what_it_answers(area: str) -> None:
    text = (files(SQL_PACKAGE) / "queries" / f"{area}.sql").read_text(encoding="utf-8")
    headers = re.findall(r"^-- name: (\w+)\n(.*)$", text, re.MULTILINE)
    assert headers
    assert [name for name, line in headers if not line.startswith("-- ")] == []


@pytest.mark.parametrize("area", AREAS)
def test_no_query_is_named_twice(area: str) -> None:
    text = (files(SQL_PACKAGE) / "queries" / f"{area}.sql").read_text(encoding="utf-8")
    names = re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)
    assert len(names) == len(set(names))
