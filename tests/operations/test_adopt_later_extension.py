"""A database that was adopted on plain PostgreSQL gets its hypertable when TimescaleDB comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import vanilla_url
from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlflow_timescale import db
from mlflow_timescale.db import migrations
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import rebuild
from mlflow_timescale.operations.adopt import abort, adopt, is_complete, layout, release
from mlflow_timescale.tracking.store import TimescaleTrackingStore

POINTS = 12_000


def points(conn: db.Connection) -> list[tuple[object, ...]]:
    query = "SELECT run_uuid, key, step, timestamp, value, is_nan FROM metrics ORDER BY 1, 2, 3, 4"
    return conn.execute(query).fetchall()


@pytest.fixture
def gained(
    vanilla_database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> Iterator[db.Connection]:
    """A connection to a database that was adopted while its server had no TimescaleDB."""
    store = SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")
    runs = [store.create_run("0", "me", 1, [], f"{i}").info.run_id for i in range(3)]
    with db.connect(vanilla_database, autocommit=True) as conn:
        if not conn.execute(
            "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"
        ).fetchone():
            pytest.skip("the server has no TimescaleDB")
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT %s, 'long', i, 1600000000000 + i * 60000000, i, false"
            " FROM generate_series(1, %s::bigint) i",
            [runs[0], POINTS],
        )
        with monkeypatch.context() as without:
            without.setattr(migrations, "_extension_is_offered", lambda conn: False)
            without.setattr(rebuild, "makes_hypertables", lambda conn: False)
            adopt(conn)
            assert is_complete(conn, layout(conn))
        store.log_metric(runs[1], Metric("short", 1.0, 5, 1))
        yield conn


def chunks(conn: db.Connection) -> int:
    [count] = conn.execute("SELECT count(*) FROM show_chunks('metrics')").fetchone() or (0,)
    return int(count)


def test_adopt_makes_the_hypertable_beside_the_table(
    gained: db.Connection, vanilla_database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, marks = points(gained), gained.execute("TABLE mlops.metric_marks").fetchall()
    assert marks
    assert not is_complete(gained, layout(gained))
    calls = []
    exchange = rebuild.exchange
    monkeypatch.setattr(rebuild, "exchange", lambda *a: (calls.append(a), exchange(*a)))
    adopt(gained)
    assert len(calls) == 1
    assert is_complete(gained, layout(gained))
    assert chunks(gained) > 100
    assert points(gained) == before
    assert gained.execute("TABLE mlops.metric_marks").fetchall() == marks
    assert gained.execute("SELECT to_regclass('mlops.metrics_copied')").fetchone() == (None,)
    assert not migrations.plan(gained)
    store = TimescaleTrackingStore(vanilla_database.url, "/artifacts")
    run = store.create_run("0", "me", 1, [], "later").info.run_id
    store.log_metric(run, Metric("m", 1.0, 2_000_000_000_000, 1))
    ranges = "SELECT count(*) FROM mlops.run_ranges WHERE run_uuid = %s"
    assert gained.execute(ranges, [run]).fetchone() == (1,)
    release(gained)
    assert len(points(gained)) == len(before) + 1


def test_it_can_be_interrupted_and_given_up(gained: db.Connection) -> None:
    before = points(gained)

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            adopt(gained, progress=interrupt)
        assert abort(gained)
        assert points(gained) == before
        assert layout(gained).ours
    with pytest.raises(KeyboardInterrupt):
        adopt(gained, progress=interrupt)
    adopt(gained)
    assert points(gained) == before
    assert chunks(gained) > 100
