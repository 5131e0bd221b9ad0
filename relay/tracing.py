"""Sends spans to a collector where OUTBOX_TRACES asks for it: OpenTelemetry's SDK, set by its own OTEL_* variables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from outbox.errors import OutboxError

FLUSH_SECONDS: Final = 600


@contextmanager
def open_traces(traces: Literal["off", "otlp"]) -> Iterator[None]:
    """Export spans for the block, and the last ones at its end.

    Raises:
        OutboxError: The extra is not installed.
    """
    if traces == "off":
        yield
        return
    try:
        from opentelemetry import trace  # noqa: PLC0415 (an optional extra, and slow)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise OutboxError(
            f"expected OpenTelemetry for OUTBOX_TRACES=otlp, found no {error.name}: pip install 'outbox-relay[otel]'"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "outbox-relay"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def flush() -> None:
    """Export what was not yet, in a process that has opened traces."""
    from opentelemetry import trace  # noqa: PLC0415 (an optional extra, and slow)
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.force_flush(FLUSH_SECONDS * 1000)
