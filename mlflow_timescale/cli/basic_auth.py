"""What `--app-name basic-auth` needs, checked before the server starts.

MLflow makes the same checks in every worker, and uvicorn restarts a worker that fails, without end.
"""

from __future__ import annotations

import os
import warnings

import click

from mlflow_timescale.cli.kit import require_server
from mlflow_timescale.db.uri import DatabaseURI

_SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"  # nosec B105  # the name of a variable


def require_secret_key() -> None:
    """Raise ClickException without the key that signs forms."""
    if not os.environ.get(_SECRET_KEY):
        raise click.ClickException(
            f"basic-auth needs {_SECRET_KEY}, the same on every server: "
            f"export {_SECRET_KEY}=$(openssl rand -hex 32), and keep it"
        )


def prepare_users() -> None:
    """Create the tables of the users' database and the administrator, if they are missing.

    Raises ClickException without MLflow's extra `auth`, ConnectionFailed for a database that does
    not answer, and MlflowException where the administrator has no password.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Starlette, about MLflow's bridge to Flask
            from mlflow.server import auth
    except ImportError as exc:
        raise click.ClickException(
            f"basic-auth needs MLflow's extra: pip install 'mlflow[auth]' ({exc})"
        ) from exc
    for uri in (auth.auth_config.database_uri, auth.auth_config.read_database_uri):
        if uri and uri.startswith(("postgresql", "timescaledb")):
            require_server(DatabaseURI.parse(uri))
    auth.bootstrap_admin_user()
