"""What changes in a source after it was brought: registered models, logged models, traces."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.entities import (
    AssessmentSource,
    ExperimentTag,
    Feedback,
    LoggedModelStatus,
    LoggedModelTag,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from opentelemetry.sdk.trace import ReadableSpan
from support.bringing import Source, Target

from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.bringing import copying

NewDatabase = Callable[..., AbstractContextManager[DatabaseURI]]
pytestmark = pytest.mark.slow  # MLflow's migrations on sqlite take 10 s


def staged_tables(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables of which rows are staged from now on."""
    names: list[str] = []
    stage = copying.stage

    def noted(conn: Any, table: Any, rows: Any) -> int:
        if number := stage(conn, table, rows):
            names.append(table.name)
        return number

    monkeypatch.setattr(copying, "stage", noted)
    return names


def trace(source: Source, trace_id: str, state: TraceState = TraceState.OK) -> None:
    place = TraceLocation.from_experiment_id(source.experiment("workflow"))
    source.store.start_trace(TraceInfo(trace_id, place, 1, state, tags={"k": "1"}))


def model(source: Source, name: str, versions: int = 1) -> Registry:
    registry = Registry(source.url)
    registry.create_registered_model(name)
    for number in range(versions):
        registry.create_model_version(name, f"s3://theirs/{number}", source.run())
    return registry


def test_a_second_sync_stages_nothing_of_what_did_not_change(
    source: Source, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace(source, "tr-quiet")
    trace(source, "tr-changed")
    model(source, "quiet")
    source.store.create_logged_model(source.experiment("workflow"), "logged", source.run())
    target.merge(source, changes=True)
    staged = staged_tables(monkeypatch)
    assert target.merge(source, changes=True).rows == {}
    assert staged == []
    source.store.set_trace_tag("tr-changed", "k", "2")
    assert target.merge(source, changes=True).rows == {"trace_tags": 1}
    assert set(staged) <= {"trace_info", "trace_tags", "trace_request_metadata", "trace_metrics"}


def test_later_versions_aliases_tags_stages_and_descriptions_of_a_model_come(
    source: Source, target: Target
) -> None:
    registry = model(source, "later")
    registry.set_registered_model_alias("later", "live", "1")
    target.merge(source, changes=True)
    registry.create_model_version("later", "s3://theirs/2", source.run())
    registry.set_registered_model_alias("later", "live", "2")
    registry.set_registered_model_tag("later", RegisteredModelTag("owner", "ü"))
    registry.set_model_version_tag("later", "1", ModelVersionTag("checked", "yes"))
    registry.transition_model_version_stage("later", "1", "Production", False)
    registry.update_model_version("later", "1", "of 2024")
    registry.update_registered_model("later", "momentum of the cluster")
    merged = target.merge(source, changes=True)
    assert (merged.different, merged.notes) == ([], [])
    here = target.client.get_registered_model("later")
    assert (here.aliases, here.tags) == ({"live": 2}, {"owner": "ü"})
    assert here.description == "momentum of the cluster"
    first = target.client.get_model_version("later", "1")
    assert (first.current_stage, first.description) == ("Production", "of 2024")
    assert first.tags == {"checked": "yes"}
    assert target.client.get_model_version("later", "2").source == "s3://theirs/2"
    history = target.rows(
        "SELECT version FROM mlops.registry_history WHERE name = 'later' AND kind = 'alias'"
        " ORDER BY valid_from"
    )
    assert history == [(1,), (2,)]


def test_what_was_changed_or_deleted_here_stays_and_only_a_change_of_both_is_listed(
    source: Source, target: Target
) -> None:
    registry = model(source, "ours", versions=4)
    for alias in ("live", "old", "next"):
        registry.set_registered_model_alias("ours", alias, "1")
    target.merge(source, changes=True)
    ours = target.client
    ours.set_registered_model_alias("ours", "live", "2")
    ours.set_registered_model_alias("ours", "next", "2")
    ours.delete_registered_model_alias("ours", "old")
    ours.delete_model_version("ours", "4")
    registry.set_registered_model_alias("ours", "live", "3")
    registry.set_registered_model_tag("ours", RegisteredModelTag("k", "v"))
    for _ in range(2):
        merged = target.merge(source, changes=True)
        assert merged.different == ["registered model 'default/ours': alias 'live'"]
        here = ours.get_registered_model("ours")
        assert (here.aliases, here.tags) == ({"live": 2, "next": 2}, {"k": "v"})
    assert [version.version for version in ours.search_model_versions("name = 'ours'")] == [3, 2, 1]
    registry.delete_model_version("ours", "2")
    registry.delete_registered_model_alias("ours", "next")
    assert "conflict" not in " ".join(target.merge(source, changes=True).notes)
    assert ours.get_registered_model("ours").aliases["next"] == 2
    ours.delete_registered_model("ours")
    registry.update_registered_model("ours", "still there")
    target.merge(source, changes=True)
    assert ours.search_registered_models("name = 'ours'") == []


def test_a_version_of_the_same_number_is_listed_and_changes_nothing(
    source: Source, target: Target
) -> None:
    registry = model(source, "both")
    target.merge(source, changes=True)
    target.client.create_model_version("both", "s3://ours/2")
    registry.create_model_version("both", "s3://theirs/2", source.run())
    registry.set_registered_model_tag("both", RegisteredModelTag("k", "v"))
    for _ in range(2):
        [note] = target.merge(source, changes=True).notes
        assert "version 2 is another one here; nothing of the model was changed" in note
    here = target.client.get_registered_model("both")
    assert here.tags == {}
    assert target.client.get_model_version("both", "2").source == "s3://ours/2"


def span(trace_id: str, name: str, start: int, end: int | None) -> Any:
    from mlflow.entities.span import LiveSpan, Span
    from opentelemetry.trace import SpanContext, TraceFlags

    context = SpanContext(int(trace_id[3:], 16), start, False, TraceFlags(1))
    otel = ReadableSpan(
        name=name,
        context=context,
        start_time=start,
        end_time=end,
        attributes={"mlflow.traceRequestId": f'"{trace_id}"', "mlflow.spanType": '"CHAIN"'},
    )
    return Span(otel) if end else LiveSpan.__mro__[1](otel)


def test_later_spans_states_and_assessments_of_a_trace_come(source: Source, target: Target) -> None:
    trace_id = "tr-" + "ab" * 16
    experiment = source.experiment("workflow")
    trace(source, trace_id, TraceState.IN_PROGRESS)
    source.store.log_spans(experiment, [span(trace_id, "first", 10, 20)])
    feedback = Feedback("good", value=False, trace_id=trace_id, source=AssessmentSource("HUMAN"))
    kept = source.store.create_assessment(feedback)
    target.merge(source, changes=True)
    source.store.log_spans(experiment, [span(trace_id, "second", 15, 40)])
    trace(source, trace_id, TraceState.OK)
    source.store.update_assessment(trace_id, kept.assessment_id, feedback=None, rationale="late")
    source.store.create_assessment(
        Feedback("again", value=1, trace_id=trace_id, source=AssessmentSource("HUMAN"))
    )
    target.client.set_trace_tag(trace_id, "mine", "here")
    merged = target.merge(source, changes=True)
    assert merged.different == []
    [here] = target.client.search_traces(
        [target.experiment("workflow")], filter_string=f"request_id = '{trace_id}'"
    )
    assert here.info.state == TraceState.OK
    assert sorted(each.name for each in here.data.spans) == ["first", "second"]
    assert {each.name: each.rationale for each in here.info.assessments} == {
        "good": "late",
        "again": None,
    }
    assert here.info.tags["mine"] == "here"
    target.client.delete_traces(target.experiment("workflow"), trace_ids=[trace_id])
    source.store.set_trace_tag(trace_id, "k", "2")
    target.merge(source, changes=True)
    assert target.rows(f"SELECT FROM trace_info WHERE request_id = '{trace_id}'") == []
    assert target.rows(f"SELECT FROM spans WHERE trace_id = '{trace_id}'") == []


def test_later_tags_of_a_logged_model_come_unless_they_were_changed_here_too(
    source: Source, target: Target
) -> None:
    logged = source.store.create_logged_model(source.experiment("workflow"), "m", source.run())
    source.store.set_logged_model_tags(
        logged.model_id, [LoggedModelTag("a", "1"), LoggedModelTag("b", "1")]
    )
    target.merge(source, changes=True)
    target.client.set_logged_model_tags(logged.model_id, {"b": "ours"})
    source.store.set_logged_model_tags(
        logged.model_id, [LoggedModelTag("a", "2"), LoggedModelTag("b", "2")]
    )
    source.store.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    merged = target.merge(source, changes=True)
    assert merged.different == [f"logged model {logged.model_id!r}: tag 'b'"]
    here = target.client.get_logged_model(logged.model_id)
    assert (here.tags["a"], here.tags["b"], here.status.value) == ("2", "ours", "READY")


def test_an_import_lists_what_changed_and_a_sync_brings_it(source: Source, target: Target) -> None:
    registry = model(source, "listed", versions=2)
    registry.set_registered_model_alias("listed", "live", "1")
    target.merge(source)
    registry.set_registered_model_alias("listed", "live", "2")
    for _ in range(2):
        assert target.merge(source).different == ["registered model 'default/listed': alias 'live'"]
    assert target.client.get_registered_model("listed").aliases == {"live": 1}
    assert target.merge(source, changes=True).different == []
    assert target.client.get_registered_model("listed").aliases == {"live": 2}


def test_a_sync_after_the_import_of_everything_brings_only_what_changed_since(
    source: Source, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = model(source, "whole", versions=2)
    registry.set_registered_model_alias("whole", "live", "1")
    trace(source, "tr-whole")
    with new_database() as uri:
        target = Target(uri)
        words = ["import", source.url, "--uri", uri.url]
        CliRunner().invoke(cli, words, catch_exceptions=False)
        staged = staged_tables(monkeypatch)
        assert target.merge(source, changes=True).rows == {}
        assert staged == []
        registry.set_registered_model_alias("whole", "live", "2")
        source.store.set_trace_tag("tr-whole", "k", "2")
        target.client.set_registered_model_tag("whole", "mine", "here")
        merged = target.merge(source, changes=True)
        assert merged.rows == {"registered_model_aliases": 1, "trace_tags": 1}
        assert merged.different == []
        assert target.client.get_registered_model("whole").aliases == {"live": 2}


def test_later_tags_of_an_experiment_come_unless_they_were_changed_here_too(
    source: Source, target: Target
) -> None:
    store, name = source.store, "described"
    experiment = source.experiment(name)
    for key in ("mlflow.note.content", "kept"):
        store.set_experiment_tag(experiment, ExperimentTag(key, "1"))
    target.merge(source, changes=True)
    here = target.experiment(name)
    target.client.set_experiment_tag(here, "kept", "ours")
    for key in ("mlflow.note.content", "kept"):
        store.set_experiment_tag(experiment, ExperimentTag(key, "2"))
    assert target.merge(source).different == [
        f"experiment {name!r}: tag 'kept'",
        f"experiment {name!r}: tag 'mlflow.note.content'",
    ]
    for _ in range(2):
        merged = target.merge(source, changes=True)
        assert merged.different == [f"experiment {name!r}: tag 'kept'"]
    tags = target.client.get_experiment(here).tags
    assert (tags["mlflow.note.content"], tags["kept"]) == ("2", "ours")


def test_two_sources_with_an_experiment_of_the_same_name_do_not_undo_each_others_tags(
    source: Source, target: Target, empty_source: Path, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    second = Source(Path(shutil.copy(empty_source, tmp_path / "second" / "mlflow.db")))
    with closing(sqlite3.connect(second.path)) as conn:  # made at another time
        conn.execute("UPDATE experiments SET creation_time = creation_time + 1")
        conn.commit()
    for each, value in ((source, "first"), (second, "second")):
        tag = ExperimentTag("team", value)
        each.store.set_experiment_tag(each.experiment("of two teams"), tag)
    target.merge(source, changes=True)
    line = "experiment 'of two teams': tag 'team'"
    for _ in range(2):
        assert target.merge(second, changes=True).different == [line]
        assert target.merge(source, changes=True).different == []
    tags = target.client.get_experiment(target.experiment("of two teams")).tags
    assert tags["team"] == "first"
