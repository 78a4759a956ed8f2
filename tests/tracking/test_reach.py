"""A call that cannot wait in a spool fails in time and in one line, whatever the server does."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.reach import CANNOT_WAIT, require_answer
from mlflow_timescale.tracking.store import TimescaleTrackingStore


@pytest.mark.parametrize("spool", [True, False])
def test_a_server_that_does_not_answer_holds_no_call_with_a_spool(spool: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"postgresql+timescaledb://ann@127.0.0.1:{silent.getsockname()[1]}/trading"
        store = SimpleNamespace(db_uri=f"{uri}?spool=/nowhere&spool_patience=0.2" if spool else uri)
        require_answer(store, "log_metric")
        if not spool:
            require_answer(store, "search_runs")
            return
        with pytest.raises(
            MlflowException, match=r"no answer within 0.2 s.*cannot wait"
        ) as failure:
            require_answer(store, "search_runs")
        assert "\n" not in failure.value.message


def test_what_is_checked_are_calls_of_the_stores() -> None:
    for name in CANNOT_WAIT:
        assert hasattr(TimescaleTrackingStore, name) or hasattr(TimescaleRegistryStore, name)
