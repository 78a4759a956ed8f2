"""Every benchmark starts, and runs to its end on data of the smallest size."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import benchmarks
from mlflow_timescale.db.uri import DatabaseURI

ROOT = Path(__file__).parents[2]
# The smallest arguments; None where a run is impossible or long, with the reason.
TINY: dict[str, str | None] = {
    "benchmarks.artifacts": "--megabytes 1 --files 3 --repeat 1",
    "benchmarks.artifacts.check": "--megabytes 1 --repeat 1 --no-proxy",
    "benchmarks.bringing": "--runs 4 --points 8 --artifacts 1 --sqlite-runs 5 --converted 2"
    " --traces 5",
    "benchmarks.bringing.metrics": "--runs 2 --points 2000",
    "benchmarks.drift.daily": "backfill --sessions 3 --names 20 --features 2",
    "benchmarks.drift.faults": "--names 20 --seeds 1",
    "benchmarks.drift.from_qlib": "--recorders 2 --sessions 150 --names 25 --naive 1",
    "benchmarks.drift.healthy": "--years 2",
    "benchmarks.drift.numerics": "--features 2 --names 500 --signals 3",
    "benchmarks.drift.planted": "--seeds 1 --calendars XSHG --faults f+",
    "benchmarks.drift.replay": None,  # minutes: tests/drift/test_replay.py runs it
    "benchmarks.drift.serving": "--calls 10 --predictions 200",
    "benchmarks.features": "--rows 20000 --rounds 1 --spines 100 --write-rows 20000 --wide 5",
    "benchmarks.features.feast": None,  # needs an environment with Feast
    "benchmarks.features.growth": "--sizes 20000 --spines 100",
    "benchmarks.features.lake": "--rows 20000 --rounds 1 --spine 500",
    "benchmarks.incidents": "--seeds 1 --kinds late --healthy 0",
    "benchmarks.registry": "--models 3 --versions 2 --points 1000 --repeats 2",
    "benchmarks.tracking": "--only writes searches series --runs 20 --points 2000 --repeats 1",
    "benchmarks.tracking.layout": "--points 10000",
    "benchmarks.tracking.outage": "--trainers 2 --untracked 1 --steps 20 --step 0.02",
    "benchmarks.tracking.processor": "--repeats 1",
    "benchmarks.tracking.recorders": "--runs 20 --repeats 1",
}


def run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_benchmark_is_here() -> None:
    assert set(TINY) == set(benchmarks())


@pytest.mark.slow
@pytest.mark.parametrize("module", benchmarks())
def test_a_benchmark_explains_its_options(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__")
    assert end.value.code == 0
    assert "--uri" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.benchmark
@pytest.mark.parametrize("module", [name for name, arguments in TINY.items() if arguments])
def test_a_benchmark_runs_to_its_end(module: str, server: DatabaseURI) -> None:
    arguments = (TINY[module] or "").split()
    assert re.search(r"\d", run(module, *arguments, "--uri", server.url))


@pytest.mark.parametrize("page", [*ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/*.md")], ids=str)
def test_the_pages_name_benchmarks_and_options_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for command, options in re.findall(r"python\s+-m (benchmarks[\w.]*)([^`\n]*)", text):
        assert command in {"benchmarks", *benchmarks()}, command
        path = ROOT / command.replace(".", "/")
        files = (path.with_suffix(".py"), path / "__main__.py")
        known = (
            '"--uri"'.join(file.read_text("utf-8") for file in files if file.exists()) + '"--uri"'
        )
        for option in re.findall(r"--[a-z-]+", options):
            assert f'"{option}"' in known, f"{command} has no {option}"
