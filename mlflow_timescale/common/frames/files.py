"""CSV, Parquet and Arrow files, and directories of them, as Arrow batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames import limits

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

_ADVICE = {
    "conversion error": (
        "; the types of a CSV file are inferred from its first megabyte: write whole "
        "numbers of such a column as 1.0, or use Parquet"
    ),
    "straddl": "; a line of a CSV file has at most a megabyte",
    "cannot infer number of columns": "; the file is empty, or a line is longer than a megabyte",
}


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
        kind = str(formats.pop())
        if kind == "feather":
            for file in files:
                limits.check_arrow(str(file), file.stat().st_size)
        dataset = _dataset(files, path, kind, text)
        return ParquetFiles(dataset) if kind == "parquet" else dataset


class ParquetFiles:
    """A dataset of Parquet files that is read in small batches.

    The scanner of a dataset decodes a row group at once, whatever its size; this reads a batch at a
    time, texts as indices into dictionaries, and decodes the texts of as many rows as fit.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.schema: pa.Schema = dataset.schema

    def to_batches(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        """Batches of at most `batch_size` rows, in the order of the files."""
        import pyarrow.dataset as ds

        for fragment in self._dataset.get_fragments():
            keys = ds.get_partition_keys(fragment.partition_expression)
            for batch in _parquet_batches(fragment, batch_size):
                yield self._fitted(batch, keys)

    def _fitted(self, batch: pa.RecordBatch, keys: Mapping[str, Any]) -> pa.RecordBatch:
        """The batch with the columns and types of the dataset, whose schema is the first file's."""
        columns = [_column(batch, entry, keys) for entry in self.schema]
        return pa.record_batch(columns, schema=self.schema)


def _parquet_batches(fragment: Any, rows: int) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    texts = [entry.name for entry in fragment.physical_schema if _is_text(entry.type)]
    with pq.ParquetFile(fragment.path, read_dictionary=texts) as file:
        for batch in file.iter_batches(min(rows, limits.ROWS_AT_ONCE)):
            yield from limits.pieces(batch)


def _column(batch: pa.RecordBatch, entry: pa.Field, keys: Mapping[str, Any]) -> pa.Array:
    if entry.name in keys:
        return pa.repeat(pa.scalar(keys[entry.name], entry.type), batch.num_rows)
    index = batch.schema.get_field_index(entry.name)
    if index < 0:
        return pa.nulls(batch.num_rows, entry.type)
    column = batch.column(index)
    if isinstance(column, pa.DictionaryArray) and not pa.types.is_dictionary(entry.type):
        column = column.dictionary_decode()
    return column if column.type == entry.type else column.cast(entry.type)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


@contextmanager
def readable(source: object) -> Iterator[None]:
    """Translate errors of Arrow's readers into InvalidFrame, with the file's name."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        advice = next((text for words, text in _ADVICE.items() if words in str(exc)), "")
        raise InvalidFrame(f"cannot read {source}: {exc}{advice}") from exc


def size_on_disk(path: Path) -> int:
    """The bytes of a file, or of all files of a directory that are read."""
    return sum(file.stat().st_size for file in _files(path))


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
