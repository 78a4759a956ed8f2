"""Write a CycloneDX SBOM of what users install with mlflow-timescale, from this environment.

cyclonedx-py describes the whole environment, with the tools of developers. This keeps the packages
that mlflow-timescale needs, also through the extras that users choose, and makes it the subject.
"""

from __future__ import annotations

import json
import re
import subprocess  # nosec B404  # runs cyclonedx-py without a shell
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

OURS = "mlflow-timescale"
EXTRAS = ("", "embedded", "lake", "notify", "report", "demo")  # those of users


def described_environment() -> dict[str, Any]:
    """The SBOM of this Python's environment, as cyclonedx-py writes it."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable]
    done = subprocess.run(  # nosec B603  # this Python, fixed arguments
        [*command, "--of=JSON", "--output-reproducible", "--no-validate", "--mc-type=library"],
        capture_output=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def requirements(name: str, extras: Iterable[str]) -> list[Requirement]:
    """What a package requires here, with some of its extras."""
    try:
        parsed = map(Requirement, metadata.requires(name) or ())
    except metadata.PackageNotFoundError:
        return []  # not for this platform, or provided by another package
    return [
        item
        for item in parsed
        if item.marker is None or any(item.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def installed_by_users() -> dict[str, set[str]]:
    """Every package of a user's installation with any of the extras for users, and what it needs.

    By metadata, because cyclonedx-py also follows extras that no package requires: those of
    Narwhals lead to pytest.
    """
    needs: dict[str, set[str]] = {}
    waiting = [(OURS, frozenset(EXTRAS))]
    visited = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in visited:
            continue
        visited.add((name, extras))
        items = requirements(name, {"", *extras})
        needs.setdefault(name, set()).update(_normal(item.name) for item in items)
        waiting += [(_normal(item.name), frozenset(item.extras)) for item in items]
    return needs


def of_product(environment: Mapping[str, Any], needs: Mapping[str, set[str]]) -> dict[str, Any]:
    """The same SBOM with our package as its subject and only what it needs as components."""
    components = {
        _normal(item["name"]): item
        for item in environment["components"]
        if _normal(item["name"]) in needs
    }
    subject = {k: v for k, v in components.pop(OURS).items() if k != "externalReferences"}
    refs = {OURS: subject["bom-ref"]} | {k: item["bom-ref"] for k, item in components.items()}
    return {
        **environment,
        "metadata": {**environment["metadata"], "component": subject},
        "components": [components[name] for name in sorted(components)],
        "dependencies": [
            {"ref": refs[name], "dependsOn": sorted(refs[need] for need in needs[name] & set(refs))}
            for name in sorted(refs)
        ],
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def problem(sbom: Mapping[str, Any]) -> str | None:
    """What the schema of CycloneDX objects to; None if nothing."""
    version = SchemaVersion.from_version(sbom["specVersion"])
    error = JsonStrictValidator(version).validate_str(json.dumps(sbom))
    return None if error is None else str(error)


def main() -> int:
    target = Path(sys.argv[1])
    sbom = of_product(described_environment(), installed_by_users())
    error = problem(sbom)
    if error is not None:
        print(f"not a valid SBOM: {error}")
        return 1
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(sbom, indent=2) + "\n", encoding="utf-8")
    print(f"{target}: {len(sbom['components'])} packages, CycloneDX {sbom['specVersion']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
