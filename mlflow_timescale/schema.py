"""Prepare a database for MLflow's stores: MLflow's tables by MLflow's alembic, then our schema."""

from __future__ import annotations

import time
from functools import cache

import mlflow.store.db.utils as mlflow_db
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    INVALID_STATE,
    PERMISSION_DENIED,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from sqlalchemy import Engine, inspect, select

from mlflow_timescale import db
from mlflow_timescale.common import logs
from mlflow_timescale.db.errors import ConnectionFailed, MigrationError
from mlflow_timescale.db.rights import lacking, refusal_in
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool.places import patience_of, spool_of

_logger = logs.logger(__name__)
_PATIENCE, _LONGEST_PAUSE = 100.0, 5.0  # seconds; MLflow's patience, but its pauses reach 51 s
# The database that this process opened last: artifact repositories are opened without any URI by
# some of MLflow's commands (`mlflow gc`).
last_prepared: str | None = None


@cache
def prepare(db_uri: str) -> None:
    """Make a database ready for our stores, once per process; any number may do so at once.

    A new database gets its tables; one that holds our schema is only checked (see
    `mlflow_timescale.db.ensure`). A server that does not answer yet is waited for.
    Raises MlflowException where the URI, the user, the database or its schema cannot be right.
    """
    wait_for(db_uri)
    uri = DatabaseURI.parse(db_uri)
    try:
        initialize(db_uri)
        with db.connect(uri, autocommit=True) as conn:
            db.ensure(conn, uri)
            _refuse_released(conn, uri)
    except MigrationError as exc:
        raise MlflowException(str(exc), INVALID_STATE) from exc
    except Exception as exc:
        if (refusal := refusal_in(exc)) is None:
            raise
        raise MlflowException(lacking(refusal, uri.user), PERMISSION_DENIED) from exc
    global last_prepared
    last_prepared = db_uri


def wait_for(db_uri: str) -> None:
    """Wait until the server lets us in: it may be starting, or have no connection to spare.

    Raises MlflowException at once where waiting cannot help or a spool takes what cannot be
    written, and after 100 seconds.
    """
    waited, pause = 0.0, 0.1
    uri = DatabaseURI.parse(db_uri)
    has_spool = spool_of(uri) is not None
    patience, limit = (0.0, patience_of(uri)) if has_spool else (_PATIENCE, None)
    while True:
        try:
            db.connect(uri, connect_timeout=limit).close()
            return
        except ConnectionFailed as exc:
            if exc.permanent or waited >= patience:
                code = INVALID_PARAMETER_VALUE if exc.permanent else TEMPORARILY_UNAVAILABLE
                text = str(exc) if patience or exc.permanent else no_spool_for_it(exc)
                raise MlflowException(text, code) from exc
            _logger.warning("%s Next attempt in %.1f s.", exc, pause)
        time.sleep(pause)
        waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE)


def no_spool_for_it(exc: Exception) -> str:
    """The one line for a call that needs a database that is away, although there is a spool."""
    reason = str(exc).partition("\n")[0]
    return (
        f"the database is away ({reason}), and this call cannot wait in the spool: only writes to "
        f"runs, traces, uploads of artifacts and logged models can"
    )


def initialize(db_uri: str) -> None:
    """Create MLflow's tables in a database that has none.

    Raises MlflowException, as MLflow's stores do, where `mlflow db upgrade` is due, and where only
    some of MLflow's tables are there: before anything touches the database.
    """
    with db.connect(db_uri, autocommit=True) as conn:
        engine = mlflow_db.create_sqlalchemy_engine(DatabaseURI.parse(db_uri).url)
        try:
            if _is_current(engine):
                return
            # Another process may be creating them now: it holds this lock until it is done.
            with db.exclusively(conn):
                if _lacks_tables(engine):
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


def mlflow_tables() -> list[str]:
    """The names of MLflow's tables in this version; its schema may hold those of other programs."""
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.model_registry.dbmodels import models  # noqa: F401  # registers its tables
    from mlflow.store.tracking.dbmodels import models as _  # noqa: F401

    return sorted([*Base.metadata.tables, "alembic_version"])


def _is_current(engine: Engine) -> bool:
    return bool(mlflow_db._get_schema_version(engine) == _revision_of_this_mlflow())


@cache
def _revision_of_this_mlflow() -> str:
    """MLflow's newest migration; to find it, alembic loads all of them (60 ms)."""
    return str(mlflow_db._get_latest_schema_revision())


def _lacks_tables(engine: Engine) -> bool:
    """Whether MLflow's tables are to be made in the first schema searched.

    MLflow's own stores initialise whenever one table of theirs is missing, which upgrades the
    database of an older MLflow without being asked to.
    """
    version = mlflow_db._get_schema_version(engine)
    if inspect(engine).has_table("experiments"):
        return version is None and _holds_no_experiment(engine)
    if version is not None:
        raise MlflowException(
            "another program keeps its table alembic_version in this schema (Optuna does): give "
            "MLflow a schema of its own, as docs/sharing-a-database.md shows",
            INVALID_STATE,
        )
    return True


def _holds_no_experiment(engine: Engine) -> bool:
    """Whether a process that made MLflow's tables was killed between its two transactions.

    MLflow commits the tables of its first version, then brings them to the present one in a second
    transaction. An MLflow of before alembic has no version either, but the experiment Default.
    """
    experiments = select(InitialBase.metadata.tables["experiments"])
    with engine.connect() as connection:
        return connection.execute(experiments).first() is None


def _refuse_released(conn: db.Connection, uri: DatabaseURI) -> None:
    state = db.read_state(conn)
    if state and state.released:
        raise MigrationError(
            f"{uri} was released to plain MLflow: use its postgresql:// URI, or run "
            f"`mlflow-timescale adopt` to take it over again"
        )
