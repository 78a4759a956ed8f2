"""Traces while the database is away: their spans, and the trace info.

MLflow's exporter drops both if the store raises, the spans without a log message.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from mlflow.entities import Span, TraceInfo
from mlflow.tracing.constant import SpansLocation, TraceTagKey

from mlflow_timescale.tracking.spooled import Call
from mlflow_timescale.tracking.store import TimescaleTracking


class SpoolingTraces(TimescaleTracking):
    """The writes of MLflow's exporter of traces; a part of `SpoolingTracking`."""

    _write: Callable[..., Any]
    _call: Callable[..., Call]

    def start_trace(self, trace_info: TraceInfo) -> TraceInfo:
        now = partial(super().start_trace, trace_info)
        call = self._call("start_trace", trace_info.trace_id, json.dumps(trace_info.to_dict()))
        trace: TraceInfo = self._write(call, now, lambda: _with_spans(trace_info))
        return trace

    def log_spans(self, location: str, spans: list[Span], tracking_uri: Any = None) -> list[Span]:
        now = partial(super().log_spans, location, spans, tracking_uri)
        texts = [json.dumps(span.to_dict()) for span in spans]
        logged: list[Span] = self._write(
            self._call("log_spans", location, texts), now, lambda: spans
        )
        return logged


def _with_spans(trace_info: TraceInfo) -> TraceInfo:
    """The trace info with the tag that its spans are stored; MLflow would upload them otherwise."""
    tags = {**trace_info.tags, TraceTagKey.SPANS_LOCATION: SpansLocation.TRACKING_STORE.value}
    return TraceInfo.from_dict({**trace_info.to_dict(), "tags": tags})
