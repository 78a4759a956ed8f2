"""Steps 4 to 6: versions in the registry with their metrics, and the best one as champion."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd

from mlflow_timescale import ModelRegistry
from mlflow_timescale.features import Snapshot

from .. import demo
from .settings import FEATURES, LABEL, Settings
from .training import split

COST = 5e-4  # of the turnover


def register(registry: ModelRegistry, run_id: str, settings: Settings) -> int:
    """Step 4: register the model of a run; return the version. A second call changes nothing."""
    client = mlflow.MlflowClient()
    versions = client.search_model_versions(f"name = '{settings.name}' and run_id = '{run_id}'")
    if versions and registry.get_model(settings.name, versions[0].version).strategy_type:
        return int(versions[0].version)
    [logged] = mlflow.get_run(run_id).outputs.model_outputs
    registry.register_model(
        settings.name,
        settings.strategy_type,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        description=f"Ranks S&P 500 stocks by {', '.join(FEATURES)}. {demo.NOTE}",
    )
    [version] = client.search_model_versions(f"name = '{settings.name}' and run_id = '{run_id}'")
    return int(version.version)


def backtest(
    registry: ModelRegistry, version: int, snapshot: Snapshot, settings: Settings
) -> dict[str, float]:
    """Step 5: trade the test period on paper, and log what a version earned, as `backtest/...`."""
    reference = f"{settings.name}/{version}"
    logged = logged_metrics(registry, reference, "backtest")
    if logged:
        return logged
    model = registry.load_model(reference)
    _, rows = split(snapshot.to_pandas(), settings.train_until)
    signals = rows.assign(signal=model.predict(rows[FEATURES]))
    returns = book_returns(
        signals.pivot(index="as_of", columns="entity_key", values="signal"),
        signals.pivot(index="as_of", columns="entity_key", values=LABEL),
    )
    metrics = {
        name.removeprefix("backtest/"): float(value)
        for name, value in demo.performance(returns).items()
    }
    registry.log_metrics(reference, metrics, dataset_type="backtest")
    return metrics


def logged_metrics(registry: ModelRegistry, reference: str, dataset: str) -> dict[str, float]:
    """The metrics of a version on one kind of data, by name."""
    name, _, version = reference.partition("/")
    run_id = registry.client.get_model_version(name, version).run_id
    metrics = registry.client.get_run(run_id).data.metrics
    prefix = f"{dataset}/"
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name.startswith(prefix)
    }


def log_live_ic(registry: ModelRegistry, version: str, ic: float, settings: Settings) -> None:
    """Log the mean IC of the live sessions of a version, once."""
    reference = f"{settings.name}/{version}"
    if not logged_metrics(registry, reference, "live"):
        registry.log_metrics(reference, {"ic": ic}, dataset_type="live")


def book_returns(signals: pd.DataFrame, returns: pd.DataFrame) -> pd.Series:
    """What a book by rank earned, long and short, after costs; by the session of the decision.

    Both frames have a row for each session and a column for each stock. Weights sum to zero, and
    their sizes to one.
    """
    centred = signals.rank(axis=1).sub(signals.rank(axis=1).mean(axis=1), axis=0)
    weights = centred.div(centred.abs().sum(axis=1), axis=0)
    turnover = weights.diff().abs().sum(axis=1)
    earned: pd.Series = (weights * returns).sum(axis=1, min_count=1) - COST * turnover
    return earned


def promote_best(registry: ModelRegistry, settings: Settings) -> Any:
    """Step 6: the version with the best IC on test data becomes champion, and is loaded.

    The alias moves only if every file of the version is what was registered, and `load_model`
    compares them once more. A later champion stays.
    """
    best = registry.get_best_model(settings.strategy_type, "ic", "test")
    if best is None:
        raise LookupError(f"no version of {settings.name} has an IC on test data: train first")
    if champion(settings) is None:
        reason = f"best IC on test data: {best.metrics['ic_test']:.4f}"
        registry.set_alias(settings.name, "champion", best.model.version, reason=reason)
    registry.load_model(f"{settings.name}@champion")
    return best


def champion(settings: Settings) -> int | None:
    """The version that the alias points at, if there is one."""
    aliases = mlflow.MlflowClient().get_registered_model(settings.name).aliases
    return int(aliases["champion"]) if "champion" in aliases else None
