"""Known vulnerabilities of every installed package: pip-audit, and the packages that it skips.

pip-audit queries the index for each release. A mirror may know only the newest release of a
package; pip-audit then skips the package and succeeds. This program looks up what was skipped by
name, and uses the answer where the newest release is the installed one. For the other packages it
uses reviewed_packages.ini, the record of a review against PyPA's advisory database, which
--advisories writes.

Exit code 1: a finding that known_vulnerabilities.ini does not accept; an entry there that has
expired or lacks a field; a package that neither the index nor a review answers for; an index that
does not answer at all. Otherwise 0.
"""

from __future__ import annotations

import argparse
import configparser
import http.client
import json
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

from advisories import RECORD, SOURCE, Review, normal, read_review, review, write_review

OURS = "mlflow-timescale"
ACCEPTED = Path(__file__).with_name("known_vulnerabilities.ini")
INDEX = "https://pypi.org/pypi/{name}/json"
SECONDS = 10  # for one answer of the index
MINUTES = 5  # for pip-audit
TRIES = 2  # of each, because an index may refuse one of hundreds of requests
WHAT_TO_DO = (
    "    upgrade these packages to their newest release, or review them: .ci/audit.py --advisories "
    f"DIRECTORY, with a clone of {SOURCE}"
)


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
    reviewed: tuple[str, ...] = ()
    asked: bool = True  # whether the index answered pip-audit


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
    """pip-audit's report as JSON; None if it could not ask the index, with the reason on stderr."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable"]
    options = ["--vulnerability-service=pypi", "--format=json", "--progress-spinner=off"]
    for _ in range(TRIES):
        try:
            done = subprocess.run(  # nosec B603  # this Python, fixed arguments
                [*command, *options], capture_output=True, text=True, timeout=60 * MINUTES
            )
            return json.loads(done.stdout)
        except subprocess.TimeoutExpired as exc:
            print(exc, file=sys.stderr)
        except ValueError:
            print(f"pip-audit: {done.stderr.strip()[-500:]}", file=sys.stderr)
    return None


def ask_index(name: str) -> Mapping[str, Any] | None:
    """What the index knows of a package and its newest release; None if it does not answer."""
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(  # nosec B310  # https, a constant
                INDEX.format(name=name), timeout=SECONDS
            ) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
            continue
    return None


def audit(
    report: Mapping[str, Any] | None,
    installed: Mapping[str, str],
    ask: Callable[[str], Mapping[str, Any] | None] = ask_index,
    record: Review | None = None,
    today: date = date.max,
) -> Audit:
    """Combine pip-audit's report, the index's answers on what it skipped, and the last review."""
    names = set(installed) - {OURS}
    if report is None:  # The index did not answer even pip-audit: do not wait for it again.
        return Audit(len(names), (), tuple(sorted(names)), asked=False)
    checked = {
        normal(entry["name"]): entry
        for entry in report["dependencies"]
        if "skip_reason" not in entry
    }
    findings = [_of_pip_audit(item, entry) for entry in checked.values() for item in entry["vulns"]]
    unanswered = []
    for name, answer in _answers(sorted(names - set(checked)), ask):
        if answer is None or answer["info"]["version"] != installed[name]:
            unanswered.append(name)
        else:
            findings += _of_index(answer, name)
    covered = {n for n in names if record and record.covers(n, installed[n], today)}
    findings += _of_review(record, covered, findings) if record else []
    reviewed = tuple(name for name in unanswered if name in covered)
    unchecked = tuple(name for name in unanswered if name not in covered)
    return Audit(len(names), tuple(findings), unchecked, reviewed)


def _answers(
    names: Iterable[str], ask: Callable[[str], Mapping[str, Any] | None]
) -> list[tuple[str, Mapping[str, Any] | None]]:
    names = list(names)
    with ThreadPoolExecutor(8) as pool:
        return list(zip(names, pool.map(ask, names), strict=True))


def _of_pip_audit(item: Mapping[str, Any], entry: Mapping[str, Any]) -> Finding:
    ids = (item["id"], *item["aliases"])
    return Finding(normal(entry["name"]), entry["version"], ids, tuple(item["fix_versions"]))


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


def _of_review(
    record: Review, covered: Iterable[str], findings: Iterable[Finding]
) -> list[Finding]:
    """What the review found, less what the index reports itself."""
    reported = {(finding.package, id_) for finding in findings for id_ in finding.ids}
    return [
        Finding(name, record.packages[name][0], (id_,), ())
        for name in sorted(covered)
        for id_ in record.packages[name][1:]
        if (name, id_) not in reported
    ]


def judge(result: Audit, acceptances: Iterable[Acceptance], today: date) -> tuple[list[str], bool]:
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
    if not result.asked:
        lines.append("NOT CHECKED, the index does not answer at all; try again later")
    elif result.unchecked:
        lines.append(f"NOT CHECKED, the index does not answer: {', '.join(result.unchecked)}")
        lines.append(WHAT_TO_DO)
    lines.append(
        f"checked {result.packages - len(result.unchecked)} of {result.packages} packages: "
        f"{len(result.findings)} findings, {len(result.findings) - len(open_findings)} accepted"
    )
    return lines, not (open_findings or expired or result.unchecked)


def _entry(finding: Finding, accepted: Mapping[tuple[str, str], Acceptance]) -> Acceptance | None:
    entries = (accepted.get((finding.package, id_)) for id_ in finding.ids)
    return next((entry for entry in entries if entry), None)


def covering(record: Review, result: Audit) -> list[str]:
    """The line of the report on what the review answers for."""
    return [
        f"by the review of {record.reviewed} (until {record.expires}), which knows no advisory "
        f"published after {record.database}: {', '.join(result.reviewed)}"
    ] * bool(result.reviewed)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--advisories",
        type=Path,
        metavar="DIRECTORY",
        help=f"review every installed package against this clone of {SOURCE}, bare or not, "
        f"and write {RECORD.name}; then audit",
    )
    parser.add_argument("--source", default=SOURCE, help="of the clone, for the record")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    today = datetime.now(timezone.utc).date()
    installed = {normal(item.name): item.version for item in metadata.distributions()}
    third_party = {name: version for name, version in installed.items() if name != OURS}
    try:
        if chosen.advisories:
            write_review(review(chosen.advisories, chosen.source, third_party, today))
        acceptances, record = read_acceptances(), read_review()
    except (ValueError, configparser.Error) as exc:
        print(f"{ACCEPTED.parent.name}: {exc}")
        return 1
    except subprocess.CalledProcessError as exc:
        print(f"{chosen.advisories} is no git repository: {exc.stderr.decode().strip()}")
        return 1
    result = audit(run_pip_audit(), installed, record=record, today=today)
    lines, passed = judge(result, acceptances, today)
    print("\n".join(covering(record, result) + lines))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
