"""Importing from another MLflow: everything, or nothing with a reason."""

from __future__ import annotations

import math

import pytest
from click.testing import CliRunner
from mlflow.entities import (
    AssessmentSource,
    Dataset,
    DatasetInput,
    ExperimentTag,
    Feedback,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelTag,
    Metric,
    Param,
    RunTag,
    TraceInfo,
    TraceLocation,
    TraceState,
    ViewType,
)
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from mlflow.store.db.base_sql_model import Base
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import func, select, text
from support.databases import vanilla_url
from support.entities import plain

from mlflow_timescale import db
from mlflow_timescale.cli import main
from mlflow_timescale.cli.import_ import import_
from mlflow_timescale.operations.importing import ImportFailed, import_from
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

YEAR_9999 = 253_402_300_799_999
POINTS = [
    Metric("größe/Σ", value, time, step)
    for step, (value, time) in enumerate(
        [(1.5, 0), (math.nan, 5), (math.inf, 5), (-math.inf, 6), (-0.0, 7), (5e-324, YEAR_9999)], -2
    )
]


def fill(url):
    """Something of everything that MLflow stores."""
    store, registry = SqlAlchemyStore(url, "/artifacts"), Registry(url)
    experiment = store.create_experiment("imported ü", tags=[ExperimentTag("t", "ü")])
    run = store.create_run(experiment, "me", 1, [RunTag("ü", "b" * 8000)], "run").info.run_id
    store.log_batch(run, POINTS, [Param("k" * 250, "ß" * 6000)], [])
    store.log_batch(run, [Metric("long", i / 3, 10**12 + i, i) for i in range(900)], [], [])
    deleted = store.create_run(experiment, "me", 2, [], "deleted").info.run_id
    store.log_metric(deleted, Metric("m", 1.0, 1, 1))
    store.delete_run(deleted)
    model = store.create_logged_model(
        experiment, "model", run, [LoggedModelTag("a", "b")], [LoggedModelParameter("c", "d")]
    )
    dataset = Dataset("data", "digest", "local", "here", '{"schema": 1}', "profile")
    store.log_inputs(
        run, [DatasetInput(dataset, [InputTag("k", "v")])], [LoggedModelInput(model.model_id)]
    )
    store.log_outputs(run, [LoggedModelOutput(model.model_id, 3)])
    store.log_metric(run, Metric("of model", 0.5, 1, 1, model.model_id, "data", "digest"))
    _trace(store, experiment)
    registry.create_registered_model("momentum", [RegisteredModelTag("a", "b")], "described")
    for number in (1, 2):
        registry.create_model_version("momentum", "s3://x", run, [ModelVersionTag("n", "1")])
        registry.set_registered_model_alias("momentum", f"alias{number}", number)
    events = [WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED)]
    registry.create_webhook("hook", "https://93.184.216.34/hook", events, secret="s3cret")
    return store, registry


def _trace(store, experiment):
    info = TraceInfo(
        trace_id="tr-1",
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=1,
        state=TraceState.OK,
        request_preview="asked",
        tags={"k": "ü"},
        trace_metadata={"m": "v"},
    )
    store.start_trace(info)
    source = AssessmentSource("HUMAN", "me")
    store.create_assessment(
        Feedback("good", {"score": 1.5, "list": [1, None]}, source=source, trace_id="tr-1")
    )


def read(store, registry):
    """What a store answers, in every way to ask."""
    experiments = store.search_experiments(ViewType.ALL)
    ids = [found.experiment_id for found in experiments]
    runs = store.search_runs(ids, "", ViewType.ALL)
    versions = registry.search_model_versions()
    answers = [
        experiments,
        runs,
        [store.get_run(run.info.run_id) for run in runs],
        [
            store.get_metric_history(run.info.run_id, key)
            for run in runs
            for key in sorted(run.data.metrics)
        ],
        [
            store.get_metric_history_bulk_interval([run.info.run_id], "long", 50, None, None)
            for run in runs
        ],
        store.search_logged_models(ids),
        store.search_traces(ids)[0],
        [store.get_trace_info("tr-1")],
        registry.search_registered_models(),
        [registry.get_model_version(found.name, found.version) for found in versions],
        registry.list_webhooks(),
    ]
    return plain([list(answer) for answer in answers], {})


def rows(store):
    """How many rows are in each table of MLflow's?"""
    with store.ManagedSessionMaker() as session:
        return {
            table.name: session.execute(select(func.count()).select_from(table)).scalar_one()
            for table in Base.metadata.tables.values()
        }


@pytest.fixture
def postgresql(vanilla_database):
    """The URI of a PostgreSQL database that plain MLflow filled."""
    url = vanilla_url(vanilla_database)
    fill(url)
    return url


def run_import(source, target):
    done = CliRunner().invoke(import_, [source, "--uri", target.url], catch_exceptions=False)
    assert "rows imported" in done.output
    return done.output


def assert_same(source, target):
    theirs = SqlAlchemyStore(source, "/artifacts"), Registry(source)
    ours = (
        TimescaleTrackingStore(target.url, "/artifacts"),
        TimescaleRegistryStore(target.url),
    )
    assert read(*ours) == read(*theirs)
    assert rows(ours[0]) == rows(theirs[0])
    return ours[0]


@pytest.mark.slow
def test_everything_comes_from_postgresql(postgresql, database):
    run_import(postgresql, database)
    ours = assert_same(postgresql, database)
    # New rows get numbers that no imported one has.
    assert int(ours.create_experiment("next")) > 1
    run = ours.search_runs(["1"], "", ViewType.ACTIVE_ONLY)[0].info.run_id
    ours.log_batch(run, [Metric("long", 1.0, 10**12 + 5000, 5000)], [], [])
    assert len(ours.get_metric_history(run, "long")) == 901
    TimescaleRegistryStore(database.url).delete_registered_model_alias("momentum", "alias1")
    with db.connect(database) as conn:
        ended = conn.execute("SELECT subject FROM mlops.registry_history WHERE ended = 'deleted'")
        assert ended.fetchall() == [("alias1",)]  # its triggers are at work again
        kept = conn.execute(
            "SELECT kind, name, subject FROM mlops.registry_history ORDER BY 1, 2, 3"
        ).fetchall()
        secret = conn.execute("SELECT secret FROM webhooks").fetchone()
    assert [kind for kind, *_ in kept] == ["alias"] * 2 + ["model"] + ["stage"] * 2 + [
        "tag"
    ] * 2 + ["version"] * 2
    # Only the key of the source opens it: it must not have been opened and closed on the way.
    with SqlAlchemyStore(postgresql, "/artifacts").ManagedSessionMaker() as session:
        assert session.execute(text("SELECT secret FROM webhooks")).fetchone() == secret


@pytest.mark.slow
def test_everything_comes_from_a_database_of_ours(postgresql, database, new_database):
    run_import(postgresql, database)
    with new_database() as another:
        run_import(database.url, another)
        assert_same(postgresql, another)


@pytest.mark.slow  # MLflow's migrations on sqlite
def test_everything_comes_from_sqlite(database, tmp_path):
    source = f"sqlite:///{tmp_path}/mlflow.db"
    fill(source)
    run_import(source, database)
    assert_same(source, database)


@pytest.mark.slow  # MLflow's migrations on sqlite
def test_what_sqlite_keeps_and_postgresql_does_not_is_named_and_nothing_is_written(
    database, tmp_path
):
    source = f"sqlite:///{tmp_path}/mlflow.db"
    store = SqlAlchemyStore(source, "/artifacts")
    run = store.create_run("0", "me", 1, [], "run").info.run_id
    store.set_tag(run, RunTag("nul", "a\0b"))
    with db.connect(database, autocommit=True) as conn:
        before = conn.execute("SELECT count(*) FROM experiments").fetchone()
        with pytest.raises(ImportFailed, match=r"tags: .*nothing was imported"):
            import_from(source, conn)
        assert conn.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM experiments").fetchone() == before


@pytest.mark.slow  # MLflow's migrations on sqlite
def test_a_file_store_is_imported(database, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.store.tracking.file_store import FileStore

    files = FileStore(str(tmp_path / "mlruns"))
    run = files.create_run("0", "me", 1, [RunTag("ü", "b")], "of files").info.run_id
    for point in POINTS:
        if math.isfinite(point.value):  # MLflow's converter makes other numbers of infinities
            files.log_metric(run, point)
    files.log_param(run, Param("p", "1"))
    run_import(str(tmp_path / "mlruns"), database)
    ours = TimescaleTrackingStore(database.url, "/artifacts")
    found = ours.get_run(run)
    assert (found.data.params, found.info.run_name) == ({"p": "1"}, "of files")
    points = [(m.step, m.timestamp, m.value) for m in ours.get_metric_history(run, "größe/Σ")]
    assert points == [(m.step, m.timestamp, m.value) for m in POINTS if math.isfinite(m.value)]


def refused(source, database, reason):
    with (
        db.connect(database, autocommit=True) as conn,
        pytest.raises(ImportFailed, match=reason) as caught,
    ):
        import_from(source, conn)
    return str(caught.value)


@pytest.mark.slow
def test_a_target_that_holds_something_is_left_alone(postgresql, database):
    run_import(postgresql, database)
    before = rows(TimescaleTrackingStore(database.url, "/artifacts"))
    refused(postgresql, database, "holds runs, models or experiments already")
    assert rows(TimescaleTrackingStore(database.url, "/artifacts")) == before


def test_a_database_is_not_imported_into_itself(database):
    refused(database.url, database, "the source is the target itself")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (
            "75868b020152",
            r"of an older MLflow .*75868b020152.*pg_dump.*`mlflow db upgrade 'postgresql",
        ),
        ("ffffffffffff", r"of a newer MLflow .*ffffffffffff"),
        (None, "no MLflow tables"),
    ],
)
def test_a_source_of_another_version_is_refused(vanilla_database, database, schema, reason):
    store = SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")
    with store.ManagedSessionMaker(read_only=False) as session:
        session.execute(text("DELETE FROM alembic_version"))
        if schema:
            session.execute(text("INSERT INTO alembic_version VALUES (:v)"), {"v": schema})
    refused(vanilla_url(vanilla_database), database, reason)


def test_a_source_that_is_not_there_is_named_and_not_created(database, tmp_path):
    refused(str(tmp_path / "nowhere"), database, "neither a database URI nor the directory")
    refused(f"sqlite:///{tmp_path}/nowhere.db", database, "there is no file")
    assert list(tmp_path.iterdir()) == []
    message = refused(
        "postgresql://me:s3cret@127.0.0.1:1/db", database, "cannot be read: .*refused"
    )
    assert "s3cret" not in message
    refused("nosuch://x/y", database, "cannot be read")
    (tmp_path / "text.db").write_text("not a database, but long enough to look like one " * 9)
    refused(f"sqlite:///{tmp_path}/text.db", database, "cannot be read: file is not a database")


def test_the_command_says_what_is_wrong_in_one_line(database, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["import", str(tmp_path / "nowhere"), "--uri", database.url])
    assert ended.value.code == 1
    assert "neither a database URI" in capsys.readouterr().err
