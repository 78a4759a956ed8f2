"""1,000 moves of `champion` from 8 writers: no gap, no overlap, and the writers' log agrees."""

from __future__ import annotations

import bisect
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry import history as registry_history

NAME, WRITERS, MOVES = "momentum", 8, 125
Move = tuple[datetime, datetime, int]


def now() -> datetime:
    return datetime.now(timezone.utc)


def move(uri: str, writer: int) -> list[Move]:
    """Move the alias, always to versions that no other writer uses; log when and where."""
    client = MlflowClient(uri, uri)
    log = []
    for number in range(MOVES):
        version = 1 + writer * 2 + number % 2
        before = now()
        client.set_registered_model_alias(NAME, "champion", str(version))
        log.append((before, now(), version))
    return log


@pytest.mark.slow
def test_a_thousand_moves_from_eight_writers(
    database: DatabaseURI, conn: psycopg.Connection
) -> None:
    client = MlflowClient(database.url, database.url)
    client.create_registered_model(NAME)
    for _ in range(2 * WRITERS):
        client.create_model_version(NAME, source="s3://nowhere/model")
    client.set_registered_model_alias(NAME, "champion", "1")
    began = now()
    with ThreadPoolExecutor(WRITERS) as pool:
        logs = list(pool.map(lambda writer: move(database.url, writer), range(WRITERS)))

    states = registry_history.history(conn, NAME, kind="alias", subject="champion")
    assert [s.valid_to for s in states[:-1]] == [s.valid_from for s in states[1:]]
    assert all(s.valid_to is None or s.valid_from < s.valid_to for s in states)
    assert states[-1].valid_to is None

    # Every move but those to where the alias was already is one state, inside its writer's bracket.
    moves = sorted(entry for log in logs for entry in log)
    assert len(moves) == WRITERS * MOVES
    for state in states:
        if state.valid_from > began:
            assert any(
                before <= state.valid_from <= after and version == state.version
                for before, after, version in moves
            )
    # The first state may be the one that was there before.
    assert len(states) - WRITERS * MOVES in (0, 1)

    # version_at agrees with every reader of the log at any moment.
    starts = [state.valid_from for state in states]
    generator = random.Random(7)
    span = (now() - began) / timedelta(seconds=1)
    moments = [began + timedelta(seconds=generator.uniform(0, span)) for _ in range(200)]
    for moment in [*moments, *starts]:
        found = registry_history.version_at(conn, NAME, "champion", moment)
        assert found == states[bisect.bisect_right(starts, moment) - 1]
    assert client.get_model_version_by_alias(NAME, "champion").version == states[-1].version


@pytest.mark.slow
def test_two_first_writers_of_an_alias_leave_one_state_each_at_most(
    database: DatabaseURI, conn: psycopg.Connection
) -> None:
    client = MlflowClient(database.url, database.url)
    client.create_registered_model(NAME)
    for _ in range(4):
        client.create_model_version(NAME, source="s3://nowhere/model")

    def first(version: int) -> None:
        with suppress(MlflowException):  # MLflow's own race: two inserts of the same alias
            client.set_registered_model_alias(NAME, "live", str(version))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(first, range(1, 5)))
    states = registry_history.history(conn, NAME, kind="alias")
    assert states[-1].version == client.get_model_version_by_alias(NAME, "live").version
    assert len({state.valid_from for state in states}) == len(states)
