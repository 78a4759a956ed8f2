"""MLflow's own chores on our databases: `mlflow db ...` and `mlflow gc`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import pytest
import sqlalchemy
from alembic import command
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.cli import cli
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import (
    _get_alembic_config,
    _get_latest_schema_revision,
    _get_schema_version,
    create_sqlalchemy_engine,
)
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from psycopg.rows import scalar_row
from support.servers import plain, with_password

from mlflow_timescale import db
from mlflow_timescale.db.migrations import LAYOUT, facts, plan, shipped
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import prepare

pytestmark = pytest.mark.slow

# Revisions of MLflow's alembic, by what the next ones add.
BEFORE_TRACES = "7f2a7d5fae7d"
BEFORE_LOGGED_MODELS = "f5a4f2784254"
BEFORE_METRICS_INDEX = "c3d6457b6d8a"  # the next one creates an index on metrics
BEFORE_TRACE_ANALYTICS = "b7e2c1a4d9f3"
LAYOUT_NEEDS = {"mlflow", "metrics_rebuild"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


@contextmanager
def engine_of(database: DatabaseURI) -> Iterator[sqlalchemy.Engine]:
    engine = create_sqlalchemy_engine(database.url)
    try:
        yield engine
    finally:
        engine.dispose()


def revision(database: DatabaseURI) -> str | None:
    with engine_of(database) as engine:
        found: str | None = _get_schema_version(engine)
        return found


def create_at(database: DatabaseURI, revision: str) -> None:
    """Make a database as an older MLflow would have left it, with a run in it."""
    with engine_of(database) as engine:
        InitialBase.metadata.create_all(engine)
        config = _get_alembic_config(database.url)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    with db.connect(database) as conn:
        conn.execute("INSERT INTO experiments (experiment_id, name) VALUES (1, 'old')")
        conn.execute("INSERT INTO runs (run_uuid, experiment_id) VALUES ('old', 1)")
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT 'old', 'ic', n, 1e12 + n * 1e9, n, false FROM generate_series(1, 50) AS n"
        )


def metric_key(database: DatabaseURI) -> str:
    with db.connect(database) as conn:
        key: str = (
            conn.cursor(row_factory=scalar_row)
            .execute(
                "SELECT string_agg(attname, ' ' ORDER BY position) FROM pg_index,"
                " unnest(indkey) WITH ORDINALITY AS columns (number, position), pg_attribute"
                " WHERE indrelid = 'metrics'::regclass AND indisprimary"
                " AND attrelid = indrelid AND attnum = number"
            )
            .fetchone()
        )
    return key


OUR_KEY = "run_uuid key step timestamp value is_nan"


def test_upgrading_an_empty_database_creates_mlflows_tables(empty_database: DatabaseURI) -> None:
    assert run("db", "upgrade", empty_database.url).exit_code == 0
    assert revision(empty_database) == _get_latest_schema_revision()
    prepare(empty_database.url)
    assert metric_key(empty_database) == OUR_KEY


def test_upgrading_a_database_of_ours_changes_nothing(database: DatabaseURI) -> None:
    assert run("db", "upgrade", with_password(database).url).exit_code == 0
    assert metric_key(database) == OUR_KEY


@pytest.mark.slow
@pytest.mark.parametrize("older", [BEFORE_TRACES, BEFORE_LOGGED_MODELS, BEFORE_METRICS_INDEX])
def test_our_layout_of_metrics_blocks_no_migration_of_mlflow(
    empty_database: DatabaseURI, older: str
) -> None:
    """Laid out first, upgraded afterwards: what a migration of a future MLflow will meet."""
    create_at(empty_database, older)
    with db.connect(empty_database, autocommit=True) as conn:
        db.migrate(conn)  # creates the extension, where there is one
        for migration in shipped():
            if migration.name in LAYOUT and migration.requires <= facts(conn) | LAYOUT_NEEDS:
                conn.execute(migration.text("public").encode())
    assert metric_key(empty_database) == OUR_KEY
    assert run("db", "upgrade", empty_database.url).exit_code == 0
    assert revision(empty_database) == _get_latest_schema_revision()
    assert metric_key(empty_database) == OUR_KEY
    mlflow.set_tracking_uri(plain(empty_database))
    history = MlflowClient().get_metric_history("old", "ic")
    assert [point.value for point in history] == [float(n) for n in range(1, 51)]


@pytest.mark.slow
def test_what_needs_mlflow_waits_until_an_older_mlflow_is_upgraded(
    empty_database: DatabaseURI,
) -> None:
    """The feature store may live in the database of an MLflow that is upgraded next year."""
    create_at(empty_database, BEFORE_METRICS_INDEX)
    with db.connect(empty_database, autocommit=True) as conn:
        db.migrate(conn)
        assert "mlflow" in plan(conn).waiting["tracking/002_metrics_layout"]
        assert conn.execute("SELECT to_regclass('mlops.feature_points')").fetchone() != (None,)
    assert run("db", "upgrade", empty_database.url).exit_code == 0
    prepare(empty_database.url)
    assert metric_key(empty_database) == OUR_KEY


@pytest.mark.slow
def test_a_database_of_an_older_mlflow_is_refused_before_anything_is_touched(
    empty_database: DatabaseURI,
) -> None:
    """All its tables are there, so MLflow does not upgrade it by itself."""
    run("db", "upgrade", empty_database.url)
    with db.connect(empty_database) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '75868b020152'")
    before = metric_key(empty_database)
    with pytest.raises(MlflowException, match="mlflow db upgrade"):
        prepare(empty_database.url)
    assert metric_key(empty_database) == before != OUR_KEY


@pytest.mark.slow
def test_going_back_to_plain_mlflow_is_possible_at_any_time(database: DatabaseURI) -> None:
    mlflow.set_tracking_uri(database.url)
    with mlflow.start_run() as ours:
        mlflow.log_metric("ic", 0.04)
    assert run("db", "upgrade", plain(database)).exit_code == 0
    mlflow.set_tracking_uri(plain(database))
    with mlflow.start_run() as theirs:
        mlflow.log_metric("ic", 0.05)
    found = mlflow.search_runs(experiment_ids=["0"], output_format="list")
    assert {item.info.run_id for item in found} == {ours.info.run_id, theirs.info.run_id}


@pytest.mark.slow
def test_trace_analytics_are_prepopulated_before_an_upgrade(empty_database: DatabaseURI) -> None:
    create_at(empty_database, BEFORE_TRACE_ANALYTICS)
    uri = with_password(empty_database).url
    assert "Prepopulation completed" in run("db", "prepopulate-trace-analytics", uri).output
    assert run("db", "upgrade", uri).exit_code == 0


def test_the_chores_on_rollups_and_workspaces_run(database: DatabaseURI) -> None:
    deleted = run("db", "delete-trace-rollups", "--yes", with_password(database).url)
    moved = run("db", "migrate-to-default-workspace", "--dry-run", with_password(database).url)
    assert "Deleted SQL trace rollups" in deleted.output
    assert "Total rows: 0" in moved.output


def test_deleted_runs_and_experiments_are_collected_with_their_metrics(
    database: DatabaseURI, tmp_path: object
) -> None:
    mlflow.set_tracking_uri(database.url)
    client = MlflowClient()
    gone = client.create_experiment("gone", artifact_location=f"file://{tmp_path}/gone")
    kept = client.create_experiment("kept", artifact_location=f"file://{tmp_path}/kept")
    deleted = client.create_run(gone).info.run_id
    left = client.create_run(kept).info.run_id
    lost = client.create_run(kept).info.run_id
    for run_id in (deleted, left, lost):
        for step in range(20):
            client.log_metric(run_id, "ic", step / 10, step=step)
    client.delete_run(lost)
    client.delete_experiment(gone)
    done = run("gc", "--backend-store-uri", database.url, "--tracking-uri", database.url)
    assert done.exit_code == 0
    with db.connect(database) as conn:
        rows = conn.execute("SELECT DISTINCT run_uuid FROM metrics").fetchall()
        runs = conn.execute("SELECT run_uuid FROM runs").fetchall()
    assert rows == runs == [(left,)]
    assert [item.name for item in client.search_experiments()] == ["kept", "Default"]
