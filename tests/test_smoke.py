"""The shortest way through: ordinary MLflow calls on a database of ours."""

from __future__ import annotations

import mlflow

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI


def test_a_run_logged_with_mlflow_is_in_the_database(database: DatabaseURI) -> None:
    mlflow.set_tracking_uri(database.url)
    with mlflow.start_run() as run:
        mlflow.log_metric("ic", 0.04, step=1)
    with db.connect(database) as conn:
        rows = conn.execute("SELECT key, value, step FROM metrics").fetchall()
    assert rows == [("ic", 0.04, 1)]
    assert mlflow.get_run(run.info.run_id).data.metrics == {"ic": 0.04}
