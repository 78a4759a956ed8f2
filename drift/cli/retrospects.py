"""`drift from-qlib` and `postmortem`: models of the past, judged as the monitor judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_timescale.cli.kit import (
    Exit,
    counted_progress,
    database_option,
    exit_with,
    json_option,
    note_printer,
    output_option,
    print_json,
    print_message,
    print_table,
    require_server,
)
from mlflow_timescale.common.output_files import require_folder
from mlflow_timescale.common.settings import IMPORT_SOURCE
from mlflow_timescale.db import DatabaseURI
from mlflow_timescale.db.masking import without_secrets

from .answers import print_written, write
from .monitors import require_strategies

if TYPE_CHECKING:
    from ..retrospect.answers import Retrospect
    from ..retrospect.judging import Terms
    from ..retrospect.recorders import Request

_SERVERS = ("postgresql", "postgres:", "timescaledb")
_TERMS = (
    click.option(
        "--horizon",
        type=click.IntRange(1, 250),
        help="Sessions that a label covers; default: from qlib's label, else estimated.",
    ),
    click.option(
        "--reference",
        type=click.IntRange(20),
        default=120,
        show_default=True,
        help="Length of the reference: the first sessions with an IC.",
    ),
    click.option(
        "--min-n",
        type=click.IntRange(3),
        default=20,
        show_default=True,
        help="Names that an IC needs.",
    ),
    click.option(
        "--rules",
        type=click.Choice(["default", "classic"]),
        default="default",
        show_default=True,
        help="Preset of rules.",
    ),
    output_option(),
    json_option,
)


def _judging(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that both commands have: the settings of the judgement, and the output."""
    return reduce(lambda decorated, option: option(decorated), reversed(_TERMS), command)


@click.command("from-qlib")
@click.argument("experiments", nargs=-1)
@database_option
@_judging
def from_qlib(
    experiments: tuple[str, ...],
    uri: DatabaseURI,
    horizon: int | None,
    reference: int,
    min_n: int,
    rules: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show which models of qlib decayed, and since when.

    EXPERIMENTS are names; all by default. Every recorder's pred.pkl and label.pkl give IC, PSI and
    Sharpe ratio of each session, alerts, and the onset of a fall. Reading the pickles runs no code
    in them. Nothing is recorded. The file is a page (HTML). Exit code 4: a model
    has decayed or has an open alert; 3: no model could be judged.
    """
    from ..retrospect.recorders import Request

    require_strategies(uri)
    require_folder(output)
    request = Request(terms=_terms(horizon, reference, min_n, rules))
    _show(_retrospect(uri.url, uri.url, experiments, request, as_json), output, as_json)


@click.command()
@click.argument("source", envvar=IMPORT_SOURCE.name)
@click.option("--entity", metavar="COLUMN", help="Column with the names.")
@click.option("--time", metavar="COLUMN", help="Column with the times.")
@click.option("--score", metavar="COLUMN", help="Column with the scores.")
@click.option("--label", metavar="COLUMN", help="Column with the later returns.")
@click.option("--price", metavar="COLUMN", help="Column of --prices with the prices.")
@click.option(
    "--prices",
    metavar="FILE",
    help="Prices in place of labels: a file, or an artifact of each run.",
)
@click.option(
    "--table",
    metavar="ARTIFACT",
    help="Artifact with the scores; default: pred.pkl, else the only table.",
)
@click.option("--wide", is_flag=True, help="Tables have a column for each name.")
@click.option(
    "--experiment",
    "experiments",
    metavar="NAME",
    multiple=True,
    help="Experiment; default: all; may be repeated.",
)
@_judging
def postmortem(
    source: str,
    entity: str | None,
    time: str | None,
    score: str | None,
    label: str | None,
    price: str | None,
    prices: str | None,
    table: str | None,
    wide: bool,
    experiments: tuple[str, ...],
    horizon: int | None,
    reference: int,
    min_n: int,
    rules: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show which models in any MLflow decayed, and since when.

    SOURCE is a folder (./mlruns, or any with files), a SQLite file, or a database URI; it is only
    read, and no database of ours is needed. Put a URI with a password into
    MLFLOW_TIMESCALE_IMPORT_SOURCE. Runs have qlib's pred.pkl and label.pkl, or a table (Parquet,
    CSV, JSON of mlflow.log_table, a pickled frame) whose columns are named or guessed. With
    --prices labels are returns over --horizon sessions, 1 by default. The file is a page (HTML).
    Exit code 4: a model has decayed or has an open alert; 3: no model could be judged.
    """
    from ..retrospect.recorders import Request
    from ..retrospect.tables import Names

    require_folder(output)
    if label is not None and prices is not None:
        raise click.UsageError("give --label or --prices, not both")
    if price is not None and prices is None:
        raise click.UsageError("--price is a column of --prices: give both")
    if source.startswith(_SERVERS):
        require_server(DatabaseURI.parse(source))
        source = DatabaseURI.parse(source).url
    request = Request(
        table=table,
        names=Names(entity, time, score, label, price, wide),
        prices=prices,
        terms=_terms(horizon, reference, min_n, rules),
    )
    tracking = source if "://" in source else None
    _show(_retrospect(source, tracking, experiments, request, as_json), output, as_json)


def _terms(horizon: int | None, reference: int, min_n: int, rules: str) -> Terms:
    from ..retrospect.judging import Terms

    return Terms(horizon=horizon, reference=reference, min_n=min_n, rules=rules)


def _retrospect(
    source: str,
    tracking_uri: str | None,
    experiments: Sequence[str],
    request: Request,
    as_json: bool,
) -> Retrospect:
    """List the runs of a source, and judge them."""
    from mlflow_timescale.operations.bringing.run_list import list_runs

    from ..retrospect.answers import Retrospect
    from ..retrospect.recorders import FILES, judge_runs, why_none

    files = (*FILES[:1], *((request.table,) if request.table else ()))
    runs = list_runs(source, note_printer(quiet=as_json), experiments, files)
    with counted_progress("models", quiet=as_json) as on_run:
        outcomes = judge_runs(runs, request, tracking_uri=tracking_uri, on_run=on_run)
    shown = without_secrets(source)
    why = "" if outcomes else why_none(shown, request)
    return Retrospect(shown, tuple(outcomes), request.terms, why)


def _show(retrospect: Retrospect, output: Path | None, as_json: bool) -> None:
    from ..retrospect.answers import HEADER

    write(output, lambda: _page(retrospect))
    if as_json:
        print_json(retrospect.to_dict())
    else:
        if retrospect.judged:
            print_table(HEADER, list(retrospect.rows()))
        print_message(retrospect.headline)
        for note in retrospect.notes():
            print_message(note, style="yellow", stderr=True)
        print_written(output)
    if not retrospect.judged:
        exit_with(Exit.NO)
    exit_with(Exit.ALERT if retrospect.is_alarming else Exit.OK)


def _page(retrospect: Retrospect) -> bytes:
    from ..retrospect.page import render

    return render(retrospect, datetime.now(timezone.utc)).encode("utf-8")
