"""Secrets in URIs: refused where others could read them, masked where they are printed."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine

from mlflow_timescale.db import Database
from mlflow_timescale.db.masking import has_secret, without_secrets
from mlflow_timescale.db.opening import connection_failed, connection_lost
from mlflow_timescale.db.refusals import refused
from mlflow_timescale.db.uri import DatabaseURI, InvalidURI

SECRET = "s3cr3t"
WITH_SECRETS = [
    f"postgresql://ann:{SECRET}@db/trading",
    f"postgresql+timescaledb://ann:{SECRET}@[::1]:5432/trading",
    f"timescaledb://:{SECRET}@db/trading",
    f"postgresql://ann%3A{SECRET}@db/trading",
    f"postgresql://ann:pa/{SECRET}@db/trading",
    f"postgresql://ann:pa?{SECRET}@db/trading",
    f"postgresql://ann:p@{SECRET}@db/trading",
    f"postgresql://db/trading?user=ann&password={SECRET}",
    f"postgresql://db/trading?user=ann&pass%77ord={SECRET}",
    f"postgresql://db/trading?PASSWORD={SECRET}",
    f"postgresql://db/trading?sslpassword={SECRET}",
    f"postgresql://db/trading?oauth_client_secret={SECRET}",
    f"postgresql://db/trading?scram_client_key={SECRET}",
    f"postgresql://db/trading?options=-c%20app.secret%3D{SECRET}",
    f"postgresql://db/trading?options=-c app.password={SECRET}",
    f"mssql+pyodbc:///?odbc_connect=UID%3Dann%3BPWD%3D{SECRET}",
    f"mysql://ann:{SECRET}@db/mlflow",
    f"s3://AKIA:{SECRET}@bucket/runs",
    f"s3://bucket/runs?aws_secret_access_key={SECRET}",
    f"wasbs://runs@account.blob.example/x?sv=1&sig={SECRET}",
    f"https://hooks.example/x?X-Amz-Signature={SECRET}",
    f"https://hooks.example/x#access_token={SECRET}",
    f"x://y?url=http%3A//ann%3A{SECRET}%40db/z",
    f"host=db user=ann password={SECRET}",
    f"host=db password = '{SECRET} of ann'",
]
WITHOUT_SECRETS = [
    "postgresql://ann@db/trading?sslmode=require",
    "postgresql+timescaledb:///trading?embedded=/srv/quant",
    "postgresql://db/trading?passfile=/etc/pgpass&sslkey=/etc/key",
    "postgresql://ann:***@db/trading?sslpassword=***",
    "http://127.0.0.1:5000/a@b",
    "s3://bucket/2x:1@3",
    "wasbs://runs@account.blob.example/x",
    "sqlite:///a:b@c",
    "read 12 tokens = 12 words",
]


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_a_secret_is_found_and_masked_in_any_part_and_encoding(text: str) -> None:
    assert has_secret(text)
    assert SECRET not in without_secrets(text)
    line = without_secrets(f"cannot open {text}: timed out; see {text}")
    assert SECRET not in line
    assert line.startswith("cannot open ")
    assert without_secrets(line) == line


@pytest.mark.parametrize("text", WITHOUT_SECRETS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert not has_secret(text)
    assert without_secrets(text) == text


def test_the_placeholder_of_help_texts_is_printed_but_refused_as_a_password() -> None:
    text = "postgresql+timescaledb://user:password@host:5432/database"
    assert without_secrets(text) == text
    assert has_secret(text)


def readable() -> list[DatabaseURI]:
    uris = []
    for text in WITH_SECRETS:
        if text.startswith(("postgresql", "timescaledb")):
            try:
                uris.append(DatabaseURI.parse(text))
            except InvalidURI:
                continue
    return uris


@pytest.mark.parametrize("uri", readable(), ids=str)
def test_nothing_that_is_printed_of_a_database_shows_its_secrets(uri: DatabaseURI) -> None:
    lost = psycopg.OperationalError(f"role {sorted(uri.secrets)} failed")
    texts = [
        *(str(uri), repr(uri), repr(Database(uri)), f"{[uri]}"),
        str(connection_lost(lost, uri)),
        str(connection_failed(psycopg.OperationalError(f"invalid: {uri.url}"), uri)),
        str(refused(psycopg.ProgrammingError(f"syntax error at {uri.url}"), uri)),
    ]
    assert not any(SECRET in text for text in texts)


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_the_error_for_a_uri_that_cannot_be_read_does_not_repeat_its_secrets(text: str) -> None:
    error = ""
    try:
        DatabaseURI.parse(text)
    except InvalidURI as exc:
        error = str(exc)
    assert SECRET not in error


@pytest.mark.parametrize("uri", readable(), ids=str)
def test_an_engine_hides_its_secrets_and_keeps_its_url(uri: DatabaseURI) -> None:
    engine = create_engine(uri.url)
    plain = engine.url.render_as_string(hide_password=False)
    assert SECRET not in f"{engine!r} {engine.url} {engine.url!r} {engine.pool!r}"
    assert DatabaseURI.parse(plain) == uri


def test_an_embedded_directory_is_shown() -> None:
    uri = DatabaseURI("trading", embedded=Path("/srv/quant"))
    assert repr(uri) == "DatabaseURI('postgresql+timescaledb:///trading?embedded=/srv/quant')"
