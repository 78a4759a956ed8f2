"""MLflow's web interface over our database, in a headless Chromium, after the demo.

With MLFLOW_TIMESCALE_SCREENSHOTS=directory every page is kept as a picture there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow_timescale.examples import demo
from support.servers import timescale_server

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = demo.Settings(first_session="2009-01-02", max_iterations=20)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]


@pytest.fixture
def outcome(
    database: DatabaseURI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[demo.Outcome]:
    monkeypatch.chdir(tmp_path)
    yield demo.main(database.url, SETTINGS, step=lambda _: None)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def address(database: DatabaseURI, outcome: demo.Outcome, tmp_path: Path) -> Iterator[str]:
    options = ["--uri", database.url, "--workers", "1"]
    with timescale_server(*options, log_file=tmp_path / "server.log") as server:
        yield server.url


@pytest.fixture
def page() -> Iterator[sync_api.Page]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(60_000)
        sync_api.expect.set_options(timeout=60_000)
        yield page
        browser.close()


@pytest.fixture
def keep(page: sync_api.Page) -> Callable[[str], None]:
    def _keep(name: str) -> None:
        if directory := os.environ.get("MLFLOW_TIMESCALE_SCREENSHOTS"):
            page.screenshot(path=Path(directory) / f"{name}.png")

    return _keep


def test_the_demo_can_be_browsed_and_damaged_artifacts_are_not_shown(
    page: sync_api.Page,
    address: str,
    database: DatabaseURI,
    outcome: demo.Outcome,
    keep: Callable[[str], None],
) -> None:
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if _is_bad(answer) else None)
    experiment = f"{address}/#/experiments/{outcome.experiment_id}"
    run = f"{experiment}/runs/{outcome.run_id}"

    page.goto(f"{address}/#/experiments")
    _see(page, SETTINGS.experiment)
    keep("1-experiments")

    page.goto(f"{experiment}/runs?workflowType=machine_learning")
    _see(page, SETTINGS.model_name)
    _see(page, "sp500-20-train")
    keep("2-runs")

    page.goto(run)
    _see(page, "test/ic")
    _see(page, "Finished")
    keep("3-run")

    page.goto(f"{run}/model-metrics")
    _see(page, "equity")
    assert _points_of_longest_line(page) > 100
    keep("4-metrics")

    page.goto(f"{run}/artifacts")
    page.get_by_text("plots", exact=True).first.click()
    page.get_by_text("equity.png").first.click()
    _see_picture(page)
    keep("5-artifacts")

    page.goto(f"{address}/#/models")
    _close_announcement(page)
    _see(page, SETTINGS.model_name)
    keep("6-models")

    page.goto(f"{address}/#/models/{SETTINGS.model_name}")
    _see(page, "champion")
    _see(page, "Version 1")
    keep("7-model")

    page.goto(f"{address}/#/models/{SETTINGS.model_name}/versions/1")
    _see(page, "strategy_type")
    keep("8-version")

    assert failed == []

    client = mlflow.MlflowClient(database.url)
    client.log_text(outcome.run_id, "the sharpe ratio is 0.42", "note.txt")
    with db.connect(database, autocommit=True) as conn:
        conn.execute("UPDATE mlops.artifact_chunks SET data = set_byte(data, 5, 42)")
    page.goto(f"{run}/artifacts")
    page.reload()
    for folder, name in (("plots", "equity.png"), (None, "note.txt")):
        if folder:
            page.get_by_text(folder, exact=True).first.click()
        with page.expect_response(lambda answer: "get-artifact" in answer.url) as refused:
            page.get_by_text(name).first.click()
        assert refused.value.status == 409
    _see(page, "Loading artifact failed")
    keep("9-refused")
    assert not page.get_by_text("the sharpe ratio").count()
    assert not page.evaluate("[...document.images].some(i => i.src.startsWith('blob:'))")


def _is_bad(answer: sync_api.Response) -> bool:
    """Whether a request failed; without the basic-auth app there is no current user."""
    return answer.status >= 400 and not answer.url.endswith("/mlflow/users/current")


def _see(page: sync_api.Page, text: str) -> None:
    sync_api.expect(page.get_by_text(text).first).to_be_visible()


def _points_of_longest_line(page: sync_api.Page) -> int:
    """How many points the longest line among the charts is drawn through."""
    lines = page.locator("path.js-line")
    lines.first.wait_for(state="attached")
    drawn = [line.get_attribute("d") or "" for line in lines.all()]
    return max(path.count("L") for path in drawn) + 1


def _see_picture(page: sync_api.Page) -> None:
    """Wait until the artifact is shown, and was a picture that the browser could read."""
    page.wait_for_function(
        "[...document.images].some(i => i.complete && i.naturalWidth > 500 "
        "&& i.src.startsWith('blob:'))"
    )


def _close_announcement(page: sync_api.Page) -> None:
    """MLflow shows an introduction when the registry is opened for the first time."""
    page.get_by_role("button", name="Try it now").click()
