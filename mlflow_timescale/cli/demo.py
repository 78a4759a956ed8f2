"""`mlflow-timescale demo`: run `examples/demo.py` and print its results."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    default_uri,
    json_option,
    print_json,
    print_message,
    print_table,
    progress,
    require_server,
    uri_option,
)
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mlflow_timescale.examples.demo import Outcome

STEPS = 9
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 5000


@click.command()
@uri_option
@click.option("--serve", is_flag=True, help="Start MLflow's web interface afterwards.")
@click.option(
    "--host", default=DEFAULT_HOST, show_default=True, help="Address on which the server listens."
)
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, help="Port on which the server listens."
)
@json_option
def demo(uri: DatabaseURI, serve: bool, host: str, port: int, as_json: bool) -> None:
    """Train a model on real prices, log and register it.

    Prices of 20 S&P 500 stocks are part of the package; nothing is downloaded. The alias champion
    points at the new version. Every call adds a version; an interrupted call leaves no obstacle.
    """
    from mlflow_timescale.cli import server

    if serve:
        server.check_port(host, port)
    require_server(uri)
    _require_packages()
    command = _open_command(uri, host, port)
    outcome = _run(uri, quiet=as_json)
    # Without the type, MLflow opens an empty page for language models.
    page = f"/#/experiments/{outcome.experiment_id}/runs?workflowType=machine_learning"
    if as_json:
        print_json(outcome)
    else:
        _print_outcome(uri, outcome)
    if serve:
        server.run(uri, host=host, port=port, workers=1, page=page)
    if not as_json:
        print_message(f"To look at it: {command}")
        print_message(f"and open {server.address(host, port)}{page}")


def _require_packages() -> None:
    try:
        import matplotlib  # noqa: F401
        import skfolio  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as exc:
        raise click.ClickException(
            f"the demo needs {exc.name}, which is not installed: "
            f"pip install 'mlflow-timescale[demo]'"
        ) from exc


def _run(uri: DatabaseURI, quiet: bool) -> Outcome:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    description = TextColumn("{task.description}", markup=False)
    with progress(*columns, description, quiet=quiet, transient=False) as bar:
        task = bar.add_task("Load MLflow and scikit-learn", total=STEPS)

        def step(description: str) -> None:
            if not quiet:
                _print_done(bar, task)
            bar.update(task, advance=1, description=description)

        from mlflow_timescale.examples.demo import main

        outcome = main(uri.url, step=step)
        step("Done")
    return outcome


def _print_done(bar: Progress, task: TaskID) -> None:
    """A line above the bar for the step that has just ended."""
    current = bar.tasks[task]
    bar.console.print(f"done  {current.elapsed or 0:4.0f} s  {current.description}")


def _print_outcome(uri: DatabaseURI, outcome: Outcome) -> None:
    print_message(f"{outcome.model_name}, version {outcome.version}, alias champion", style="bold")
    rows = [(name, f"{value:6.3f}") for name, value in outcome.metrics.items()]
    print_table(("metric", "value"), rows)
    print_message(f"Run {outcome.run_id}, in {uri}")


def _open_command(uri: DatabaseURI, host: str, port: int) -> str:
    """The command that opens the web interface, as this one was called.

    Made before the demo runs, which sets MLFLOW_TRACKING_URI and so changes our default.
    """
    called = Path(sys.argv[0])
    program = sys.argv[0] if called.name == "mlflow-timescale" else "mlflow-timescale"
    database = [] if uri == default_uri() else ["--uri", str(uri)]
    where = ["--host", host] if host != DEFAULT_HOST else []
    where += ["--port", str(port)] if port != DEFAULT_PORT else []
    return shlex.join([program, "server", *database, *where])
