"""Run the code blocks of a documentation page, in order, on one database."""

from __future__ import annotations

import configparser
import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mlflow_timescale import db
from mlflow_timescale.cli import cli, main
from mlflow_timescale.db.uri import DatabaseURI

ROOT = Path(__file__).parents[2]
URI = re.compile(r"(?:postgresql\+timescaledb|timescaledb\+embedded):[^\s\"'`]*")
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROGRAM = "mlflow-timescale"
ERRORS = (1, 2)  # an error, and a wrong command line
# What a page shows and no test can run.
INERT = ("text", "crontab")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page where it begins."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in FENCE.finditer(text)
    ]


def commands(text: str) -> list[tuple[str, int | None]]:
    """The commands of a console block, each with the exit code that `echo $?` shows after it."""
    lines = text.replace("\\\n", "").splitlines()
    result: list[tuple[str, int | None]] = []
    for number, line in enumerate(lines):
        if line == "$ echo $?":
            result[-1] = (result[-1][0], int(lines[number + 1]))
        elif line.startswith("$ "):
            result.append((line[2:], None))
    return result


def mentioned(page: Path) -> Iterator[list[str]]:
    """Every `mlflow-timescale ...` of a page, in blocks and in code spans, split into words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line in [
        *spans,
        *(line for block in FENCE.findall(text) for line in block[1].splitlines()),
    ]:
        match = re.search(rf"(?:^|[ /]){PROGRAM} ([a-z].*)", line)
        if match:
            words = re.split(r" \|\| | #|…|\.\.\.", match[1])[0]
            yield shlex.split(re.sub(r"[\[\]|]", " ", words))


def unknown_parts(words: list[str]) -> list[str]:
    """The subcommand or options of a command line that the program does not have."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words:
        name, *words = words
        child = command.get_command(context, name)
        if child is None:
            return [name]
        command = child
    if command.context_settings.get("ignore_unknown_options"):
        return []  # it passes them on
    known = {option for param in command.get_params(context) for option in param.opts}
    known |= {option for param in command.get_params(context) for option in param.secondary_opts}
    options = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [option for option in options if option not in known]


@dataclass
class Guide:
    """A page being run: the names of its Python blocks, and a reason for what is not run.

    The keys of a YAML block are names, too.
    """

    page: Path
    database: DatabaseURI
    names: dict[str, Any] = field(default_factory=dict)
    replace: Mapping[str, str] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Run every block. An error names the line of the page."""
        for block in blocks(self.page):
            runner = getattr(self, f"_{block.language}", None)
            assert runner or block.language in INERT, f"{block}: language {block.language!r}?"
            if runner and not self._has_reason(block.text):
                runner(block, self._local(block.text))

    def _has_reason(self, text: str) -> bool:
        return any(part in text and reason for part, reason in self.not_run.items())

    def _local(self, text: str) -> str:
        """The text with this test's database and files in place of those of the page."""
        for old, new in self.replace.items():
            text = text.replace(old, new)
        return URI.sub(lambda _: self.database.url, text)

    def _python(self, block: Block, text: str) -> None:
        if ">>>" in text:
            example = doctest.DocTestParser().get_doctest(
                text, self.names, str(block), str(block.page), block.line
            )
            outcome = doctest.DocTestRunner().run(example, clear_globs=False)
            assert outcome.attempted > 0
            assert outcome.failed == 0
            self.names.update(example.globs)
        else:
            exec(compile("\n" * block.line + text, str(block.page), "exec"), self.names)

    def _console(self, block: Block, text: str) -> None:
        for command, code in commands(text):
            if not self._has_reason(command):
                self._command(f"{block}: {command}", command, code)

    def _command(self, label: str, command: str, code: int | None) -> None:
        program, *arguments = shlex.split(command)
        if program != PROGRAM:
            subprocess.run(command, shell=True, check=True, capture_output=True)
            return
        with pytest.raises(SystemExit) as end:
            main(arguments)
        actual = int(end.value.code or 0)
        if code is None:
            assert actual not in ERRORS, label
        else:
            assert actual == code, label

    def _sh(self, block: Block, text: str) -> None:
        # Our program is found where no virtual environment is active, too.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path}
        subprocess.run(["bash", "-ec", text], check=True, capture_output=True, env=env)

    def _sql(self, block: Block, text: str) -> None:
        if "read_parquet" in text:
            self._duckdb(text)
            return
        with db.connect(self.database, autocommit=True) as conn:
            conn.execute(text.replace("DATABASE trading", f"DATABASE {self.database.dbname}"))

    def _duckdb(self, text: str) -> None:
        import duckdb

        spine = self.names["spine"]
        with duckdb.connect() as engine:
            engine.register("spine", spine)
            assert len(engine.sql(text).fetchall()) == len(spine)

    def _yaml(self, block: Block, text: str) -> None:
        content = yaml.safe_load(text)
        assert isinstance(content, dict), str(block)
        self.names.update(content)

    def _ini(self, block: Block, text: str) -> None:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        assert parser.sections(), str(block)
