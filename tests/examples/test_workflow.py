"""The story of nine steps: killed at any moment it goes on, and no step looks ahead."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import mlflow
import nbformat
import numpy as np
import pandas as pd
import pytest
from mlflow_timescale.examples.workflow import market, registration, training
from mlflow_timescale.examples.workflow.settings import LABEL, Settings
from mlflow_timescale.examples.workflow.steps import STEPS
from nbclient import NotebookClient
from support.servers import timescale_command

from mlflow_timescale import db
from mlflow_timescale.db.embedded import release, stop_when_unused
from mlflow_timescale.db.uri import DatabaseURI

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(first_session=date(2018, 1, 2))


@pytest.fixture(scope="module")
def prices() -> market.Market:
    return market.load(SETTINGS)


def test_a_label_is_the_return_from_the_next_close_to_the_one_after(prices: market.Market) -> None:
    labels = prices.labels.set_index(["entity_key", "session"])
    row = labels.loc[("AAPL", date(2020, 1, 2))]
    closes = prices.prices["AAPL"]
    after = closes[closes.index > row["event_time"]]
    assert row[LABEL] == pytest.approx(after.iloc[1] / after.iloc[0] - 1)
    assert row["known_at"] == after.index[1]


def test_no_feature_changes_when_the_future_does(prices: market.Market) -> None:
    cut = prices.prices.index[800]
    later = prices.prices.copy()
    later.loc[later.index > cut] *= 2
    before, after = (
        m.features[m.features["event_time"] <= cut] for m in (prices, market.Market(later))
    )
    pd.testing.assert_frame_equal(before, after)


def test_training_data_and_test_data_share_no_return() -> None:
    days = pd.date_range("2018-12-27 23:00", periods=6, freq="D", tz="UTC")
    rows = pd.DataFrame({"as_of": days, "known_at": days + pd.Timedelta(days=2)})
    rows = rows.assign(**dict.fromkeys(market.FEATURES, 0.0))
    past, later = training.split(rows, date(2018, 12, 31))
    assert past["as_of"].max() < pd.Timestamp("2018-12-30", tz="UTC")
    assert later["as_of"].min() > pd.Timestamp("2019-01-01", tz="UTC")
    assert len(past) + len(later) < len(rows)  # what is decided before and known after


def test_a_book_earns_what_it_ranks_right_and_pays_for_what_it_turns_over() -> None:
    signals = pd.DataFrame({"A": [1.0, 1.0, 2.0], "B": [2.0, 2.0, 1.0]})
    returns = pd.DataFrame({"A": [-0.01] * 3, "B": [0.01] * 3})
    earned = registration.book_returns(signals, returns)
    assert earned.tolist() == pytest.approx([0.01, 0.01, -0.01 - 2 * registration.COST])


def test_the_ic_of_a_model_that_ranks_right_is_one() -> None:
    rows = pd.DataFrame({"as_of": [1] * 4 + [2] * 4, "entity_key": list("ABCD") * 2})
    rows = rows.assign(**dict.fromkeys(market.FEATURES, 0.0), label=np.arange(8.0))

    class Right:
        def predict(self, features: pd.DataFrame) -> np.ndarray:
            return rows["label"].to_numpy()

    assert training.daily_ic(Right(), rows).tolist() == pytest.approx([1.0, 1.0])


# The story itself, told by processes that are killed: minutes.


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An embedded directory with a short name, so that its socket fits, and a folder for files."""
    path = Path(f"/tmp/mlflow-timescale-story-{os.getpid()}")
    path.mkdir()
    yield path
    release(path / "db")
    if (path / "db").exists():
        stop_when_unused(path / "db")
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def told(home: Path) -> tuple[DatabaseURI, str]:
    """The database of a story that was killed three times, and what the last process printed."""
    uri = DatabaseURI("mlflow", embedded=home / "db")
    seed = random.randrange(1000)
    dice = random.Random(seed)
    for lines in sorted(dice.sample(range(2, len(STEPS)), 3)):
        _tell_until(uri, home, lines, dice)
    done = subprocess.run(_command(uri), cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}:\n{done.stderr}"
    return uri, done.stdout


def _command(uri: DatabaseURI) -> list[str]:
    return [*timescale_command(), "demo", "--uri", uri.url, "--folder", "files"]


def _tell_until(uri: DatabaseURI, folder: Path, lines: int, dice: random.Random) -> None:
    """Kill the process some seconds after it has printed some lines."""
    process = subprocess.Popen(
        _command(uri), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for _ in range(lines):
        while (line := process.stderr.readline()) and "done" not in line:
            pass
    try:
        process.wait(timeout=dice.random() * 5)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


@pytest.mark.slow
def test_a_story_that_was_killed_has_every_decision_and_version_once(
    told: tuple[DatabaseURI, str], home: Path
) -> None:
    uri, _ = told
    with db.connect(uri) as conn:
        served = conn.execute(
            "SELECT count(*), count(DISTINCT (session, entity_key)), count(DISTINCT session) "
            "FROM mlops.served_predictions WHERE strategy_id = 'sp500_momentum'"
        ).fetchone()
        versions = conn.execute(
            "SELECT version, aliases FROM mlops.models WHERE name = 'sp500_momentum' "
            "ORDER BY version"
        ).fetchall()
        alerts = conn.execute(
            "SELECT rule, min(session) FROM mlops.drift_alerts "
            "WHERE rule IN ('skew', 'market break') GROUP BY rule"
        ).fetchall()
    assert served == (1004 * 20, 1004 * 20, 1004)
    assert versions == [(1, []), (2, []), (3, []), (4, ["champion"])]
    assert dict(alerts) == {"skew": date(2020, 1, 21), "market break": date(2020, 2, 28)}
    assert (home / "files" / "late-feature.html").stat().st_size > 20_000


@pytest.mark.slow
def test_the_story_ends_with_ten_lines(told: tuple[DatabaseURI, str]) -> None:
    lines = told[1].splitlines()
    questions = [line for line in lines if "sp500_momentum" in line or ".html" in line]
    assert len(questions) >= 8
    assert sum(line.endswith("--check") or " --check " in line for line in lines) == 1


@pytest.mark.slow
def test_the_notebook_runs(told: tuple[DatabaseURI, str], home: Path) -> None:
    uri, _ = told
    notebook = nbformat.read(ROOT / "examples/workflow/story.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(home)}})
    os.environ["MLFLOW_TIMESCALE_URI"] = uri.url
    try:
        client.execute()
    finally:
        del os.environ["MLFLOW_TIMESCALE_URI"]
        mlflow.set_tracking_uri(None)
    texts = [str(cell.get("outputs", "")) for cell in notebook.cells]
    assert any("shifted" in text for text in texts)
    assert any("market break since 2020-02-28" in text for text in texts)
