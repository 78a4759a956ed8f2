"""MLflow's tables may be in any schema: our functions find them there, whatever the search path."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial

import mlflow
import psycopg
import pytest
from alembic import command
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from support.forks import fork, wait_for

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import prepare

pytestmark = pytest.mark.slow


@pytest.fixture
def trading(empty_database: DatabaseURI) -> DatabaseURI:
    """A database whose default schema is `trading`; `public` has other tables of MLflow's names."""
    with db.connect(empty_database, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA trading")
        name = psycopg.sql.Identifier(empty_database.dbname)
        conn.execute(psycopg.sql.SQL("ALTER DATABASE {} SET search_path = trading").format(name))
        for table in ("runs", "metrics", "params", "tags", "experiments", "model_versions"):
            conn.execute(
                psycopg.sql.SQL("CREATE TABLE public.{} (x int)").format(
                    psycopg.sql.Identifier(table)
                )
            )
    return empty_database


def test_everything_works_where_mlflows_tables_are_in_another_schema(
    trading: DatabaseURI,
) -> None:
    mlflow.set_tracking_uri(trading.url)
    mlflow.set_experiment("momentum")
    with mlflow.start_run() as run:
        for step in range(600):
            mlflow.log_metric("ic", step / 7, step=step, timestamp=1_700_000_000_000 + step)
        mlflow.log_param("lookback", 120)
    client = MlflowClient()
    assert len(client.get_metric_history(run.info.run_id, "ic")) == 600
    client.create_registered_model("momentum")
    client.create_model_version("momentum", "s3://x", run.info.run_id)
    client.set_registered_model_alias("momentum", "champion", "1")
    # As a client of SQL that has no search path of ours.
    with db.connect(trading, autocommit=True) as conn:
        conn.execute("SET search_path = pg_catalog")
        models = conn.execute("SELECT name, aliases, metrics ->> 'ic' FROM mlops.models").fetchall()
        assert models == [("momentum", ["champion"], str(599 / 7))]
        points = conn.execute(
            "SELECT count(*) FROM mlops.sample_points(%s, 'ic', 10, 0, 599)", [run.info.run_id]
        )
        assert points.fetchone() == (10,)
        assert conn.execute("SELECT version FROM mlops.alias_history").fetchall() == [(1,)]
        elsewhere = conn.execute(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'mlops'::regnamespace"
            " AND prosrc LIKE '%@mlflow%'"
        )
        assert elsewhere.fetchone() == (0,)
    client.delete_registered_model("momentum")
    client.delete_run(run.info.run_id)


def test_every_security_definer_function_has_a_safe_search_path(conn: psycopg.Connection) -> None:
    paths = conn.execute(
        "SELECT proconfig FROM pg_proc WHERE prosecdef AND pronamespace = 'mlops'::regnamespace"
    ).fetchall()
    assert len(paths) >= 2
    assert {path for (path,) in map(tuple, ((str(row[0]),) for row in paths))} == {
        "['search_path=pg_catalog, mlops, pg_temp']"
    }


@pytest.fixture
def writer(database: DatabaseURI) -> Iterator[DatabaseURI]:
    """A login that may only write MLflow's tables."""
    name = f"writer_{uuid.uuid4().hex[:8]}"
    role = psycopg.sql.Identifier(name)
    with db.connect(database, autocommit=True) as conn:
        conn.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(role))
        for grant in (
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
            "GRANT USAGE ON SCHEMA mlops TO {}",
        ):
            conn.execute(psycopg.sql.SQL(grant).format(role))
        yield dataclasses.replace(database, user=name, password="pw")
        conn.execute(psycopg.sql.SQL("DROP OWNED BY {}").format(role))
        conn.execute(psycopg.sql.SQL("DROP ROLE {}").format(role))


EVIL = """
CREATE FUNCTION pg_temp.evil(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
  IF current_user <> session_user THEN
    EXECUTE format('ALTER ROLE %I SUPERUSER', session_user);
  END IF;
  RETURN true;
END $f$;
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.evil(VALUE));
"""


def test_a_writer_does_not_become_the_owner_by_a_type_of_its_own(
    database: DatabaseURI, writer: DatabaseURI, conn: psycopg.Connection
) -> None:
    client = MlflowClient(database.url, database.url)
    client.create_registered_model("m")
    run_id = client.create_run("0").info.run_id
    with db.connect(writer, autocommit=True) as theirs:
        theirs.execute(EVIL)
        for statement in (
            "UPDATE public.registered_models SET description = 'x'",
            "INSERT INTO public.registered_models (workspace, name) VALUES ('default', 'n')",
            "INSERT INTO public.metrics (run_uuid, key, value, timestamp, step, is_nan)"
            f" VALUES ('{run_id}', 'm', 1, 1, 1, false)",
        ):
            with suppress(psycopg.Error):
                theirs.execute(statement)
    rose = conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", [writer.user])
    assert rose.fetchone() == (False,)
    names = conn.execute("SELECT name FROM registered_models ORDER BY 1").fetchall()
    assert names == [("m",), ("n",)]


@pytest.mark.slow
@pytest.mark.parametrize("older", ["7f2a7d5fae7d", "f5a4f2784254", "b7e2c1a4d9f3"])
def test_a_client_leaves_the_database_of_an_older_mlflow_alone(
    empty_database: DatabaseURI, older: str
) -> None:
    _make_first_tables(empty_database)
    engine = create_sqlalchemy_engine(empty_database.url)
    config = _get_alembic_config(empty_database.url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, older)
    engine.dispose()
    with pytest.raises(MlflowException, match="mlflow db upgrade"):
        prepare(empty_database.url)
    with db.connect(empty_database) as conn:
        assert conn.execute("SELECT version_num FROM alembic_version").fetchone() == (older,)
        assert conn.execute("SELECT to_regnamespace('mlops')").fetchone() == (None,)


def test_tables_that_a_killed_process_began_are_finished(empty_database: DatabaseURI) -> None:
    _make_first_tables(empty_database)
    prepare(empty_database.url)
    assert MlflowClient(empty_database.url).get_experiment_by_name("Default")


def test_a_database_of_before_alembic_is_left_alone(empty_database: DatabaseURI) -> None:
    _make_first_tables(empty_database)
    with db.connect(empty_database, autocommit=True) as conn:
        conn.execute("INSERT INTO experiments (experiment_id, name) VALUES (0, 'Default')")
    with pytest.raises(MlflowException, match="found version None"):
        prepare(empty_database.url)
    with db.connect(empty_database) as conn:
        assert conn.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


def _make_first_tables(uri: DatabaseURI) -> None:
    """What MLflow commits before it goes on to the tables of its present version."""
    engine = create_sqlalchemy_engine(uri.url)
    InitialBase.metadata.create_all(engine)
    engine.dispose()


def test_a_process_killed_while_it_sets_up_a_database_is_continued_by_the_next(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> None:
    with new_database(empty=True) as uri:
        begin = time.monotonic()
        assert wait_for(fork(partial(prepare, uri.url))) == 0
        duration = time.monotonic() - begin
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        with new_database(empty=True) as uri:
            child = fork(partial(prepare, uri.url))
            time.sleep(share * duration)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert wait_for(fork(partial(prepare, uri.url))) == 0, share


def test_a_schema_that_another_program_migrates_is_refused(empty_database: DatabaseURI) -> None:
    with db.connect(empty_database, autocommit=True) as conn:
        conn.execute("CREATE TABLE alembic_version (version_num text)")
        conn.execute("INSERT INTO alembic_version VALUES ('v3.0.0.d')")
    with pytest.raises(MlflowException, match=r"Optuna.*a schema of its own"):
        prepare(empty_database.url)
