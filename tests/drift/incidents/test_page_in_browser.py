"""The page of an incident in a headless Chromium: on a telephone nothing is cut off."""

from __future__ import annotations

import shutil
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from drift.incidents.causes import Cause
from drift.incidents.decisions import Decision
from drift.incidents.evidence import Effect
from drift.incidents.explanation import Explanation
from drift.incidents.versions import ServedInterval, ServedVersions
from drift.skew.findings import Example, Finding
from drift.skew.reconciliation import FeatureSkew, Reconciliation

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DAYS = [date(2024, 3, 1) + timedelta(days=number) for number in range(60)]
LONG = "fundamentals_quarterly_earnings_surprise_standardised_252d"
# What is wider than its place, or reaches beyond the window.
CUT_OFF = """() => [...document.querySelectorAll('table, p, pre, li, h1, img')]
    .filter(e => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)
    .map(e => e.textContent.slice(0, 80))"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]


def an_incident() -> Explanation:
    """Long names everywhere, and a table of every kind."""
    text = f"{LONG} was served 1 session late"
    late = Cause("skew", LONG, text, "critical", DAYS[40], None, 20)
    example = Example(DAYS[40], "AAPL", -123456.789012, 0.000123456789, -123456.789012)
    found = Finding(
        "shifted", "value served at t = research value of t-1", {"sessions": 1}, 1200, 1200, 0.0,
        DAYS[40], DAYS[59], 20, 60, (example, example, example),
    )  # fmt: skip
    feature = FeatureSkew(LONG, 3600, 1200, "the feature store", True, {DAYS[40]: 60}, (found,))
    skew = Reconciliation("momentum", DAYS[0], DAYS[-1], 60, 60, 7200, (feature,))
    model = "momentum_gradient_boosting_large_cap"
    parts = [
        ServedInterval(model, "1", 1, "agrees", (), DAYS[0], DAYS[39], 40, 0.071, 40),
        ServedInterval(model, "2", 1, "differs", (), DAYS[40], DAYS[59], 20, -0.004, 20),
    ]
    versions = ServedVersions("momentum", DAYS[0], DAYS[-1], "champion", tuple(parts), ())
    return Explanation(
        "momentum_of_large_caps_in_north_america",
        DAYS[0],
        DAYS[-1],
        "the last 63 sessions",
        datetime(2024, 5, 1, tzinfo=timezone.utc),
        60,
        (late,),
        (Decision(f"Have {LONG} repaired.", text, f"mlflow-timescale features lineage {LONG}"),),
        effects=(Effect("mean IC (40 and 20 sessions)", 0.07, -0.01, limit="accepted 0.069"),),
        skew=skew,
        versions=versions,
        days=DAYS,
        ic=np.random.default_rng(1).normal(0.05, 0.1, 60).tolist(),
        level=0.05,
    )


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off_and_nothing_scrolls_sideways(width: int, tmp_path: Path) -> None:
    file = tmp_path / "incident.html"
    file.write_text(an_incident().html(), encoding="utf-8")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(file.as_uri())
        assert page.locator("table").count() >= 4
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CUT_OFF) == []
        browser.close()
