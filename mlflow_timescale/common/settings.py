"""The environment variables of the package, as one table. Loaded by `import mlflow`: stays light.

>>> SEND_USER.get()
True
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_TRUE, _FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")
_PREFIX = "MLFLOW_TIMESCALE_"


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One environment variable: its name, the type and default of its value, and what it decides.

    An empty variable counts as unset. `parse` returns None for a text that is no value: then the
    default holds, because `import mlflow` must not fail.
    """

    name: str
    kind: str
    parse: Callable[[str], T | None]
    default: T
    meaning: str
    default_text: str = ""

    def get(self) -> T:
        """The value in the environment now, or the default."""
        text = os.environ.get(self.name, "")
        value = self.parse(text) if text else None
        return self.default if value is None else value

    def is_set(self) -> bool:
        """Whether the environment has the variable, even empty."""
        return self.name in os.environ


def parse_flag(text: str) -> bool | None:
    """A Boolean as people write it; None for anything else.

    >>> parse_flag("on"), parse_flag("0"), parse_flag("maybe")
    (True, False, None)
    """
    value = text.strip().lower()
    return True if value in _TRUE else False if value in _FALSE else None


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _text(text: str) -> str:
    return text


def _seconds(text: str) -> float | None:
    try:
        return max(0.0, float(text))
    except ValueError:
        return None


def _mebibytes(text: str) -> int | None:
    return int(text) << 20 if text.isdecimal() else None


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


URI: Setting[str | None] = Setting(
    _PREFIX + "URI",
    "database URI",
    _text,
    None,
    "The database of commands without `--uri`, and of artifacts whose tracking URI names none.",
    "the embedded database",
)
HOME: Setting[Path | None] = Setting(
    _PREFIX + "HOME",
    "directory",
    lambda text: Path(text).expanduser().absolute(),
    None,
    "Where the embedded database of commands is kept.",
    "`/var/lib/mlflow-timescale` for root, else `~/.local/share/mlflow-timescale`",
)
CLAIM_POSTGRESQL: Setting[bool] = Setting(
    _PREFIX + "CLAIM_POSTGRESQL",
    "true or false",
    parse_flag,
    True,
    "Whether MLflow finds our stores under the name `postgresql`; without it only `timescaledb://` "
    "URIs reach them.",
)
RUN_CONTEXT: Setting[bool | None] = Setting(
    _PREFIX + "RUN_CONTEXT",
    "true or false",
    parse_flag,
    None,
    "Whether runs are tagged with git state, packages, seeds and Python version.",
    "true for runs in a database of ours",
)
SEND_USER: Setting[bool] = Setting(
    _PREFIX + "SEND_USER",
    "true or false",
    parse_flag,
    True,
    "Whether requests to a tracking server carry the user's name, for the registry's history.",
)
PROTECTED_ALIASES: Setting[frozenset[str]] = Setting(
    _PREFIX + "PROTECTED_ALIASES",
    "names, separated by commas",
    _names,
    frozenset({"champion"}),
    "Aliases of registered models that only a verified version may take; `-` for none.",
    "champion",
)
UNKNOWN_ARTIFACTS: Setting[str] = Setting(
    _PREFIX + "UNKNOWN_ARTIFACTS",
    "warn, refuse or adopt",
    lambda text: text.lower(),
    "warn",
    "What happens to a file that the ledger of artifacts does not know.",
)
MIGRATE: Setting[str] = Setting(
    _PREFIX + "MIGRATE",
    "auto",
    _text,
    "",
    "`auto`: every client of this environment may migrate a shared database, as `?migrate=auto` in "
    "its URI. `mlflow_timescale.db` reads it.",
    "its administrator does",
)
NOTIFY: Setting[tuple[str, ...]] = Setting(
    _PREFIX + "NOTIFY",
    "URLs, separated by spaces",
    _words,
    (),
    "Where drift alerts are sent: webhooks, or anything that Apprise knows.",
    "nowhere",
)
ON_ALERT: Setting[str | None] = Setting(
    _PREFIX + "ON_ALERT",
    "command",
    _text,
    None,
    "What `daily`, and the server, run for every message on drift alerts, as `daily --on-alert`.",
    "nothing",
)
CLIENT_TIMEOUT: Setting[float] = Setting(
    _PREFIX + "CLIENT_TIMEOUT",
    "seconds",
    _seconds,
    60.0,
    "How long `mlflow-timescale server` waits for the next bytes of a request, and for a client to "
    "take those of an answer; 0 waits without limit.",
    "60",
)
SNAPSHOT_STORES: Setting[tuple[str, ...]] = Setting(
    _PREFIX + "SNAPSHOT_STORES",
    "URLs, separated by spaces",
    _words,
    (),
    "Stores (such as `s3://bucket/snapshots`) below which `reproduce`, and the source of a logged "
    "data set, may open the snapshot that a run names; local folders always may.",
    "none",
)
DECODED_LIMIT: Setting[int] = Setting(
    _PREFIX + "DECODED_LIMIT",
    "MiB",
    _mebibytes,
    0,
    "What a file (Parquet, Arrow, compressed CSV) may decode to where it is read whole; one with "
    "more is refused.",
    "the larger of 512 MiB and 100 times its size, at most half of the memory",
)
IMPORT_SOURCE: Setting[str | None] = Setting(
    _PREFIX + "IMPORT_SOURCE",
    "URI or directory",
    _text,
    None,
    "What `mlflow-timescale import` copies, if its command line names nothing: a URI with a "
    "password belongs here.",
    "the argument SOURCE",
)
SPOOL: Setting[Path | None] = Setting(
    _PREFIX + "SPOOL",
    "directory",
    lambda text: Path(text).expanduser().absolute(),
    None,
    "Where writes wait while the database is away, in a folder for each database. If it is set, "
    "MLflow's writes to runs wait there too, as with `?spool=` in the URI.",
    "`/var/spool/mlflow-timescale` for root, else `~/.local/state/mlflow-timescale/spool`",
)
SETTINGS: tuple[Setting[Any], ...] = (
    URI,
    HOME,
    CLAIM_POSTGRESQL,
    RUN_CONTEXT,
    SEND_USER,
    PROTECTED_ALIASES,
    UNKNOWN_ARTIFACTS,
    MIGRATE,
    NOTIFY,
    ON_ALERT,
    CLIENT_TIMEOUT,
    SNAPSHOT_STORES,
    DECODED_LIMIT,
    IMPORT_SOURCE,
    SPOOL,
)


def embedded_directory() -> Path:
    """Where the embedded database is kept: HOME, or the place that fits the user.

    Root has a system directory, because the unprivileged server could not enter root's home.
    """
    if home := HOME.get():
        return home
    if os.geteuid() == 0:
        return Path("/var/lib/mlflow-timescale")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "mlflow-timescale"


def spool_directory() -> Path:
    """Where the folders of spools are: SPOOL, or the place for the user's state."""
    if directory := SPOOL.get():
        return directory
    if os.geteuid() == 0:
        return Path("/var/spool/mlflow-timescale")
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "mlflow-timescale" / "spool"


def markdown_table() -> str:
    """The table of `docs/settings.md`."""
    rows = [
        f"| `{setting.name}` | {setting.kind} | {_default(setting)} | {setting.meaning} |"
        for setting in SETTINGS
    ]
    return "\n".join(["| variable | value | default | meaning |", "|---|---|---|---|", *rows])


def _default(setting: Setting[Any]) -> str:
    return setting.default_text or str(setting.default).lower()
