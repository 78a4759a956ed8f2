"""Audits find what was changed, say so to people and programs, and go on where they stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import mlflow
import psycopg
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from support.servers import plain

from mlflow_timescale import ModelRegistry, because
from mlflow_timescale.artifacts import verify
from mlflow_timescale.artifacts.ledger import Selection
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.guard import AliasRefused


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def log_texts(count: int) -> str:
    with mlflow.start_run() as run:
        for number in range(count):
            mlflow.log_text(f"text {number}", f"{number}.txt")
    return str(run.info.run_id)


def test_an_untouched_database_passes(tracking: DatabaseURI) -> None:
    log_texts(3)
    report = verify.audit(tracking, Selection())
    assert (report.passed, dict(report.outcomes)) == (True, {"match": 3})


def test_each_kind_of_damage_is_found(
    tracking: DatabaseURI, tmp_path: Path, toolbox: Any, conn: psycopg.Connection
) -> None:
    log_texts(2)
    experiment = mlflow.create_experiment("disk", f"sha256+file://{tmp_path}/root")
    with mlflow.start_run(experiment_id=experiment):
        for name in ("changed.txt", "gone.txt", "fine.txt"):
            mlflow.log_text(name, name)
    toolbox.flip_stored_byte(conn, "1.txt")
    (changed,) = tmp_path.rglob("changed.txt")
    toolbox.flip_byte_on_disk(changed)
    (gone,) = tmp_path.rglob("gone.txt")
    gone.unlink()
    report = verify.audit(tracking, Selection())
    found = {Path(check.location).name: check.outcome for check in report.failures}
    assert found == {"1.txt": "mismatch", "changed.txt": "mismatch", "gone.txt": "missing"}
    assert dict(report.outcomes) == {"match": 2, "mismatch": 2, "missing": 1}
    recorded = conn.execute(
        "SELECT outcome, count(*) FROM mlops.artifact_checks WHERE audit_id = %s GROUP BY 1",
        [report.audit_id],
    ).fetchall()
    assert dict(recorded) == dict(report.outcomes)


def test_an_audit_can_be_of_one_run_only(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    sound = log_texts(1)
    log_texts(2)
    toolbox.flip_stored_byte(conn, "1.txt")
    assert verify.audit(tracking, Selection(run_id=sound)).passed
    assert not verify.audit(tracking, Selection()).passed


def test_an_interrupted_audit_goes_on_where_it_was(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    log_texts(100)
    toolbox.flip_stored_byte(conn, "/10.txt")  # among the first
    seen: list[str] = []

    def stop(check: Any) -> None:
        seen.append(check.location)
        if len(seen) == 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify.audit(tracking, Selection(), on_check=stop)
    report = verify.audit(tracking, Selection(), resume=True)
    assert report.resumed
    assert report.total == 100 - 64  # a batch is recorded at a time
    assert dict(report.outcomes) == {"match": 99, "mismatch": 1}
    (failure,) = report.failures  # of the part that was interrupted
    assert failure.location.endswith("/10.txt")
    assert failure.expected != failure.found
    assert not verify.audit(tracking, Selection(), resume=True).resumed


def test_daily_samples_get_round_to_every_file(
    tracking: DatabaseURI, conn: psycopg.Connection
) -> None:
    log_texts(10)
    for _ in range(5):
        assert verify.audit(tracking, Selection(), sample=2).total == 2
    row = conn.execute("SELECT count(DISTINCT artifact_id) FROM mlops.artifact_checks").fetchone()
    assert row == (10,)


def test_the_command_exits_with_3_and_names_the_file(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    run_id = log_texts(2)
    passed = command("artifacts", "verify", "--uri", tracking.url, "--run", run_id)
    assert (passed.exit_code, passed.output) == (0, "Audit 1: 2 match.\n")
    toolbox.flip_stored_byte(conn, "1.txt")
    failed = command("artifacts", "verify", "--uri", tracking.url)
    assert failed.exit_code == 3
    assert "mismatch" in failed.output
    assert "1.txt" in failed.output
    assert "expected sha256" in failed.output


def test_a_hostile_name_neither_hides_its_file_nor_reaches_the_terminal(
    tracking: DatabaseURI, conn: psycopg.Connection
) -> None:
    with mlflow.start_run():
        mlflow.log_text("good", "model/[/b].pkl")
        mlflow.log_text("fine", "model/\x1b[2Jw.txt")
    conn.execute("UPDATE mlops.artifact_chunks SET data = 'evil' WHERE data = 'good'")
    failed = command("artifacts", "verify", "--uri", tracking.url)
    assert failed.exit_code == 3
    assert "[/b].pkl" in failed.output
    listed = command("artifacts", "list", "--uri", tracking.url)
    assert listed.exit_code == 0
    assert "\\x1b[2Jw.txt" in listed.output
    assert "\x1b" not in failed.output + listed.output


def test_the_name_of_a_file_makes_no_line_of_its_own_in_the_log(
    tracking: DatabaseURI, conn: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("text", "a\n2026 ERROR forged.txt")
    conn.execute("TRUNCATE mlops.model_artifacts CASCADE")
    caplog.clear()
    mlflow.artifacts.download_artifacts(run_id=run.info.run_id)
    [warning] = [record for record in caplog.records if "not in the ledger" in record.message]
    assert "a\\n2026 ERROR forged.txt" in warning.message
    assert "\n" not in warning.message


def test_the_command_speaks_json(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    log_texts(2)
    toolbox.flip_stored_byte(conn, "0.txt")
    result = command("artifacts", "verify", "--uri", tracking.url, "--json", "--sample", "10")
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert report["outcomes"] == {"match": 1, "mismatch": 1}
    assert [failure["outcome"] for failure in report["failures"]] == ["mismatch"]
    listed = json.loads(command("artifacts", "list", "--uri", tracking.url, "--json").stdout)
    assert [entry["path"] for entry in listed] == ["0.txt", "1.txt"]
    assert listed[0]["checksum"] == report["failures"][0]["expected"]


def test_a_version_is_audited_by_name_or_alias(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    with mlflow.start_run():
        logged = toolbox.log_model(registered_model_name="momentum")
    registry = ModelRegistry(tracking)
    registry.set_alias("momentum", "champion", 1)
    for version in ("momentum/1", "momentum@champion"):
        listed = command("artifacts", "list", "--uri", tracking.url, "--version", version, "--json")
        owners = {entry["model_id"] for entry in json.loads(listed.stdout)}
        assert owners == {logged.model_id}
    toolbox.flip_stored_byte(conn, "MLmodel")
    result = command("artifacts", "verify", "--uri", tracking.url, "--version", "momentum/1")
    assert result.exit_code == 3


def test_files_logged_without_the_ledger_are_adopted(
    tracking: DatabaseURI, tmp_path: Path, toolbox: Any
) -> None:
    experiment = mlflow.create_experiment("plain", f"file://{tmp_path}/root")
    with mlflow.start_run(experiment_id=experiment) as run:
        toolbox.log_model()
        mlflow.log_text("alpha", "deep/note.txt")
    arguments = ("artifacts", "adopt", "--uri", tracking.url, "--json")
    seen = json.loads(command(*arguments, "--dry-run").stdout)
    assert any(location.endswith("deep/note.txt") for location in seen["adopted"])
    assert json.loads(command(*arguments).stdout) == seen
    assert json.loads(command(*arguments).stdout)["adopted"] == []
    assert verify.audit(tracking, Selection()).passed
    (note,) = tmp_path.rglob("note.txt")
    toolbox.flip_byte_on_disk(note)
    (failure,) = verify.audit(tracking, Selection(run_id=run.info.run_id)).failures
    assert failure.location.endswith("deep/note.txt")


def test_a_proxied_location_is_adopted_through_the_servers_destination(
    tracking: DatabaseURI, tmp_path: Path
) -> None:
    experiment = mlflow.create_experiment("proxied", "mlflow-artifacts:/9")
    run = MlflowClient().create_run(experiment)
    kept = tmp_path / "9" / run.info.run_id / "artifacts"
    kept.mkdir(parents=True)
    (kept / "a.txt").write_text("alpha")
    arguments = ("artifacts", "adopt", "--uri", tracking.url, "--json")
    assert list(json.loads(command(*arguments).stdout)["skipped"]) == [run.info.artifact_uri]
    done = command(*arguments, "--artifacts-destination", str(tmp_path))
    assert json.loads(done.stdout)["adopted"] == [f"file://{kept}/a.txt"]


def test_a_protected_alias_needs_artifacts_that_verify(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    for _ in range(2):
        with mlflow.start_run():
            toolbox.log_model(registered_model_name="momentum")
    client = MlflowClient()
    client.set_registered_model_alias("momentum", "champion", "1")
    newest = "SELECT model_id FROM logged_models ORDER BY creation_timestamp_ms DESC LIMIT 1"
    (model_id,) = conn.execute(newest).fetchone()
    toolbox.flip_stored_byte(conn, f"{model_id}/artifacts/MLmodel")
    with pytest.raises(AliasRefused, match="cannot become 'champion'"):
        client.set_registered_model_alias("momentum", "champion", "2")
    assert int(client.get_model_version_by_alias("momentum", "champion").version) == 1
    client.set_registered_model_alias("momentum", "challenger", "2")
    with because("only the README differs", override=True):
        client.set_registered_model_alias("momentum", "champion", "2")
    rows = conn.execute(
        "SELECT version, override, reason FROM mlops.alias_history "
        "WHERE alias = 'champion' ORDER BY valid_from"
    ).fetchall()
    assert rows == [(1, False, None), (2, True, "only the README differs")]


def point_champion_in_sql(conn: psycopg.Connection, version: int) -> None:
    conn.execute(
        "INSERT INTO registered_model_aliases (workspace, name, alias, version) "
        "VALUES ('default', 'momentum', 'champion', %(version)s) "
        "ON CONFLICT (workspace, name, alias) DO UPDATE SET version = %(version)s",
        {"version": version},
    )


def test_the_database_itself_refuses_what_is_known_to_be_bad(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    for _ in range(2):
        with mlflow.start_run():
            logged = toolbox.log_model(registered_model_name="momentum")
    point_champion_in_sql(conn, 1)
    point_champion_in_sql(conn, 2)  # it was not checked since it was logged
    point_champion_in_sql(conn, 1)
    toolbox.flip_stored_byte(conn, f"{logged.model_id}/artifacts/MLmodel")
    assert not verify.audit(tracking, Selection()).passed
    with pytest.raises(psycopg.errors.RaiseException, match=r"MLmodel did not verify") as refused:
        point_champion_in_sql(conn, 2)
    assert "mlops.override" in refused.value.diag.message_hint
    with pytest.raises(MlflowException, match="did not verify"):
        SqlAlchemyStore(plain(tracking)).set_registered_model_alias("momentum", "champion", 2)
    failures = conn.execute("SELECT name, version, outcome FROM mlops.version_failures")
    assert failures.fetchall() == [("momentum", 2, "mismatch")]

    with conn.transaction():
        conn.execute("SET LOCAL mlops.override = 'true'")
        conn.execute("SET LOCAL mlops.reason = 'only the README differs'")
        point_champion_in_sql(conn, 2)
    states = ModelRegistry(tracking).alias_history("momentum", "champion")
    assert states[-1].detail == {"override": True}
    assert states[-1].reason == "only the README differs"
    MlflowClient().rename_registered_model("momentum", "momentum_v2")  # points nowhere new


def test_what_was_restored_and_verified_again_is_bad_no_longer(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    with mlflow.start_run():
        toolbox.log_model(registered_model_name="momentum")
    toolbox.flip_stored_byte(conn, "MLmodel")
    client = MlflowClient()
    with pytest.raises(AliasRefused):
        client.set_registered_model_alias("momentum", "champion", "1")
    toolbox.flip_stored_byte(conn, "MLmodel")
    with pytest.raises(psycopg.errors.RaiseException, match="did not verify"):
        point_champion_in_sql(conn, 1)
    client.set_registered_model_alias("momentum", "champion", "1")  # reads the files again
    client.delete_registered_model_alias("momentum", "champion")
    point_champion_in_sql(conn, 1)


def test_which_aliases_the_database_protects_is_a_setting_of_the_database(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    with mlflow.start_run():
        toolbox.log_model(registered_model_name="momentum")
    toolbox.flip_stored_byte(conn, "MLmodel")
    verify.audit(tracking, Selection())
    conn.execute("SET mlops.protected_aliases = 'live, gold'")
    point_champion_in_sql(conn, 1)
    with pytest.raises(psycopg.errors.RaiseException, match="cannot become gold"):
        conn.execute("UPDATE registered_model_aliases SET alias = 'gold'")


def test_which_aliases_are_protected_is_a_setting(
    tracking: DatabaseURI,
    toolbox: Any,
    conn: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mlflow.start_run():
        toolbox.log_model(registered_model_name="momentum")
    toolbox.flip_stored_byte(conn, "MLmodel")
    monkeypatch.setenv("MLFLOW_TIMESCALE_PROTECTED_ALIASES", "live, gold")
    MlflowClient().set_registered_model_alias("momentum", "champion", "1")
    with pytest.raises(MlflowException, match="cannot become 'gold'"):
        MlflowClient().set_registered_model_alias("momentum", "gold", "1")


def test_an_object_missing_on_s3_is_missing() -> None:
    error = boto3.exceptions.botocore.exceptions.ClientError({"Error": {"Code": "404"}}, "Get")
    assert verify._is_missing(error)
    assert not verify._is_missing(PermissionError("no"))


def test_a_version_without_ledger_rows_follows_the_policy(
    tracking: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient()
    client.create_registered_model("elsewhere")
    client.create_model_version("elsewhere", source="s3://nowhere/model")
    client.set_registered_model_alias("elsewhere", "champion", "1")
    client.delete_registered_model_alias("elsewhere", "champion")
    monkeypatch.setenv("MLFLOW_TIMESCALE_UNKNOWN_ARTIFACTS", "refuse")
    with pytest.raises(AliasRefused, match="unknown"):
        client.set_registered_model_alias("elsewhere", "champion", "1")


def test_a_version_is_verified_wherever_its_source_points(
    tracking: DatabaseURI, toolbox: Any, conn: psycopg.Connection
) -> None:
    client = MlflowClient()
    run_id = log_texts(1)
    client.create_registered_model("by_run")
    client.create_model_version("by_run", source=f"runs:/{run_id}", run_id=run_id)
    toolbox.flip_stored_byte(conn, "0.txt")
    with pytest.raises(AliasRefused, match=r"0\.txt \(mismatch\)"):
        client.set_registered_model_alias("by_run", "champion", "1")
