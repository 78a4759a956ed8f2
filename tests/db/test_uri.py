from __future__ import annotations

import traceback
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from mlflow_timescale.db import InvalidURI
from mlflow_timescale.db.opening import connection_failed
from mlflow_timescale.db.uri import DatabaseURI

SECRET = "s3cret"
# What libpq and a URI can carry: no NUL, no lone surrogate.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = words.filter(bool)
hosts = st.one_of(
    st.just(""),
    st.from_regex(r"[a-z][a-z0-9.-]{0,10}", fullmatch=True),
    st.just("::1"),
    st.from_regex(r"/[a-z/ ]{1,10}", fullmatch=True),
    st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), min_size=2, max_size=3).map(",".join),
)
ports = st.one_of(st.just(""), st.integers(1, 65535).map(str))
params = st.dictionaries(
    st.sampled_from(["sslmode", "options", "application_name", "sslpassword"]), names, max_size=3
)


@st.composite
def servers(draw: st.DrawFn) -> DatabaseURI:
    user = draw(words)
    return DatabaseURI(
        dbname=draw(names),
        user=user,
        password=draw(words) if user else "",
        host=draw(hosts),
        port=draw(ports),
        params=tuple(draw(params).items()),
    )


@given(servers())
def test_the_canonical_form_is_read_back_as_it_was(given: DatabaseURI) -> None:
    assert DatabaseURI.parse(given.url) == given


@given(servers())
def test_it_survives_the_way_through_sqlalchemy(given: DatabaseURI) -> None:
    """MLflow hands our URI to SQLAlchemy, and SQLAlchemy hands it to our dialect."""
    through = make_url(given.url).render_as_string(hide_password=False)
    assert DatabaseURI.parse(through) == with_sorted_params(given, DatabaseURI.parse(through))


def with_sorted_params(given: DatabaseURI, like: DatabaseURI) -> DatabaseURI:
    """SQLAlchemy may put the parameters in another order, which means nothing."""
    order = [name for name, _ in like.params]
    params = sorted(given.params, key=lambda item: order.index(item[0]))
    return DatabaseURI(
        given.dbname, given.user, given.password, given.host, given.port, tuple(params)
    )


@given(servers(), st.just("pässwort/42@#?"))
def test_no_form_of_printing_shows_the_password(given: DatabaseURI, password: str) -> None:
    secret = DatabaseURI(given.dbname, "ann", password, given.host, given.port, given.params)
    for shown in (str(secret), repr(secret), f"{secret}", str([secret])):
        assert password not in shown
        assert "p%C3%A4sswort" not in shown
    assert DatabaseURI.parse(secret.url).password == password


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_by_our_own_error(text: str) -> None:
    refusal = refused(text)
    assert refusal is None or "embedded" in str(refusal)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_refusal_never_repeats_the_password(before: str, after: str) -> None:
    for scheme in ("postgresql+timescaledb", "postgresql", "timescaledb", "timescaledb+embedded"):
        refusal = refused(f"{scheme}://ann:{before}{SECRET}{after}@host/db")
        if refusal is not None:
            assert SECRET not in "".join(traceback.format_exception(refusal, limit=0))


def refused(text: str) -> InvalidURI | None:
    try:
        DatabaseURI.parse(text)
    except InvalidURI as exc:
        return exc
    return None


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+timescaledb://ann:pw@h:5433/d?sslmode=require",
        "timescaledb://ann:pw@h:5433/d?sslmode=require",
        "postgresql://ann:pw@h:5433/d?sslmode=require",
        "postgres://ann:pw@h:5433/d?sslmode=require",
        "postgresql+psycopg://ann:pw@h:5433/d?sslmode=require",
        "postgresql+timescaledb:///?user=ann&password=pw&host=h&port=5433&dbname=d&sslmode=require",
    ],
)
def test_every_form_that_names_a_server_means_the_same(text: str) -> None:
    assert DatabaseURI.parse(text) == DatabaseURI(
        "d", "ann", "pw", "h", "5433", (("sslmode", "require"),)
    )


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+timescaledb:///mlflow?embedded=/var/lib/quant desk",
        "postgresql+timescaledb:///mlflow?embedded=/var/lib/quant%20desk",
        "postgresql+timescaledb:///?embedded=%2Fvar%2Flib%2Fquant+desk",
        "timescaledb:///mlflow?embedded=/var/lib/quant%20desk",
        "timescaledb+embedded:/var/lib/quant desk",
        "timescaledb+embedded:/var/lib/quant%20desk",
        "timescaledb+embedded:///var/lib/quant%20desk",
    ],
)
def test_every_form_that_names_a_directory_means_the_same(text: str) -> None:
    assert DatabaseURI.parse(text) == DatabaseURI("mlflow", embedded=Path("/var/lib/quant desk"))


def test_a_relative_directory_and_a_home_are_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("timescaledb+embedded:db", "timescaledb+embedded:~/db"):
        assert DatabaseURI.parse(text).embedded == tmp_path / "db"


def test_what_stands_before_the_query_wins() -> None:
    given = DatabaseURI.parse("timescaledb://ann@h/d?user=bob&host=other&dbname=e&sslmode=require")
    assert given.keywords() == {"dbname": "d", "user": "ann", "host": "h", "sslmode": "require"}


def test_several_hosts_are_libpqs_parallel_lists() -> None:
    several = DatabaseURI.parse("postgresql+timescaledb://ann@a:1,b,[::1]:3/d")
    assert several.keywords() == {"dbname": "d", "user": "ann", "host": "a,b,::1", "port": "1,,3"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mysql://h/d", "scheme 'mysql'"),
        ("", "no scheme"),
        ("/var/lib/quant", "no scheme"),
        ("timescaledb+embedded:", "needs a directory"),
        ("postgresql+timescaledb://h/d?embedded=/x", "cannot also name a host"),
        ("postgresql+timescaledb:///d?embedded=/x&sslmode=require", "cannot also name sslmode"),
        ("postgresql+timescaledb:///d?embedded=/x&host=h", "cannot also name host"),
        ("postgresql+timescaledb://ann:a/b@h/d", "percent-encoded"),
        ("postgresql+timescaledb://ann:a#b@h/d", "percent-encoded"),
        ("postgresql+timescaledb://ann:1?b@h/d", "percent-encoded"),
        ("postgresql+timescaledb://h:port/d", "port is not a number"),
        ("postgresql+timescaledb:///d?host=a&host=b", "host is given twice"),
    ],
)
def test_a_refusal_says_what_was_wrong(text: str, complaint: str) -> None:
    with pytest.raises(InvalidURI, match=complaint):
        DatabaseURI.parse(text)


def test_an_unknown_option_is_refused_with_a_list_of_those_that_exist() -> None:
    with pytest.raises(InvalidURI, match=r"unknown option 'sslmod'.*embedded.*connect_timeout"):
        DatabaseURI.parse("timescaledb://h/d?sslmod=require")


def test_options_of_ours_do_not_reach_the_driver() -> None:
    uri = DatabaseURI.parse("timescaledb://h/d?pool_size=7&prepared_statements=on&sslmode=require")
    assert uri.keywords() == {"dbname": "d", "host": "h", "sslmode": "require"}
    assert (uri.pool_size, uri.prepares_statements) == (7, True)


def test_an_embedded_database_takes_options_of_ours() -> None:
    uri = DatabaseURI.parse("timescaledb:///d?embedded=/x&pool_size=7")
    assert (str(uri.embedded), uri.pool_size) == ("/x", 7)
    assert DatabaseURI.parse(uri.url) == uri


@pytest.mark.parametrize("option", ["pool_size=many", "pool_size=1", "prepared_statements=maybe"])
def test_a_wrong_value_of_an_option_is_refused(option: str) -> None:
    with pytest.raises(InvalidURI, match=option.partition("=")[0]):
        DatabaseURI.parse(f"timescaledb://h/d?{option}")


@pytest.mark.parametrize(
    ("password", "reason", "shown"),
    [
        ("p", "port 1 failed: Connection refused", "port 1 failed: Connection refused"),
        (
            "port",
            "port 1 failed, postgres://ann:port@db/x",
            "port 1 failed, postgres://ann:***@db/x",
        ),
        ("port", "host=db port=1 password=port user=ann", "host=db port=1 password=*** user=ann"),
        ("it's", r"password='it\'s' user=ann", "password=*** user=ann"),
        ("connect", "connection to db failed", "connection to db failed"),
        ("s3cret-word", 'no option "s3cret-word"', 'no option "***"'),
        ("postgres", 'role "postgres" does not exist', 'role "postgres" does not exist'),
    ],
)
def test_an_error_hides_the_password_and_no_other_word(password, reason, shown):
    uri = DatabaseURI(dbname="x", user="postgres", password=password, host="db")
    assert f": {shown}. " in str(connection_failed(psycopg.OperationalError(reason), uri))
