"""`features training | leaks`: joining features to a spine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_timescale.cli.kit import (
    calendar_option,
    database_option,
    features_option,
    json_option,
    max_age_option,
    output_option,
    print_columns,
    print_message,
)
from mlflow_timescale.common.output_files import replacing
from mlflow_timescale.db.uri import DatabaseURI

from .options import column_options, spine_argument, universe_option, version_option

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@spine_argument
@database_option
@features_option(required=True)
@column_options
@max_age_option
@calendar_option
@version_option
@universe_option
@click.option("--event-times", is_flag=True, help="Add the event time of every value.")
@click.option("--explain", is_flag=True, help="Show a row for each cell: its source or why none.")
@output_option()
@json_option
def training(
    spine: str,
    names: list[str],
    event_times: bool,
    explain: bool,
    output: Path | None,
    uri: DatabaseURI,
    as_json: bool,
    **options: Any,
) -> None:
    """Add the values known at each row's time to a SPINE.

    SPINE is a Parquet or CSV file with an entity and a time in each row; its other columns are
    kept. The output is a .parquet or .csv file; in CSV a text that a spreadsheet would run as a
    formula gets a leading '.
    """
    from ..store import FeatureStore

    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise click.BadParameter(f"{str(output)!r} ends neither in .parquet nor in .csv")
    with FeatureStore(uri) as store:
        if explain:
            table = store.explain(spine, names, output="arrow", **options)
        else:
            table = store.training_frame(
                spine, names, event_times=event_times, output="arrow", **options
            )
    if output is None:
        print_columns(table.to_pydict(), as_json)
    else:
        with replacing(output) as file:
            _save(table, file, output.suffix)
        print_message(f"{table.num_rows:,} rows in {output}")


@click.command()
@spine_argument
@database_option
@features_option(required=True)
@column_options
@version_option
@json_option
def leaks(spine: str, names: list[str], uri: DatabaseURI, as_json: bool, **options: Any) -> None:
    """Count cells of a SPINE that a naive join would leak into.

    A join on event time alone takes values that were not known yet at the time of the row.
    """
    from ..store import FeatureStore

    with FeatureStore(uri) as store:
        print_columns(store.leak_report(spine, names, **options), as_json)


def _save(table: pa.Table, path: Path, suffix: str) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    from mlflow_timescale.common.frames import without_formulas

    if suffix != ".csv":
        pyarrow.parquet.write_table(table, str(path))
        return
    table, count = without_formulas(table)
    pyarrow.csv.write_csv(table, str(path))
    if count:
        print_message(
            f"{count:,} texts that a spreadsheet would run as formulas got a leading '; "
            f"a .parquet file holds them as they are",
            style="yellow",
            stderr=True,
        )
