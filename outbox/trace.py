"""OpenTelemetry, where the process has it: the application's trace goes on through emit, dispatch and settle.

Nothing is imported here: a process that uses OpenTelemetry has imported it before, and in one that does not a span
costs a look into `sys.modules`. The context travels as W3C `traceparent` and `tracestate` in the event's headers;
baggage does not.

Spans carry ids, types and outcomes. An exception's text is not recorded: it may quote what is secret.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from outbox.event import Event, JsonObject

TRACER: Final = "outbox-relay"
_API: Final = "opentelemetry.trace"
_NO_SPAN: Final[AbstractContextManager[None]] = nullcontext()


def current_headers() -> dict[str, str]:
    """Return the headers that carry the current span's context; none where there is no span."""
    if _API not in sys.modules:
        return {}
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier


def is_on() -> bool:
    """Whether this process uses OpenTelemetry."""
    return _API in sys.modules


def span(name: str, kind: str = "internal", attributes: JsonObject | None = None) -> AbstractContextManager[Any]:
    """Run the block in a span; gives the span, or None where nothing is traced."""
    return _start(name, kind, attributes or {}, None) if is_on() else _NO_SPAN


def dispatch(event: Event) -> AbstractContextManager[Any]:
    """Run a handler in a span that goes on from the one in which the event was emitted."""
    if not is_on():
        return _NO_SPAN
    carrier = {name: value for name, value in event.headers.items() if isinstance(value, str)}
    attributes = {"outbox.event_id": event.id, "outbox.type": event.type, "outbox.key": event.key or ""}
    return _start("outbox dispatch", "consumer", attributes, _propagator().extract(carrier))


def settled(dispatched: Any, seconds: float, attributes: JsonObject) -> None:
    """Tell of an outcome that is durable: a span of so many seconds until now, under the one of its dispatch."""
    if dispatched is None or _API not in sys.modules:
        return
    api: Any = sys.modules[_API]
    ended_at = time.time_ns()
    started = api.get_tracer(TRACER).start_span(
        "outbox settle",
        context=api.set_span_in_context(api.NonRecordingSpan(dispatched)),
        attributes=attributes,
        start_time=ended_at - round(seconds * 1e9),
    )
    started.end(ended_at)


def _start(name: str, kind: str, attributes: JsonObject, context: Any) -> AbstractContextManager[Any]:
    api: Any = sys.modules[_API]
    started: AbstractContextManager[Any] = api.get_tracer(TRACER).start_as_current_span(
        name,
        context=context,
        kind=api.SpanKind[kind.upper()],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )
    return started


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 (is there, for its parent is)
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator()
