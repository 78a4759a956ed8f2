"""Real prices: the break of 2020 is found, and quiet years stay quieter than the classic matrix."""

from __future__ import annotations

from datetime import date

import pytest

from benchmarks.drift import replay as replaying
from drift import DriftMonitor
from mlflow_timescale.db.uri import DatabaseURI

pytestmark = pytest.mark.slow


def test_the_break_of_2020_is_found(database: DatabaseURI) -> None:
    found = replaying.market()
    monitor = DriftMonitor(database, "replay-default", tracking_uri=False)
    replaying.write_features(database, monitor, found)
    default = replaying.replay(database, "default", found)
    [crash] = [
        alert
        for alert in default.alerts()
        if alert.rule == "feature drift" and date(2020, 2, 19) <= alert.session <= date(2020, 3, 5)
    ]
    assert crash.resolved_session is not None
    assert (crash.resolved_session - crash.session).days > 60
    assert "ret_5d" in crash.note
    quiet = replaying.false_alarms(default)
    assert not [alert for alert in quiet if alert.severity == "emergency"]
    classic = replaying.replay(database, "classic", found)
    halts = [a for a in replaying.false_alarms(classic) if a.severity == "emergency"]
    assert len(halts) > 40
    assert len(quiet) < 40
    assert "2020-03-31" in default.report(date(2020, 3, 31))
