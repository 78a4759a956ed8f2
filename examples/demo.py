"""From real prices to a champion in the model registry, with ordinary MLflow calls.

Twenty S&P 500 stocks, 1990 to 2022. A model learns from momentum, volatility and RSI which stocks
will do better than the others over the next five sessions; what it has learnt by the end of 2015
is tried on 2016 to 2019, which it has never seen.

Run it with `mlflow-timescale demo`, or `python -m mlflow_timescale.examples.demo`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import exchange_calendars
import matplotlib as mpl
import mlflow
import numpy as np
import pandas as pd
import sklearn
from matplotlib.figure import Figure
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.utils.git_utils import get_git_commit
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE
from skfolio.datasets import load_sp500_dataset
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from mlflow_timescale import run_context

FEATURES = ["ret_5d", "ret_20d", "mom_12_1", "vol_20d", "rsi_14"]
SESSIONS_PER_YEAR = 252
# The model's file holds this class of scikit-learn's; MLflow requires that its reader trusts it.
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
NOTE = (
    "Twenty stocks that are all still large today: survivorship flatters every figure. "
    "An example of the workflow, not of a strategy."
)


@dataclass(frozen=True)
class Settings:
    """What the demo does; the model's own parameters are logged from here."""

    experiment: str = "sp500-momentum"
    model_name: str = "momentum_gbm"
    strategy_type: str = "momentum"
    first_session: str = "1990-01-02"
    validate_from: str = "2012-01-03"
    train_until: str = "2015-12-31"
    test_until: str = "2019-12-31"
    horizon: int = 5
    learning_rate: float = 0.03
    max_iterations: int = 150
    max_depth: int = 2
    min_samples_leaf: int = 500
    cost_bps: float = 5.0


@dataclass(frozen=True)
class Outcome:
    """What the demo leaves behind."""

    experiment_id: str
    run_id: str
    model_name: str
    version: str
    metrics: dict[str, float]


# The data is small. On a busy machine OpenMP's threads wait for each other: 60 s instead of 1.
@threadpool_limits.wrap(limits=1)
def main(uri: str, settings: Settings = Settings(), step: Callable[[str], Any] = print) -> Outcome:
    """Train, log, register and promote; `step` receives the title of each step."""
    mpl.use("Agg")
    step("Open the database")
    mlflow.set_tracking_uri(uri)
    open_experiment(settings.experiment)
    step("Load prices of 20 S&P 500 stocks")
    prices = load_prices(settings)
    step("Compute momentum, volatility and RSI")
    panel = build_panel(prices, settings)
    with mlflow.start_run(run_name=settings.model_name, tags=tags(settings)) as run:
        mlflow.log_params(params(settings))
        step("Choose the number of boosting iterations on 2012-2015")
        iterations = choose_iterations(panel, settings)
        step("Train on everything known by the end of 2015")
        train, test = periods(panel, settings)
        model = fit(train, settings, iterations)
        mlflow.log_input(dataset(train, "sp500-20-train"), context="training")
        mlflow.log_input(dataset(test, "sp500-20-test"), context="testing")
        step("Log the model")
        logged = log_model(model, train)
        step("Evaluate on 2016-2019, session by session")
        metrics = evaluate(model, train, test, prices, settings, logged.model_id)
    step("Register it and make it champion")
    version = register(logged.model_uri, run.info.run_id, settings)
    return Outcome(run.info.experiment_id, run.info.run_id, settings.model_name, version, metrics)


def open_experiment(name: str) -> None:
    """Make the experiment the active one, restoring it if it was deleted."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    mlflow.set_experiment(name)


def load_prices(settings: Settings) -> pd.DataFrame:
    """Adjusted closes, one column per stock, indexed by the time of the session's close in UTC."""
    prices = load_sp500_dataset().loc[settings.first_session :]
    calendar = exchange_calendars.get_calendar("XNYS", start=prices.index[0], end=prices.index[-1])
    prices.index = pd.DatetimeIndex(calendar.closes.loc[prices.index], name="session_close")
    return prices.rename_axis(columns="stock")


def build_panel(prices: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """One row per session close and stock: features, target, and when the target was known.

    Features and target are ranks among the stocks of the session, from -0.5 to 0.5. The target is
    the return from the *next* close on: a close is known too late to trade at it.
    """
    features = {name: ranked(values) for name, values in compute_features(prices).items()}
    bought, sold = prices.shift(-1), prices.shift(-1 - settings.horizon)
    columns = {**features, "forward_return": sold / bought - 1}
    panel = pd.concat({name: frame.stack() for name, frame in columns.items()}, axis=1)
    panel["target"] = ranked(panel["forward_return"].unstack()).stack()
    known_at = pd.Series(prices.index, prices.index).shift(-1 - settings.horizon)
    panel["known_at"] = known_at.reindex(panel.index.get_level_values("session_close")).to_numpy()
    return panel.dropna(subset=FEATURES)


def compute_features(prices: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The features as they are known at each close: rolling windows that end there."""
    returns = prices.pct_change()
    return {
        "ret_5d": prices.pct_change(5),
        "ret_20d": prices.pct_change(20),
        "mom_12_1": prices.shift(21) / prices.shift(252) - 1,
        "vol_20d": returns.rolling(20).std() * np.sqrt(SESSIONS_PER_YEAR),
        "rsi_14": rsi(prices, 14),
    }


def rsi(prices: pd.DataFrame, window: int) -> pd.DataFrame:
    """Relative strength index, from 0 to 100, with Wilder's smoothing.

    J. W. Wilder, New Concepts in Technical Trading Systems, 1978.

    >>> rsi(pd.DataFrame({"A": [10.0, 11.0, 12.0, 11.5]}), window=2)["A"].round(1).tolist()
    [nan, nan, 100.0, 66.7]
    """
    change = prices.diff()
    smooth = {"alpha": 1 / window, "adjust": False, "min_periods": window}
    gain = change.clip(lower=0).ewm(**smooth).mean()
    loss = (-change).clip(lower=0).ewm(**smooth).mean()
    return 100 - 100 / (1 + gain / loss)


def ranked(values: pd.DataFrame) -> pd.DataFrame:
    """Each row's percentile ranks, centred on zero."""
    return values.rank(axis=1, pct=True) - 0.5


def periods(panel: pd.DataFrame, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows."""
    train = known_by(panel, settings.train_until)
    return train, between(panel, settings.train_until, settings.test_until)


def known_by(panel: pd.DataFrame, end: str) -> pd.DataFrame:
    """The rows whose target was known at the end of a day.

    The last sessions before it drop out: their returns reach into what comes after. That gap is
    what keeps the test period out of the training data.
    """
    return panel[panel["known_at"] < _midnight_after(end)]


def between(panel: pd.DataFrame, after: str, until: str) -> pd.DataFrame:
    """The rows with a target whose session is after one day and not after another."""
    close = panel.index.get_level_values("session_close")
    inside = (close >= _midnight_after(after)) & (close < _midnight_after(until))
    return panel[inside & panel["known_at"].notna()]


def _midnight_after(day: str) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)


def choose_iterations(panel: pd.DataFrame, settings: Settings) -> int:
    """Boost on the years before the validation period, and find where its loss is lowest."""
    eve = str((pd.Timestamp(settings.validate_from) - pd.Timedelta(days=1)).date())
    early = known_by(panel, eve)
    # Also purged at its end, so that no return reaches into the test period.
    validation = known_by(between(panel, eve, settings.train_until), settings.train_until)
    model = fit(early, settings, settings.max_iterations)
    losses = {"train/loss": staged_loss(model, early), "val/loss": staged_loss(model, validation)}
    log_series({name: pd.Series(values) for name, values in losses.items()})
    log_series({"val/ic_month": monthly(session_ic(model, validation))})
    best = int(np.argmin(losses["val/loss"])) + 1
    mlflow.log_param("iterations", best)
    return best


def fit(rows: pd.DataFrame, settings: Settings, iterations: int) -> HistGradientBoostingRegressor:
    """Gradient boosting over shallow trees, the same model for every stock."""
    model = HistGradientBoostingRegressor(
        learning_rate=settings.learning_rate,
        max_iter=iterations,
        max_depth=settings.max_depth,
        min_samples_leaf=settings.min_samples_leaf,
        random_state=0,
    )
    return model.fit(rows[FEATURES], rows["target"])


def staged_loss(model: HistGradientBoostingRegressor, rows: pd.DataFrame) -> list[float]:
    """The mean squared error after each boosting iteration."""
    target = rows["target"].to_numpy()
    return [float(np.mean((p - target) ** 2)) for p in model.staged_predict(rows[FEATURES])]


def session_ic(model: HistGradientBoostingRegressor, rows: pd.DataFrame) -> pd.Series:
    """The information coefficient of each session: Spearman's correlation over the stocks."""
    signal = pd.Series(model.predict(rows[FEATURES]), rows.index).unstack()
    outcome = rows["forward_return"].unstack()
    return signal.rank(axis=1).corrwith(outcome.rank(axis=1), axis=1)


def monthly(values: pd.Series) -> pd.Series:
    """The mean of each month, at the close of its last session."""
    month = values.index.strftime("%Y-%m")
    last_close = values.index.to_series().groupby(month).last()
    return values.groupby(month).mean().set_axis(pd.DatetimeIndex(last_close))


def backtest(
    model: HistGradientBoostingRegressor, rows: pd.DataFrame, prices: pd.DataFrame, s: Settings
) -> pd.Series:
    """Daily returns, after costs, of holding the signal long and short for `horizon` sessions.

    Weights sum to zero, and their sizes to one. Those of a close are traded at the next one.
    """
    signal = pd.Series(model.predict(rows[FEATURES]), rows.index).unstack()
    weights = signal.rank(axis=1).sub(signal.rank(axis=1).mean(axis=1), axis=0)
    weights = weights.div(weights.abs().sum(axis=1), axis=0).rolling(s.horizon).mean().dropna()
    held = weights.reindex(prices.index).shift(2)
    returns = (held * prices.pct_change()).sum(axis=1, min_count=1).dropna()
    turnover = held.fillna(0).diff().abs().sum(axis=1).reindex(returns.index)
    return returns - turnover * s.cost_bps / 1e4


def performance(returns: pd.Series) -> dict[str, float]:
    """Annualised Sharpe ratio (without a risk-free rate), total return and maximal drawdown."""
    equity = (1 + returns).cumprod()
    return {
        "backtest/sharpe_ratio": returns.mean() / returns.std() * np.sqrt(SESSIONS_PER_YEAR),
        "backtest/total_return": equity.iloc[-1] - 1,
        "backtest/max_drawdown": float((1 - equity / equity.cummax()).max()),
    }


def evaluate(
    model: HistGradientBoostingRegressor,
    train: pd.DataFrame,
    test: pd.DataFrame,
    prices: pd.DataFrame,
    settings: Settings,
    model_id: str,
) -> dict[str, float]:
    """Log the figures, each session's beside them, and the plots; return the figures."""
    ic = session_ic(model, test)
    ic_month = monthly(ic)
    returns = backtest(model, test, prices, settings)
    equity = (1 + returns).cumprod()
    log_series({"test/ic_month": ic_month, "backtest/equity": equity})
    figures = {
        "train/ic": session_ic(model, train).mean(),
        "test/ic": ic.mean(),
        "test/ir": ic_month.mean() / ic_month.std() * np.sqrt(12),
        **performance(returns),
    }
    metrics = {name: float(value) for name, value in figures.items()}
    mlflow.log_metrics(metrics, model_id=model_id)
    mlflow.log_figure(plot_equity(equity), "plots/equity.png")
    mlflow.log_figure(plot_ic(ic_month), "plots/ic_by_month.png")
    return metrics


def log_series(series: dict[str, pd.Series]) -> None:
    """Log whole curves at once; what is indexed by time keeps that time as its timestamp."""
    now = pd.Timestamp.now("UTC")
    points = [
        Metric(name, float(value), int((at if _is_time(at) else now).timestamp() * 1000), step)
        for name, values in series.items()
        for step, (at, value) in enumerate(values.items())
    ]
    run_id = mlflow.active_run().info.run_id
    for start in range(0, len(points), 1000):
        mlflow.MlflowClient().log_batch(run_id, metrics=points[start : start + 1000])


def _is_time(label: object) -> bool:
    return isinstance(label, pd.Timestamp)


def dataset(rows: pd.DataFrame, name: str) -> Any:
    """The rows as MLflow's dataset: schema, digest and size go into the run."""
    frame = rows[[*FEATURES, "target"]].reset_index()
    return mlflow.data.from_pandas(frame, name=name, targets="target")


def log_model(model: HistGradientBoostingRegressor, rows: pd.DataFrame) -> Any:
    """Log the model with its signature, an example of its input, and what it needs to be loaded."""
    example = rows[FEATURES].head(5).reset_index(drop=True)
    return mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(example, model.predict(example)),
        input_example=example,
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"pandas=={pd.__version__}"],
        skops_trusted_types=TRUSTED,
    )


def register(model_uri: str, run_id: str, settings: Settings) -> str:
    """Register a new version, then move the alias: there is no moment without a champion."""
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(
            settings.model_name,
            tags={"strategy_type": settings.strategy_type},
            description="Ranks S&P 500 stocks by momentum, volatility and RSI.",
        )
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        settings.model_name,
        model_uri,
        run_id,
        tags={"strategy_type": settings.strategy_type},
        description=f"Trained on data to {settings.train_until}. {NOTE}",
    ).version
    client.set_registered_model_alias(settings.model_name, "champion", version)
    return str(version)


def params(settings: Settings) -> dict[str, Any]:
    """What is worth knowing about a training run, as parameters."""
    names = {"experiment", "model_name", "strategy_type", "first_session", "train_until"}
    logged = {name: value for name, value in asdict(settings).items() if name not in names}
    return {
        **logged,
        "features": ",".join(FEATURES),
        "dataset_start": settings.first_session,
        "dataset_end": settings.train_until,
    }


def tags(settings: Settings) -> dict[str, str]:
    """The run's tags: what kind of strategy it is, and which code made it."""
    directory = Path(__file__).resolve().parent
    code = {
        MLFLOW_GIT_COMMIT: get_git_commit(str(directory)),
        run_context.DIRTY: run_context.dirty(directory),
    }
    return {
        "strategy_type": settings.strategy_type,
        MLFLOW_RUN_NOTE: NOTE,
        **{key: value for key, value in code.items() if value is not None},
    }


def plot_equity(equity: pd.Series) -> Figure:
    """What one dollar became."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(title="Backtest, long and short, after costs", ylabel="equity")
    axes.plot(equity.index, equity)
    axes.axhline(1, color="grey", linewidth=0.8)
    return figure


def plot_ic(ic: pd.Series) -> Figure:
    """The information coefficient, month by month, and its mean over a year."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(title="Information coefficient by month", ylabel="IC")
    axes.bar(ic.index, ic, width=20, alpha=0.5, label="month")
    axes.plot(ic.index, ic.rolling(12).mean(), color="black", label="12 months")
    axes.legend()
    return figure


if __name__ == "__main__":
    from mlflow_timescale.cli.options import default_uri

    print(main(default_uri().url))
