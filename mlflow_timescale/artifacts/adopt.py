"""Adoption: enter files into the ledger that were logged without it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mlflow_timescale.artifacts import ledger
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.locations import canonical, inner_uri, join, scheme
from mlflow_timescale.artifacts.opening import open_stored
from mlflow_timescale.artifacts.repository import walk
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import load
from mlflow_timescale.db.rights import refusal_in
from mlflow_timescale.db.uri import DatabaseURI

_queries = load("artifacts")
_PROXIED = "mlflow-artifacts"
_BATCH = 200


@dataclass
class Adoption:
    """The locations that were entered, and those that could not be read, with the reason."""

    adopted: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def adopt(
    database: DatabaseURI,
    *,
    run_id: str | None = None,
    model_id: str | None = None,
    destination: str | None = None,
    dry_run: bool = False,
    jobs: int = 4,
    on_file: Callable[[str], None] = lambda location: None,
) -> Adoption:
    """Hash every file of a run, a logged model, or all of them, that is not in the ledger.

    Adoption records the present content; it cannot show whether a file changed before.
    `destination` is the server's --artifacts-destination, which `mlflow-artifacts:` locations
    refer to. Files that cannot be read are returned in `Adoption.skipped`. Raises an error of
    psycopg's if this login may not write to the ledger.
    """
    result = Adoption()
    with connection(database) as conn:
        values = {"run_id": run_id, "model_id": model_id}
        uris = [row[0] for row in conn.execute(_queries.roots, values)]
    for uri in uris:
        root = _resolve(uri, destination)
        if root is None:
            result.skipped[uri] = "the server's --artifacts-destination is needed to find it"
            continue
        try:
            _adopt_root(root, database, result, dry_run, jobs, on_file)
        except Exception as exc:
            if refusal_in(exc):  # of the ledger, and so of every file
                raise
            result.skipped[root] = one_line(exc)
    return result


def _resolve(uri: str, destination: str | None) -> str | None:
    if scheme(uri) != _PROXIED:
        return canonical(inner_uri(uri))
    if destination is None:
        return None
    path = canonical(uri).removeprefix(f"{_PROXIED}:")
    return join(canonical(destination), path)


def _adopt_root(
    root: str,
    database: DatabaseURI,
    result: Adoption,
    dry_run: bool,
    jobs: int,
    on_file: Callable[[str], None],
) -> None:
    repository = open_stored(root, database)
    with connection(database) as conn:
        entries = ledger.current(conn, root)
    unknown = [path for path in walk(repository) if join(root, path) not in entries]
    if dry_run:
        result.adopted += [join(root, path) for path in unknown]
        return
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="adopt") as pool:
        for start in range(0, len(unknown), _BATCH):
            paths = unknown[start : start + _BATCH]
            fingerprints = list(pool.map(repository.fingerprint, paths))
            files = [
                (join(root, path), fingerprint)
                for path, fingerprint in zip(paths, fingerprints, strict=True)
            ]
            with connection(database) as conn:
                ledger.record(conn, files, origin="adopted")
            for location, _ in files:
                result.adopted.append(location)
                on_file(location)
