"""The history of tags through import, sync, release and adopt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone

import mlflow
import pytest
from click.testing import CliRunner
from support.databases import dispose_engines

from mlflow_timescale import db, qlib_online, run_tag_history
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.tracking import tag_history

KEY = "online_status"


def call(*words: str) -> None:
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_what_no_trigger_has_seen_begins_when_it_is_known(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> None:
    with new_database() as source, new_database(empty=True) as target:
        client = mlflow.MlflowClient(source.url)
        runs = [client.create_run("0", tags={KEY: "online"}).info.run_id for _ in range(2)]
        client.set_tag(runs[1], KEY, "offline")

        def told(run: str) -> list[tuple[str | None, str | None, str | None]]:
            states = run_tag_history(target, run)
            return [(state.value, state.reason, state.ended) for state in states]

        call("import", source.url, "--uri", target.url)
        assert told(runs[0]) == [("online", "imported", None)]
        assert told(runs[1]) == [("offline", "imported", None)]
        client.set_tag(runs[0], KEY, "offline")
        call("sync", source.url, "--uri", target.url)
        assert told(runs[0]) == [("online", "imported", "changed"), ("offline", None, None)]
        dispose_engines()
        call("release", "--uri", target.url)
        with db.connect(target, autocommit=True) as conn:
            assert [period.until is None for period in tag_history.kept(conn)] == [False]
            between = datetime.now(timezone.utc)
            conn.execute(
                "UPDATE tags SET value = 'x' WHERE run_uuid = %s AND key = %s", (runs[0], KEY)
            )
            conn.execute("DELETE FROM tags WHERE run_uuid = %s", (runs[1],))
        call("adopt", "--uri", target.url)
        assert told(runs[0])[-1] == ("x", "the history begins here", None)
        assert told(runs[1]) == [("offline", "imported", "deleted")]
        reason = qlib_online(target, "Default", between).unknown
        assert reason.startswith("no history of the tag online_status was kept then, from ")
        assert " until " in reason
        assert qlib_online(target, "Default", datetime.now(timezone.utc)).unknown == ""
        later = datetime.now(timezone.utc) + timedelta(days=1)
        assert "has not come" in qlib_online(target, "Default", later).unknown
        dispose_engines()
