"""`postmortem` of folders, SQLite files and databases that no tool prepared; nothing is changed."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from support.databases import dispose_engines, vanilla_url
from support.recorders import INDEX, model, qlib_files, write_files, write_run

from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI

DECAYED, HEALTHY = {"seed": 11}, {"seed": 11, "after": None}


def run(*words: str, code: int | None = None) -> Result:
    result = CliRunner().invoke(cli, list(words))
    assert code is None or result.exit_code == code, result.output
    return result


def answer(*words: str, code: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--json", code=code).stdout)
    return found


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """The size and time of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recorders: two good ones, and one of each fault."""
    root = tmp_path_factory.mktemp("team") / "mlruns"
    good = qlib_files(11)
    write_run(root, "decayed", good)
    write_run(root, "healthy", qlib_files(11, after=None), experiment="alpha360")
    scores, labels = good["pred.pkl"], good["label.pkl"]
    faults: dict[str, dict[str, Any]] = {
        "no files": {},
        "no labels": {"pred.pkl": scores},
        "no scores": {"label.pkl": labels},
        "foreign": {"pred.pkl": b"cposix\nsystem\n(S'x'\ntR.", "label.pkl": labels},
        "cut off": {"pred.pkl": pickle.dumps(scores)[:-99], "label.pkl": labels},
        "a model": {"pred.pkl": {"weights": [1.0]}, "label.pkl": labels},
        "one session": {"pred.pkl": scores.iloc[:40], "label.pkl": labels.iloc[:40]},
        "all missing": {"pred.pkl": scores * float("nan"), "label.pkl": labels},
        "contradicting": {"pred.pkl": pd.concat([scores, scores + 1]), "label.pkl": labels},
    }
    for name, files in faults.items():
        write_run(root, name, files)
    broken = write_run(root, "no meta", good)
    next(root.glob(f"*/{broken}/meta.yaml")).write_text("[unclosed")
    return root


REASONS = {
    "no files": "no pred.pkl and no table",
    "no labels": "no label.pkl",
    "no scores": "no pred.pkl",
    "foreign": "names posix.system",
    "cut off": "damaged",
    "a model": "holds a dict",
    "one session": "one session only",
    "all missing": "all are missing",
    "contradicting": "two values for",
}


def test_a_folder_gives_every_model_and_a_reason_for_every_fault(store: Path) -> None:
    before = content(store)
    found = answer("postmortem", str(store.parent), code=4)
    assert [(m["model"], m["state"]) for m in found["models"]] == [
        ("decayed", "decayed"),
        ("healthy", "healthy"),
    ]
    assert found["headline"].startswith("1 of 2 models has decayed: decayed since 2023-10-")
    reasons = {left["model"]: left["reason"] for left in found["left_out"]}
    assert reasons.keys() == REASONS.keys()
    assert not [name for name, part in REASONS.items() if part not in reasons[name]]
    decayed = found["models"][0]
    assert len(decayed["series"]["ic"]) == len(decayed["series"]["session"]) == 300
    assert decayed["series"]["psi"][0] is None
    assert isinstance(decayed["series"]["psi"][-1], float)
    assert decayed["alerts"][0]["rule"] == "ic drift emergency"
    assert content(store) == before


def test_the_table_and_the_page_name_what_decayed_and_what_was_left_out(
    store: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    printed = run("postmortem", str(store), "-o", str(page), code=4)
    assert "1 of 2 models has decayed" in printed.stdout
    assert "foreign (alpha158" in printed.stderr
    assert "no readable meta.yaml" in printed.stderr
    text = page.read_text(encoding="utf-8")
    assert text.count('<svg class="curve"') == 2
    assert "names posix.system" in text
    assert "<script" not in text


def test_one_experiment_is_chosen_by_its_name_and_a_wrong_name_lists_the_others(
    store: Path,
) -> None:
    found = answer("postmortem", str(store), "--experiment", "alpha360", code=0)
    assert [m["model"] for m in found["models"]] == ["healthy"]
    wrong = run("postmortem", str(store), "--experiment", "alpha36", code=1)
    assert "did you mean alpha360" in str(wrong.exception)


def test_folders_without_metas_are_runs_by_their_files(tmp_path: Path) -> None:
    write_files(tmp_path / "2023" / "lgb", qlib_files(11))
    write_files(tmp_path / "2023" / "ridge", qlib_files(11, after=None))
    found = answer("postmortem", str(tmp_path), code=4)
    assert [m["model"] for m in found["models"]] == ["2023/lgb", "2023/ridge"]


def test_models_of_one_name_are_told_apart_by_their_runs(tmp_path: Path) -> None:
    for seed in (11, 12):
        write_run(tmp_path, "mlflow_recorder", qlib_files(seed), experiment=f"e{seed}")
    found = answer("postmortem", str(tmp_path), code=4)
    ids = [model["run_id"][:8] for model in found["models"]]
    for short_id in ids:
        assert f"mlflow_recorder ({short_id}) since" in found["headline"]


@pytest.mark.parametrize("source", ["/nowhere/mlruns", "sqlite:////nowhere/mlflow.db"])
def test_a_source_that_is_not_there_is_one_line(source: str) -> None:
    assert "/nowhere/ml" in str(run("postmortem", source, code=1).exception)


def test_a_folder_without_models_is_exit_code_3_and_states_what_to_do(tmp_path: Path) -> None:
    empty = run("postmortem", str(tmp_path), code=3).stdout
    assert "No model could be judged: no folder in" in empty
    assert "or a folder with pred.pkl" in empty
    write_files(tmp_path / "gbm", {"scores.csv": b"x", "readme.txt": b"x"})
    tables = run("postmortem", str(tmp_path), code=3).stdout
    assert "It has scores.csv: name one with --table." in tables


def test_a_source_of_another_kind_is_named_with_what_to_give(tmp_path: Path) -> None:
    write_files(tmp_path, {"pred.pkl": SCORES})
    reasons = {
        str(tmp_path / "pred.pkl"): "is no SQLite database: give the folder that holds it",
        "http://127.0.0.1:9": "is a tracking server: give the URI of its database",
        "s3://bucket/runs": "s3 is no database that is known here",
        "": "'' is neither a database URI",
    }
    for source, reason in reasons.items():
        assert reason in str(run("postmortem", source, code=1).exception)
    chosen = run("postmortem", str(tmp_path), "--experiment", "a", code=1)
    assert "has no experiments: leave out --experiment" in str(chosen.exception)
    page = str(tmp_path / "nowhere" / "page.html")
    assert "there is no folder" in str(run("postmortem", str(tmp_path), "-o", page).exception)


def test_many_runs_that_are_left_out_for_one_reason_share_a_line(tmp_path: Path) -> None:
    for number in range(6):
        write_files(tmp_path / f"m{number}", {"pred.pkl": b""})
    printed = run("postmortem", str(tmp_path), code=3).stderr
    reason = "cannot read pred.pkl: the file is empty"
    write_files(tmp_path / "m0", {"label.pkl": LABELS})
    assert "6 runs left out: it has no label.pkl: m0, m1, m2 and 3 more" in printed
    assert "m0 (" in (mixed := run("postmortem", str(tmp_path), code=3).stderr)
    assert reason in mixed


def table_files(folder: Path, frame: pd.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / "predictions.parquet")


SCORES, LABELS = model(11)
TABLE = (
    SCORES.join(LABELS)
    .reset_index()
    .set_axis(["trade_date", "ticker", "y_pred", "fwd_ret"], axis=1)
)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    run_id = write_run(tmp_path / "mlruns", "gbm", {})
    table_files(next((tmp_path / "mlruns").glob(f"*/{run_id}/artifacts")), TABLE)
    return tmp_path


def test_columns_of_a_table_are_guessed_and_stated(tables: Path) -> None:
    found = answer("postmortem", str(tables), code=4)
    [gbm] = found["models"]
    assert gbm["state"] == "decayed"
    assert gbm["notes"][:2] == [
        "predictions.parquet: time=trade_date, entity=ticker, score=y_pred",
        "predictions.parquet: time=trade_date, entity=ticker, label=fwd_ret",
    ]


def test_columns_that_nothing_fits_are_listed_and_can_be_named(tables: Path) -> None:
    odd = TABLE.rename(columns={"y_pred": "mu", "fwd_ret": "r1", "trade_date": "t"})
    table_files(next(tables.glob("mlruns/*/*/artifacts")), odd)
    found = answer("postmortem", str(tables), code=3)
    assert (
        "looks like the score; name one with --score: it has t, ticker, mu, r1"
        in found["left_out"][0]["reason"]
    )
    words = ("--time", "t", "--entity", "ticker", "--score", "mu", "--label", "r1")
    assert answer("postmortem", str(tables), *words, code=4)["models"][0]["state"] == "decayed"


def test_prices_give_the_labels_over_the_horizon_that_is_stated(
    tables: Path, tmp_path: Path
) -> None:
    growth = (1 + LABELS["LABEL0"].unstack()).shift(1, fill_value=1.0).cumprod()
    prices = tmp_path / "prices.csv"
    growth.stack().rename("close").reset_index().to_csv(prices, index=False)
    only_scores = TABLE.drop(columns="fwd_ret")
    table_files(next(tables.glob("mlruns/*/*/artifacts")), only_scores)
    words = ("--time", "trade_date", "--entity", "ticker", "--prices", str(prices))
    [gbm] = answer("postmortem", str(tables), *words, code=4)["models"]
    assert gbm["state"] == "decayed"
    assert "labels are returns over 1 session of the prices" in gbm["notes"]
    [week] = answer("postmortem", str(tables), "--prices", str(prices), "--horizon", "5")["models"]
    assert week["horizon"] == 5
    both = run("postmortem", str(tables), "--prices", str(prices), "--label", "x")
    assert both.exit_code == 2
    assert run("postmortem", str(tables), "--price", "close").exit_code == 2
    [left_out] = answer("postmortem", str(tables), "--prices", "p.csv", code=3)["left_out"]
    assert left_out["reason"] == "it has no p.csv, and there is no such file here"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file and its artifacts, moved to another folder, and of an older schema."""
    first = tmp_path_factory.mktemp("first")
    mlflow.set_tracking_uri(f"sqlite:///{first}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("alpha158", f"{first}/mlartifacts/1")
    for name, shape in (("decayed", DECAYED), ("healthy", HEALTHY)):
        run_id = client.create_run(experiment, run_name=name).info.run_id
        write_files(first / "files", qlib_files(**shape))  # type: ignore[arg-type]
        client.log_artifacts(run_id, str(first / "files"))
    logged = client.create_run(experiment, run_name="a table").info.run_id
    short = TABLE[TABLE["trade_date"] < "2023-09-01"].assign(
        trade_date=lambda f: f["trade_date"].astype(str)
    )
    client.log_table(logged, short, "tables/scores.json")
    deleted = client.create_run(experiment, run_name="deleted").info.run_id
    client.delete_run(deleted)
    dispose_engines()
    second = tmp_path_factory.mktemp("second") / "copy"
    shutil.move(first, second)
    return second


def test_a_sqlite_file_that_was_moved_with_its_artifacts_is_read_where_it_is(moved: Path) -> None:
    (moved / "mlflow.db").chmod(0o444)
    before = content(moved)
    for source in (moved, moved / "mlflow.db", f"sqlite:///{moved}/mlflow.db"):
        found = answer("postmortem", str(source), code=4)
        states = {m["model"]: m["state"] for m in found["models"]}
        assert states == {"decayed": "decayed", "healthy": "healthy", "a table": "healthy"}
        assert found["left_out"] == []
    assert content(moved) == before


@pytest.mark.parametrize("in_use", [False, True])
def test_a_sqlite_file_with_a_write_ahead_log_gets_no_files_beside_it(
    in_use: bool, tmp_path: Path
) -> None:
    import sqlite3

    folder = tmp_path / "wal"
    write_files(folder / "mlruns" / "1" / "r1" / "artifacts", qlib_files(11, sessions=130))
    writer = sqlite3.connect(folder / "mlflow.db")
    writer.execute("PRAGMA journal_mode = wal")
    writer.executescript(
        """CREATE TABLE experiments (experiment_id integer, name text, lifecycle_stage text);
        CREATE TABLE runs (run_uuid text, name text, experiment_id integer, start_time integer,
            artifact_uri text, lifecycle_stage text);
        INSERT INTO experiments VALUES (1, 'alpha158', 'active');
        INSERT INTO runs VALUES ('r1', 'gbm', 1, 5, './mlruns/1/r1/artifacts', 'active');"""
    )
    if not in_use:
        writer.close()
    before = content(folder)
    [model] = answer("postmortem", str(folder))["models"]
    assert model["model"] == "gbm"
    assert content(folder) == before
    writer.close()


def test_an_older_schema_of_mlflow_is_read(moved: Path, tmp_path: Path) -> None:
    import sqlite3

    shutil.copytree(moved, tmp_path / "old")
    file = tmp_path / "old" / "mlflow.db"
    file.chmod(0o644)
    with sqlite3.connect(file) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        conn.execute("DROP TABLE trace_info")
    assert len(answer("postmortem", str(file), code=4)["models"]) == 3


def test_a_database_of_plain_mlflow_is_read_without_our_schema(
    vanilla_database: DatabaseURI, tmp_path: Path
) -> None:
    store = SqlAlchemyStore(vanilla_url(vanilla_database), str(tmp_path / "root"))
    experiment = store.create_experiment("alpha158", str(tmp_path / "artifacts"))
    run_id = store.create_run(experiment, "ann", 0, [], "decayed").info.run_id
    write_files(tmp_path / "artifacts" / run_id / "artifacts", qlib_files(11))
    [model] = answer("postmortem", vanilla_url(vanilla_database), code=4)["models"]
    assert (model["model"], model["state"]) == ("decayed", "decayed")
    with db.connect(vanilla_database) as conn:
        assert conn.execute("SELECT to_regnamespace('mlops') IS NULL").fetchone() == (True,)


def test_from_qlib_reads_this_database_and_records_nothing(
    database: DatabaseURI, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(database.url)
    mlflow.set_experiment("alpha158")
    for name, shape in (("decayed", DECAYED), ("healthy", HEALTHY)):
        with mlflow.start_run(run_name=name):
            write_files(tmp_path / name, qlib_files(**shape))  # type: ignore[arg-type]
            mlflow.log_artifacts(str(tmp_path / name))
    with mlflow.start_run(run_name="empty"):
        mlflow.log_metric("ic", 0.1)
    found = answer("drift", "from-qlib", "alpha158", "--uri", database.url, code=4)
    assert {m["model"]: m["state"] for m in found["models"]} == {
        "decayed": "decayed",
        "healthy": "healthy",
    }
    assert found["left_out"][0]["reason"] == "it has no pred.pkl and no table"
    assert found["models"][0]["decay"]["onset"].startswith("2023-10-")
    with db.connect(database) as conn:
        assert conn.execute("SELECT count(*) FROM mlops.drift_strategies").fetchone() == (0,)
    wrong = run("drift", "from-qlib", "beta", "--uri", database.url, code=1)
    assert "no experiment 'beta' with runs; there are: alpha158" in str(wrong.exception)


@pytest.mark.slow
def test_many_runs_are_judged_by_several_processes_in_their_order(tmp_path: Path) -> None:
    files = qlib_files(11, sessions=130)
    for number in range(20):
        write_files(tmp_path / f"{number:02}", files)
    found = answer("postmortem", str(tmp_path))
    assert len(found["models"]) == 20
    assert len({json.dumps(m["series"]) for m in found["models"]}) == 1
    assert len(INDEX) == 12_000
