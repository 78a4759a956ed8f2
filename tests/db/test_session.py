"""Settings of a database or a role change no result, and a connection names its application."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone

import pandas as pd
import pytest
from psycopg import sql

from feature_store import FeatureStore
from mlflow_timescale import db
from mlflow_timescale.db import Database, DatabaseURI
from mlflow_timescale.db.opening import application_name
from mlflow_timescale.db.rows import scalar

SETTINGS = {
    "datestyle": "German",
    "intervalstyle": "iso_8601",
    "standard_conforming_strings": "off",
    "timezone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "client_encoding": "LATIN1",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "default_transaction_isolation": "serializable",
    "lc_monetary": "C",
}
START = datetime(2024, 3, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
VALUE = 0.1 + 0.2
NAME = "ключ 'a\\b'"


@pytest.fixture(scope="module", params=SETTINGS)
def set_database(request, new_database) -> Iterator[DatabaseURI]:
    """A database that gives every session a setting that changes text or rules."""
    with new_database() as uri:
        with db.connect(uri, autocommit=True) as conn:
            _set(conn, uri, request.param)
        yield uri


def _set(conn: db.Connection, database: DatabaseURI, name: str) -> None:
    statement = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
        sql.Identifier(database.dbname),
        sql.Identifier(name),
        sql.Literal(SETTINGS[name]),
    )
    conn.execute(statement)


def test_the_driver_reads_and_writes_every_type(set_database: DatabaseURI) -> None:
    values = [START, date(2024, 3, 5), timedelta(days=400, microseconds=7), b"\x00\\\xff", VALUE]
    texts = [NAME, None, "NULL", ""]
    with db.connect(set_database) as conn:
        assert list(conn.execute("SELECT %s, %s, %s, %s, %s::float8", values).fetchone()) == values
        assert scalar(conn, "SELECT %(texts)s::text[]", {"texts": texts}) == texts
        assert scalar(conn, "SELECT ARRAY['a', NULL]::text") == "{a,NULL}"
        text = scalar(conn, "SELECT '2024-03-05T06:07Z'::timestamptz::text")
        assert text == "2024-03-05 06:07:00+00"
        assert scalar(conn, "SELECT NULL = NULL") is None
        assert scalar(conn, "SHOW transaction_isolation") == "read committed"


def test_features_are_read_as_they_were_written(set_database: DatabaseURI) -> None:
    with FeatureStore(set_database) as store:
        store.write_features("A", START, {NAME: VALUE, "curve": [VALUE, 1.0]}, ingest_time=START)
        latest = store.get_latest("A")
        assert (latest[NAME].value, latest[NAME].event_time) == (VALUE, START)
        assert latest["curve"].value == [VALUE, 1.0]
        spine = pd.DataFrame({"entity_key": ["A"], "as_of": [START + timedelta(days=1)]})
        assert store.training_frame(spine, [NAME])[NAME].tolist() == [VALUE]
        assert store.history("A", NAME)["event_time"].tolist() == [pd.Timestamp(START)]
        assert store.features()["first_event"].dt.tz_convert("UTC").min() == pd.Timestamp(START)
        assert store.watermark().utcoffset() == timedelta(0)


def test_mlflows_stores_answer_as_elsewhere(set_database: DatabaseURI) -> None:
    from mlflow.entities import Metric, Param, RunTag

    from mlflow_timescale.tracking.store import TimescaleTrackingStore

    store = TimescaleTrackingStore(set_database.url, "/artifacts")
    run = store.create_run("0", "me", 1, [RunTag("t", NAME)], "run").info.run_id
    store.log_batch(run, [Metric("m", VALUE, 1, 1)], [Param("p", NAME)], [])
    data = store.get_run(run).data
    assert (data.metrics, data.params, data.tags["t"]) == ({"m": VALUE}, {"p": NAME}, NAME)
    assert store.get_metric_history(run, "m")[0].value == VALUE


def test_the_uri_keeps_its_own_options(database: DatabaseURI) -> None:
    uri = DatabaseURI.parse(f"{database.url}?options=-c%20search_path%3Dmlops%20-c%20jit%3Don")
    if database.embedded:
        pytest.skip("the URI of an embedded server takes no options of libpq")
    with db.connect(uri) as conn:
        assert scalar(conn, "SHOW search_path") == "mlops"
        assert scalar(conn, "SHOW jit") == "on"
        assert scalar(conn, "SHOW timezone") == "UTC"


def test_a_connection_is_named_after_program_user_and_host(database: DatabaseURI) -> None:
    pooled = Database(database, application="feature_store")
    with pooled.connection() as conn:
        name = scalar(conn, "SHOW application_name")
    pooled.close()
    expected = f"feature_store {getpass.getuser()}@{socket.gethostname()}"
    assert name == expected[:63]


def test_a_long_name_is_cut_between_characters(monkeypatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ü" * 80)
    name = application_name.__wrapped__("mlflow")
    assert len(name.encode()) <= 63
    assert name.endswith("ü")


def test_a_user_without_a_name_is_a_number(monkeypatch) -> None:
    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert f" {os.getuid()}@" in application_name.__wrapped__("mlflow")
