"""The command `mlflow-timescale`: a skin over the packages, one module a command.

A command's module is imported when it is called, so that `--help` and `--version` are quick.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import click
from rich.console import Console

from mlflow_timescale.cli.lazy import LazyGroup
from mlflow_timescale.version import __version__

COMMANDS = {
    "adopt": "mlflow_timescale.cli.adopt:adopt",
    "artifacts": "mlflow_timescale.cli.artifacts:artifacts",
    "daily": "drift.cli:daily",
    "demo": "mlflow_timescale.cli.demo:demo",
    "doctor": "mlflow_timescale.cli.doctor:doctor",
    "drift": "drift.cli:drift",
    "features": "feature_store.cli:features",
    "import": "mlflow_timescale.cli.import_:import_",
    "migrate": "mlflow_timescale.cli.migrate:migrate",
    "pack": "mlflow_timescale.cli.pack:pack",
    "registry": "mlflow_timescale.cli.registry:registry",
    "release": "mlflow_timescale.cli.adopt:release",
    "reproduce": "mlflow_timescale.cli.reproduce:reproduce",
    "retention": "mlflow_timescale.cli.retention:retention",
    "server": "mlflow_timescale.cli.server:server",
}


@click.command(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="mlflow-timescale")
def cli(debug: bool) -> None:
    """MLflow on TimescaleDB, with a feature store and a drift monitor.

    A database is named by --uri or MLFLOW_TIMESCALE_URI; without either it is the embedded one.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error is one readable line and exit code 1."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(arguments, prog_name="mlflow-timescale", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as exc:
        if "--debug" in arguments:
            traceback.print_exc()
        else:
            message = " ".join(str(exc).split()) or type(exc).__name__
            Console(stderr=True).print(
                f"Error: {message}", style="red", markup=False, soft_wrap=True
            )
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
