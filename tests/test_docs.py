"""The documentation is executed: every code block of README and docs, and docstring examples."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import psycopg
import pytest
import yaml
from support import facades
from support.bitemporal import at
from support.guides import ROOT, Guide, blocks, mentioned, unknown_parts
from support.qlib_data import workflow, write_data
from support.recorders import model, qlib_files, write_run
from support.strategies import Strategy

from feature_store import FeatureStore, FeatureView
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI

PACKAGES = ("mlflow_timescale", "feature_store", "drift")
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
# Shell commands that no test of this file runs, with the reason.
NOT_RUN = {
    "python3 -m venv": "installs from an index; .ci/run runs it on a clean checkout",
    "mlflow-timescale server": "serves until it is stopped; tests/cli/test_server.py runs it",
    "mlflow-timescale demo": "trains a model; tests/examples/test_demo.py runs it",
    "mlflow-timescale drift from-qlib": "needs recorders; tests/drift/retrospect makes them",
    "mlflow-timescale drift repaired": "needs a late feature; test_planted_faults.py has one",
    "mlflow-timescale artifacts fetch": "needs a run; tests/artifacts/test_former_versions.py",
    "mlflow-timescale artifacts history": "needs a run; tests/artifacts/test_former_versions.py",
    "mlflow-timescale history": "needs a run; tests/tracking/test_tag_history.py",
    "mlflow-timescale import": "needs other MLflows; tests/operations/test_import.py makes them",
    "mlflow-timescale qlib online": "needs a recorder; tests/operations/test_qlib_online.py",
    "mlflow-timescale sessions import": "needs qlib's file; tests/operations/test_sessions.py",
    "mlflow-timescale qlib run workflow.yaml --experiment": "trains; tests/gates/test_qlib.py does",
    "pip install 'mlflow-timescale[": "installs from an index",
    "mlflow-timescale sync": "needs other MLflows; tests/operations/bringing makes them",
}


def modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names += [info.name for info in pkgutil.walk_packages(path, f"{package}.")]
    return [name for name in names if not name.endswith(("_reaper", "__main__"))]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_hold(name: str, request: pytest.FixtureRequest) -> None:
    """The examples of what users hold run in test_facades.py, on a database.

    Here an example may use `uri`, a database with our schema, and `conn`, a connection to it.
    """
    runner = doctest.DocTestRunner(optionflags=facades.FLAGS)
    elsewhere = {item.value.__doc__ for item in facades.documented()}
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
        if example.docstring not in elsewhere:
            example.globs |= names_of_a_database(example, request)
            runner.run(example)
    assert runner.failures == 0


def names_of_a_database(example: doctest.DocTest, request: pytest.FixtureRequest) -> dict[str, Any]:
    source = "".join(line.source for line in example.examples)
    if not re.search(r"\b(conn|uri)\b", source):
        return {}
    uri = request.getfixturevalue("database").url
    return {"uri": uri, "conn": request.getfixturevalue("conn")}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if "database" in request.fixturenames:
        monkeypatch.setenv("MLFLOW_TIMESCALE_URI", request.getfixturevalue("database").url)


@pytest.fixture
def guide(database: DatabaseURI) -> Callable[..., Guide]:
    """Makes the guide of a page: `guide("docs/features.md", names, replace={...})`."""

    def make(page: str, names: dict[str, Any] | None = None, **replace: str) -> Guide:
        return Guide(ROOT / page, database, names or {}, replace, NOT_RUN)

    return make


def test_the_readme(guide: Callable[..., Guide], capsys: pytest.CaptureFixture[str]) -> None:
    guide("README.md").run()
    assert capsys.readouterr().out.splitlines()[-1] == "1"


class Doubles(mlflow.pyfunc.PythonModel):
    """A model in the fewest lines."""

    def predict(self, model_input: list[float]) -> list[float]:
        return [2 * value for value in model_input]


@pytest.fixture
def four_versions(database: DatabaseURI, conn: psycopg.Connection) -> mlflow.MlflowClient:
    """Versions 1 to 4 of `momentum`, two of them champion in turn, and a file that was changed."""
    mlflow.set_tracking_uri(database.url)
    client = mlflow.MlflowClient()
    client.create_registered_model("momentum")
    with mlflow.start_run() as run:
        for _ in range(3):
            client.create_model_version("momentum", f"runs:/{run.info.run_id}/m", run.info.run_id)
        mlflow.log_text("a note", "note.txt")
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model",
            python_model=Doubles(),
            pip_requirements=["mlflow"],
            registered_model_name="momentum",
        )
    for version in (3, 4):
        client.set_registered_model_alias("momentum", "champion", version)
    conn.execute(
        "UPDATE mlops.artifact_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1) "
        "WHERE content_id IN (SELECT content_id FROM mlops.artifact_files WHERE path LIKE '%note%')"
    )
    return client


def test_the_guide_to_artifacts(
    guide: Callable[..., Guide], four_versions: mlflow.MlflowClient
) -> None:
    Path("momentum_xgb.pkl").write_bytes(b"weights")
    now = datetime.now(timezone.utc).isoformat()
    page = guide("docs/artifacts.md", {"client": four_versions})
    page.replace = {
        "2024-01-15T09:30:00-05:00": now,
        "datetime(2024, 1, 15, 14, 30, tzinfo=timezone.utc)": f'datetime.fromisoformat("{now}")',
    }
    page.run()
    assert page.names["best"].model.name == "momentum_xgb"
    assert page.names["champion"] == 4
    assert page.names["model"].predict([1.0]) == [2.0]


@pytest.mark.slow
def test_the_page_of_roles(guide: Callable[..., Guide]) -> None:
    guide("docs/roles.md").run()


def test_the_page_of_commands(
    guide: Callable[..., Guide], four_versions: mlflow.MlflowClient
) -> None:
    guide("docs/commands.md").run()


@pytest.fixture
def recorded() -> dict[str, pd.DataFrame]:
    """A strategy's frames of 2018, and as files those of 2019 and of 2020 without any skill."""
    calendar = TradingCalendar("XNYS")

    def days(start: str, end: str) -> list[Any]:
        first, last = (datetime.fromisoformat(text).date() for text in (start, end))
        return calendar.sessions_in_range(first, last)

    files = days("2019-01-02", "2019-12-31") + days("2020-01-02", "2020-03-31")
    skill = [0.3 if day.year < 2020 else -0.3 for day in files]
    later = Strategy.of(files, skill, seed=1)
    pd.DataFrame(later.predictions()).to_parquet("signals.parquet")
    pd.DataFrame(later.realized()).to_csv("returns.csv", index=False)
    pd.DataFrame(later.own()).to_csv("pnl.csv", index=False)
    first = Strategy.of(days("2018-01-02", "2018-12-31"))
    frames = {
        "predictions": first.predictions(),
        "returns": first.realized(),
        "pnl": first.own(),
    }
    return {name: pd.DataFrame(columns) for name, columns in frames.items()}


@pytest.mark.slow
def test_the_guide_to_drift(guide: Callable[..., Guide], recorded: dict[str, pd.DataFrame]) -> None:
    page = guide("docs/drift.md", dict(recorded))
    page.run()
    windows = page.names["monitor"].references()
    assert {window.window_start.year for window in windows} == {2018, 2019}


@pytest.mark.slow
def test_the_first_hour(guide: Callable[..., Guide], capsys: pytest.CaptureFixture[str]) -> None:
    sessions = TradingCalendar("XNYS").sessions_in_range(date(2023, 10, 2), date(2024, 2, 29))
    names = ["000001", "AAPL", "BRK.B", "NA"]
    walk = np.random.default_rng(7).normal(0, 0.02, (len(sessions), len(names))).cumsum(axis=0)
    table = pd.DataFrame(100 * np.exp(walk), index=sessions, columns=names)
    rows = table.rename_axis("date").reset_index().melt("date", var_name="ticker")
    rows.rename(columns={"value": "close"}).to_csv("prices.csv", index=False)
    page = guide("docs/first-hour.md")
    with closing_store(page):
        page.run()
    assert sorted(set(page.names["train"]["entity_key"])) == names
    assert page.names["best"].metrics == {"ic_test": page.names["ic"]}
    expected = page.names["model"].predict(page.names["test"][page.names["FEATURES"]].tail(3))
    assert page.names["champion"].predict(
        page.names["test"][page.names["FEATURES"]].tail(3)
    ) == pytest.approx(expected)
    assert "the database gives the same again" in capsys.readouterr().out


def test_the_guide_to_the_differences(guide: Callable[..., Guide]) -> None:
    page = guide("docs/differences.md")
    with closing_store(page):
        page.run()
    assert page.names["registry"].uri == page.names["store"].uri


def test_the_guide_to_the_numerics(guide: Callable[..., Guide]) -> None:
    guide("docs/drift-numerics.md").run()


@pytest.fixture
def store(database: DatabaseURI) -> Iterator[FeatureStore]:
    with FeatureStore(database, producer="tests", producer_version="abc123") as opened:
        yield opened


@pytest.mark.filterwarnings("ignore::feature_store.MixedVersions")
@pytest.mark.filterwarnings("ignore:.*outside of universe")
def test_the_guide_to_features(guide: Callable[..., Guide]) -> None:
    frame = pd.DataFrame(
        {
            "entity_key": "AAPL.NASDAQ",
            "event_time": [at(24 * d) for d in range(5)],
            "momentum_5d": np.arange(5.0),
            "rank": range(5),
            "decay": [[1, 0.5]] * 5,
        }
    )
    published = frame.assign(published_at=frame["event_time"] + timedelta(hours=1), value=1.0)
    long = published[["entity_key", "event_time", "published_at", "value"]]
    long.assign(feature_name="eps").to_parquet("features.parquet")
    spine = pd.DataFrame({"entity_key": "AAPL.NASDAQ", "as_of": [at(48), at(72)]})
    spine.to_parquet("spine.parquet")
    Path("views.json").write_text(json.dumps({"name": "oscillators", "features": ["rsi_21"]}))
    page = guide("docs/features.md", {"frame": frame, "spine": spine, "yesterday": at(72)})
    closes = {"entity_key": "AAPL.NASDAQ", "event_time": frame["event_time"]}
    Path("universe.csv").write_text("entity_key,valid_to\nAAPL.NASDAQ,\n")
    page.names["prices"] = pd.DataFrame({**closes, "close": [100.0, 101.0, 99.0, 98.0, 102.0]})
    # The file has no column of its own for each feature, which the shell's example expects.
    page.replace = {"features.parquet --lag 4h": "wide.parquet --lag 4h"}
    frame.assign(rsi_14=50.0)[["entity_key", "event_time", "rsi_14"]].to_parquet("wide.parquet")
    with closing_store(page):
        page.run()
    assert page.names["train"]["momentum_5d"].tolist() == [1.0, 2.0]
    assert len(page.names["why"]) == 4


def closing_store(page: Guide) -> closing[Any]:
    """Close the store that a page opens, whatever happens."""

    class Opened:
        def close(self) -> None:
            if "store" in page.names:
                page.names["store"].close()

    return closing(Opened())


@pytest.fixture
def written(store: FeatureStore) -> pl.DataFrame:
    """Two features of three names to the end of March 2024, but NVDA two sessions less; a spine."""
    days = pd.bdate_range("2024-01-02", "2024-03-28", tz="America/New_York")
    closes = days + timedelta(hours=16)
    names = ["AAPL", "MSFT", "NVDA"]
    rows = [
        {"entity_key": name, "event_time": close, "momentum_5d": 0.1 * i, "rsi_14": 40.0 + i}
        for name in names
        for i, close in enumerate(closes[:-2] if name == "NVDA" else closes)
    ]
    features = {"momentum_5d": "number", "rsi_14": "number"}
    store.register(FeatureView("momentum", features, max_staleness=timedelta(days=1)))
    store.write_frame(pd.DataFrame(rows), availability_lag=timedelta(minutes=45))
    spine = pl.DataFrame(
        {
            "entity_key": names * 30,
            "as_of": [close.tz_convert("UTC") for close in closes[10:40] for _ in names],
            "label": list(range(90)),
        }
    ).sort("as_of")
    spine.write_parquet("spine.parquet")
    return spine


def test_the_guide_to_snapshots(
    guide: Callable[..., Guide], database: DatabaseURI, written: pl.DataFrame, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(database.url)
    page = guide("docs/feature-snapshots.md", {"uri": database.url, "spine": written})
    page.replace = {
        "s3://.../spine": f"{tmp_path}/spine.parquet",
        "s3://research/lake": f"{tmp_path}/lake",
        "s3://research": f"{tmp_path}/research",
    }
    page.run()
    assert page.names["snapshot"].to_polars().height == 90


def test_the_guide_to_first_steps(guide: Callable[..., Guide], conn: psycopg.Connection) -> None:
    conn.execute("DROP INDEX index_params_run_uuid")  # which the page's doctor misses
    guide("docs/demo.md").run()


def test_the_guide_to_tracking(vanilla_database: DatabaseURI) -> None:
    page = Guide(ROOT / "docs/tracking.md", vanilla_database, {}, {}, NOT_RUN)
    page.run()


def test_the_page_of_metrics_as_data(guide: Callable[..., Guide], database: DatabaseURI) -> None:
    mlflow.set_tracking_uri(database.url)
    page = guide("docs/metrics-as-data.md")
    page.run()
    assert page.names["frame"]["step"].tolist() == list(range(100))


def test_the_guide_to_the_gates(guide: Callable[..., Guide]) -> None:
    guide("docs/mlflow-gates.md").run()


def test_the_guide_to_the_command_line(guide: Callable[..., Guide]) -> None:
    guide("docs/commands.md").run()


def _scaled(factor: float) -> Callable[[Any], Any]:
    return lambda model_input: model_input * factor


def two_versions(database: DatabaseURI, event: datetime) -> None:
    """Two versions of a model, the first is champion, and features of two names."""
    mlflow.set_tracking_uri(database.url)
    for factor in (0.005, 0.01):
        with mlflow.start_run():
            mlflow.pyfunc.log_model(
                name="model",
                python_model=_scaled(factor),
                input_example=pd.DataFrame({"rsi_14": [61.2]}),
                pip_requirements=[],
                registered_model_name="momentum_gbm",
            )
    mlflow.MlflowClient().set_registered_model_alias("momentum_gbm", "champion", 1)
    with FeatureStore(database) as store:
        frame = {"entity_key": ["AAPL", "MSFT"], "rsi_14": [61.2, 48.0]}
        frame["event_time"] = [event] * 2
        store.write_frame(frame, availability_lag=timedelta(minutes=1))


def test_the_guide_to_serving(guide: Callable[..., Guide], database: DatabaseURI) -> None:
    two_versions(database, datetime(2024, 4, 18, 13, 30, tzinfo=timezone.utc))
    guide("docs/serving.md").run()


@pytest.mark.slow
def test_the_guide_to_incidents(
    guide: Callable[..., Guide], database: DatabaseURI, conn: psycopg.Connection
) -> None:
    two_versions(database, datetime(2024, 6, 3, 13, 30, tzinfo=timezone.utc))
    conn.execute(
        "UPDATE mlops.registry_history SET valid_from = '2024-01-08 09:00Z', mlflow_user = 'ann', "
        "reason = 'first release' WHERE kind = 'alias'"
    )
    guide("docs/incidents.md").run()


def test_the_guide_to_qlib(guide: Callable[..., Guide], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workflow is checked here; tests/gates/test_qlib.py runs one."""
    from qlib.utils import init_instance_by_config

    data = write_data(Path("data"), instruments=3)
    Path("workflow.yaml").write_text(yaml.safe_dump(workflow(data)))
    page = guide("docs/qlib.md", **{"~/.qlib/qlib_data/cn_data": str(data)})
    page.run()
    handler = init_instance_by_config(page.names["handler"])
    columns = handler.fetch(col_set="__raw").columns.tolist()
    assert columns == [("feature", "momentum_5d"), ("feature", "std_10d"), ("label", "LABEL0")]


def test_the_guide_to_postmortems(guide: Callable[..., Guide], tmp_path: Path) -> None:
    write_run(tmp_path / "mlruns", "momentum v1", qlib_files(11))
    write_run(tmp_path / "mlruns", "gbm", qlib_files(0, after=None))
    scores, labels = model(11)
    names = ["trade_date", "ticker", "y_pred", "fwd_ret"]
    (tmp_path / "tables" / "gbm").mkdir(parents=True)
    table = scores.join(labels).reset_index().set_axis(names, axis=1)
    table.to_parquet(tmp_path / "tables" / "gbm" / "table.parquet")
    prices = (1 + labels["LABEL0"].unstack()).cumprod().stack().rename("close").reset_index()
    prices.to_csv(tmp_path / "prices.csv", index=False)
    guide("docs/postmortem.md").run()
    assert (tmp_path / "decay.html").stat().st_size > 10_000


def test_the_guide_to_skew(guide: Callable[..., Guide]) -> None:
    guide("docs/skew.md").run()


@pytest.mark.parametrize(
    "page",
    [
        "docs/backup.md",
        "docs/bringing-runs.md",
        "docs/from-neptune.md",
        "docs/integrations.md",
        "docs/outages.md",
        "docs/sharing-a-database.md",
    ],
)
def test_the_pages_of_operations(guide: Callable[..., Guide], page: str) -> None:
    """The statements of the pages run in tests/operations."""
    guide(page).run()


def test_every_page_with_code_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    missing = [
        str(page.relative_to(ROOT))
        for page in PAGES
        if blocks(page) and f'"{page.relative_to(ROOT)}"' not in source
    ]
    assert not missing, f"no test runs the blocks of {missing}"


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *ROOT.glob("benchmarks/*.md"),
        *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "ARCHITECTURE", "SECURITY")),
    ],
    ids=lambda page: page.name,
)
def test_commands_of_the_documentation_exist_with_their_options(page: Path) -> None:
    errors = {
        " ".join(words): unknown for words in mentioned(page) if (unknown := unknown_parts(words))
    }
    assert not errors


def test_every_feature_command_is_in_the_guides() -> None:
    from feature_store.cli import COMMANDS

    shown = "\n".join(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/feature*.md"))
    assert set(re.findall(r"mlflow-timescale features (\w+)", shown)) == set(COMMANDS)


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
