"""The guide does what it says: its examples run, and every command is in it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.bitemporal import at

from feature_store.cli import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "features.md").read_text(encoding="utf-8")
EMBEDDED = "timescaledb+embedded:quant"


@pytest.mark.filterwarnings("ignore::feature_store.MixedVersions")
def test_the_examples_run(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(
        {
            "entity_key": "AAPL.NASDAQ",
            "event_time": [at(24 * d) for d in range(5)],
            "momentum_5d": np.arange(5.0),
            "rank": range(5),
            "decay": [[1, 0.5]] * 5,
        }
    )
    published = frame.assign(published_at=frame["event_time"] + timedelta(hours=1), value=1.0)
    long = published[["entity_key", "event_time", "published_at", "value"]]
    long.assign(feature_name="eps").to_parquet("features.parquet")
    spine = pd.DataFrame({"entity_key": "AAPL.NASDAQ", "as_of": [at(48), at(72)]})
    known = {"frame": frame, "spine": spine, "yesterday": at(72)}
    examples = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
    assert EMBEDDED in examples
    exec(compile(examples.replace(EMBEDDED, store.uri.url), "features.md", "exec"), known)
    assert known["train"]["momentum_5d"].tolist() == [1.0, 2.0]
    assert len(known["why"]) == 4
    known["store"].close()


def test_every_command_is_in_the_guides_and_every_command_there_exists():
    shown = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("feature*.md"))
    assert set(re.findall(r"mlflow-timescale features (\w+)", shown)) == set(COMMANDS)
