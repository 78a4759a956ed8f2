"""PyPA's advisory database in a git repository, and the record of a review against it.

An index may know only the newest release of a package. A package that is capped at an older one is
then reviewed: its advisories are read from a copy of the database. The database is large and does
not belong into this repository; `reviewed_packages.ini` records the result, with an end date.
"""

from __future__ import annotations

import configparser
import io
import re
import subprocess  # nosec B404  # runs git without a shell
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

SOURCE = "https://github.com/pypa/advisory-database"
RECORD = Path(__file__).with_name("reviewed_packages.ini")
VALID = timedelta(days=90)
HEADER = """\
# Every package of a development environment, compared with PyPA's advisory database by
# `.ci/audit.py --advisories DIRECTORY`, which writes this file. `make audit` uses an entry where
# the index does not answer for the installed version, until the date of expiry. Behind a version
# stand the advisories that affect it; `known_vulnerabilities.ini` must accept them.
"""


@dataclass(frozen=True)
class Review:
    """What a copy of the database holds about installed packages. Dates are in UTC."""

    source: str
    commit: str
    database: date  # of the newest commit of the copy: later advisories are not in it
    reviewed: date
    expires: date
    packages: Mapping[str, tuple[str, ...]]  # name: version, ids of advisories

    def covers(self, name: str, version: str, today: date) -> bool:
        """Whether this version was reviewed, and the review has not expired."""
        return today <= self.expires and self.packages.get(name, ("",))[0] == version


def normal(name: str) -> str:
    """The name of a package in the form that indexes use: Foo_Bar is foo-bar."""
    return re.sub(r"[-_.]+", "-", name).lower()


def review(directory: Path, source: str, installed: Mapping[str, str], today: date) -> Review:
    """Compare installed packages with the database in a git repository, bare or not.

    Raises subprocess.CalledProcessError if the directory is not such a repository.
    """
    commit, moment = _git(directory, "log", "-1", "--format=%H %cI").decode().split()
    ids: dict[str, list[str]] = {name: [] for name in installed}
    for name, advisory in _advisories(directory, installed):
        if affects(advisory, name, installed[name]):
            ids[name].append(advisory["id"])
    packages = {name: (installed[name], *sorted(ids[name])) for name in sorted(installed)}
    database = datetime.fromisoformat(moment).astimezone(timezone.utc).date()
    return Review(source, commit, database, today, today + VALID, packages)


def _advisories(directory: Path, names: Collection[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    listing = _git(directory, "ls-tree", "--name-only", "HEAD", "vulns/").decode().splitlines()
    folders = [folder for folder in listing if normal(folder.removeprefix("vulns/")) in names]
    if not folders:
        return
    archive = _git(directory, "archive", "--format=tar", "HEAD", *folders)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            content = files.extractfile(member)
            if content and member.name.endswith((".yaml", ".yml")):
                yield normal(member.name.split("/")[1]), yaml.safe_load(content)


def _git(directory: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(  # nosec B603  # git, without a shell
        command, capture_output=True, check=True
    ).stdout


def affects(advisory: Mapping[str, Any], name: str, version: str) -> bool:
    """Whether an OSV record that is not withdrawn affects a version of a package on PyPI."""
    return not advisory.get("withdrawn") and any(
        version in (item.get("versions") or ())
        or any(_in_range(span, version) for span in item.get("ranges") or ())
        for item in advisory.get("affected") or ()
        if item["package"]["ecosystem"] == "PyPI" and normal(item["package"]["name"]) == name
    )


def _in_range(span: Mapping[str, Any], version: str) -> bool:
    """As https://ossf.github.io/osv-schema evaluates it: the last event that applies decides."""
    if span["type"] == "GIT":  # commits, not releases
        return False
    installed, inside = _parsed(version), False
    for bound, kind in sorted(_events(span["events"])):
        if kind == "introduced" and installed >= bound:
            inside = True
        elif (kind == "fixed" and installed >= bound) or (
            kind == "last_affected" and installed > bound
        ):
            inside = False
    return inside


def _events(events: Iterable[Mapping[str, str]]) -> Iterator[tuple[Version, str]]:
    """The events that can be ordered. An end that cannot be ordered ends nothing."""
    for event in events:
        for kind, bound in event.items():
            if kind == "introduced" or _is_version(bound):
                yield _parsed(bound), kind


def _parsed(version: str) -> Version:
    """A version, or the lowest one for a name of before PEP 440."""
    return Version(version if _is_version(version) else "0")


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def write_review(item: Review, path: Path = RECORD) -> None:
    """Write the record of a review."""
    lines = [HEADER, "[review]"]
    lines += [f"source = {item.source}", f"commit = {item.commit}", f"database = {item.database}"]
    lines += [f"reviewed = {item.reviewed}", f"expires = {item.expires}", "", "[packages]"]
    lines += [f"{name} = {' '.join(entry)}" for name, entry in item.packages.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_review(path: Path = RECORD) -> Review:
    """The record of the last review. Raises ValueError for one that is not complete."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    try:
        head, entries = parser["review"], parser["packages"]
        dates = [date.fromisoformat(head[key]) for key in ("database", "reviewed", "expires")]
        packages = {name: tuple(entry.split()) for name, entry in entries.items()}
        return Review(head["source"], head["commit"], dates[0], dates[1], dates[2], packages)
    except (KeyError, ValueError) as exc:
        raise ValueError(f"{path.name} is not complete: {exc}; write it again") from exc
