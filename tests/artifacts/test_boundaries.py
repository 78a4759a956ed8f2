"""What a client of a tracking server may name as a place of artifacts."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from mlflow.exceptions import MlflowException

from mlflow_timescale.artifacts import boundaries

RUN = "0123456789abcdef0123456789abcdef"
PROXIED = f"mlflow-artifacts:/7/{RUN}/artifacts"
DIRECT = f"timescaledb-artifacts:/7/{RUN}/artifacts"
MODEL = "timescaledb-artifacts:/7/models/m-" + RUN + "/artifacts"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", "timescaledb-artifacts:/")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("source", "roots", "is_allowed"),
    [
        (DIRECT, [], False),
        (DIRECT, [PROXIED], True),
        (DIRECT + "/model", [PROXIED], True),
        (DIRECT + "/./model", [DIRECT], True),
        (DIRECT + "//model", [DIRECT + "/"], True),
        (DIRECT, [PROXIED.replace("/7/", "/8/")], False),
        (DIRECT + "2", [PROXIED], False),
        ("timescaledb-artifacts:/", [PROXIED], False),
        (DIRECT + "/../../other", [PROXIED], False),
        (DIRECT.replace(":/", "://host/"), [PROXIED], False),
        (DIRECT.replace(":/", ":///"), [PROXIED], True),
        (DIRECT.replace("7", "%37", 1), [PROXIED], False),
        (DIRECT.upper().replace("TIMESCALEDB", "timescaledb"), [PROXIED], False),
        ("TIMESCALEDB-ARTIFACTS:/8/a", [PROXIED], False),
        (MODEL, [PROXIED], False),
        (MODEL, [PROXIED, MODEL], True),
        (f"sha256+{PROXIED}", [], False),
        (f"sha256+{PROXIED}", [PROXIED], True),
        (f"SHA256+{PROXIED}", [], False),
        ("sha256+s3://bucket/7/a", ["s3://bucket/7"], True),
        ("sha256+s3://bucket/7/a", ["sha256+s3://bucket/7/"], True),
        ("sha256+s3://bucket/8/a", ["sha256+s3://bucket/7/"], False),
        ("sha256+s3://other/7/a", ["s3://bucket/7"], False),
        ("sha256+file:///data/8/a", ["sha256+file:///data/7"], False),
        # These are MLflow's to check, which it does by their schemes.
        (PROXIED, [], True),
        ("s3://bucket/8", [], True),
        ("models:/momentum/1", [], True),
    ],
)
def test_a_source_of_ours_lies_in_what_the_request_names(
    source: str, roots: list[str], is_allowed: bool
) -> None:
    refusal = pytest.raises(MlflowException, match="nvalid")
    with nullcontext() if is_allowed else refusal:
        boundaries.check_source(source, lambda: roots)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("location", "is_allowed"),
    [
        (None, True),
        ("", True),
        ("timescaledb-artifacts:/research", True),
        ("timescaledb-artifacts:/owners-too", True),
        ("timescaledb-artifacts:/owners", True),  # its runs have places of their own there
        ("timescaledb-artifacts:/owners/" + RUN, False),
        ("timescaledb-artifacts:owners//x", False),
        ("timescaledb-artifacts:/./owners/x", False),
        ("timescaledb-artifacts:/research/../owners/x", False),
        ("mlflow-artifacts:/owners/x", False),
        ("sha256+mlflow-artifacts:/owners/x", False),
        ("http://host/api/2.0/mlflow-artifacts/artifacts/owners/x", False),
        (DIRECT, False),
        ("timescaledb-artifacts:/7", False),
        ("timescaledb-artifacts:/9999", False),  # of an experiment to come
        ("mlflow-artifacts:/9999/a", False),
        ("timescaledb-artifacts:/workspaces/team/1", False),
        ("sha256+s3://bucket/free", True),
        ("sha256+s3://bucket/team/1", False),
        ("s3://bucket/team/1", True),  # MLflow's to check
    ],
)
def test_a_new_experiment_has_a_place_of_its_own(location: str | None, is_allowed: bool) -> None:
    taken = ["mlflow-artifacts:/7", "timescaledb-artifacts:/owners", "sha256+s3://bucket/team/"]
    refusal = pytest.raises(MlflowException, match="nvalid")
    with nullcontext() if is_allowed else refusal:
        boundaries.check_location(location, lambda: taken)


@pytest.mark.usefixtures("server")
def test_the_place_of_a_trace_is_the_servers() -> None:
    boundaries.check_trace_tag("desk")
    with pytest.raises(MlflowException, match="cannot be changed"):
        boundaries.check_trace_tag("mlflow.artifactLocation")


def test_a_client_of_the_database_is_not_restricted() -> None:
    boundaries.check_source(DIRECT, list)
    boundaries.check_location("timescaledb-artifacts:/7", list)
    boundaries.check_trace_tag("mlflow.artifactLocation")
