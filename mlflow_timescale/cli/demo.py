"""`mlflow-timescale demo`: run `examples/demo.py` and say what it did."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mlflow_timescale import db
from mlflow_timescale.cli.options import default_uri, uri_option
from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.examples.demo import Outcome

STEPS = 9
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 5000


@click.command()
@uri_option
@click.option("--serve", is_flag=True, help="Then open MLflow's web interface on the result.")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Of the server.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="Of the server.")
def demo(uri: DatabaseURI, serve: bool, host: str, port: int) -> None:
    """Train a model on real prices, log it, register it, and make it champion.

    Prices of 20 S&P 500 stocks come with the installation; nothing is downloaded. Run it again for
    a new version; a run that was interrupted stands in nobody's way.
    """
    from mlflow_timescale.cli import server

    if serve:
        server.check_port(host, port)
    _require_packages()
    db.connect(uri).close()  # one line now, rather than MLflow's minutes of retries
    console = Console(highlight=False)
    command = _open_command(uri, host, port)
    outcome = _run(uri, console)
    _say_what_it_did(console, uri, outcome)
    # Without the type, MLflow opens an empty page for language models.
    page = f"/#/experiments/{outcome.experiment_id}/runs?workflowType=machine_learning"
    if serve:
        server.run(uri, host=host, port=port, workers=1, page=page)
    console.print("To look at it:", command, soft_wrap=True)
    console.print("and open", server.address(host, port) + page, soft_wrap=True)


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


def _run(uri: DatabaseURI, console: Console) -> Outcome:
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("Load MLflow and scikit-learn", total=STEPS)

        def step(description: str) -> None:
            _tick(progress, task)
            progress.update(task, advance=1, description=description)

        from mlflow_timescale.examples.demo import main

        outcome = main(uri.url, step=step)
        _tick(progress, task)
        progress.update(task, advance=1, description="Done")
    return outcome


def _tick(progress: Progress, task: int) -> None:
    """Leave a line for the step that has just ended."""
    current = progress.tasks[task]
    progress.console.print(f"[green]done[/]  {current.elapsed or 0:4.0f} s  {current.description}")


def _say_what_it_did(console: Console, uri: DatabaseURI, outcome: Outcome) -> None:
    console.print(f"[bold]{outcome.model_name}[/], version {outcome.version}, alias champion")
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in outcome.metrics.items():
        table.add_row(name, f"{value:.3f}")
    console.print(table)
    console.print(f"Run {outcome.run_id}, in {uri}", soft_wrap=True)


def _open_command(uri: DatabaseURI, host: str, port: int) -> str:
    """The command that opens the web interface, as this one was called.

    Asked before the demo runs: that sets MLFLOW_TRACKING_URI, and with it our default.
    """
    called = Path(sys.argv[0])
    program = sys.argv[0] if called.name == "mlflow-timescale" else "mlflow-timescale"
    given = [] if uri == default_uri() else ["--uri", str(uri)]
    where = ["--host", host] if host != DEFAULT_HOST else []
    where += ["--port", str(port)] if port != DEFAULT_PORT else []
    return shlex.join([program, "server", *given, *where])
