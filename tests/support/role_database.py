"""What the matrices of roles work on: models, features, sessions and predictions of a writer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import mlflow
import pandas as pd

from drift import DriftMonitor, Serving
from feature_store import FeatureStore, FeatureView
from mlflow_timescale import db
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.rights import WRITER
from support.logins import Logins
from support.role_calls import Existing
from support.strategies import Strategy

MOMENT = datetime(2024, 1, 8, 22, tzinfo=timezone.utc)
DAYS = TradingCalendar("XNYS").sessions_in_range(date(2024, 1, 2), date(2024, 1, 31))
MODEL = "models:/doubled/1"


def doubled(model_input: pd.DataFrame) -> pd.Series:
    return 2 * model_input["close"]


def fill_registry(people: Logins, name: str, aliases: Sequence[str] = ()) -> Existing:
    """A run with artifacts, and two versions of it, which were champion (and more) in turn."""
    mlflow.set_tracking_uri(people.uri(WRITER).url)
    mlflow.set_experiment(name)
    with mlflow.start_run() as run:
        mlflow.log_metric("ic", 0.03)
        mlflow.log_text("momentum", "m/note.txt")
        mlflow.log_text("free", "free.txt")
    client = mlflow.MlflowClient()
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, f"runs:/{run.info.run_id}/m", run.info.run_id)
    client.set_registered_model_tag(name, "ic", "1")
    client.set_model_version_tag(name, "1", "ic", "1")
    for version in ("1", "2"):
        for alias in ("champion", *aliases):
            client.set_registered_model_alias(name, alias, version)
    return Existing(run.info.experiment_id, run.info.run_id, name)


def fill_features(people: Logins) -> None:
    """A view with one value."""
    with FeatureStore(people.uri(WRITER)) as store:
        store.register(FeatureView("prices", ["close"], max_staleness=timedelta(days=5)))
        store.write_features("AAPL", MOMENT - timedelta(days=1), {"close": 1.0})


def fill_model(people: Logins) -> None:
    """The registered model `MODEL`, which reads the feature."""
    mlflow.set_tracking_uri(people.uri(WRITER).url)
    mlflow.set_experiment("models")
    mlflow.pyfunc.log_model(
        name="model",
        python_model=doubled,
        input_example=pd.DataFrame({"close": [1.0]}),
        pip_requirements=[],
        registered_model_name="doubled",
    )


def fill_monitor(people: Logins) -> None:
    """Eight sessions, computed by a writer, and an open alert."""
    monitor = monitor_of(people, WRITER)
    monitor.configure()
    Strategy.of(DAYS[:8]).record(monitor)
    monitor.backfill(DAYS[0], DAYS[6])
    with db.connect(people.database, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO mlops.drift_alerts (strategy_id, rule, metric, severity, state, session, "
            "last_session) VALUES ('momentum', 'by hand', 'ic', 'warning', 'open', %s, %s)",
            [DAYS[6], DAYS[6]],
        )


def fill_served(people: Logins) -> None:
    """A prediction of the strategy `served`, with its features."""
    with Serving(people.uri(WRITER), "served", spool=False, model_name="m") as live:
        live.record("AAPL", output=0.5, features={"close": [1.0]}, as_of=MOMENT)


def waiting(folder: Path) -> None:
    """A spool with a prediction that was made while the database was away."""
    away = "postgresql+timescaledb://ann@127.0.0.1:1/trading"
    with Serving(away, "served", spool=folder, model_name="m", patience=0.01) as live:
        live.record("MSFT", output=0.5, features={"close": [1.0]}, as_of=MOMENT)


def monitor_of(people: Logins, role: str) -> DriftMonitor:
    return DriftMonitor(people.uri(role), "momentum", tracking_uri=False, notify=())
