"""All commands alike: help, options, order, JSON, exit codes, quick to import, completed."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from drift.alerts import presets
from drift.cli import rules
from mlflow_timescale.cli import cli, main
from mlflow_timescale.cli.kit import Exit
from mlflow_timescale.cli.kit.options import FIRST, LAST

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
WIDTH = 80
# They print one line of text, or a file.
WITHOUT_JSON = {
    "adopt",
    "drift accept",
    "drift ack",
    "drift backfill",
    "drift forget",
    "drift record",
    "drift report",
    "drift rules use",
    "drift repaired",
    "drift silence",
    "features universe",
    "features write",
    "registry rollback",
    "release",
    "retention",
    "server",
}
# Options of one name that mean two things, and why.
NOT_SHARED = {
    "--calendar": "`sessions import` makes one, others count by it",
    "--entity": "`postmortem` names a column by it, all others entities",
    "--experiment": "`qlib run` makes one, `metrics extremes` chooses one that is there",
    "--feature-version": "one version is written, many can be read",
    "--host": "-h belongs to MLflow's command on `server`, and to help elsewhere",
    "--port": "-p belongs to MLflow's command on `server`",
    "--model": "`artifacts` selects files by it, `incident replay` runs a version",
    "--tolerance": "`incident skew` compares inputs, `incident replay` outputs",
    "--uri": "`server` takes MLflow's --backend-store-uri too",
    "--version": "`artifacts` selects files of a version, `incident replay` its prediction",
    "--zone": "in `features health` days begin in it, in `sessions import` it is that of hours",
    "--workers": "-w belongs to MLflow's command on `server`",
}


class Walked(NamedTuple):
    """A command or group as it is typed, and how click sees it."""

    words: str
    command: click.Command
    context: click.Context

    def options(self) -> Iterator[click.Option]:
        return (p for p in self.command.params if isinstance(p, click.Option))


def walk(group: click.Group, context: click.Context, words: str = "") -> Iterator[Walked]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name, terminal_width=WIDTH)
        typed = f"{words} {name}".strip()
        yield Walked(typed, command, inner)
        if isinstance(command, click.Group):
            yield from walk(command, inner, typed)


ROOT = click.Context(cli, info_name="mlflow-timescale", terminal_width=WIDTH)
ALL = [Walked("", cli, ROOT), *walk(cli, ROOT)]
COMMANDS = [item for item in ALL if not isinstance(item.command, click.Group)]
GROUPS = [item for item in ALL if isinstance(item.command, click.Group)]


def typed(item: Walked) -> str:
    return item.words or "mlflow-timescale"


def long_name(option: click.Option) -> str:
    return next(name for name in option.opts if name.startswith("--"))


@pytest.mark.parametrize("item", ALL, ids=typed)
def test_a_command_has_help_for_itself_and_for_every_option_and_argument(item: Walked) -> None:
    assert len((item.command.help or "").split("\n")[0].split()) >= 3
    for option in item.options():
        assert (option.help or "").rstrip().endswith((".", ")")), option.opts
    for argument in item.command.params:
        if isinstance(argument, click.Argument) and argument.human_readable_name:
            assert argument.human_readable_name.upper() in (item.command.help or "")


@pytest.mark.parametrize("group", GROUPS, ids=typed)
def test_no_line_of_a_list_of_commands_is_cut_off(group: Walked) -> None:
    usage, *lines = group.command.get_help(group.context).splitlines()
    assert usage.startswith("Usage: mlflow-timescale")
    assert not [line for line in lines if line.endswith("...")]
    assert all(len(line) <= WIDTH for line in lines)


def test_an_option_is_spelled_and_explained_alike_on_every_command() -> None:
    forms = defaultdict(set)
    for item in COMMANDS:
        for option in item.options():
            meaning = (option.help or "").partition(";")[0].rstrip(".")
            form = (tuple(option.opts), tuple(option.secondary_opts), option.type.name, meaning)
            forms[long_name(option)].add(form)
    differing = {name: found for name, found in forms.items() if len(found) > 1}
    assert set(differing) <= set(NOT_SHARED), differing
    shorts = defaultdict(set)
    for item in COMMANDS:
        for option in item.options():
            for name in option.opts:
                if not name.startswith("--") and item.words != "server":
                    shorts[name].add(long_name(option))
    assert {name: len(names) for name, names in shorts.items()} == dict.fromkeys(shorts, 1)


@pytest.mark.parametrize("item", COMMANDS, ids=typed)
def test_shared_options_stand_in_one_order(item: Walked) -> None:
    names = [long_name(option) for option in item.options()]
    first = [name for name in FIRST if name in names]
    last = [name for name in LAST if name in names]
    assert names[: len(first)] == first
    assert names[len(names) - len(last) :] == last


def test_the_old_names_of_options_are_gone() -> None:
    names = {name for item in COMMANDS for option in item.options() for name in option.opts}
    assert not names & {"--why", "--entities", "--feature"}


@pytest.mark.parametrize("item", COMMANDS, ids=typed)
def test_a_command_that_prints_a_table_prints_json_too(item: Walked) -> None:
    names = {name for option in item.options() for name in option.opts}
    assert ("--json" in names) == (item.words not in WITHOUT_JSON)
    module = inspect.getsource(inspect.unwrap(item.command.callback))  # type: ignore[arg-type]
    if item.words in WITHOUT_JSON:
        assert not re.search(r"print_(table|columns|alerts|metrics)", module)


def test_help_and_completion_import_nothing_slow() -> None:
    program = """
import sys
import click
from mlflow_timescale.cli import cli

def visit(command, context):
    command.get_help(context)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        inner = command.get_command(context, name)
        visit(inner, click.Context(inner, parent=context, info_name=name))

visit(cli, click.Context(cli))
slow = {"mlflow", "numpy", "pandas", "pyarrow", "scipy", "sqlalchemy", "exchange_calendars", "rich"}
print(*sorted(slow & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_presets_that_are_offered_are_those_that_exist() -> None:
    assert sorted(presets.PRESETS) == list(rules.PRESETS.choices)


def test_completion_knows_commands_and_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("_MLFLOW_TIMESCALE_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(["mlflow-timescale", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit):
            main([])
        return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]

    assert complete("features", "tr") == ["training"]
    assert complete("drift", "rules", "s") == ["simulate"]
    assert complete("drift", "rules", "use", "cl") == ["classic"]
    assert "--explain" in complete("features", "training", "--e")


def test_the_exit_codes_are_documented_in_help_and_in_the_guide(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    table = dict(re.findall(r"^\| (\d+) \| ([^|]+?) \|", PAGE, re.MULTILINE))
    assert table == {str(code.value): code.meaning for code in Exit}
    for code in Exit:
        assert re.search(rf"^ +{code.value} +{re.escape(code.meaning)}$", shown, re.MULTILINE)


def test_the_guide_lists_every_command_with_its_help() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|$", PAGE, re.MULTILINE))
    texts = {item.words: item.command.get_short_help_str(limit=WIDTH) for item in COMMANDS}
    assert {name: rows.get(name) for name in texts} == texts
