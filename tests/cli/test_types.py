"""The types of arguments: what they accept, and what they refuse in which words."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

import click
import pytest

from mlflow_timescale.cli.kit import Day, Duration, Moment, URIType, features_option
from mlflow_timescale.cli.kit.types import Names

EVENING = datetime(2024, 1, 12, 21, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Moment(), "2024-01-12T21:00Z", EVENING),
        (Moment(), "2024-01-12T16:00-05:00", EVENING),
        (Moment(), "2024-01-12 16:00 America/New_York", EVENING),
        (Day(), "2024-01-12", date(2024, 1, 12)),
        (Duration(), "5d", timedelta(days=5)),
        (Duration(), "1d 12h", timedelta(hours=36)),
        (Names(), "rsi, momentum", ("rsi", "momentum")),
    ],
)
def test_a_value_is_read(kind: click.ParamType, text: str, value: object) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "advice"),
    [
        (Moment(), "2024-01-12T21:00", "has no time zone"),
        (Moment(), "yesterday", "2024-01-12T21:00Z"),
        (Day(), "12.1.2024", "2024-01-12"),
        (Duration(), "soon", "5d, 4h"),
        (Duration(), "3 sessions", "no fixed length"),
        (Names(), "rsi,,momentum", "a,b,c"),
        (URIType(), "sqlite:///mlflow.db", "postgresql+timescaledb://"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_with_an_example(
    kind: click.ParamType, text: str, advice: str
) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(advice)) as error:
        kind.convert(text, None, None)
    assert text in str(error.value) or isinstance(kind, URIType)


def test_a_list_of_names_may_be_split_over_options() -> None:
    @click.command()
    @features_option()
    def command(names: list[str] | None) -> None:
        click.echo(repr(names))

    def call(*words: str) -> str:
        with click.Context(command) as context:
            command.parse_args(context, list(words))
            return repr(context.params["names"])

    assert call("-f", "a,b", "--features", "c") == "['a', 'b', 'c']"
    assert call() == "None"
