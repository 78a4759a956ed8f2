"""A small data folder in qlib's own format, made up, and a workflow on it.

qlib's data is one file of little-endian float32 for each instrument and field: the index of its
first day in the calendar, then one value a day.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MARKET, BENCHMARK = "csi300", "SH000300"
FIRST, LAST = "2019-01-01", "2020-06-30"


def write_data(
    folder: Path, instruments: int = 12, first: str = FIRST, last: str = LAST, seed: int = 0
) -> Path:
    """Write prices of some instruments and a benchmark on weekdays; return the folder."""
    calendar = pd.bdate_range(first, last)
    names = [f"SH{600000 + number}" for number in range(instruments)]
    spans = {"all": [*names, BENCHMARK], MARKET: names}
    (folder / "calendars").mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("".join(f"{day:%Y-%m-%d}\n" for day in calendar))
    (folder / "instruments").mkdir()
    for market, members in spans.items():
        lines = [f"{name}\t{first}\t{last}\n" for name in members]
        (folder / "instruments" / f"{market}.txt").write_text("".join(lines))
    rng = np.random.default_rng(seed)
    for name in spans["all"]:
        _write_instrument(folder / "features" / name.lower(), len(calendar), rng)
    return folder


def _write_instrument(folder: Path, days: int, rng: np.random.Generator) -> None:
    close = 10 * np.exp(np.cumsum(rng.normal(0.0003, 0.02, days)))
    opened = close * np.exp(rng.normal(0, 0.005, days))
    high = np.maximum(opened, close) * (1 + abs(rng.normal(0, 0.004, days)))
    low = np.minimum(opened, close) * (1 - abs(rng.normal(0, 0.004, days)))
    fields = {
        "open": opened,
        "high": high,
        "low": low,
        "close": close,
        "volume": rng.lognormal(12, 0.5, days),
        "vwap": (opened + high + low + close) / 4,
        "factor": np.ones(days),
        "change": np.r_[0, close[1:] / close[:-1] - 1],
    }
    folder.mkdir(parents=True)
    for field, values in fields.items():
        np.r_[0.0, values].astype("<f4").tofile(folder / f"{field}.day.bin")


def workflow(data: Path, **changes: Any) -> dict[str, Any]:
    """A workflow on `write_data`: LightGBM on Alpha158; signals, IC and portfolio are recorded.

    A change replaces a key of the top level.
    """
    records = "qlib.workflow.record_temp"
    handler = {
        "start_time": FIRST,
        "end_time": LAST,
        "fit_start_time": FIRST,
        "fit_end_time": "2019-12-31",
        "instruments": MARKET,
    }
    strategy = {
        "class": "TopkDropoutStrategy",
        "module_path": "qlib.contrib.strategy",
        "kwargs": {"signal": "<PRED>", "topk": 4, "n_drop": 1},
    }
    backtest = {
        "start_time": "2020-04-01",
        "end_time": "2020-06-26",
        "account": 1_000_000,
        "benchmark": BENCHMARK,
        "exchange_kwargs": {"limit_threshold": 0.095, "deal_price": "close"},
    }
    task = {
        "model": {
            "class": "LGBModel",
            "module_path": "qlib.contrib.model.gbdt",
            "kwargs": {"loss": "mse", "num_leaves": 8, "num_threads": 1, "num_boost_round": 10},
        },
        "dataset": {
            "class": "DatasetH",
            "module_path": "qlib.data.dataset",
            "kwargs": {
                "handler": {
                    "class": "Alpha158",
                    "module_path": "qlib.contrib.data.handler",
                    "kwargs": handler,
                },
                "segments": {
                    "train": [FIRST, "2019-12-31"],
                    "valid": ["2020-01-01", "2020-03-31"],
                    "test": ["2020-04-01", "2020-06-26"],
                },
            },
        },
        "record": [
            {
                "class": "SignalRecord",
                "module_path": records,
                "kwargs": {"model": "<MODEL>", "dataset": "<DATASET>"},
            },
            {"class": "SigAnaRecord", "module_path": records, "kwargs": {"ann_scaler": 252}},
            {
                "class": "PortAnaRecord",
                "module_path": records,
                "kwargs": {"config": {"strategy": strategy, "backtest": backtest}},
            },
        ],
    }
    init = {"provider_uri": str(data), "region": "cn", "kernels": 1}
    return copy.deepcopy({"qlib_init": init, "task": task, **changes})
