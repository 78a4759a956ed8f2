"""Bringing a database up: MLflow's tables by MLflow's alembic, then our migrations."""

from __future__ import annotations

from functools import cache

import mlflow.store.db.utils as mlflow_db
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from mlflow_timescale import db
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.uri import DatabaseURI

# The database that this process opened last: artifact repositories are opened without any URI by
# some of MLflow's commands (`mlflow gc`).
last_prepared: str | None = None


@cache
def prepare(db_uri: str) -> None:
    """Make a database ready for our stores, once per process; any number may do so at once.

    Raises MlflowException where the URI, the user or the database cannot be right. A server that
    does not answer yet is waited for as MLflow does.
    """
    try:
        initialize(db_uri)
    except ConnectionFailed as exc:
        if exc.permanent:
            raise MlflowException(str(exc), INVALID_PARAMETER_VALUE) from exc
        mlflow_db.create_sqlalchemy_engine_with_retry(db_uri).dispose()
        initialize(db_uri)
    with db.connect(db_uri, autocommit=True) as conn:
        db.migrate(conn)
    global last_prepared
    last_prepared = db_uri


def initialize(db_uri: str) -> None:
    """Create or upgrade MLflow's tables where some are missing, as MLflow's stores do.

    Raises MlflowException, as they do, where `mlflow db upgrade` is due: before anything of ours
    touches the database.
    """
    with db.connect(db_uri, autocommit=True) as conn:
        engine = mlflow_db.create_sqlalchemy_engine(DatabaseURI.parse(db_uri).url)
        try:
            if not mlflow_db._all_tables_exist(engine):
                with db.exclusively(conn):
                    if not mlflow_db._all_tables_exist(engine):
                        mlflow_db._initialize_tables(engine)
            mlflow_db._verify_schema(engine)
        finally:
            engine.dispose()


def verify(db_uri: str) -> None:
    """Raise MlflowException, saying what to run, unless MLflow's tables are of this version."""
    engine = mlflow_db.create_sqlalchemy_engine(DatabaseURI.parse(db_uri).url)
    try:
        mlflow_db._verify_schema(engine)
    finally:
        engine.dispose()
