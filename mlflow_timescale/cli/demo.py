"""`mlflow-timescale demo`: run `examples/workflow`, or `examples/demo.py`; print the results."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    from mlflow_timescale.examples.workflow.steps import Told

QUICK_STEPS = 9
FOLDER = "mlflow-timescale-demo"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 5000


@click.command()
@uri_option
@click.option("--quick", is_flag=True, help="Train, log and register one model, and stop there.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    show_default=True,
    help="Folder of the training sets and pages, which is created.",
)
@click.option("--serve", is_flag=True, help="Start MLflow's web interface afterwards.")
@click.option(
    "--host", default=DEFAULT_HOST, show_default=True, help="Address on which the server listens."
)
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, help="Port on which the server listens."
)
@json_option
def demo(
    uri: DatabaseURI, quick: bool, folder: Path, serve: bool, host: str, port: int, as_json: bool
) -> None:
    """Train a model on real prices, serve it, and find what broke.

    Prices of 20 S&P 500 stocks, 2003 to 2022, are part of the package; nothing is downloaded.
    The story takes about three minutes. A call that was interrupted is continued by the next one.
    With --quick every call trains a model and adds a version.
    """
    from mlflow_timescale.cli import server

    if serve:
        server.check_port(host, port)
    require_server(uri)
    _require_packages()
    command = _command(uri)
    experiment = _run_quick(uri, as_json) if quick else _run_story(uri, folder, command, as_json)
    # Without the type, MLflow opens an empty page for language models.
    page = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    if serve:
        server.run(uri, host=host, port=port, workers=1, page=page)
    elif not as_json:
        print_message(f"To look at it: {command(f'server{_where(host, port)}')}")
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


def _run_quick(uri: DatabaseURI, as_json: bool) -> str:
    """Run the short form; return the id of the experiment."""
    with _bar(QUICK_STEPS, "Load MLflow and scikit-learn", quiet=as_json) as bar:
        from mlflow_timescale.examples.demo import main

        outcome = main(uri.url, step=bar.begin)
        bar.begin("Done")
    if as_json:
        print_json(outcome)
    else:
        _print_outcome(uri, outcome)
    return str(outcome.experiment_id)


def _run_story(uri: DatabaseURI, folder: Path, command: Callable[[str], str], as_json: bool) -> str:
    """Tell the story; return the id of the experiment of its models."""
    told: list[Told] = []
    with _bar(1, "Load MLflow and scikit-learn", quiet=as_json) as bar:
        from mlflow_timescale.examples.workflow import steps
        from mlflow_timescale.examples.workflow.story import Story

        story = Story(uri.url, folder, at=bar.at)
        bar.resize(1 + len(steps.STEPS))
        for step in steps.tell(story, begin=bar.begin):
            told.append(step)
            bar.result = step.result
        bar.begin("Done")
        looks = [(q, _answer(a, command)) for q, a in steps.what_to_look_at(story)]
    if as_json:
        print_json({"steps": told, "look_at": dict(looks)})
    else:
        print_table(("", ""), looks)
    return str(story.experiment_id)


def _answer(answer: str, command: Callable[[str], str]) -> str:
    return answer if answer.endswith(".html") else command(answer)


class _Bar:
    """A progress bar with a line above it for each step that is over."""

    def __init__(self, bar: Progress, task: TaskID, quiet: bool) -> None:
        self._bar, self._task, self._quiet = bar, task, quiet
        self._title = bar.tasks[task].description
        self.result = ""

    def resize(self, steps: int) -> None:
        """Set the number of steps."""
        self._bar.update(self._task, total=steps)

    def begin(self, title: str) -> None:
        """The step before is over, and another one begins."""
        if not self._quiet:
            elapsed = self._bar.tasks[self._task].elapsed or 0
            ending = f": {self.result}" if self.result else ""
            self._bar.console.print(f"done  {elapsed:4.0f} s  {self._title}{ending}")
        self._title, self.result = title, ""
        self._bar.update(self._task, advance=1, description=title)

    def at(self, words: str) -> None:
        """Show where a long step is."""
        self._bar.update(self._task, description=f"{self._title}: {words}")


@contextmanager
def _bar(steps: int, title: str, *, quiet: bool) -> Iterator[_Bar]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    description = TextColumn("{task.description}", markup=False)
    with progress(*columns, description, quiet=quiet, transient=False) as bar:
        yield _Bar(bar, bar.add_task(title, total=steps), quiet)


def _print_outcome(uri: DatabaseURI, outcome: Outcome) -> None:
    print_message(f"{outcome.model_name}, version {outcome.version}, alias champion", style="bold")
    rows = [(name, f"{value:6.3f}") for name, value in outcome.metrics.items()]
    print_table(("metric", "value"), rows)
    print_message(f"Run {outcome.run_id}, in {uri}")


def _command(uri: DatabaseURI) -> Callable[[str], str]:
    """Completes a command such as "server" to what the caller can type.

    Made before the demo runs, which sets MLFLOW_TRACKING_URI and so changes our default.
    """
    called = Path(sys.argv[0])
    program = sys.argv[0] if called.name == "mlflow-timescale" else "mlflow-timescale"
    database = [] if uri == default_uri() else ["--uri", str(uri)]
    return lambda command: shlex.join([program, *shlex.split(command), *database])


def _where(host: str, port: int) -> str:
    where = f" --host {shlex.quote(host)}" if host != DEFAULT_HOST else ""
    return where + (f" --port {port}" if port != DEFAULT_PORT else "")
