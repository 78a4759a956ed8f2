"""One database for MLflow and another program that migrates with Alembic."""

from __future__ import annotations

import mlflow
import psycopg
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.db.embedded import keywords
from mlflow_timescale.db.uri import DatabaseURI

OTHER = """
CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO public.alembic_version VALUES ('v3.2.0.a');
"""


@pytest.fixture
def shared(empty_database: DatabaseURI) -> DatabaseURI:
    with db.connect(empty_database, autocommit=True) as conn:
        conn.execute(OTHER)
    return empty_database


def test_a_schema_of_another_program_is_refused_and_not_touched(shared: DatabaseURI) -> None:
    mlflow.set_tracking_uri(shared.url)
    with pytest.raises(MlflowException, match="another program keeps its table alembic_version"):
        mlflow.search_experiments()
    with db.connect(shared, autocommit=True) as conn:
        tables = "SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'mlops')"
        assert conn.execute(tables).fetchall() == [("alembic_version",)]


@pytest.mark.slow  # MLflow's migrations
def test_mlflow_works_in_a_schema_of_its_own(shared: DatabaseURI) -> None:
    with db.connect(shared, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA mlflow")
    parts = keywords(shared)
    server = f"host={parts['host']}&port={parts.get('port', 5432)}&user={parts['user']}"
    uri = f"postgresql+timescaledb:///{shared.dbname}?{server}&options=-csearch_path%3Dmlflow"
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run() as run:
        mlflow.log_metric("ic", 0.04)
        mlflow.log_text("x", "pred.txt")
    for command in (["release"], ["adopt"], ["doctor"], ["migrate", "--dry-run"]):
        result = CliRunner().invoke(cli, [*command, "--uri", uri], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert mlflow.get_run(run.info.run_id).data.metrics == {"ic": 0.04}
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/pred.txt") == "x"
    with psycopg.connect(**parts, autocommit=True) as conn:
        version = conn.execute("SELECT version_num FROM public.alembic_version").fetchall()
        assert version == [("v3.2.0.a",)]
        assert conn.execute("SELECT count(*) FROM mlflow.runs").fetchone() == (1,)
