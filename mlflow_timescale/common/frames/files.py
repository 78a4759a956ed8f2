"""CSV, Parquet and Arrow files, and directories of them, as Arrow batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlflow_timescale.common.errors import InvalidFrame

_FORMATS = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".parq": "parquet",
    ".pq": "parquet",
    "": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
}
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")
_READABLE = "a file .csv (also .csv.gz, .csv.bz2, .csv.zst, .csv.lz4), .parquet or .feather"


def open_files(path: Path, text: Collection[str]) -> Any:
    """A file or a directory of files as a pyarrow dataset, or a reader of batches.

    Directories `name=value` become columns. The columns named in `text` are read as they are
    written; Arrow infers the types of the other columns of a CSV file from its first megabyte.
    Raises InvalidFrame for files that are missing, of several or unknown formats, or damaged.
    """
    files = _files(path)
    formats = {format_of(file) for file in files}
    if None in formats or len(formats) != 1:
        names = ", ".join(sorted({"".join(file.suffixes[-2:]) for file in files})) or "no files"
        raise InvalidFrame(f"{path} holds {names}; give {_READABLE}, or a directory of one kind")
    with readable(path):
        if formats == {"csv"} and path.is_file():
            return _csv_reader(path, text)
        return _dataset(files, path, str(formats.pop()), text)


@contextmanager
def readable(source: object) -> Iterator[None]:
    """Translate errors of Arrow's readers into InvalidFrame, with the file's name."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        advice = ""
        if "conversion error" in str(exc):
            advice = (
                "; the types of a CSV file are inferred from its first megabyte: write whole "
                "numbers of such a column as 1.0, or use Parquet"
            )
        raise InvalidFrame(f"cannot read {source}: {exc}{advice}") from exc


def format_of(file: Path) -> str | None:
    """The format of a file by its name; None if it is unknown.

    >>> format_of(Path("features.csv.gz")), format_of(Path("features.xlsx"))
    ('csv', None)
    """
    suffix = file.suffix.lower()
    if suffix in _COMPRESSIONS:
        return "csv" if Path(file.stem).suffix.lower() == ".csv" else None
    return _FORMATS.get(suffix)


def _files(path: Path) -> list[Path]:
    """The files of a directory whose formats are known; files such as `_SUCCESS` are skipped."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise InvalidFrame(f"no file or directory {path}")
    inside = sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
    return [file for file in inside if file.suffix and format_of(file)] or inside


def _csv_options(text: Collection[str]) -> Any:
    import pyarrow.csv

    return pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))


def _csv_reader(path: Path, text: Collection[str]) -> Any:
    import pyarrow.csv

    stream = pa.input_stream(str(path), compression="detect")
    return pyarrow.csv.open_csv(stream, convert_options=_csv_options(text))


def _dataset(files: list[Path], path: Path, kind: str, text: Collection[str]) -> Any:
    import pyarrow.dataset as ds

    options = {
        "format": ds.CsvFileFormat(convert_options=_csv_options(text)) if kind == "csv" else kind,
        "partition_base_dir": str(path),
    }
    names = [str(file) for file in files]
    dataset = ds.dataset(names, partitioning="hive", **options)
    keys = ds.get_partition_keys(next(dataset.get_fragments()).partition_expression)
    if not keys.keys() & set(text):
        return dataset
    fields = [(key, pa.string() if key in text else dataset.schema.field(key).type) for key in keys]
    hive = ds.partitioning(pa.schema(fields), flavor="hive")
    return ds.dataset(names, partitioning=hive, **options)
