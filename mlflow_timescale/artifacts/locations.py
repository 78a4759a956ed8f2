"""Locations of artifacts in a canonical form, the key of the ledger."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import urlsplit

IN_DATABASE = "timescaledb-artifacts"
CHECKED = "sha256+"
_OWNER = re.compile(
    r"/(?:models/(?P<model>m-[0-9a-f]{32})|(?P<run>[0-9a-f]{32}))/artifacts(?:/|\Z)"
)


def inner_uri(uri: str) -> str:
    """The URI that a `sha256+` URI wraps.

    >>> inner_uri("sha256+s3://bucket/7")
    's3://bucket/7'
    """
    return uri.removeprefix(CHECKED)


def scheme(uri: str) -> str:
    return urlsplit(uri).scheme


def canonical(uri: str) -> str:
    """A location without wrapper, query, password or doubled slashes.

    >>> canonical("sha256+file:/data//7/artifacts/")
    'file:///data/7/artifacts'
    >>> canonical("https://ann:secret@host/x?token=1")
    'https://ann@host/x'
    >>> canonical("timescaledb-artifacts:1/artifacts")
    'timescaledb-artifacts:/1/artifacts'
    """
    parts = urlsplit(inner_uri(uri))
    path = re.sub("/+", "/", "/" + parts.path).rstrip("/")
    if parts.scheme in ("", "file"):
        local = Path(re.sub("/+", "/", parts.path)).absolute().as_posix()
        return f"file://{local}".rstrip("/")
    user, at, host = parts.netloc.rpartition("@")
    netloc = user.partition(":")[0] + at + host
    return f"{parts.scheme}:{'//' + netloc if netloc else ''}{path}"


def join(location: str, path: str | None) -> str:
    """A file's location below a canonical root."""
    return f"{location}/{path.strip('/')}" if path and path.strip("/") else location


def owner(location: str) -> tuple[str | None, str | None, str]:
    """The run or the logged model that a location belongs to, and the path inside it.

    >>> owner("s3://b/1/0123456789abcdef0123456789abcdef/artifacts/model/MLmodel")
    ('0123456789abcdef0123456789abcdef', None, 'model/MLmodel')
    >>> owner("s3://b/somewhere/else")
    (None, None, 's3://b/somewhere/else')
    """
    match = _OWNER.search(location)
    if match is None:
        return None, None, location
    return match["run"], match["model"], location[match.end() :]


def split_root(location: str) -> tuple[str, str]:
    """Split a file's location into the root of a repository and a path below it."""
    if match := _OWNER.search(location):
        return location[: match.end()].rstrip("/"), location[match.end() :]
    return posixpath.dirname(location), posixpath.basename(location)


def turn(path: str) -> str:
    """The part of a path whose writers take turns: its run or logged model, else the first name.

    >>> turn("1/0123456789abcdef0123456789abcdef/artifacts/model/MLmodel")
    '1/0123456789abcdef0123456789abcdef/artifacts'
    >>> turn("elsewhere/model")
    'elsewhere'
    """
    match = _OWNER.search(path)
    return path[: match.end()].rstrip("/") if match else path.partition("/")[0]


_TYPES = {
    "weights": "pkl pickle joblib pt pth bin h5 keras safetensors ubj cbm model npz npy ckpt skops",
    "onnx": "onnx",
    "config": "yaml yml json toml ini cfg txt env",
    "figure": "png jpg jpeg svg gif pdf html",
    "table": "csv parquet feather arrow tsv",
    "code": "py ipynb r sql sh",
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in _TYPES.items() for suffix in suffixes.split()}


def guess_type(location: str) -> str:
    """The type of a file, guessed from its name.

    >>> guess_type("model/scaler.pkl"), guess_type("model/MLmodel"), guess_type("notes")
    ('weights', 'config', 'other')
    """
    name = posixpath.basename(location)
    if name == "MLmodel":
        return "config"
    return _BY_SUFFIX.get(name.rpartition(".")[2].lower(), "other")
