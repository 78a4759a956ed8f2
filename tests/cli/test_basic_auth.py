"""What `server --app-name basic-auth` refuses before it prints that MLflow starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.servers import free_port, run, timescale_command

from mlflow_timescale.cli import main
from mlflow_timescale.db.uri import DatabaseURI

NOWHERE = "postgresql+timescaledb://127.0.0.1:1/nowhere"


@pytest.mark.parametrize("option", ["--app-name=basic-auth", "--app-name basic-auth"])
def test_without_a_secret_key_there_is_one_line_that_names_it(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_FLASK_SERVER_SECRET_KEY", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["server", "--uri", NOWHERE, *option.split()])
    assert end.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "export MLFLOW_FLASK_SERVER_SECRET_KEY=" in printed.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("users", "admin_password", "problem"),
    [
        ("sqlite:///{directory}/users.db", "", "password"),
        (NOWHERE, "a long passphrase", "cannot connect to"),
        ("postgresql://127.0.0.1:1/nowhere", "a long passphrase", "cannot connect to"),
    ],
)
def test_users_that_cannot_be_prepared_are_one_line(
    database: DatabaseURI, tmp_path: Path, users: str, admin_password: str, problem: str
) -> None:
    lines = [
        "[mlflow]",
        "default_permission = READ",
        f"database_uri = {users.format(directory=tmp_path)}",
        "admin_username = admin",
        *([f"admin_password = {admin_password}"] if admin_password else []),
    ]
    (tmp_path / "auth.ini").write_text("\n".join(lines))
    done = run(
        [*timescale_command(), "server", "--app-name", "basic-auth", "--port", str(free_port())],
        MLFLOW_TIMESCALE_URI=database.url,
        MLFLOW_AUTH_CONFIG_PATH=str(tmp_path / "auth.ini"),
        MLFLOW_FLASK_SERVER_SECRET_KEY="a secret of the tests",
    )
    assert done.returncode == 1
    assert "MLflow in a few seconds" not in done.stderr
    [error] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert problem in error
    assert "Traceback" not in done.stderr
