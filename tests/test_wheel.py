"""What people install is the wheel, not this directory: everything must be in it."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support import foreign_packages

from mlflow_timescale.db.migrations import shipped
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.version import __version__

ROOT = Path(__file__).parents[1]
LIST = """
import importlib.metadata as metadata, json
import feature_store, drift, mlflow_timescale
from mlflow_timescale.db.migrations import shipped
from mlflow_timescale.db.queries import load
own = metadata.distribution("mlflow-timescale")
print(json.dumps({
    "from": mlflow_timescale.__file__,
    "version": own.version,
    "migrations": {migration.name: migration.sha256 for migration in shipped()},
    "query": load("server").database_exists.as_string(),
    "entry points": sorted(f"{point.group} {point.name}" for point in own.entry_points),
    "typed": all((own.locate_file(f"{name}/py.typed")).exists()
                 for name in ("mlflow_timescale", "feature_store", "drift")),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel; our dependencies come from outside."""
    where = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(where)]
    subprocess.run([*build, str(copied(where / "source"))], check=True, capture_output=True)
    (wheel,) = where.glob("*.whl")
    environment = where / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
    # After the wheel in the order of search; a .pth in there, such as ours, is not read.
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def copied(target: Path) -> Path:
    """Build from what is committed or would be: never from a stale build directory."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


@pytest.mark.slow
def test_the_wheel_holds_the_packages_the_sql_and_the_entry_points(installed: Path) -> None:
    done = subprocess.run([installed, "-I", "-c", LIST], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["from"]).is_relative_to(installed.parents[1])
    assert found["version"] == __version__
    assert found["migrations"] == {migration.name: migration.sha256 for migration in shipped()}
    assert found["query"].startswith("SELECT")
    assert found["typed"]
    assert "sqlalchemy.dialects postgresql.timescaledb" in found["entry points"]
    assert "mlflow.tracking_store postgresql" in found["entry points"]


@pytest.mark.slow
def test_the_command_of_the_wheel_runs(installed: Path) -> None:
    command = "from mlflow_timescale.cli import main; main(['--version'])"
    done = subprocess.run([installed, "-I", "-c", command], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == f"mlflow-timescale, version {__version__}"


@pytest.mark.slow
def test_the_wheel_works_beside_packages_with_our_generic_names(
    installed: Path, database: DatabaseURI, tmp_path: Path
) -> None:
    foreign_packages.write(tmp_path)
    foreign_packages.check(str(installed), tmp_path, database)


@pytest.mark.slow
def test_a_folder_without_an_init_file_hides_nothing(installed: Path, tmp_path: Path) -> None:
    """Python prefers a package further down the path to a plain folder of that name."""
    (tmp_path / "feature_store").mkdir()
    code = "import mlflow, feature_store; feature_store.FeatureStore"
    done = subprocess.run([installed, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
