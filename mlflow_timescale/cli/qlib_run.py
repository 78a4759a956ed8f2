"""`mlflow-timescale qlib run`: what `qrun` does, recorded in this database."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import click
from click.core import ParameterSource

from mlflow_timescale.cli.kit import (
    database_option,
    dry_run_option,
    json_option,
    print_json,
    print_message,
    require_server,
)
from mlflow_timescale.common.settings import URI
from mlflow_timescale.db.masking import without_secrets
from mlflow_timescale.db.uri import DatabaseURI

_VARIABLES = ("MLFLOW_TRACKING_URI", "QLIB_MLFLOW_URI")  # beside MLFLOW_TIMESCALE_URI
_OURS = ("postgresql", "postgres:", "timescaledb")


@click.command()
@click.argument("workflow", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@database_option
@click.option(
    "--experiment",
    metavar="NAME",
    help="Experiment; default: experiment_name of the file, else workflow.",
)
@dry_run_option
@json_option
def run(
    workflow: Path, uri: DatabaseURI, experiment: str | None, dry_run: bool, as_json: bool
) -> None:
    """Run a workflow file of qlib and record it here.

    WORKFLOW is the YAML file of `qrun`; it is only read. Class and arguments of its exp_manager
    are kept. Its tracking URI is used only if it is not a folder, and if neither --uri nor the
    environment (MLFLOW_TIMESCALE_URI, MLFLOW_TRACKING_URI, QLIB_MLFLOW_URI) names a database or
    tracking server. A line on standard error names the URI that is replaced.
    --dry-run checks the file, and the data folder that it names.
    """
    from mlflow_timescale.operations.qlib_workflow import read_workflow, run_workflow

    read = read_workflow(workflow)
    tracking = _tracking_uri(uri, read.tracking_uri)
    _print_replaced((read.manager.get("kwargs") or {}).get("uri"), tracking)
    name, shown = experiment or read.experiment, _shown(tracking)
    if dry_run:
        print_message(f"{workflow} would be run and recorded in experiment {name} of {shown}")
        return
    # qlib prints what its records analyse.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        recorded = run_workflow(read, tracking, name)
    if as_json:
        print_json({**recorded._asdict(), "uri": shown})
    else:
        print_message(f"run {recorded.run_id} is recorded in experiment {name} of {shown}")


def _tracking_uri(uri: DatabaseURI, of_workflow: str | None) -> str:
    """--uri, else the environment, else the URI of the workflow, else the embedded database."""
    source = click.get_current_context().get_parameter_source("uri")
    if source is ParameterSource.COMMANDLINE or URI.get():
        return uri.url
    of_environment = [os.environ.get(name, "") for name in _VARIABLES]
    usable = (text for text in of_environment if text.startswith((*_OURS, "http:", "https:")))
    tracking = next(usable, of_workflow)
    if tracking is None:
        return uri.url
    if tracking.startswith(_OURS):
        require_server(DatabaseURI.parse(tracking))
        return DatabaseURI.parse(tracking).url
    return tracking


def _print_replaced(given: str | None, tracking: str) -> None:
    if given and _shown(given) != _shown(tracking):
        line = f"the workflow names {_shown(given)}: its run is recorded in {_shown(tracking)}"
        print_message(line, style="yellow", stderr=True)


def _shown(tracking_uri: str) -> str:
    """A tracking URI in its canonical form, without secrets."""
    if tracking_uri.startswith(_OURS):
        return str(DatabaseURI.parse(tracking_uri))
    return without_secrets(tracking_uri)
