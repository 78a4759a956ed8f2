"""Printing: text as it is, tables that fit a terminal, whole lines in a pipe, strict JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone

import pytest

from mlflow_timescale import ModelRegistry
from mlflow_timescale.cli.kit import printing
from mlflow_timescale.cli.kit.printing import Cell, print_json, print_message, print_table
from mlflow_timescale.db.uri import DatabaseURI

STRANGE = "[/b][link=http://x]:smile:.pkl"
LONG = "a" * 300


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):
    """A terminal of some width."""

    def _terminal(width: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm-256color")

    return _terminal


def test_text_from_outside_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_message(STRANGE, style="red")
    print_table(("path",), [(STRANGE,), (Cell(STRANGE, "red"),)])
    assert capsys.readouterr().out.splitlines() == [STRANGE, "path", STRANGE, STRANGE]


def test_text_is_printed_as_it_is_on_a_terminal(
    terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(80)
    print_message(STRANGE)
    print_table(("path",), [(STRANGE,)])
    out = capsys.readouterr().out
    assert out.count(STRANGE) == 2
    assert "\x1b]8;" not in out  # a link


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_message("a\x1b[2Jb\r\u202ec")
    print_table(("x",), [("new\nline\tand \x07",)])
    assert capsys.readouterr().out == "a\\x1b[2Jb\\r\\u202ec\nx\nnew\\nline\\tand \\x07\n"


def test_in_a_pipe_every_row_is_one_line_without_trailing_blanks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(("path", "n", "note"), [(LONG, 1, None), ("b", 22, "x")])
    print_message(LONG)
    header, long, short, message = capsys.readouterr().out.splitlines()
    assert (header.split(), long) == (["path", "n", "note"], f"{LONG}   1")
    assert short.split() == ["b", "22", "x"]
    assert message == LONG


def test_a_terminal_folds_a_table_to_its_width(
    terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(80)
    print_table(("path", "note"), [(LONG, "x"), ("b", "y")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 4
    assert "".join(line for line in lines).count("a") >= len(LONG)


def test_wide_characters_count_as_two(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "n"), [("株式", 1), ("ab", 2)])
    assert capsys.readouterr().out.splitlines() == ["name  n", "株式  1", "ab    2"]


def test_json_is_strict_and_keeps_types(capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "time": datetime(2024, 1, 12, 21, tzinfo=timezone.utc),
        "day": date(2024, 1, 12),
        "age": timedelta(days=1, hours=12),
        "values": [float("nan"), float("-inf"), 1.5, True, None],
        "name": "é\x1b",
    }
    print_json(content)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out, parse_constant=pytest.fail) == {
        "time": "2024-01-12T21:00:00+00:00",
        "day": "2024-01-12",
        "age": "1d 12h",
        "values": ["NaN", "-Infinity", 1.5, True, None],
        "name": "é\x1b",
    }


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_output_that_is_not_utf8_escapes_what_it_cannot_hold(
    encoding: str, database: DatabaseURI
) -> None:
    registry = ModelRegistry(database)
    registry.register_model("模型-é")
    registry.set_alias("模型-é", "live", 1, reason="→ ✓")
    settings = {"PYTHONIOENCODING": encoding, "MLFLOW_TIMESCALE_URI": database.url}
    for arguments in (["registry", "history", "模型-é"], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-c", "from mlflow_timescale.cli import main; main()", *arguments],
            env=os.environ | settings,
            capture_output=True,
            check=False,
        )
        assert done.returncode in (0, 3), done.stderr
        assert not done.stderr
        done.stdout.decode(encoding)
        if arguments[0] == "registry":
            assert b"\\u2192 \\u2713" in done.stdout


def test_a_reader_that_leaves_is_no_error(database: DatabaseURI) -> None:
    command = f"{sys.executable} -c 'from mlflow_timescale.cli import main; main()' --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_console_of_messages_interprets_nothing() -> None:
    console = printing.console()
    assert console._markup is False
    assert console._emoji is False
