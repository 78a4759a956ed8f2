"""Step 3: a model from a snapshot, logged with its parameters, data, code and metrics.

    python -m mlflow_timescale.examples.workflow.training SNAPSHOT CANDIDATE TRAIN_UNTIL

trains one candidate and logs it as a run; `mlflow-timescale reproduce --check --rerun` calls it so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import date
from typing import Any

import mlflow
import pandas as pd
import sklearn
from mlflow.models import infer_signature
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from mlflow_timescale.features import Snapshot, load_snapshot
from mlflow_timescale.operations.reproduce_rerun import COMMAND, REPRODUCES

from .. import demo
from .settings import FEATURES, LABEL, Settings


def train_once(snapshot: Snapshot, candidate: str, until: date, settings: Settings) -> str:
    """The run of a training: one that has finished, so that no story trains a model twice."""
    mlflow.set_experiment(settings.name)
    done = _finished(_tags(snapshot, candidate, until))
    return done or train(snapshot, candidate, until, settings)


@threadpool_limits.wrap(limits=1)  # the data is small; threads would wait for each other
def train(snapshot: Snapshot, candidate: str, until: date, settings: Settings) -> str:
    """Train a candidate on what was known at the end of a date; return the id of the run."""
    mlflow.set_experiment(settings.name)
    tags = _tags(snapshot, candidate, until)
    parameters = settings.candidates[candidate]
    past, later = split(snapshot.to_pandas(), until)
    with mlflow.start_run(run_name=f"{candidate} until {until}", tags={**tags, **_code()}) as run:
        mlflow.log_params({"model": candidate, **parameters, "features": ",".join(FEATURES)})
        mlflow.log_params({"train_until": until, "target": "rank of the next return"})
        mlflow.log_input(snapshot.to_mlflow(targets=LABEL), context="training")
        model = build(candidate, parameters).fit(past[FEATURES], ranks(past))
        mlflow.log_metrics({"train/ic": daily_ic(model, past).mean()})
        if len(later):
            mlflow.log_metrics({"test/ic": daily_ic(model, later).mean()})
        log_model(model, past)
    return str(run.info.run_id)


def split(rows: pd.DataFrame, until: date) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows whose return was known at the end of a date, and those that were decided after it.

    What was decided before and known after belongs to neither.
    """
    end = pd.Timestamp(until, tz="UTC") + pd.Timedelta(days=1)
    rows = rows.dropna(subset=FEATURES)
    return rows[rows["known_at"] <= end], rows[rows["as_of"] > end]


def build(candidate: str, parameters: Mapping[str, Any]) -> Any:
    """The estimator of a candidate, not fitted. It draws no random numbers, so it has no seed."""
    ridge = Ridge(alpha=parameters["alpha"])
    if candidate == "ridge":
        return make_pipeline(StandardScaler(), ridge)
    products = PolynomialFeatures(parameters["degree"], include_bias=False)
    return make_pipeline(StandardScaler(), products, ridge)


def ranks(rows: pd.DataFrame) -> pd.Series:
    """The target: the rank of each return among those of its session, from -0.5 to 0.5."""
    return rows.groupby("as_of")[LABEL].rank(pct=True) - 0.5


def daily_ic(model: Any, rows: pd.DataFrame) -> pd.Series:
    """The information coefficient of each session: Spearman's correlation over the stocks."""
    scored = rows.assign(signal=model.predict(rows[FEATURES]))
    wide = scored.pivot(index="as_of", columns="entity_key", values=["signal", LABEL])
    return wide["signal"].rank(axis=1).corrwith(wide[LABEL].rank(axis=1), axis=1)


def log_model(model: Any, rows: pd.DataFrame) -> None:
    """Log the model with its signature, from which `Serving` knows the features to read."""
    example = rows[FEATURES].head(5).reset_index(drop=True)
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(example, model.predict(example)),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
    )


def _tags(snapshot: Snapshot, candidate: str, until: date) -> dict[str, str]:
    """What identifies a training: the candidate, the end of its data, and the data themselves."""
    module = __spec__.name if __name__ == "__main__" else __name__
    command = [sys.executable, "-m", module, snapshot.url, candidate, until.isoformat()]
    return {
        "candidate": candidate,
        "dataset_end": until.isoformat(),
        "fingerprint": snapshot.fingerprint,
        COMMAND: json.dumps(command),
    }


def _code() -> dict[str, str]:
    """The commit of the examples, and whether files differ from it."""
    return demo.tags(demo.Settings())


def _finished(tags: Mapping[str, str]) -> str | None:
    """The run with these tags that has finished; those that were killed are marked as such."""
    names = ("candidate", "dataset_end", "fingerprint")
    condition = " and ".join(f"tags.{name} = '{tags[name]}'" for name in names)
    client = mlflow.MlflowClient()
    for run in mlflow.search_runs(filter_string=condition, output_format="list"):
        if REPRODUCES in run.data.tags:
            continue
        if run.info.status == "FINISHED":
            return str(run.info.run_id)
        client.set_terminated(run.info.run_id, "KILLED")
    return None


def main(arguments: list[str]) -> str:
    """The command line of this module."""
    folder, candidate, until = arguments
    return train(load_snapshot(folder), candidate, date.fromisoformat(until), Settings())


if __name__ == "__main__":
    print(main(sys.argv[1:]))
