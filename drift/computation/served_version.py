"""Was the version that a session was served by the champion?"""

from __future__ import annotations

from datetime import date, datetime, timezone

from mlflow_timescale.common.calendars import TradingCalendar

from ..inputs.champions import Champions, Championship
from ..inputs.signals_and_returns import Observed
from ..results.values import Value

METRIC = "version_differs"


def served_version(
    observed: Observed, champions: Champions, calendar: TradingCalendar
) -> tuple[Value, str]:
    """1 if the judged version was not the champion when it signalled, 0 if it was; and a note.

    The value is null, with a status, where the predictions name no version of a registered model,
    and "unknown" before the registry's history begins. The last session that has closed is compared
    with the champion of today where the history does not reach back to its signals.
    """
    primary = observed.primary
    model, version = (primary.model_name, primary.model_version) if primary else ("", "")
    if not model or not version:
        return Value(observed.session, METRIC, "", None, 0, "no_version"), ""
    signalled = observed.as_of or calendar.session_close(observed.session)
    champion = champion_of(model, observed.session, signalled, champions, calendar)
    if champion is None:
        return Value(observed.session, METRIC, "", None, 0, "unknown"), ""
    differs = not champion.names(version)
    note = f"served {model}/{version}, champion is {champion}" if differs else ""
    return Value(observed.session, METRIC, "", float(differs), 1, "ok"), note


def champion_of(
    model: str, session: date, signalled: datetime, champions: Champions, calendar: TradingCalendar
) -> Championship | None:
    """The champion when a session signalled; of the last session that closed, else that of today.

    None where the registry's history does not reach back to the signals, or there was none.
    """
    champion = champions.at(model, signalled)
    begin = champions.begin(model)
    if champion is not None or begin is None or signalled >= begin:
        return champion
    is_last = calendar.last_sessions(1, datetime.now(timezone.utc))[-1] == session
    return champions.now(model) if is_last else None
