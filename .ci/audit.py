"""Known vulnerabilities of every installed package: pip-audit, and the packages that it skips.

pip-audit queries the index for each release. A mirror may know only the newest release of a
package; pip-audit then skips the package and succeeds. This program looks up what was skipped by
name, and uses the answer where the newest release is the installed one. It lists what is left.

Exit code 1: a finding that known_vulnerabilities.ini does not accept, an entry there that has
expired or lacks a field; with --strict also a package that was not checked. Otherwise 0: an index
that is out of reach does not fail a build, but the output then names what was not checked.
"""

from __future__ import annotations

import argparse
import configparser
import http.client
import json
import re
import subprocess  # nosec B404  # runs pip-audit without a shell
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

OURS = "mlflow-timescale"
ACCEPTED = Path(__file__).with_name("known_vulnerabilities.ini")
INDEX = "https://pypi.org/pypi/{name}/json"
SECONDS = 10  # for one answer of the index
MINUTES = 5  # for pip-audit


@dataclass(frozen=True)
class Finding:
    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fix = ", ".join(self.fixed_in) or "no release yet"
        return f"{self.package} {self.version}: {' = '.join(self.ids)}, fixed in {fix}"


@dataclass(frozen=True)
class Audit:
    packages: int
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]


@dataclass(frozen=True)
class Acceptance:
    id: str
    package: str
    reason: str
    expires: date


def read_acceptances(path: Path = ACCEPTED) -> list[Acceptance]:
    """The accepted advisories. Raises ValueError for an entry that is not complete."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    return [_acceptance(parser[section]) for section in parser.sections()]


def _acceptance(entry: Mapping[str, str]) -> Acceptance:
    name = getattr(entry, "name", "?")
    package, reason = entry.get("package", ""), entry.get("reason", "")
    if not package or not reason:
        raise ValueError(f"[{name}] needs a package and a reason")
    try:
        return Acceptance(name, package, reason, date.fromisoformat(entry.get("expires", "")))
    except ValueError:
        raise ValueError(f"[{name}] needs expires = YYYY-MM-DD") from None


def run_pip_audit() -> Mapping[str, Any] | None:
    """pip-audit's report as JSON; None if it could not ask the index."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable"]
    options = ["--vulnerability-service=pypi", "--format=json", "--progress-spinner=off"]
    try:
        done = subprocess.run(  # nosec B603  # this Python, fixed arguments
            [*command, *options], capture_output=True, text=True, timeout=60 * MINUTES, check=False
        )
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None


def ask_index(name: str) -> Mapping[str, Any] | None:
    """What the index knows of a package and its newest release; None if it does not answer."""
    try:
        with urllib.request.urlopen(  # nosec B310  # https, a constant
            INDEX.format(name=name), timeout=SECONDS
        ) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
        return None


def audit(
    report: Mapping[str, Any] | None,
    installed: Mapping[str, str],
    ask: Callable[[str], Mapping[str, Any] | None] = ask_index,
) -> Audit:
    """Combine pip-audit's report with the index's answers on what it skipped."""
    entries = report["dependencies"] if report else []
    checked = {_normal(entry["name"]): entry for entry in entries if "skip_reason" not in entry}
    findings = [_of_pip_audit(item, entry) for entry in checked.values() for item in entry["vulns"]]
    unchecked = []
    # Without a report the index did not answer even pip-audit: do not wait for it again.
    skipped = [name for name in installed if name not in checked and name != OURS]
    for name, answer in _answers(skipped if report else [], ask):
        if answer is None or answer["info"]["version"] != installed[name]:
            unchecked.append(name)
        else:
            findings += _of_index(answer, name)
    unchecked += [] if report else skipped
    return Audit(len(set(installed) - {OURS}), tuple(findings), tuple(sorted(unchecked)))


def _answers(
    names: Iterable[str], ask: Callable[[str], Mapping[str, Any] | None]
) -> list[tuple[str, Mapping[str, Any] | None]]:
    names = list(names)
    with ThreadPoolExecutor(8) as pool:
        return list(zip(names, pool.map(ask, names), strict=True))


def _of_pip_audit(item: Mapping[str, Any], entry: Mapping[str, Any]) -> Finding:
    ids = (item["id"], *item["aliases"])
    return Finding(_normal(entry["name"]), entry["version"], ids, tuple(item["fix_versions"]))


def _of_index(answer: Mapping[str, Any], name: str) -> list[Finding]:
    return [
        Finding(
            name,
            answer["info"]["version"],
            (item["id"], *item.get("aliases", ())),
            tuple(item.get("fixed_in") or ()),
        )
        for item in answer.get("vulnerabilities") or ()
        if not item.get("withdrawn")
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def judge(
    result: Audit, acceptances: Iterable[Acceptance], today: date, strict: bool = False
) -> tuple[list[str], bool]:
    """The lines of the report, and whether the audit passes."""
    accepted = {(item.package, item.id): item for item in acceptances}
    open_findings = [finding for finding in result.findings if not _entry(finding, accepted)]
    expired = [item for item in accepted.values() if item.expires < today]
    used = {_entry(finding, accepted) for finding in result.findings}
    lines = [f"FOUND {finding}" for finding in open_findings]
    lines += [f"EXPIRED [{item.id}] {item.package}, on {item.expires}" for item in expired]
    lines += [
        f"no longer found: [{item.id}] {item.package}; remove the entry"
        for item in accepted.values()
        if item not in used and item.package not in result.unchecked
    ]
    if result.unchecked:
        lines.append(f"NOT CHECKED, the index does not answer: {', '.join(result.unchecked)}")
    lines.append(
        f"checked {result.packages - len(result.unchecked)} of {result.packages} packages: "
        f"{len(result.findings)} findings, {len(result.findings) - len(open_findings)} accepted"
    )
    return lines, not (open_findings or expired or (strict and result.unchecked))


def _entry(finding: Finding, accepted: Mapping[tuple[str, str], Acceptance]) -> Acceptance | None:
    entries = (accepted.get((finding.package, id_)) for id_ in finding.ids)
    return next((entry for entry in entries if entry), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--strict", action="store_true", help="a package not checked fails")
    strict = parser.parse_args().strict
    try:
        acceptances = read_acceptances()
    except (ValueError, configparser.Error) as exc:
        print(f"{ACCEPTED.name}: {exc}")
        return 1
    installed = {_normal(item.name): item.version for item in metadata.distributions()}
    result = audit(run_pip_audit(), installed)
    lines, passed = judge(result, acceptances, datetime.now(timezone.utc).date(), strict)
    print("\n".join(lines))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
