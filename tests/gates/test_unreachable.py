"""A server that does not answer, and one that refuses: a clear word, at the right time."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow.store.db.utils as mlflow_db
import pytest
from mlflow.exceptions import MlflowException
from support.servers import PASSWORD, free_port, run_mlflow, run_python, shows_password

from mlflow_timescale import db, schema
from mlflow_timescale.db import embedded
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import prepare
from mlflow_timescale.tracking.store import TimescaleTrackingStore


@pytest.fixture(scope="module")
def strict() -> Iterator[DatabaseURI]:
    """A database whose server requires the password of the role `ann`, which is PASSWORD."""
    with embedded.temporary() as uri:
        assert uri.embedded is not None
        rules = uri.embedded / "postgres" / "pg_hba.conf"
        with db.connect(uri, autocommit=True) as conn:
            conn.execute(f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'")
            conn.execute("CREATE DATABASE trading OWNER ann")
            rules.write_text("local all ann scram-sha-256\n" + rules.read_text())
            conn.execute("SELECT pg_reload_conf()")
        where = embedded.keywords(uri)
        yield DatabaseURI("trading", "ann", PASSWORD, where["host"], where["port"])


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, in seconds; nothing sleeps."""
    slept: list[float] = []
    monkeypatch.setattr(mlflow_db.time, "sleep", slept.append)
    return slept


@pytest.mark.slow
def test_the_right_password_is_let_in(strict: DatabaseURI) -> None:
    prepare(strict.url)
    with db.connect(strict) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("ann",)


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"password": "another"}, "Check user and password in the URI"),
        ({"password": ""}, "Put the password into the URI"),
        ({"user": "bob", "password": ""}, "Check the user in the URI"),
        ({"dbname": "tradnig"}, "createdb tradnig"),
    ],
)
def test_what_waiting_cannot_cure_is_refused_at_once(
    strict: DatabaseURI, no_retries: list[float], wrong: dict[str, str], advice: str
) -> None:
    uri = replace(strict, **wrong)
    with pytest.raises(MlflowException, match=advice) as error:
        TimescaleTrackingStore(uri.url, "/artifacts")
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    assert not shows_password(str(error.value))
    assert "another" not in str(error.value)
    assert no_retries == []


@pytest.fixture
def mlflow_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What MLflow logs. Its logger may not hand records on to the root, where pytest listens."""
    logger = logging.getLogger("mlflow")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_mlflow_does_in_short_pauses(
    no_retries: list[float], mlflow_log: pytest.LogCaptureFixture
) -> None:
    uri = DatabaseURI("trading", "ann", PASSWORD, "127.0.0.1", str(free_port()))
    with pytest.raises(Exception, match="refused") as error:
        TimescaleTrackingStore(uri.url, "/artifacts")
    mlflows = sum(0.1 * (2**attempt - 1) for attempt in range(1, mlflow_db.MAX_RETRY_COUNT))
    assert sum(no_retries) == pytest.approx(mlflows, rel=0.1)
    assert max(no_retries) <= 5
    assert "Connection refused" in mlflow_log.text
    assert not shows_password(str(error.value) + mlflow_log.text)


def test_a_full_server_is_asked_again_soon(
    strict: DatabaseURI, monkeypatch: pytest.MonkeyPatch, mlflow_log: pytest.LogCaptureFixture
) -> None:
    with db.connect(replace(strict, user="postgres", password=""), autocommit=True) as conn:
        conn.execute("ALTER ROLE ann CONNECTION LIMIT 0")
        pauses: list[float] = []

        def make_room(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                conn.execute("ALTER ROLE ann CONNECTION LIMIT -1")

        monkeypatch.setattr(schema.time, "sleep", make_room)
        schema.wait_for(strict.url)
    assert pauses == [0.1, 0.2, 0.4]
    assert "lower the pool size" in mlflow_log.text


@pytest.mark.slow
def test_a_server_that_comes_up_meanwhile_is_used(directory: Path) -> None:
    """A compose file starts the database and MLflow at once."""
    socket = directory / "run"
    late = DatabaseURI("postgres", "postgres", "", str(socket), "5432")
    starts = threading.Timer(0.3, embedded.acquire, args=(directory,))
    starts.start()
    prepare(late.url)
    starts.join()
    with db.connect(late) as conn:
        assert conn.execute("SELECT count(*) FROM experiments").fetchone() == (0,)


@pytest.mark.slow
def test_connecting_names_the_way_out_and_hides_the_password() -> None:
    uri = DatabaseURI("trading", "ann", PASSWORD, "127.0.0.1", str(free_port()))
    with pytest.raises(db.ConnectionFailed, match="Check that the server runs") as error:
        db.connect(uri)
    assert "ann:***@127.0.0.1" in str(error.value)
    assert not error.value.permanent
    assert not shows_password(str(error.value) + repr(error.value))


@pytest.mark.slow
def test_no_program_prints_the_password_when_it_fails(strict: DatabaseURI) -> None:
    """Tracebacks and all: this is what ends in a log file or in a bug report."""
    misspelt = replace(strict, dbname="tradnig").url
    said = [
        run_mlflow("server", "--port", str(free_port()), "--backend-store-uri", misspelt),
        run_mlflow("experiments", "search", MLFLOW_TRACKING_URI=misspelt),
        run_python("import mlflow; mlflow.start_run()", MLFLOW_TRACKING_URI=misspelt),
        run_python(
            "from mlflow_timescale.cli import main; main(['migrate'])",
            MLFLOW_TIMESCALE_URI=misspelt,
        ),
    ]
    for done in said:
        assert done.returncode != 0
        assert "createdb tradnig" in done.stdout + done.stderr
        assert not shows_password(done.stdout + done.stderr)


@pytest.mark.slow
def test_the_server_of_an_embedded_database_that_cannot_be_kept_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    uri = DatabaseURI("trading", embedded=tmp_path / "file").url
    done = run_mlflow("server", "--port", str(free_port()), "--backend-store-uri", uri)
    assert done.returncode != 0
    assert "cannot keep an embedded database in" in done.stdout + done.stderr
    assert os.fspath(tmp_path / "file") in done.stdout + done.stderr
