"""The table of environment variables: one place, documented, parsed once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlflow_timescale.common import settings
from mlflow_timescale.common.settings import HOME, RUN_CONTEXT, SEND_USER, SETTINGS
from mlflow_timescale.db.uri import OPTIONS, DatabaseURI

ROOT = Path(__file__).parents[2]
PACKAGES = ("mlflow_timescale", "feature_store", "drift")
DOCS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_the_docs_hold_the_table() -> None:
    assert settings.markdown_table() in DOCS


def test_the_docs_name_every_option_of_the_uri() -> None:
    assert [name for name in OPTIONS if f"| `{name}` |" not in DOCS] == []


def test_every_variable_that_the_code_names_is_in_the_table() -> None:
    names = {setting.name for setting in SETTINGS}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            used = set(re.findall(r"(?<!_)MLFLOW_TIMESCALE_[A-Z_]*[A-Z]", path.read_text("utf-8")))
            assert used <= names, path


def test_no_other_module_reads_a_variable_of_ours() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text("utf-8")
            assert not re.search(r"environ(\.get\(|\[)\s*\"MLFLOW_TIMESCALE_", text), path


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("On", True), ("1", True), ("FALSE", False), ("off", False), ("0", False)],
)
def test_a_boolean_is_read_as_people_write_it(monkeypatch, text: str, value: bool) -> None:
    monkeypatch.setenv(SEND_USER.name, text)
    monkeypatch.setenv(RUN_CONTEXT.name, text)
    assert SEND_USER.get() is value
    assert RUN_CONTEXT.get() is value


@pytest.mark.parametrize("text", ["", "perhaps"])
def test_what_is_no_value_leaves_the_default(monkeypatch, text: str) -> None:
    monkeypatch.setenv(SEND_USER.name, text)
    monkeypatch.setenv(RUN_CONTEXT.name, text)
    assert SEND_USER.get() is True
    assert RUN_CONTEXT.get() is None


def test_the_embedded_database_is_kept_where_home_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(HOME.name, str(tmp_path))
    assert settings.embedded_directory() == tmp_path
    monkeypatch.delenv(HOME.name)
    assert settings.embedded_directory().name == "mlflow-timescale"


def test_the_uri_of_the_docs_is_read() -> None:
    for uri in re.findall(r"postgresql\+timescaledb://\S+?(?=[`\s])", DOCS):
        DatabaseURI.parse(uri)
