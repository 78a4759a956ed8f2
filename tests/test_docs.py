"""The documentation does what it says: README and docs are run, docstrings' examples too."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import mlflow
import pytest
from support import facades

from mlflow_timescale.db.uri import DatabaseURI

ROOT = Path(__file__).parents[1]
PACKAGES = ("mlflow_timescale", "feature_store", "drift")
EMBEDDED = "timescaledb+embedded:quant"


def modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names += [info.name for info in pkgutil.walk_packages(path, f"{package}.")]
    return [name for name in names if not name.endswith(("_reaper", "__main__"))]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_hold(name: str) -> None:
    """The examples of what users hold run in test_facades.py, on a database."""
    runner = doctest.DocTestRunner(optionflags=facades.FLAGS)
    elsewhere = {item.value.__doc__ for item in facades.documented()}
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
        if example.docstring not in elsewhere:
            runner.run(example)
    assert runner.failures == 0


def test_the_readme_example_runs(
    database: DatabaseURI, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert EMBEDDED in example
    try:
        exec(compile(example.replace(EMBEDDED, database.url), "README.md", "exec"), {})
    finally:
        mlflow.set_tracking_uri(None)
    assert capsys.readouterr().out.splitlines()[-1] == "1"


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
