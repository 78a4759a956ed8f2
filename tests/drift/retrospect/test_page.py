"""The page of all models: what it states first, and that it fits into a window of any width."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support.recorders import qlib_files, write_files, write_run

from drift.retrospect.answers import Retrospect
from drift.retrospect.page import render
from drift.retrospect.recorders import FILES, Request, judge_runs
from mlflow_timescale.operations.bringing.run_list import list_runs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LONG = "gradient_boosting_on_158_features_with_seed_and_a_name_that_does_not_end_<b>soon</b>"
# What is wider than its place, or reaches beyond the window.
CUT_OFF = """() => [...document.querySelectorAll('p, h1, h3, svg, .row > *, td')]
    .filter(e => getComputedStyle(e.parentElement).display !== 'none' &&
        (e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth))
    .map(e => e.textContent.slice(0, 80))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a folder with models of several states."""
    root = tmp_path_factory.mktemp("team")
    kinds: dict[str, dict[str, Any]] = {
        LONG: {"seed": 11},
        "healthy": {"seed": 11, "after": None},
        "random": {"seed": 21, "skill": 0.0, "after": None},
        "young": {"seed": 11, "sessions": 80},
    }
    for name, shape in kinds.items():
        write_run(root, f"'{name}'", qlib_files(**shape))
    write_run(root, "broken", {"pred.pkl": b"x", "label.pkl": b"x"})
    runs = list_runs(str(root), print, files=FILES)
    request = Request()
    found = Retrospect("the folder", tuple(judge_runs(runs, request)), request.terms)
    return render(found, datetime(2024, 6, 3, tzinfo=timezone.utc))


def test_the_worst_model_is_the_first_and_names_are_text(page: str) -> None:
    assert "1 of 4 models has decayed" in page
    at = [page.index(name) for name in ("&lt;b&gt;soon", ">random<", ">healthy<", ">young<")]
    assert at == sorted(at)
    assert "<b>soon" not in page
    assert "cannot read pred.pkl" in page
    assert page.count('class="fallen" d="M') == 1
    assert page.count(", no fall<") == 2
    assert page.count(", too few sessions to judge<") == 1


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off_and_nothing_scrolls_sideways(
    width: int, page: str, tmp_path: Path
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "decay.html"
    file.write_text(page, encoding="utf-8")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.goto(file.as_uri())
        assert tab.locator("svg.curve").count() == 4
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(CUT_OFF) == []
        browser.close()


def test_a_pipe_in_place_of_a_file_is_no_file(tmp_path: Path) -> None:
    import os

    write_files(tmp_path / "gbm", {"label.pkl": b""})
    os.mkfifo(tmp_path / "gbm" / "pred.pkl")
    [outcome] = judge_runs(list_runs(str(tmp_path), print, files=FILES), Request())
    assert outcome.reason == "it has no pred.pkl and no table"
