"""Database URIs: one frozen value for every form that names a database."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from psycopg import pq

from mlflow_timescale.db.errors import InvalidURI
from mlflow_timescale.db.masking import MASK, is_secret, without_secrets

CANONICAL_SCHEME = "postgresql+timescaledb"
EMBEDDED_SCHEME = "timescaledb+embedded"
_SERVER_SCHEMES = (
    CANONICAL_SCHEME,
    "timescaledb",
    "postgresql",
    "postgres",
    "postgresql+psycopg",
    "postgresql+psycopg2",
)
_DEFAULT_DATABASE = "mlflow"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
# Options of ours, beside those of libpq.
OPTIONS = {
    "embedded": "a directory: start and use the embedded server there",
    "migrate": "auto: every client may migrate the database; default: its administrator does",
    "pool_size": "connections that one pool may hold (32)",
    "spool": "a directory: where writes to runs wait while the database is away",
    "spool_fsync": "os (default) or always: when a waiting write is on the disk",
    "spool_full": "drop-oldest (default), block or raise: what a write to a full spool does",
    "spool_limit": "MiB that may wait (1024)",
    "spool_patience": "seconds that a write waits for the database before it is spooled (5)",
    "prepared_statements": "true: use them through a pooler that supports them (PgBouncer with "
    "max_prepared_statements); default: not through a pooler",
}
_TRUE, _FALSE = ("true", "1", "on"), ("false", "0", "off")
_FORMS = (
    "postgresql+timescaledb://user:password@host:5432/database, "
    "postgresql+timescaledb:///database?embedded=/absolute/directory, "
    "timescaledb+embedded:directory"
)
_ENCODE = (
    "write user, password and database percent-encoded (urllib.parse.quote(text, safe='')), "
    f"as in {_FORMS}"
)


@dataclass(frozen=True)
class DatabaseURI:
    """Where a database is: on a server, or in a directory that an embedded server serves.

    Printing it hides the password; `url` and `conninfo` carry it.

    >>> uri = DatabaseURI.parse("timescaledb://ann:s3cret@db.example:5433/trading?sslmode=require")
    >>> print(uri)
    postgresql+timescaledb://ann:***@db.example:5433/trading?sslmode=require
    >>> uri.port, uri.dbname, dict(uri.params)
    ('5433', 'trading', {'sslmode': 'require'})
    >>> DatabaseURI.parse("timescaledb+embedded:/var/lib/quant").url
    'postgresql+timescaledb:///mlflow?embedded=/var/lib/quant'
    """

    dbname: str
    user: str = ""
    password: str = ""
    host: str = ""
    port: str = ""
    params: tuple[tuple[str, str], ...] = ()
    embedded: Path | None = None

    @classmethod
    def parse(cls, text: str | DatabaseURI) -> DatabaseURI:
        """Read any accepted form; raise InvalidURI, which never repeats a password."""
        if isinstance(text, DatabaseURI):
            return text
        scheme, _, rest = text.partition(":")
        if scheme == EMBEDDED_SCHEME and not rest.startswith("//"):
            return cls._embedded(unquote(rest))
        if scheme not in (*_SERVER_SCHEMES, EMBEDDED_SCHEME) or not rest.startswith("//"):
            # Of a connection string what stands before a colon may be a password.
            shown = f"scheme {scheme!r}" if _SCHEME.fullmatch(scheme) and rest else "no scheme"
            raise InvalidURI(f"not a database URI ({shown}); use one of: {_FORMS}")
        return cls._server(scheme, rest)

    @classmethod
    def _embedded(cls, directory: str, dbname: str = _DEFAULT_DATABASE) -> DatabaseURI:
        if not directory:
            raise InvalidURI(f"an embedded database needs a directory: {EMBEDDED_SCHEME}:directory")
        return cls(dbname=dbname, embedded=Path(directory).expanduser().absolute())

    @classmethod
    def _server(cls, scheme: str, rest: str) -> DatabaseURI:
        parts = _split(rest)
        if scheme == EMBEDDED_SCHEME:
            return cls._embedded(unquote(parts.netloc + parts.path))
        params = _params(parts.query)
        _refuse_unknown(params)
        named = params.pop("dbname", "")
        dbname = unquote(parts.path.removeprefix("/")) or named or _DEFAULT_DATABASE
        if "embedded" in params:
            return cls._embedded_with(params, parts.netloc, dbname)
        credentials, _, location = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        host, port = _split_hosts(location)
        in_query = {name: params.pop(name, "") for name in ("user", "password", "host", "port")}
        uri = cls(
            dbname=dbname,
            user=unquote(user) or in_query["user"],
            password=unquote(password) or in_query["password"],
            host=host or in_query["host"],
            port=port or in_query["port"],
            params=tuple(params.items()),
        )
        return uri._checked()

    @classmethod
    def _embedded_with(cls, params: dict[str, str], netloc: str, dbname: str) -> DatabaseURI:
        directory = params.pop("embedded")
        foreign = [name for name in params if name not in OPTIONS]
        if netloc or foreign:
            extra = "a host" if netloc else ", ".join(foreign)
            raise InvalidURI(
                f"embedded= starts a server of its own, so the URI cannot also name {extra}; "
                f"use postgresql+timescaledb:///{dbname}?embedded=/absolute/directory"
            )
        return replace(cls._embedded(directory, dbname), params=tuple(params.items()))._checked()

    def _checked(self) -> DatabaseURI:
        """Itself; raises InvalidURI where an option of ours has no sensible value."""
        _ = self.prepares_statements, self.pool_size
        return self

    @property
    def prepares_statements(self) -> bool:
        """Whether the URI enables prepared statements through a pooler.

        >>> DatabaseURI.parse("timescaledb://h/db?prepared_statements=true").prepares_statements
        True
        """
        value = self.option("prepared_statements", "false").lower()
        if value not in _TRUE + _FALSE:
            raise InvalidURI(f"prepared_statements is true or false, not {value!r}")
        return value in _TRUE

    @property
    def pool_size(self) -> int:
        """How many connections one pool may hold."""
        value = self.option("pool_size", "32")
        if not value.isdigit() or int(value) < 2:
            raise InvalidURI(f"pool_size is a number from 2 on, not {value!r}")
        return int(value)

    @property
    def migrates(self) -> bool:
        """Whether the URI lets every client migrate the database."""
        value = self.option("migrate", "")
        if value not in ("", "auto"):
            raise InvalidURI(f"migrate is auto or left out, not {value!r}")
        return value == "auto"

    def option(self, name: str, default: str = "") -> str:
        """The value of one of OPTIONS in the URI."""
        return dict(self.params).get(name, default)

    @property
    def url(self) -> str:
        """The canonical form, with the password: what MLflow and SQLAlchemy take."""
        return self._format(quote(self.password, safe=""))

    def with_database(self, dbname: str) -> DatabaseURI:
        """Name another database of the same server."""
        return replace(self, dbname=dbname)

    def keywords(self) -> dict[str, str]:
        """The libpq connection keywords; empty for what the URI leaves to libpq's defaults.

        An embedded URI has none of its own: see `mlflow_timescale.db.embedded.keywords`.
        """
        named = {
            "dbname": self.dbname,
            "user": self.user,
            "password": self.password,
            "host": self.host,
            "port": self.port,
        }
        params = {key: value for key, value in self.params if key not in OPTIONS}
        return {**{key: value for key, value in named.items() if value}, **params}

    @property
    def secrets(self) -> set[str]:
        """The password, and the values of other parameters that hold secrets.

        A user with a colon is one whose colon was encoded by mistake.
        """
        values = {value for name, value in self.params if is_secret(name)}
        in_user = self.user.partition(":")[2]
        return {value for value in (self.password, in_user, *values) if value}

    def __str__(self) -> str:
        return without_secrets(self._format(MASK if self.password else "", hide=True))

    def __repr__(self) -> str:
        return f"DatabaseURI({str(self)!r})"

    def _format(self, password: str, *, hide: bool = False) -> str:
        params = {name: _shown(name, value) if hide else value for name, value in self.params}
        location = _location(self.host, self.port)
        if location is None:
            params = {"host": self.host, **({"port": self.port} if self.port else {}), **params}
        if self.embedded is not None:
            params["embedded"] = str(self.embedded)
        credentials = quote(self.user, safe="") + (f":{password}" if password else "")
        authority = (credentials + "@" if credentials else "") + (location or "")
        query = "?" + urlencode(params, safe="/:,*", quote_via=quote) if params else ""
        return f"{CANONICAL_SCHEME}://{authority}/{quote(self.dbname, safe='')}{query}"


def _shown(name: str, value: str) -> str:
    """The value of a parameter as it is printed: `options` may hold a secret among others."""
    return MASK if is_secret(name) or without_secrets(value) != value else value


def _split(rest: str) -> SplitResult:
    """Split what follows the scheme; what cannot be split is not repeated: it may be secret."""
    try:
        parts = urlsplit("postgresql:" + rest)
    except ValueError:
        raise InvalidURI(f"the host is malformed; {_ENCODE}") from None
    if parts.fragment or "@" in parts.path:
        raise InvalidURI(f"a '/', '?' or '#' is in the way; {_ENCODE}")
    return parts


def _params(query: str) -> dict[str, str]:
    items = parse_qsl(query, keep_blank_values=True)
    params = dict(items)
    if not all(map(str.isidentifier, params)):
        raise InvalidURI(f"a '/', '?' or '#' is in the way; {_ENCODE}")
    if len(params) < len(items):
        twice = next(name for name, _ in items if [n for n, _ in items].count(name) > 1)
        raise InvalidURI(f"{twice} is given twice; several hosts are one list: host=a,b&port=1,2")
    return params


@cache
def libpq_options() -> tuple[str, ...]:
    """The options that this libpq knows, in alphabetical order."""
    return tuple(sorted(option.keyword.decode() for option in pq.Conninfo.get_defaults()))


def _refuse_unknown(params: dict[str, str]) -> None:
    for name in params:
        if name not in OPTIONS and name not in libpq_options():
            raise InvalidURI(
                f"unknown option {name!r} in the URI; there are {', '.join(OPTIONS)}, and libpq's "
                f"{', '.join(libpq_options())}"
            )


def _split_hosts(location: str) -> tuple[str, str]:
    """Split "a:1,b:2" into libpq's parallel lists "a,b" and "1,2"."""
    if not location:
        return "", ""
    hosts, ports = [], []
    for item in location.split(","):
        host, _, port = item.rpartition(":") if not item.endswith("]") else (item, "", "")
        host, port = (host, port) if host else (port, "")
        if port and not port.isdigit():
            raise InvalidURI(f"the port is not a number; {_ENCODE}")
        hosts.append(unquote(host.strip("[]")))
        ports.append(port)
    return ",".join(hosts), ",".join(ports) if any(ports) else ""


def _location(host: str, port: str) -> str | None:
    """Write "host:port", or None where only the query can hold it (sockets, several hosts)."""
    if host.startswith(("/", "@")) or "," in host or (port and not host):
        return None
    name = f"[{host}]" if ":" in host else quote(host, safe="")
    return name + (f":{port}" if port else "")
