"""The group roles of a database: set up, repeated, extended by a migration, taken back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest
from psycopg import sql
from support.databases import temporary_roles
from support.logins import Logins, logins

from mlflow_timescale import db
from mlflow_timescale.cli import main
from mlflow_timescale.db import roles
from mlflow_timescale.db.rights import ADMIN, OPERATOR, READER, ROLES, WRITER, needed_role
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.adopt import adopt, release
from mlflow_timescale.operations.roles import regrant, set_up, take_back
from mlflow_timescale.schema import mlflow_tables


@pytest.fixture
def admin(database: DatabaseURI) -> Iterator[psycopg.Connection]:
    """A connection to a database of the test's own in which the roles are set up."""
    with db.connect(database, autocommit=True) as conn:
        set_up(conn)
        yield conn


@pytest.fixture
def superuser(people: Logins) -> Iterator[psycopg.Connection]:
    with db.connect(people.database, autocommit=True) as conn:
        yield conn


def dangling(conn: psycopg.Connection) -> list[str]:
    """Objects of this database on which a role has rights, or that it owns."""
    rows = conn.execute(
        "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_shdepend "
        "JOIN pg_database AS d ON d.oid = dbid AND datname = current_database() "
        "JOIN pg_roles ON pg_roles.oid = refobjid WHERE rolname = ANY (%s)",
        [list(ROLES)],
    )
    return [row[0] for row in rows]


def test_a_second_call_finds_nothing_to_do(admin: psycopg.Connection) -> None:
    assert set_up(admin) == []
    assert roles.changes(admin, mlflow_tables()) == []


def test_a_repeated_adoption_leaves_the_rights_as_they_are(admin: psycopg.Connection) -> None:
    adopt(admin)
    assert roles.changes(admin, mlflow_tables()) == []


def test_a_dry_run_changes_nothing(database: DatabaseURI) -> None:
    with db.connect(database, autocommit=True) as conn:
        assert any("ON TABLE" in statement for statement in set_up(conn, dry_run=True))
        assert not roles.is_set_up(conn)
        assert dangling(conn) == []


def test_taking_back_leaves_no_right_and_no_table(admin: psycopg.Connection) -> None:
    assert take_back(admin, dry_run=True) != []
    assert roles.is_set_up(admin)
    take_back(admin)
    assert dangling(admin) == []
    assert take_back(admin) == []


def test_a_release_takes_back_what_the_roles_have_here(admin: psycopg.Connection) -> None:
    release(admin)
    assert dangling(admin) == []


def test_an_admin_who_is_no_superuser_gives_all_of_it_back(
    admin: psycopg.Connection, database: DatabaseURI
) -> None:
    admin.execute(
        "INSERT INTO mlops.feature_points (series_id, write_id, event_time, ingest_time, "
        "value_double) VALUES (1, 1, now(), now(), 1)"  # on TimescaleDB, a chunk
    )
    with logins(admin, database) as people:
        with people.connect(ADMIN) as conn:
            take_back(conn)
        # What the owner of the schema granted, it takes back itself.
        assert set(dangling(admin)) <= {"schema public"}
        take_back(admin)
        assert dangling(admin) == []
        name = sql.Identifier(people.names[ADMIN])
        admin.execute(sql.SQL("REASSIGN OWNED BY {} TO current_user").format(name))


def test_a_role_with_rights_elsewhere_stays(
    admin: psycopg.Connection, new_database: Callable[..., AbstractContextManager[DatabaseURI]]
) -> None:
    with new_database() as other, db.connect(other, autocommit=True) as conn:
        set_up(conn)
        release(admin)
        assert [role for role, _ in roles.members(conn)] == list(ROLES)
        assert set_up(conn) == []
        take_back(conn)


def test_new_objects_get_their_rights_from_migrate(
    superuser: psycopg.Connection, people: Logins
) -> None:
    superuser.execute("DELETE FROM mlops.definitions WHERE name = 'tracking/functions/rise'")
    superuser.execute("DROP FUNCTION mlops.rise")
    with people.connect(ADMIN) as conn:
        conn.execute("CREATE TABLE mlops.added (x integer); INSERT INTO mlops.added VALUES (1)")
    superuser.execute("CREATE TABLE mlops.made_by_a_superuser (x integer)")
    with people.connect(READER) as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("SELECT * FROM mlops.added")
    with people.connect(ADMIN) as conn:
        db.migrate(conn)
    with people.connect(READER) as reader:
        assert reader.execute("SELECT x FROM mlops.added").fetchone() == (1,)
        assert reader.execute("SELECT mlops.rise(1, 3)").fetchone() == (2,)
    owners = (
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid = ANY (%s::regclass[])"
    )
    assert superuser.execute(owners, [["mlops.added", "mlops.role_setup", "runs"]]).fetchall() == [
        (ADMIN,)
    ]


def test_a_table_that_mlflow_adds_gets_its_rights(
    superuser: psycopg.Connection, people: Logins
) -> None:
    superuser.execute("ALTER TABLE webhooks OWNER TO current_user")
    superuser.execute("REVOKE ALL ON webhooks FROM mlops_reader, mlops_writer")
    assert regrant(superuser) != []
    with people.connect(WRITER) as conn:
        conn.execute("DELETE FROM webhooks")


def test_tables_of_other_programs_stay_theirs(
    superuser: psycopg.Connection, people: Logins
) -> None:
    superuser.execute("CREATE TABLE public.studies (x integer)")
    set_up(superuser)
    assert set_up(superuser) == []
    with people.connect(ADMIN) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT * FROM public.studies")


def test_the_owner_of_before_keeps_what_an_owner_can_do(database: DatabaseURI) -> None:
    with (
        db.connect(database, autocommit=True) as conn,
        temporary_roles(conn, "service") as [service],
    ):
        owner = {"owner": service, "tables": mlflow_tables()}
        name = sql.Identifier(service)
        conn.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(name))
        for (statement,) in conn.execute(db.load("roles").owners, owner).fetchall():
            conn.execute(statement.encode())
        assert f"GRANT mlops_admin TO {service}" in set_up(conn)
        conn.execute(sql.SQL("SET ROLE {}").format(name))
        conn.execute("ALTER TABLE runs ADD COLUMN note text")
        conn.execute("RESET ROLE")
        take_back(conn)
        found = conn.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'runs'")
        assert found.fetchone() == (service,)


@pytest.mark.parametrize("role", [READER, WRITER, OPERATOR])
@pytest.mark.parametrize(
    "command",
    [
        ["migrate"],
        ["adopt"],
        ["release"],
        ["roles"],
        ["roles", "--revoke"],
        ["pack"],
        ["retention", "--days", "1", "--yes"],
    ],
    ids=" ".join,
)
def test_only_an_admin_maintains(
    people: Logins, role: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--uri", people.uri(role).url])
    assert ended.value.code == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert f"this needs the role {ADMIN}" in line
    assert f"GRANT {ADMIN} TO {people.names[role]}" in line


def test_the_command_prints_who_is_a_member(
    people: Logins, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["roles", "--uri", people.uri(ADMIN).url, "--json"])
    assert ended.value.code == 0
    output = json.loads(capsys.readouterr().out)
    assert output["executed"] == []
    members = {item["role"]: item["members"] for item in output["roles"]}
    assert people.names[READER] in members[READER]
    assert people.names[WRITER] in members[READER]
    assert people.names[READER] not in members[WRITER]


def test_a_login_without_a_role_learns_which_one_it_needs(
    people: Logins, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["features", "list", "--uri", people.uri("none").url])
    [line] = capsys.readouterr().err.strip().splitlines()
    assert f"this needs the role {READER}" in line


@pytest.mark.parametrize(
    ("message", "role"),
    [
        ("permission denied for table runs", WRITER),
        ("permission denied for function record_artifacts", WRITER),
        ("permission denied for schema mlops", READER),
        ("permission denied for table alembic_version", READER),
        ("permission denied for table drift_silences", OPERATOR),
        ("permission denied for table drift_references", OPERATOR),
        ("must be owner of table metrics", ADMIN),
        ("accepting a window needs mlops_operator", OPERATOR),
    ],
)
def test_an_error_names_the_role(message: str, role: str) -> None:
    assert needed_role(psycopg.errors.InsufficientPrivilege(message)) == role
