"""What `doctor` finds in the spool of a database on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from mlflow_timescale.operations.findings import Finding, Patient, in_bytes
from mlflow_timescale.spool import Spool, Status
from mlflow_timescale.spool.places import folder_of

_PATIENCE = timedelta(hours=1)  # after which a person should look why writes still wait
_DRAIN = "mlflow-timescale spool drain"


def spool(patient: Patient) -> Iterator[Finding]:
    """Whether writes wait here, or were refused, damaged or dropped."""
    path = folder_of(patient.uri)
    if not path.exists():
        return
    status = Spool(path).status()
    data = {"spool": str(path), "waiting": status.waiting, "refused": len(status.refused)}
    lost = _lost(status)
    if lost:
        advice = "mlflow-timescale spool status lists them."
        yield Finding("spool", "action", f"{path}: {', '.join(lost)}", advice, data)
    if status.waiting:
        is_late = status.oldest is not None and _age(status.oldest) > _PATIENCE
        text = f"{path}: waiting writes: {status.waiting:,}, {in_bytes(status.bytes)}"
        since = f", the oldest since {status.oldest:%Y-%m-%d %H:%MZ}" if status.oldest else ""
        yield Finding("spool", "action" if is_late else "note", text + since, _DRAIN, data)
    elif not lost:
        yield Finding("spool", "ok", f"{path}: nothing waits", data=data)


def _lost(status: Status) -> list[str]:
    counts = {
        "refused": len(status.refused),
        "damaged": len(status.damaged),
        "dropped because it was full": status.dropped,
    }
    return [f"{count:,} {what}" for what, count in counts.items() if count]


def _age(moment: datetime) -> timedelta:
    return datetime.now(timezone.utc) - moment
