"""Every public call of the stores, the feature store, the monitor and the registry, as each role.

The methods are those of the classes, so that a new one is in the matrix without an entry here, or
fails until it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking._tracking_service import client as utils_of_client
from support.logins import Logins
from support.role_calls import Existing, arguments, outcome, public_methods
from support.role_database import (
    DAYS,
    MODEL,
    MOMENT,
    fill_features,
    fill_model,
    fill_monitor,
    fill_registry,
    monitor_of,
)
from support.strategies import Strategy

from drift import DriftMonitor, Serving
from feature_store import FeatureStore, FeatureView
from mlflow_timescale import db
from mlflow_timescale.artifacts.opening import open_stored
from mlflow_timescale.db.rights import OPERATOR, READER, WRITER
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.model_registry import ModelRegistry
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

ALL = frozenset({READER, WRITER, OPERATOR})
WRITERS, OPERATORS, BOTH = {WRITER}, {OPERATOR}, {WRITER, OPERATOR}
READS = (
    "batch_get_",
    "calculate_",
    "filter_",
    "find_",
    "get_",
    "list_",
    "query_",
    "search_",
    "sum_",
)
# They read, or touch no table, by their behaviour and not by their names.
READ_TOO = {
    "resolve_endpoint_in_scorer",
    "resolve_trace_archival_config",
    "sanitize_metric_value",
}
WRITE_TOO = {"get_or_create_user_queue"}
# They hand work to threads that outlive the test.
NOT_CALLED = {
    name
    for name in (*public_methods(TimescaleTrackingStore), *public_methods(TimescaleRegistryStore))
    if "async" in name or name in ("test_webhook", "archive_traces")
}
SPINE = {"entity_key": ["AAPL"], "as_of": [MOMENT]}


@pytest.fixture(scope="module")
def existing(people: Logins) -> Existing:
    return fill_registry(people, "momentum")


@pytest.fixture(scope="module")
def expendable(people: Logins) -> Existing:
    """What the stores' methods change and delete."""
    return fill_registry(people, "expendable")


STORES = {
    "tracking": (
        TimescaleTrackingStore,
        lambda uri: TimescaleTrackingStore(uri, "timescaledb-artifacts:/"),
    ),
    "registry": (TimescaleRegistryStore, lambda uri: TimescaleRegistryStore(uri)),
}


def called(store: Any, method: str, values: dict[str, Any]) -> Any:
    return getattr(store, method)(**arguments(getattr(store, method), values))


def of_store(name: str, uri: DatabaseURI, existing: Existing) -> dict[str, tuple[str, str]]:
    """The outcome of every method of a store for a login."""
    kind, make = STORES[name]
    store = make(uri.url)
    values = existing.values()
    return {
        method: outcome(partial(called, store, method, values))
        for method in sorted(public_methods(kind), key=lambda name: name.startswith("delete_"))
        if method not in NOT_CALLED
    }


@pytest.mark.parametrize("name", [pytest.param("tracking", marks=pytest.mark.slow), "registry"])
def test_a_reader_reads_with_every_method_of_a_store_and_writes_with_none(
    people: Logins, expendable: Existing, name: str
) -> None:
    as_reader = of_store(name, people.uri(READER), expendable)
    as_writer = of_store(name, people.uri(WRITER), expendable)
    reads = {
        method
        for method in as_reader
        if (method.startswith(READS) and method not in WRITE_TOO) or method in READ_TOO
    }
    assert {m: e for m, (state, e) in as_writer.items() if state == "refused"} == {}
    assert {m: as_reader[m] for m in reads if as_reader[m][0] == "refused"} == {}
    # The reader is "ok" too where there was nothing to write; the next test shows that it cannot.
    written = {m for m in as_writer if as_writer[m][0] == "ok"} - reads
    unclear = {m for m, (state, e) in as_reader.items() if state == "failed" and "denied" in e}
    assert unclear == set()
    # The arguments are right for many methods, so that the comparison counts.
    assert len([m for m in written if as_reader[m][0] == "refused"]) >= 10
    assert all("\n" not in text for state, text in as_reader.values() if state == "refused")


@pytest.mark.parametrize("role", [READER, "none"])
def test_a_reader_has_no_right_to_write_to_any_table(people: Logins, role: str) -> None:
    with db.connect(people.database) as conn:
        rows = conn.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'S') "
            "AND relnamespace IN ('public'::regnamespace, 'mlops'::regnamespace) AND CASE relkind "
            "WHEN 'S' THEN has_sequence_privilege(%(login)s, oid, 'USAGE, UPDATE') ELSE "
            "has_table_privilege(%(login)s, oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER') "
            "OR has_any_column_privilege(%(login)s, oid, 'INSERT, UPDATE') END",
            {"login": people.names[role]},
        )
        assert rows.fetchall() == []


FEATURES: dict[str, tuple[set[str] | frozenset[str], Callable[[FeatureStore, Path], Any]]] = {
    "diff": (ALL, lambda s, p: s.diff(MOMENT, MOMENT + timedelta(days=1))),
    "explain": (ALL, lambda s, p: s.explain(SPINE, ["close"])),
    "export": (ALL, lambda s, p: s.export(p / "lake")),
    "features": (ALL, lambda s, p: s.features()),
    "get_latest": (ALL, lambda s, p: s.get_latest("AAPL")),
    "get_point_in_time": (ALL, lambda s, p: s.get_point_in_time([("AAPL", MOMENT)], ["close"])),
    "health": (ALL, lambda s, p: s.health()),
    "history": (ALL, lambda s, p: s.history("AAPL", "close")),
    "leak_report": (ALL, lambda s, p: s.leak_report(SPINE, ["close"])),
    "lineage": (ALL, lambda s, p: s.lineage("close")),
    "snapshot": (ALL, lambda s, p: s.snapshot(SPINE, ["close"], p / "snapshot")),
    "training_frame": (ALL, lambda s, p: s.training_frame(SPINE, ["close"])),
    "view": (ALL, lambda s, p: s.view("prices")),
    "views": (ALL, lambda s, p: s.views()),
    "watermark": (ALL, lambda s, p: s.watermark()),
    "record_universe": (WRITERS, lambda s, p: s.record_universe("us", {"entity_key": ["AAPL"]})),
    "register": (WRITERS, lambda s, p: s.register(FeatureView("volumes", ["volume"]))),
    "write_features": (WRITERS, lambda s, p: s.write_features("AAPL", MOMENT, {"close": 2.0})),
    "write_frame": (
        WRITERS,
        lambda s, p: s.write_frame(
            {"entity_key": ["MSFT"], "event_time": [MOMENT], "close": [3.0]}
        ),
    ),
    "close": (ALL, lambda s, p: None),
    "connection": (ALL, lambda s, p: None),
}

MONITOR: dict[str, tuple[set[str] | frozenset[str], Callable[[DriftMonitor], Any]]] = {
    "acknowledge": (OPERATORS, lambda m: m.acknowledge(open_alert(m), by="olga")),
    "alerts": (ALL, lambda m: m.alerts()),
    "calculate_metrics": (ALL, lambda m: m.calculate_metrics(DAYS[3])),
    "cautions": (ALL, lambda m: m.cautions()),
    "champion": (ALL, lambda m: m.champion()),
    "explain": (ALL, lambda m: m.explain(DAYS[3], log=False)),
    "headroom": (ALL, lambda m: m.headroom()),
    "last_session": (ALL, lambda m: m.last_session()),
    "last_known": (ALL, lambda m: m.last_known(m.metrics(DAYS[3], DAYS[3])[0])),
    "metrics": (ALL, lambda m: m.metrics(DAYS[0], DAYS[5])),
    "onset": (ALL, lambda m: m.onset()),
    "served_versions": (ALL, lambda m: m.served_versions()),
    "reconcile": (ALL, lambda m: m.reconcile(DAYS[0], DAYS[5])),
    "replay": (ALL, lambda m: m.replay("N00", DAYS[5])),
    "references": (ALL, lambda m: m.references()),
    "report": (ALL, lambda m: m.report(DAYS[5])),
    "simulate": (ALL, lambda m: too_short(m)),
    "record_predictions": (WRITERS, lambda m: m.record_predictions(more("signal"))),
    "record_returns": (WRITERS, lambda m: m.record_returns(more("value"))),
    "record_strategy_returns": (
        WRITERS,
        lambda m: m.record_strategy_returns({"session": [DAYS[9]], "value": [0.01]}),
    ),
    "backfill": (BOTH, lambda m: m.backfill(DAYS[0], DAYS[6])),
    "configure": (BOTH, lambda m: m.configure(min_n=10)),
    "override_session": (
        BOTH,
        lambda m: m.override_session(date(2024, 1, 15), is_session=False, why="holiday"),
    ),
    "save_metrics": (BOTH, lambda m: m.save_metrics(m.calculate_metrics(DAYS[3]))),
    "run_daily": (BOTH, lambda m: m.run_daily(DAYS[7])),
    "accept": (
        OPERATORS,
        lambda m: m.accept(DAYS[0], DAYS[5], "calm", accepted_by="olga", min_sessions=3),
    ),
    "silence": (
        OPERATORS,
        lambda m: m.silence(
            "ic low", until=datetime.now(timezone.utc) + timedelta(days=1), by="olga", why="test"
        ),
    ),
    "confirm_repair": (
        OPERATORS,
        lambda m: m.confirm_repair(DAYS[5], by="olga", reason="rerun"),
    ),
    "connect": (ALL, lambda m: None),
    "undelivered": (ALL, lambda m: m.undelivered()),
}

SERVING: dict[str, tuple[set[str] | frozenset[str], Callable[[Serving], Any]]] = {
    "record": (
        WRITERS,
        lambda s: s.record("AAPL", output=0.5, features={"close": [1.0]}, as_of=MOMENT),
    ),
    "close": (ALL, lambda s: None),
    "drain": (ALL, lambda s: s.drain()),  # there is nothing to send again
    "predict": (WRITERS, lambda s: of_model(s).predict("AAPL", as_of=MOMENT)),
    "refresh": (ALL, lambda s: of_model(s).refresh()),
}

REGISTRY: dict[str, tuple[set[str] | frozenset[str], Callable[[ModelRegistry, Path], Any]]] = {
    "alias_history": (ALL, lambda r, p: r.alias_history("momentum")),
    "artifact_uri": (ALL, lambda r, p: r.artifact_uri("momentum@champion")),
    "download": (ALL, lambda r, p: r.download("momentum@champion", str(p))),
    "get_best_model": (ALL, lambda r, p: r.get_best_model(None, "ic", None)),
    "get_model": (ALL, lambda r, p: r.get_model("momentum")),
    "history": (ALL, lambda r, p: r.history("momentum")),
    "require_model": (ALL, lambda r, p: r.require_model("momentum")),
    "rollback_target": (ALL, lambda r, p: r.rollback_target("momentum", "champion")),
    "state_at": (ALL, lambda r, p: r.state_at("momentum", "champion")),
    "version_at": (ALL, lambda r, p: r.version_at("momentum", "champion")),
    "load_model": (ALL, lambda r, p: r.load_model("doubled/1").predict({"close": [1.0]})),
    "log_artifact": (WRITERS, lambda r, p: r.log_artifact("momentum/1", note(p))),
    "log_metrics": (WRITERS, lambda r, p: r.log_metrics("momentum/1", {"ic": 0.1})),
    "register_model": (WRITERS, lambda r, p: r.register_model("value", source="s3://x")),
    "set_alias": (BOTH, lambda r, p: r.set_alias("momentum", "challenger", 1)),
    "rollback": (BOTH, lambda r, p: back_and_forth(r)),
}


def more(value: str) -> dict[str, Any]:
    strategy = Strategy.of(DAYS[8:10])
    return strategy.predictions() if value == "signal" else strategy.realized()


def of_model(live: Serving) -> Serving:
    return Serving(live.uri, "of model", model=MODEL, spool=False)


def open_alert(monitor: DriftMonitor) -> int:
    return monitor.alerts()[0].alert_id


def too_short(monitor: DriftMonitor) -> None:
    """A simulation reads the history, and then needs more of it."""
    with pytest.raises(ValueError, match="60 sessions of history"):
        monitor.simulate(n_paths=20)


def back_and_forth(registry: ModelRegistry) -> None:
    registry.rollback("momentum", "champion")
    registry.set_alias("momentum", "champion", 2)


def note(folder: Path) -> Path:
    file = folder / "other.txt"
    file.write_text("a note")
    return file


@pytest.fixture(scope="module")
def featured(people: Logins) -> None:
    fill_features(people)


@pytest.fixture(scope="module")
def model(people: Logins, featured: None) -> None:
    fill_model(people)


@pytest.fixture(scope="module")
def monitored(people: Logins) -> None:
    fill_monitor(people)


def wrong(
    roles: set[str] | frozenset[str], role: str, call: Callable[[], Any]
) -> tuple[str, str] | None:
    """The outcome of a call if it is not that of the matrix."""
    state, text = outcome(call)
    expected = "ok" if role in roles else "refused"
    return None if state == expected and "\n" not in text else (state, text)


@pytest.mark.parametrize("method", sorted(FEATURES))
def test_the_feature_store(people: Logins, featured: None, method: str, tmp_path: Path) -> None:
    roles, call = FEATURES[method]
    errors = {}
    for role in sorted(ALL):
        folder = tmp_path / role
        folder.mkdir()
        with FeatureStore(people.uri(role)) as store:
            errors[role] = wrong(roles, role, lambda: call(store, folder))  # noqa: B023
    assert not any(errors.values()), errors


@pytest.mark.parametrize("method", list(MONITOR))
def test_the_drift_monitor(people: Logins, monitored: None, method: str) -> None:
    roles, call = MONITOR[method]
    errors = {}
    for role in (READER, WRITER, OPERATOR):
        monitor = monitor_of(people, role)
        errors[role] = wrong(roles, role, lambda: call(monitor))  # noqa: B023
    assert not any(errors.values()), errors


@pytest.mark.parametrize("method", list(SERVING))
def test_serving(people: Logins, model: None, method: str) -> None:
    roles, call = SERVING[method]
    errors = {}
    for role in (READER, WRITER, OPERATOR):
        live = Serving(people.uri(role), "served", spool=False, horizon=1, model_name="m")
        errors[role] = wrong(roles, role, lambda: call(live))  # noqa: B023
    assert not any(errors.values()), errors


@pytest.mark.parametrize("method", list(REGISTRY))
def test_the_model_registry(
    people: Logins, existing: Existing, model: None, method: str, tmp_path: Path
) -> None:
    roles, call = REGISTRY[method]
    errors = {}
    for role in (READER, WRITER, OPERATOR):
        folder = tmp_path / role
        folder.mkdir()
        # MLflow keeps the repository of a run for the whole process, for every role.
        utils_of_client.utils._artifact_repos_cache.clear()
        registry = ModelRegistry(people.uri(role))
        errors[role] = wrong(roles, role, lambda: call(registry, folder))  # noqa: B023
    assert not any(errors.values()), errors


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (FeatureStore, FEATURES),
        (DriftMonitor, MONITOR),
        (ModelRegistry, REGISTRY),
        (Serving, SERVING),
    ],
)
def test_every_public_method_is_in_the_matrix(kind: type, calls: dict[str, Any]) -> None:
    assert set(public_methods(kind)) == set(calls)


@pytest.mark.parametrize("role", [READER, OPERATOR])
def test_artifacts(people: Logins, existing: Existing, role: str, tmp_path: Path) -> None:
    uri = f"timescaledb-artifacts:/{existing.experiment_id}/{existing.run_id}/artifacts"
    store = open_stored(uri, people.uri(role))
    assert {"free.txt", "m"} <= {item.path for item in store.list_artifacts()}
    assert Path(store.download_artifacts("m/note.txt", str(tmp_path))).read_text() == "momentum"
    for call in (
        lambda: store.log_artifact(str(note(tmp_path))),
        lambda: store.log_artifacts(str(tmp_path)),
        lambda: store.delete_artifacts("free.txt"),
    ):
        assert outcome(call)[0] == "refused"


def test_every_table_of_ours_is_granted_to_writers_or_written_by_functions_only(
    people: Logins,
) -> None:
    with db.connect(people.database) as conn:
        rows = conn.execute(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'mlops'::regnamespace "
            "AND relkind = 'r' AND NOT has_any_column_privilege('mlops_writer', oid, 'INSERT')"
        )
        assert {row[0] for row in rows} == {
            "artifact_contents",
            "artifact_files",
            "definitions",
            "drift_alert_events",
            "drift_repairs",
            "drift_silences",
            "extremes_setting",
            "former_contents",
            "kept_paths",
            "kept_tags",
            "migrations",
            "model_artifacts",
            "registry_history",
            "role_setup",
            "run_tag_history",
            "schema_state",
            "served_removals",
            "version_files",
        }
