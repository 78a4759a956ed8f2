"""The demo: what it leaves in the database, and that it does not look ahead."""

from __future__ import annotations

import doctest
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psycopg
import pytest
from mlflow_timescale.examples import demo
from support.servers import timescale_command

from mlflow_timescale import db
from mlflow_timescale.db.embedded import release, stop_when_unused
from mlflow_timescale.db.uri import DatabaseURI

FAST = demo.Settings(first_session="2009-01-02", max_iterations=10)
STEPS = 9


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return demo.load_prices(FAST)


@pytest.fixture(scope="module")
def panel(prices: pd.DataFrame) -> pd.DataFrame:
    return demo.build_panel(prices, FAST)


@pytest.fixture
def tracking(
    database: DatabaseURI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)  # on a server, artifacts go to ./mlruns
    yield
    mlflow.set_tracking_uri(None)


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_the_demo_leaves_a_champion_that_loads_and_answers_in_sql(
    database: DatabaseURI, conn: psycopg.Connection, panel: pd.DataFrame
) -> None:
    said: list[str] = []
    first = demo.main(database.url, FAST, step=said.append)
    assert len(said) == STEPS - 1
    assert (first.model_name, first.version) == ("momentum_gbm", "1")
    model = mlflow.pyfunc.load_model("models:/momentum_gbm@champion")
    predicted = model.predict(panel[demo.FEATURES].tail(20))
    assert np.isfinite(predicted).all()
    row = conn.execute(
        "SELECT strategy_type, aliases, run_id, parameters ->> 'iterations', "
        "metrics ->> 'test/ic', git_sha FROM mlops.models WHERE name = 'momentum_gbm'"
    ).fetchone()
    assert row is not None
    assert row[:3] == ("momentum", ["champion"], first.run_id)
    assert 1 <= int(row[3]) <= FAST.max_iterations
    assert float(row[4]) == pytest.approx(first.metrics["test/ic"])
    period = conn.execute(
        "SELECT dataset_start::date::text, dataset_end::date::text, status "
        "FROM mlops.model_training_runs"
    ).fetchone()
    assert period == ("2009-01-02", "2015-12-31", "completed")
    run = mlflow.get_run(first.run_id)
    assert {i.dataset.name for i in run.inputs.dataset_inputs} == {
        "sp500-20-train",
        "sp500-20-test",
    }
    plots = mlflow.artifacts.list_artifacts(run_id=first.run_id, artifact_path="plots")
    assert {Path(plot.path).name for plot in plots} == {"equity.png", "ic_by_month.png"}
    _charts_have_the_time_of_the_session(conn)


def _charts_have_the_time_of_the_session(conn: psycopg.Connection) -> None:
    points = conn.execute(
        "SELECT evaluated_at FROM mlops.model_metrics "
        "WHERE dataset_type = 'backtest' AND metric_name = 'equity' ORDER BY step"
    ).fetchall()
    times = pd.DatetimeIndex([at for (at,) in points])
    assert len(times) > 900
    assert times.is_monotonic_increasing
    # New York closes at 16:00, and at 13:00 before some holidays.
    assert set(times.tz_convert("America/New_York").hour) == {13, 16}


@pytest.mark.usefixtures("tracking")
def test_registering_again_makes_a_new_version_and_moves_the_alias(
    database: DatabaseURI, conn: psycopg.Connection
) -> None:
    mlflow.set_tracking_uri(database.url)
    demo.open_experiment(FAST.experiment)
    mlflow.MlflowClient().delete_experiment(
        mlflow.get_experiment_by_name(FAST.experiment).experiment_id
    )
    demo.open_experiment(FAST.experiment)
    with mlflow.start_run() as run:
        versions = [demo.register("s3://models/m", run.info.run_id, FAST) for _ in range(2)]
    assert versions == ["1", "2"]
    rows = conn.execute("SELECT version, aliases FROM mlops.models ORDER BY version").fetchall()
    assert rows == [(1, []), (2, ["champion"])]


def test_the_examples_in_its_docstrings_hold() -> None:
    assert doctest.testmod(demo).failed == 0
    assert doctest.testmod(demo).attempted > 0


def test_features_do_not_change_when_the_future_does(prices: pd.DataFrame) -> None:
    cut = 600
    other = prices.copy()
    other.iloc[cut:] *= np.random.default_rng(0).uniform(0.5, 2.0, other.iloc[cut:].shape)
    before, after = demo.compute_features(prices), demo.compute_features(other)
    for name in demo.FEATURES:
        pd.testing.assert_frame_equal(before[name].iloc[:cut], after[name].iloc[:cut])
        assert not before[name].iloc[cut:].equals(after[name].iloc[cut:])


def test_no_training_return_reaches_into_the_test_period(panel: pd.DataFrame) -> None:
    train, test = demo.periods(panel, FAST)
    end = pd.Timestamp("2016-01-01", tz="UTC")
    assert train["known_at"].max() < end
    sessions = panel.index.get_level_values("session_close").unique()
    last, first = (rows.index.get_level_values("session_close") for rows in (train, test))
    gap = sessions.get_loc(first.min()) - sessions.get_loc(last.max())
    assert gap == 1 + 1 + FAST.horizon
    assert first.min() > end


def test_the_target_is_earned_from_the_next_close_on(
    prices: pd.DataFrame, panel: pd.DataFrame
) -> None:
    at, stock = prices.index[400], "AAPL"
    bought, sold = prices[stock].iloc[401], prices[stock].iloc[401 + FAST.horizon]
    assert panel.loc[(at, stock), "forward_return"] == pytest.approx(sold / bought - 1)
    assert panel.loc[(at, stock), "known_at"] == prices.index[401 + FAST.horizon]


class Oracle:
    """A model that predicts what happened, or its opposite."""

    def __init__(self, rows: pd.DataFrame, sign: float = 1) -> None:
        self.answers = sign * rows["forward_return"].to_numpy()

    def predict(self, _: pd.DataFrame) -> np.ndarray:
        return self.answers


def test_a_perfect_signal_has_an_ic_of_one_and_earns(
    prices: pd.DataFrame, panel: pd.DataFrame
) -> None:
    _, test = demo.periods(panel, FAST)
    assert demo.session_ic(Oracle(test), test).to_numpy() == pytest.approx(1.0)
    won = demo.backtest(Oracle(test), test, prices, FAST)
    lost = demo.backtest(Oracle(test, -1), test, prices, FAST)
    assert demo.performance(won)["backtest/sharpe_ratio"] > 5
    assert demo.performance(lost)["backtest/total_return"] < -0.5


def test_todays_signal_earns_nothing_before_the_day_after_tomorrow(
    prices: pd.DataFrame, panel: pd.DataFrame
) -> None:
    _, test = demo.periods(panel, FAST)
    cut = prices.index[prices.index.get_loc(pd.Timestamp("2017-06-30 20:00", tz="UTC"))]
    late = test.index.get_level_values("session_close") >= cut
    changed = test.assign(forward_return=test["forward_return"] * np.where(late, -1, 1))
    before = demo.backtest(Oracle(test), test, prices, FAST)
    after = demo.backtest(Oracle(changed), changed, prices, FAST)
    differs = before.index[before != after]
    assert differs.min() == prices.index[prices.index.get_loc(cut) + 2]


def test_performance_of_a_known_series() -> None:
    returns = pd.Series([0.10, -0.50, 0.20])
    found = demo.performance(returns)
    assert found["backtest/total_return"] == pytest.approx(1.1 * 0.5 * 1.2 - 1)
    assert found["backtest/max_drawdown"] == pytest.approx(0.5)
    assert found["backtest/sharpe_ratio"] == pytest.approx(
        returns.mean() / returns.std(ddof=1) * np.sqrt(252)
    )


@pytest.fixture
def home() -> Iterator[Path]:
    """An embedded directory with a short name, so that its socket fits."""
    path = Path(f"/tmp/mlflow-timescale-killed-{os.getpid()}")
    yield path
    release(path)
    if path.exists():
        stop_when_unused(path)
        shutil.rmtree(path)


@pytest.mark.slow
def test_a_demo_killed_at_any_moment_runs_again(home: Path, tmp_path: Path) -> None:
    uri = DatabaseURI("mlflow", embedded=home)
    seed = random.randrange(1000)
    dice = random.Random(seed)
    moments = sorted(dice.sample(range(STEPS), 4))
    for lines in moments:
        _run_demo_until(uri, lines, dice, tmp_path)
    done = subprocess.run(_command(uri), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}, killed after lines {moments}:\n{done.stderr}"
    with db.connect(uri) as conn:
        versions = conn.execute(
            "SELECT m.version, m.aliases, r.status FROM mlops.models AS m "
            "JOIN mlops.model_training_runs AS r USING (name, version) ORDER BY version"
        ).fetchall()
    assert versions[-1][1:] == (["champion"], "completed")
    assert all(aliases == [] for _, aliases, _ in versions[:-1])
    mlflow.set_tracking_uri(uri.url)
    try:
        assert mlflow.pyfunc.load_model("models:/momentum_gbm@champion")
    finally:
        mlflow.set_tracking_uri(None)


def _command(uri: DatabaseURI) -> list[str]:
    return [*timescale_command(), "demo", "--quick", "--uri", uri.url]


def _run_demo_until(uri: DatabaseURI, lines: int, dice: random.Random, cwd: Path) -> None:
    """Kill it, and the database server in its process group if dice say so, after some lines."""
    process = subprocess.Popen(
        _command(uri),
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,  # the steps are printed there
        start_new_session=True,
        text=True,
    )
    assert process.stderr is not None
    for _ in range(lines):
        while (line := process.stderr.readline()) and not line.startswith("done"):
            pass
    try:
        process.wait(timeout=dice.random() * 2)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    if dice.random() < 0.5:
        _kill_database(uri)
    process.wait()
    process.stderr.close()


def _kill_database(uri: DatabaseURI) -> None:
    """As a power cut would: the postmaster gets no chance to write anything."""
    assert uri.embedded is not None
    try:
        pid = int((uri.embedded / "postgres" / "postmaster.pid").read_text().split("\n")[0])
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass  # not started yet, or stopped already
