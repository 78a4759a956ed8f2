"""Two versions of the package on one server: who changes the schema, and who can go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_timescale import db
from mlflow_timescale.db.revisions import REVISION
from mlflow_timescale.db.uri import DatabaseURI

ROOT = Path(__file__).parents[2]
LOG = """
import sys, mlflow, mlflow_timescale
from mlflow_timescale.db.revisions import REVISION
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("both")
with mlflow.start_run():
    mlflow.log_metric("ic", REVISION)
    mlflow.log_param("revision", REVISION)
runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
print(sorted(run.data.metrics["ic"] for run in runs))
"""
MIGRATE = (
    "import sys; from mlflow_timescale.cli import main; main(['migrate', '--uri', sys.argv[1]])"
)
FEATURES = """
import sys
from datetime import datetime, timezone
from feature_store import FeatureStore
from mlflow_timescale import db
try:
    with FeatureStore(sys.argv[1]) as store:
        store.write_features("AAPL", datetime(2024, 1, 5, tzinfo=timezone.utc), {"x": 1.0})
except db.Error as exc:
    sys.exit(str(exc))
"""


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next version: one migration that older clients can live with, one changed function."""
    return _version(tmp_path_factory.mktemp("newer"), REVISION + 1, "")


@pytest.fixture(scope="module")
def breaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version after it: its migration stops older clients."""
    revision = REVISION + 2
    return _version(tmp_path_factory.mktemp("breaking"), revision, f"--! oldest-client: {revision}")


def _version(folder: Path, revision: int, header: str) -> Path:
    for package in ("mlflow_timescale", "feature_store", "drift"):
        shutil.copytree(ROOT / package, folder / package)
    sql = folder / "mlflow_timescale" / "sql"
    shutil.copytree(ROOT / "sql", sql)
    revisions = folder / "mlflow_timescale" / "db" / "revisions.py"
    text = revisions.read_text().replace(f"\nREVISION = {REVISION}\n", f"\nREVISION = {revision}\n")
    revisions.write_text(text)
    for number in range(REVISION + 1, revision + 1):
        last = header if number == revision else ""
        (sql / "tracking" / f"00{5 + number}_later.sql").write_text(
            f"{last}\nALTER TABLE mlops.migrations ADD COLUMN later_{number} text;\n"
        )
    function = sql / "tracking" / "functions" / "rise.sql"
    function.write_text(function.read_text().replace("4000000000000000000", "3000000000000000000"))
    return folder


def run(version: Path, script: str, uri: DatabaseURI) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(version), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["GIT_PYTHON_REFRESH"] = "quiet"
    return subprocess.run(
        [sys.executable, "-c", script, uri.url],
        env=environment,
        cwd=version,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def shared(database: DatabaseURI) -> DatabaseURI:
    """The same database by its server: an embedded one is migrated by each client."""
    if database.embedded is None:
        return database
    from mlflow_timescale.db.embedded import keywords

    reached = keywords(database)
    return DatabaseURI(database.dbname, str(reached["user"]), "", str(reached["host"]))


def state(uri: DatabaseURI) -> tuple[int, int]:
    with db.connect(uri) as conn:
        found = db.read_state(conn)
    assert found is not None
    return found.revision, found.oldest_client


@pytest.mark.slow
def test_old_and_new_clients_log_side_by_side(shared: DatabaseURI, newer: Path) -> None:
    first = run(newer, LOG, shared)
    assert first.stdout.strip().endswith(f"[{REVISION + 1}.0]"), first.stderr
    assert state(shared) == (REVISION, 1)  # a client alone does not migrate

    migrated = run(newer, MIGRATE, shared)
    assert migrated.returncode == 0, migrated.stderr
    assert "tracking/functions/rise" in migrated.stdout
    assert state(shared) == (REVISION + 1, 1)

    old = run(ROOT, LOG, shared)
    assert old.stdout.strip().endswith(f"[{REVISION}.0, {REVISION + 1}.0]"), old.stderr
    assert run(newer, LOG, shared).returncode == 0
    with db.connect(shared) as conn:
        body = conn.execute("SELECT prosrc FROM pg_proc WHERE proname = 'rise'").fetchone()
    assert body is not None
    assert "3000000000000000000" in body[0]  # an older client never replaces a function

    refused = run(ROOT, MIGRATE, shared)
    assert refused.returncode == 1
    assert "a newer mlflow-timescale migrated the database" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_migration_that_older_clients_cannot_live_with_stops_them_in_one_line(
    shared: DatabaseURI, breaking: Path
) -> None:
    assert run(breaking, MIGRATE, shared).returncode == 0
    assert state(shared) == (REVISION + 2, REVISION + 2)
    assert run(breaking, LOG, shared).returncode == 0
    message = f"schema revision {REVISION + 2}, and this mlflow-timescale knows up to {REVISION}"
    old = run(ROOT, LOG, shared)
    assert old.returncode != 0
    assert message in old.stderr.strip().splitlines()[-1]
    features = run(ROOT, FEATURES, shared)
    assert features.returncode == 1
    (line,) = features.stderr.strip().splitlines()
    assert message in line
    assert "upgrade this installation" in line


@pytest.mark.slow
def test_consent_lets_any_client_migrate(shared: DatabaseURI, newer: Path) -> None:
    consenting = DatabaseURI.parse(
        shared.url + ("&" if "?" in shared.url else "?") + "migrate=auto"
    )
    assert run(newer, LOG, consenting).returncode == 0
    assert state(shared) == (REVISION + 1, 1)
