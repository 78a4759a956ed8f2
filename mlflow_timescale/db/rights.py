"""Which role a refused statement needs: PostgreSQL names the table, people need the role."""

from __future__ import annotations

import re

import psycopg

READER, WRITER, OPERATOR, ADMIN = ROLES = (
    "mlops_reader",
    "mlops_writer",
    "mlops_operator",
    "mlops_admin",
)
_ROLE_CREATION = re.compile(r"permission denied to (create|grant|drop) role|admin option")
_NAMED = re.compile(rf"\b({'|'.join(ROLES)})\b")
# In order: the first pattern that the message matches decides. A login without any of the roles
# fails at a schema, or at the table that MLflow reads first; what it cannot do later is a write.
_NEEDS = (
    (
        re.compile(r"must be (able to SET ROLE|owner|superuser)|permission denied for database"),
        ADMIN,
    ),
    (re.compile(r"for schema|alembic_version"), READER),
    (
        re.compile(
            r"drift_(silences|repairs|alerts|references)|artifact_(audits|checks)"
            r"|than a writer"
        ),
        OPERATOR,
    ),
    (re.compile(r"table (migrations|definitions|schema_state|role_setup)\b"), ADMIN),
)


def needed_role(error: psycopg.Error) -> str:
    """The role that may do what the server refused.

    >>> needed_role(psycopg.errors.InsufficientPrivilege("permission denied for table run_ranges"))
    'mlops_writer'
    >>> needed_role(psycopg.errors.InsufficientPrivilege("must be owner of table metrics"))
    'mlops_admin'
    """
    text = error.diag.message_primary or str(error)
    if named := _NAMED.search(text):
        return named[1]
    return next((role for pattern, role in _NEEDS if pattern.search(text)), WRITER)


def lacking(error: psycopg.Error, user: str = "", role: str = "") -> str:
    """One line: what was refused, which role may do it, and how the login gets it.

    Parameters
    ----------
    error
        An InsufficientPrivilege.
    user
        The login, if it is known.
    role
        The role that is needed, where the caller knows it.

    Examples
    --------
    >>> error = psycopg.errors.InsufficientPrivilege("permission denied for table runs")
    >>> print(lacking(error, "bob"))
    permission denied for table runs: this needs the role mlops_writer (an administrator runs
    `mlflow-timescale roles` and GRANT mlops_writer TO bob)
    """
    text = " ".join((error.diag.message_primary or str(error)).split())
    if _ROLE_CREATION.search(text):
        return f"{text}: roles are created by a superuser, or a role with CREATEROLE"
    return f"{text}: {needs(role or needed_role(error), user)}"


def needs(role: str, user: str = "") -> str:
    """What a login lacks, and how it gets it.

    >>> print(needs(ADMIN, "bob"))
    this needs the role mlops_admin (an administrator runs `mlflow-timescale roles` and GRANT
    mlops_admin TO bob)
    """
    return (
        f"this needs the role {role} (an administrator runs `mlflow-timescale roles` and "
        f"GRANT {role} TO {user or 'the login'})"
    )


def refusal_in(exc: BaseException | None) -> psycopg.Error | None:
    """The InsufficientPrivilege among the causes of an exception, of SQLAlchemy's too."""
    while exc is not None:
        for each in (exc, getattr(exc, "orig", None)):
            if isinstance(each, psycopg.errors.InsufficientPrivilege):
                return each
        exc = exc.__cause__ or exc.__context__
    return None
