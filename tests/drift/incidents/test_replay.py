"""A recorded prediction made again: to the bit, or a reason why not."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from support.models import register

from drift import DriftMonitor, Serving
from drift.incidents.recorded import NotPredicted
from drift.incidents.replay import Replay, ReplayedInput
from drift.serving import removal
from feature_store import FeatureStore
from mlflow_timescale import ModelRegistry
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI

CLOSE = datetime(2024, 4, 18, 19, 55, tzinfo=timezone.utc)
SESSION = date(2024, 4, 18)
EVENT = CLOSE - timedelta(hours=2)
RSI = {"AAPL": 61.7, "MSFT": 48.3, "NVDA": 55.1}


class Model(mlflow.pyfunc.PythonModel):
    """A third of rsi_14 and a text; its rank across names; or a random number."""

    def __init__(self, kind: str = "linear", factor: float = 1 / 3) -> None:
        self.kind, self.factor = kind, factor

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        rsi = model_input["rsi_14"]
        if self.kind == "rank":
            return rsi.rank(pct=True)
        if self.kind == "random":
            return rsi + np.random.default_rng().normal(size=len(rsi))
        linear = rsi * self.factor + np.sqrt(0.1 + rsi)
        return pd.DataFrame({"score": linear, "other": 0.0}) if self.kind == "wide" else linear


class Unloadable(Model):
    """A model whose packages are gone."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise ModuleNotFoundError("No module named 'lightgbm'")


@pytest.fixture(scope="module")
def registered(incidents: DatabaseURI) -> DatabaseURI:
    """Models, and the feature rsi_14 of three names."""
    for kind in ("linear", "rank", "random", "wide"):
        register(incidents, kind, Model(kind), "rsi_14")
    register(incidents, "linear", Model(factor=0.5), "rsi_14")
    frame = {"entity_key": list(RSI), "rsi_14": list(RSI.values()), "event_time": [EVENT] * 3}
    with FeatureStore(incidents, "test") as store:
        store.write_frame(frame, availability_lag=timedelta(minutes=5))
    return incidents


@pytest.fixture
def serve(monitor: DriftMonitor, registered: DatabaseURI) -> Callable[..., Serving]:
    """Predict the three names at once with a version."""

    def predict(model: str, **options: Any) -> Serving:
        live = Serving(registered, monitor.strategy_id, model=f"models:/{model}", **options)
        live.predict(list(RSI), as_of=CLOSE)
        live.close()
        return live

    return predict


def test_a_replay_agrees_to_the_bit_with_the_inputs_as_they_were(
    monitor: DriftMonitor, serve: Callable[..., Serving]
) -> None:
    serve("linear/1")
    found = monitor.replay("AAPL", CLOSE, tolerance=0.0)
    assert (found.outcome, found.reason) == ("agrees", "")
    assert found.alone == found.recorded == 61.7 / 3 + math.sqrt(0.1 + 61.7)
    assert (found.replayed_with, found.is_verified) == ("models:/linear/1", True)
    assert found.inputs == (ReplayedInput("rsi_14", 61.7, EVENT, CLOSE - EVENT, 1),)
    assert (found.session, found.source, found.request_size) == (SESSION, "store", 3)
    lines = found.lines()
    assert lines[-1] == "agrees to the bit"
    assert lines[4] == "rsi_14   61.7   2024-04-18 17:55Z  2h00  1"


def test_the_last_prediction_up_to_a_moment_is_meant(
    monitor: DriftMonitor, serve: Callable[..., Serving]
) -> None:
    serve("linear/1")
    later = CLOSE + timedelta(hours=30)
    assert monitor.replay("AAPL").as_of == monitor.replay("AAPL", later).as_of == CLOSE
    assert monitor.replay("AAPL", SESSION).as_of == CLOSE
    for at in (CLOSE - timedelta(seconds=1), date(2024, 4, 17)):
        with pytest.raises(NotPredicted, match=r"no prediction of 'AAPL' by .* is recorded"):
            monitor.replay("AAPL", at)
    with pytest.raises(NotPredicted, match="'TSLA'"):
        monitor.replay("TSLA")


def test_a_rank_across_names_needs_its_request(
    monitor: DriftMonitor, serve: Callable[..., Serving]
) -> None:
    serve("rank/1")
    found = monitor.replay("MSFT", CLOSE)
    assert (found.outcome, found.agrees) == ("agrees in its request", True)
    assert (found.alone, found.in_request) == (1.0, found.recorded)
    assert "depends on the other 2 names" in found.reason
    assert monitor.replay("NVDA", CLOSE, whole_request=True).in_request == pytest.approx(2 / 3)


def test_another_version_gives_another_output(
    monitor: DriftMonitor, serve: Callable[..., Serving]
) -> None:
    serve("linear/1")
    found = monitor.replay("AAPL", CLOSE, model="models:/linear/2")
    assert (found.outcome, found.is_verified) == ("differs", False)
    assert found.alone == 61.7 * 0.5 + math.sqrt(0.1 + 61.7)


def test_a_model_that_gives_another_output_each_time_is_named(
    monitor: DriftMonitor, serve: Callable[..., Serving]
) -> None:
    serve("random/1")
    found = monitor.replay("AAPL", CLOSE)
    assert (found.outcome, found.obstacle) == ("differs", "not deterministic")


def test_the_column_of_the_output_can_be_named(
    monitor: DriftMonitor, serve: Callable[..., Serving]
) -> None:
    serve("wide/1", output="score")
    assert monitor.replay("AAPL", CLOSE, column="score").outcome == "agrees"
    found = monitor.replay("AAPL", CLOSE)
    assert (found.obstacle, "score" in found.reason) == ("cannot predict", True)


def change_bytes(uri: DatabaseURI, name: str) -> None:
    """Change the files of a model behind the ledger's back."""
    with DriftMonitor(uri, tracking_uri=False).connect() as conn:
        conn.execute(
            "UPDATE mlops.artifact_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1)"
            " WHERE content_id IN (SELECT f.content_id FROM mlops.artifact_files AS f"
            " JOIN model_versions ON f.path LIKE '%%' || substring(source FROM 'm-.*') || '%%'"
            " WHERE name = %s AND f.path LIKE '%%.pkl')",
            [name],
        )


def test_a_model_that_was_changed_is_refused(
    monitor: DriftMonitor, registered: DatabaseURI, serve: Callable[..., Serving]
) -> None:
    register(registered, "tampered", Model(factor=0.77), "rsi_14")  # bytes of its own
    serve("tampered/1")
    change_bytes(registered, "tampered")
    found = monitor.replay("AAPL", CLOSE)
    assert (found.outcome, found.obstacle) == ("refused", "changed files")
    assert "is not what was logged" in found.reason
    assert (found.alone, found.inputs[0].value) == (None, 61.7)


def test_another_checksum_is_refused(
    monitor: DriftMonitor, registered: DatabaseURI, serve: Callable[..., Serving]
) -> None:
    register(registered, "swapped", Model(), "rsi_14")
    live = serve("swapped/1")
    with monitor.connect() as conn:
        conn.execute(
            "UPDATE mlops.served_origins SET checksum = repeat('0', 64) WHERE model_uri = %s",
            ["models:/swapped/1"],
        )
    found = monitor.replay("AAPL", CLOSE)
    assert (found.outcome, found.obstacle) == ("refused", "other checksum")
    assert f"SHA-256 {'0' * 12}" in found.reason
    assert live.model_version == "1"


def test_a_version_that_was_deleted_is_refused(
    monitor: DriftMonitor, registered: DatabaseURI, serve: Callable[..., Serving]
) -> None:
    register(registered, "deleted", Model(), "rsi_14")
    serve("deleted/1")
    mlflow.MlflowClient().delete_model_version("deleted", "1")
    assert monitor.replay("AAPL", CLOSE).obstacle == "version gone"


def test_a_pickle_that_does_not_load_is_refused(
    monitor: DriftMonitor, registered: DatabaseURI, serve: Callable[..., Serving]
) -> None:
    register(registered, "packages", Model(), "rsi_14")
    serve("packages/1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "__setstate__", Unloadable.__setstate__, raising=False)
        found = monitor.replay("AAPL", CLOSE)
    assert (found.outcome, found.obstacle) == ("refused", "cannot load")
    assert "lightgbm" in found.reason


def test_the_alias_is_the_one_by_which_serving_loaded_the_model(
    monitor: DriftMonitor, registered: DatabaseURI, serve: Callable[..., Serving]
) -> None:
    ModelRegistry(registered).set_alias("linear", "live", 1, reason="first")
    serve("linear@live")
    found = monitor.served_versions(SESSION)
    assert (found.alias, [part.verdict for part in found.intervals]) == ("live", ["unknown"])
    with monitor.connect() as conn:
        conn.execute(
            "UPDATE mlops.registry_history SET valid_from = '2024-01-08' WHERE version = 1"
        )
    assert monitor.served_versions(SESSION).agrees
    assert monitor.served_versions(SESSION).intervals[0].served == "linear/1"


def own_label(monitor: DriftMonitor) -> None:
    with Serving(monitor.uri, monitor.strategy_id, model_name="gbm", model_version="7") as live:
        live.record("AAPL", features={"rsi_14": [61.7]}, output=0.41, as_of=CLOSE)


def outputs_only(monitor: DriftMonitor) -> None:
    row = {"entity_key": ["AAPL"], "signal": [0.41], "signal_time": [CLOSE]}
    monitor.record_predictions(row)


def without_features(monitor: DriftMonitor) -> None:
    with Serving(monitor.uri, monitor.strategy_id, model_name="gbm", model_version="7") as live:
        live.record("AAPL", output=0.41, as_of=CLOSE)


def unsuited_features(monitor: DriftMonitor) -> None:
    with Serving(monitor.uri, monitor.strategy_id, model="models:/linear/1") as live:
        live.record("AAPL", features={"ret_5d": [0.1]}, output=0.41, as_of=CLOSE)


@pytest.mark.parametrize(
    ("record", "obstacle", "told"),
    [
        (own_label, "own label", "'gbm/7' is a label of the caller's"),
        (outputs_only, "not recorded", "keeps outputs alone"),
        (without_features, "not recorded", "without features"),
        (unsuited_features, "cannot predict", "rsi_14"),
    ],
)
def test_a_replay_that_cannot_be_done_has_a_reason(
    monitor: DriftMonitor,
    registered: DatabaseURI,
    record: Callable[[DriftMonitor], None],
    obstacle: str,
    told: str,
) -> None:
    record(monitor)
    found = monitor.replay("AAPL", CLOSE)
    assert (found.outcome, found.obstacle, found.recorded) == ("refused", obstacle, 0.41)
    assert told in found.reason


def test_a_label_can_be_replayed_with_a_version_that_is_named(
    monitor: DriftMonitor, registered: DatabaseURI
) -> None:
    with Serving(monitor.uri, monitor.strategy_id, model_name="gbm", model_version="7") as live:
        output = 61.7 / 3 + math.sqrt(61.8)
        live.record("AAPL", features={"rsi_14": [61.7]}, output=output, as_of=CLOSE)
    found = monitor.replay("AAPL", CLOSE, model="linear/1")
    assert (found.outcome, found.is_verified) == ("agrees", False)


def test_the_command_answers_with_its_exit_code(
    monitor: DriftMonitor, serve: Callable[..., Serving]
) -> None:
    serve("linear/1")
    words = ["incident", "replay", "--uri", monitor.uri.url, monitor.strategy_id]
    printed = CliRunner().invoke(cli, [*words, "AAPL", "2024-04-18T20:00Z"])
    assert (printed.exit_code, printed.output.splitlines()[-1]) == (0, "agrees to the bit")
    printed = CliRunner().invoke(cli, [*words, "AAPL", "2024-04-18", "--model", "linear/2"])
    assert printed.exit_code == 3, printed.output
    printed = CliRunner().invoke(cli, [*words, "MSFT", "--json"])
    answer = json.loads(printed.output)
    assert (answer["outcome"], answer["inputs"][0]["age"]) == ("agrees", "2h")
    assert CliRunner().invoke(cli, [*words, "TSLA"]).exit_code == 1


def test_what_retention_removed_is_refused(
    monitor: DriftMonitor, serve: Callable[..., Serving]
) -> None:
    """The last test of the module: it removes what the others served."""
    serve("linear/1")
    with monitor.connect() as conn:
        removal.remove_before(conn, date(2024, 4, 19))
    found = monitor.replay("AAPL", CLOSE)
    assert (found.outcome, found.obstacle) == ("refused", "removed")
    assert "sessions before 2024-04-19" in found.reason
    assert found.recorded == 61.7 / 3 + math.sqrt(0.1 + 61.7)


@pytest.mark.parametrize(
    ("outcome", "packages", "last"),
    [
        ("agrees", {"numpy": ("1", "2")}, "agrees within 1e-09"),
        ("differs", {}, "DIFFERS: the model gives another output"),
        ("differs", {"numpy": ("1", "2")}, "packages then and now: numpy 1 -> 2"),
        ("refused", {}, "NOT REPLAYED: the model was not run"),
    ],
)
def test_the_last_line_is_the_answer(
    outcome: str, packages: dict[str, tuple[str, str]], last: str
) -> None:
    told = Replay(
        *("momentum", "AAPL", SESSION, CLOSE, CLOSE, "signal", "gbm", "1", 0.5, 1e-9),
        outcome=outcome,
        alone=0.5 + 1e-12,
        packages=packages,
    )
    assert told.lines()[-1] == last
    assert pickle.loads(pickle.dumps(told)) == told
