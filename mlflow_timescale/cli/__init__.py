"""The command `mlflow-timescale`: a skin over the packages, one module a group of commands.

A command's module is imported when it is called, so that `--help` and completion are quick.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

import click

from mlflow_timescale.cli.kit import Exit, LazyGroup, print_error
from mlflow_timescale.cli.kit.exits import epilog
from mlflow_timescale.cli.kit.printing import tolerate_any_encoding
from mlflow_timescale.cli.kit.secrets import require_no_secrets
from mlflow_timescale.common.text import printable
from mlflow_timescale.db.masking import without_secrets
from mlflow_timescale.version import __version__

COMMANDS = {
    "adopt": "mlflow_timescale.cli.adopt:adopt",
    "artifacts": "mlflow_timescale.cli.artifacts:artifacts",
    "daily": "drift.cli.daily:daily",
    "demo": "mlflow_timescale.cli.demo:demo",
    "doctor": "mlflow_timescale.cli.doctor:doctor",
    "drift": "drift.cli:drift",
    "features": "feature_store.cli:features",
    "history": "mlflow_timescale.cli.history:history",
    "import": "mlflow_timescale.cli.import_:import_",
    "incident": "drift.cli.incident:incident",
    "metrics": "mlflow_timescale.cli.metrics:metrics",
    "migrate": "mlflow_timescale.cli.migrate:migrate",
    "pack": "mlflow_timescale.cli.pack:pack",
    "postmortem": "drift.cli.retrospects:postmortem",
    "qlib": "mlflow_timescale.cli.qlib:qlib",
    "registry": "mlflow_timescale.cli.registry:registry",
    "release": "mlflow_timescale.cli.adopt:release",
    "reproduce": "mlflow_timescale.cli.reproduce:reproduce",
    "retention": "mlflow_timescale.cli.retention:retention",
    "roles": "mlflow_timescale.cli.roles:roles",
    "server": "mlflow_timescale.cli.server:server",
    "sessions": "mlflow_timescale.cli.sessions:sessions",
    "spool": "mlflow_timescale.cli.spool:spool",
    "sync": "mlflow_timescale.cli.import_:sync",
}


@click.command(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog(),
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="mlflow-timescale", help="Show the version.")
def cli(debug: bool) -> None:
    """MLflow on TimescaleDB, with a feature store and a drift monitor.

    --uri or MLFLOW_TIMESCALE_URI names the database; without either it is the embedded one. Times
    are ISO 8601 with a time zone (2024-01-15T16:00-05:00, or ...Z), dates 2024-01-15, durations
    5d, 4h, 45m or 90s.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error is one readable line. `Exit` lists the exit codes."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    tolerate_any_encoding()
    try:
        require_no_secrets(arguments)
        code = cli.main(arguments, prog_name="mlflow-timescale", standalone_mode=False)
    except click.ClickException as exc:
        _show(exc)
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        # Who reads the output has left; Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.ERROR)
    except Exception as exc:
        if "--debug" in arguments:
            _print_lines("".join(traceback.format_exception(exc)))
        else:
            print_error(_line(exc))
        sys.exit(Exit.ERROR)
    sys.exit(code if isinstance(code, int) else Exit.OK)


def _line(exc: Exception) -> str:
    """What is printed of an error; of a right that is lacking, the role that has it."""
    from mlflow_timescale.db.rights import lacking, refusal_in

    # What no room has translated: of the driver, or of SQLAlchemy, which repeats the SQL.
    if type(exc).__module__.startswith(("psycopg", "sqlalchemy")) and (refusal := refusal_in(exc)):
        return lacking(refusal)
    return str(exc) or type(exc).__name__


def _show(exc: click.ClickException) -> None:
    """Print what click prints of an error."""
    text = io.StringIO()
    exc.show(text)
    _print_lines(text.getvalue())


def _print_lines(text: str) -> None:
    """Print lines on standard error, without control characters and secrets."""
    for line in without_secrets(text).splitlines():
        click.echo(printable(line), err=True)
