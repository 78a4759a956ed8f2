"""Answers to the questions of an incident: printed, and written to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mlflow_timescale.cli.kit import print_json, print_message
from mlflow_timescale.common.output_files import replacing


class Answer(Protocol):
    """What every question returns."""

    def lines(self) -> list[str]:
        """The answer as text."""

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""


def write(output: Path | None, content: Callable[[], bytes]) -> None:
    """Write a file, if one is named: the content is made only then."""
    if output is not None:
        with replacing(output) as file:
            file.write_bytes(content())


def show(
    answer: Answer,
    as_json: bool,
    output: Path | None = None,
    *,
    style: Callable[[str], str] = lambda line: "",
) -> None:
    """Print an answer, each line in its style, and the name of the file that was written."""
    if as_json:
        print_json(answer.to_dict())
        return
    for line in answer.lines():
        print_message(line, style=style(line))
    print_written(output)


def print_written(output: Path | None) -> None:
    """Name the file that was written, if any."""
    if output is not None:
        print_message(f"wrote {output}")
