"""Bytes that nothing refers to any more: of deleted experiments, of deleted traces, of the past."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlflow_timescale.artifacts import contents
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.locations import canonical, inner_uri, scheme, split_root
from mlflow_timescale.artifacts.opening import open_stored
from mlflow_timescale.artifacts.proxied import places
from mlflow_timescale.common import logs
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import if_migrated
from mlflow_timescale.db.uri import DatabaseURI

PROXIED = "mlflow-artifacts"
_queries = load("artifacts")
_logger = logs.logger(__name__)


def places_of_experiment(conn: Connection, experiment_id: int) -> list[str]:
    """The artifact URIs of all runs, logged models and traces of an experiment."""
    rows = conn.execute(_queries.places_of_experiment, {"experiment_id": experiment_id})
    return [row[0] for row in rows]


def places_of_traces(conn: Connection, trace_ids: Sequence[str]) -> dict[str, str]:
    """The artifact URI of each trace."""
    return dict(conn.execute(_queries.places_of_traces, {"trace_ids": list(trace_ids)}).fetchall())


def remove_traces(database: DatabaseURI, uris: dict[str, str]) -> None:
    """Delete the files of those traces that do not exist any more; `uris` by trace."""
    with connection(database) as conn:
        left = conn.execute(_queries.traces_left, {"trace_ids": list(uris)}).fetchall()
    existing = {row[0] for row in left}
    remove(database, [uri for trace_id, uri in uris.items() if trace_id not in existing])


def remove(database: DatabaseURI, uris: Iterable[str]) -> None:
    """Delete the files below artifact URIs that the ledger knows.

    What a registered version needs stays. A store that cannot be reached is a warning: the owner
    of the files is gone, and `orphans` returns them again.
    """
    with connection(database) as conn:
        candidates = [place for uri in uris for place in _places(conn, uri)]
        rows = conn.execute(_queries.recorded, {"places": candidates}).fetchall()
    for (place,) in rows:
        _delete(database, place, None)
    with connection(database) as conn:
        contents.sweep(conn)
        _tell_what_is_kept(conn, [place for (place,) in rows])


def _tell_what_is_kept(conn: Connection, places: list[str]) -> None:
    """Warn of former versions below places that were deleted: they still take space."""
    kept = if_migrated(conn, _queries.former_under, {"places": places})
    if kept and kept[0][0]:
        _logger.warning(
            "%s former versions of deleted files are kept (%s bytes: %s); `mlflow-timescale "
            "artifacts prune --former 90d` frees those that ended longer ago.",
            *kept[0],
        )


def orphans(conn: Connection) -> dict[str, int]:
    """The files of runs, logged models and traces that do not exist, with their sizes in bytes."""
    return dict(conn.execute(_queries.orphans).fetchall())


def remove_orphans(database: DatabaseURI, locations: Iterable[str]) -> None:
    """Delete files that `orphans` returned."""
    for location in locations:
        _delete(database, *split_root(location))
    with connection(database) as conn:
        contents.sweep(conn)


def _places(conn: Connection, uri: str) -> list[str]:
    if scheme(uri) == PROXIED:
        return places(conn, uri)
    return [canonical(inner_uri(uri))]


def _delete(database: DatabaseURI, root: str, path: str | None) -> None:
    try:
        open_stored(root, database).delete_artifacts(path)
    except Exception as exc:
        _logger.warning(
            "Files of %s could not be deleted: %s. Run `mlflow-timescale artifacts prune` when the "
            "store can be reached.",
            root,
            one_line(exc),
        )
