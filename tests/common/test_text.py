"""Text that PostgreSQL cannot store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_timescale import db
from mlflow_timescale.common.errors import InvalidText
from mlflow_timescale.common.text import check_text, refusal
from mlflow_timescale.db.uri import DatabaseURI

UNUSUAL = st.text(
    st.sampled_from(
        "a\0\x01\x1f\x7f\x80é€\u2028\ud7ff\ud800\udc00\udfff\ue000\ufffe\uffff\U0010ffff"
    )
)


@dataclass
class Tag:
    key: str
    value: Any


@pytest.fixture
def conn(empty_database: DatabaseURI) -> Iterator[db.Connection]:
    with db.connect(empty_database, autocommit=True) as connection:
        yield connection


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(UNUSUAL)
def test_what_is_refused_is_what_the_database_refuses(conn: db.Connection, text: str) -> None:
    try:
        conn.execute("SELECT %s::text", [text])
    except (psycopg.DataError, UnicodeEncodeError):
        assert refusal(text)
    else:
        assert refusal(text) is None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("a\0", "note holds NUL at character 1"),
        ("\udfff", "note holds the lone surrogate U+DFFF at character 0"),
        ([Tag("k", "v"), Tag("k", "\0")], "note[1].value holds"),
        ({"a": ("x", {"\ud800"})}, "note['a'][1][0] holds"),
        ({"\0": 1}, r"note key '\x00' holds"),
    ],
)
def test_the_error_names_the_place(value: Any, place: str) -> None:
    with pytest.raises(InvalidText) as error:
        check_text(value, "note")
    assert place in str(error.value)
    str(error.value).encode()


def test_other_values_pass() -> None:
    itself: list[Any] = ["a", 1, None, b"\0", {"b": Tag("😀", float("nan"))}, Tag]
    itself.append(itself)
    check_text(itself, "note")
