"""No secret on a command line: every user of the machine can list the arguments of processes."""

from __future__ import annotations

from collections.abc import Sequence

import click

from mlflow_timescale.common.settings import IMPORT_SOURCE, URI
from mlflow_timescale.db.masking import has_secret

_OURS = {"--uri": URI.name, "import": IMPORT_SOURCE.name}


def require_no_secrets(arguments: Sequence[str]) -> None:
    """Raise UsageError for a URI with a password, token or key among the arguments of a command.

    It covers every option and argument of every command, and those that are passed on to
    `mlflow server`.

    Examples
    --------
    >>> require_no_secrets(["doctor", "--uri", "postgresql://ann@db.example/trading"])
    >>> require_no_secrets(["doctor", "--uri=postgresql://db.example/trading?password=s3cret"])
    Traceback (most recent call last):
    click.exceptions.UsageError: the URI of --uri holds a secret, ...
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, value = _split(before, argument)
        if ("://" in value or option.endswith("-uri")) and has_secret(value):
            raise click.UsageError(
                f"the URI of {option or 'an argument'} holds a secret, which every user of this "
                f"machine could read in the list of processes: {_remedy(option, arguments)}"
            )


def _split(before: str, argument: str) -> tuple[str, str]:
    """The option that an argument belongs to, or nothing, and the value."""
    if argument.startswith("--"):
        name, _, value = argument.partition("=")
        return name, value
    return (before if before.startswith("-") and "=" not in before else ""), argument


def _remedy(option: str, arguments: Sequence[str]) -> str:
    database = "; the password of a database may also be in PGPASSWORD or ~/.pgpass"
    if option in _OURS:
        return f"put the URI into {_OURS[option]}{database}"
    if "server" in arguments and option.startswith("--"):
        return f"put the URI into MLFLOW_{option[2:].replace('-', '_').upper()}{database}"
    if "import" in arguments and not option:
        return f"put the URI into {_OURS['import']}{database}"
    return "give it in the environment, as the driver of that store reads it"
