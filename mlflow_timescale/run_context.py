"""What a run needs to be repeated and MLflow does not record: dirty state, packages, seeds.

MLflow calls this provider when a run starts, for its tags. Loaded by `import mlflow`:
nothing here may be slow to import, and nothing may raise.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from mlflow_timescale.common import git
from mlflow_timescale.common.schemes import is_ours
from mlflow_timescale.common.settings import RUN_CONTEXT

DIRTY, PACKAGES = "mlops.git.dirty", "mlops.packages"
SEEDS, PYTHON = "mlops.seeds", "mlops.python"
_LONGEST = 7500  # MLflow refuses tags of more than 8,000 characters
_IMPORTED_AS = {
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "python-dateutil": "dateutil",
    "pillow": "PIL",
    "ta-lib": "talib",
}
_UNSEEDED = 0x80000000  # what the first word of numpy's state is when the system chose the seed


class RunContext:
    """Tags for runs that go to a database of ours, or to any; the setting overrules."""

    def in_context(self) -> bool:
        """Whether runs are to be tagged."""
        setting = RUN_CONTEXT.get()
        if setting is not None:
            return setting
        import mlflow

        return is_ours(mlflow.get_tracking_uri())

    def tags(self) -> dict[str, str]:
        """The tags of a run that starts now."""
        found = {
            DIRTY: dirty(_directory()),
            PACKAGES: packages(),
            SEEDS: seeds(),
            PYTHON: platform.python_version(),
        }
        return {key: value for key, value in found.items() if value is not None}


def dirty(directory: Path) -> str | None:
    """`true` if tracked files differ from the commit, `false` if not; None outside of git."""
    state = git.is_dirty(directory)
    return None if state is None else str(state).lower()


def packages() -> str:
    """The versions of the distributions that are imported now, as JSON."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    found = {
        name: version
        for name, (module, version) in sorted(_installed().items())
        if module in loaded
    }
    while len(text := json.dumps(found, separators=(",", ":"))) > _LONGEST:
        found.popitem()
    return text


def packages_now() -> dict[str, str]:
    """The versions of all installed distributions."""
    return {name: version for name, (_, version) in _installed().items()}


@cache
def _installed() -> dict[str, tuple[str, str]]:
    names = ((dist.name, dist.version) for dist in metadata.distributions())
    return {
        name: (_IMPORTED_AS.get(name.lower(), name.replace("-", "_")), version)
        for name, version in names
        if name
    }


def seeds() -> str | None:
    """The seeds that can still be read from the generators' states, as JSON.

    numpy's legacy generator keeps an integer seed as the first word of its state until the first
    draws; PyTorch returns its own; the hash seed is in the environment. random's cannot be read.
    """
    found: dict[str, int | str] = {}
    if given := os.environ.get("PYTHONHASHSEED"):
        found["PYTHONHASHSEED"] = given
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "random"):
        _, key, position, *_ = numpy.random.get_state()
        if position == len(key) and int(key[0]) != _UNSEEDED:
            found["numpy"] = int(key[0])
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "initial_seed"):
        found["torch"] = int(torch.initial_seed())
    return json.dumps(found) if found else None


def _directory() -> Path:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(main).resolve().parent if main else Path.cwd()
