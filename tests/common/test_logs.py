"""Log lines: one message is one line, whatever the names in it."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

import drift
import feature_store
import mlflow_timescale
from mlflow_timescale.common import logs

LINE = "model\n2024-01-12 21:00:00 CRITICAL forged\x1b[2J\u202e"


def test_a_name_with_line_ends_and_escape_sequences_stays_in_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs.logger("mlflow_timescale.test").warning("no file %s of %d, %s", LINE, 7, OSError(LINE))
    [record] = caplog.records
    text = record.getMessage()
    assert text.isprintable()
    assert text.startswith(
        "no file model\\n2024-01-12 21:00:00 CRITICAL forged\\x1b[2J\\u202e of 7,"
    )
    assert Path(record.pathname) == Path(__file__)


def test_secrets_of_uris_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    logs.logger("mlflow_timescale.test").error("%s", OSError("s3://key:s3cr3t@bucket failed"))
    assert caplog.messages == ["s3://key:***@bucket failed"]


def test_what_is_not_logged_is_not_formatted() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise AssertionError

    quiet = logs.logger("mlflow_timescale.quiet")
    quiet.logger.setLevel(logging.ERROR)
    quiet.warning("%s", Unprintable())


def modules() -> list[Path]:
    packages = (mlflow_timescale, feature_store, drift)
    return [
        path
        for package in packages
        for path in sorted(Path(str(package.__path__[0])).rglob("*.py"))
    ]


def test_every_module_that_logs_names_uses_this_logger() -> None:
    """`logging.getLogger` is left to those that log nothing from outside, or set a level."""
    plain = {path.name for path in modules() if calls_get_logger(path)}
    assert plain == {"logs.py", "bounds.py", "packages.py", "_accounts.py", "notify.py"}


def calls_get_logger(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.Attribute) and node.attr == "getLogger" for node in ast.walk(tree)
    )
