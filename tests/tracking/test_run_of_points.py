"""Every point has its run: our trigger refuses, and waits for, what MLflow's foreign key does."""

from __future__ import annotations

import psycopg
import pytest

from mlflow_timescale import db

INSERT = (
    "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan)"
    " VALUES (%s, 'm', 1, 2, 3, false)"
)
DELETE = "DELETE FROM runs WHERE run_uuid = %s"
ORPHAN = psycopg.errors.ForeignKeyViolation


@pytest.fixture(params=["database", "vanilla_database"])
def uri(request):
    """Our layout, and MLflow's: both must do the same."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def conn(uri):
    with db.connect(uri, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO runs (run_uuid, lifecycle_stage)"
            " SELECT run, 'active' FROM unnest(%s::text[]) AS run",
            [["a", "b"]],
        )
        yield connection


@pytest.fixture
def other(uri, conn):
    """A second session, which does not wait for long."""
    with db.connect(uri) as connection:
        connection.execute("SET lock_timeout = '200ms'")
        connection.commit()
        yield connection


def test_a_point_of_no_run_is_refused(conn):
    with pytest.raises(ORPHAN, match=r"\(run_uuid\)=\(nobody\) is not present"):
        conn.execute(INSERT, ["nobody"])
    with pytest.raises(ORPHAN):
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan)"
            " SELECT run, 'm', 1, 2, 3, false FROM unnest(%s::text[]) AS run",
            [["a", "nobody", "b"]],
        )
    assert conn.execute("SELECT count(*) FROM metrics").fetchone() == (0,)


def test_a_run_with_points_is_not_deleted(conn):
    conn.execute(INSERT, ["a"])
    with pytest.raises(ORPHAN, match=r"\(run_uuid\)=\(a\) is still referenced"):
        conn.execute("DELETE FROM runs")
    conn.execute(DELETE, ["b"])
    conn.execute("DELETE FROM metrics")
    conn.execute(DELETE, ["a"])
    assert conn.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_who_deletes_a_run_waits_for_its_writer_and_is_refused(conn, other):
    with conn.transaction():
        conn.execute(INSERT, ["a"])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(DELETE, ["a"])
        other.rollback()
        other.execute(DELETE, ["b"])
        other.commit()
    with pytest.raises(ORPHAN):
        other.execute(DELETE, ["a"])


def test_a_writer_waits_for_who_deletes_its_run_and_is_refused(conn, other):
    with conn.transaction():
        conn.execute(DELETE, ["a"])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(INSERT, ["a"])
        other.rollback()
        other.execute(INSERT, ["b"])
        other.commit()
    with pytest.raises(ORPHAN):
        other.execute(INSERT, ["a"])


def test_a_deletion_that_could_not_see_new_points_is_refused(conn, other):
    other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    other.execute("SELECT count(*) FROM runs")
    conn.execute(INSERT, ["a"])
    with pytest.raises((ORPHAN, psycopg.errors.FeatureNotSupported)):
        other.execute(DELETE, ["a"])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET run_uuid = 'c' WHERE run_uuid = 'a'",
        "UPDATE metrics SET run_uuid = 'nobody'",
        "TRUNCATE runs",
    ],
)
def test_points_are_not_cut_off_from_their_run(conn, statement):
    conn.execute(INSERT, ["a"])
    with pytest.raises((ORPHAN, psycopg.errors.FeatureNotSupported)):
        conn.execute(statement)
    assert conn.execute("SELECT run_uuid FROM metrics JOIN runs USING (run_uuid)").fetchall() == [
        ("a",)
    ]


def test_truncating_everything_is_allowed_and_leaves_no_point(conn):
    conn.execute(INSERT, ["a"])
    conn.execute("TRUNCATE runs, metrics CASCADE")
    assert conn.execute("SELECT count(*) FROM metrics").fetchone() == (0,)
