"""`outbox bench traces`: what OpenTelemetry costs a relay, beside the same drain without it.

Both sides drain a backlog through a handler that does nothing, in turns. The one with traces makes two spans an event,
dispatch and settle, and exports every one of them to a collector in this process, whose CPU is none of the relay's. Its
figures end when the last span is exported.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString

from outbox.errors import OutboxError
from relay.bench.drain import drain
from relay.bench.progress import Tell
from relay.bench.readings import Cost
from schema.server import connect

TRUNCATE: LiteralString = "truncate outbox.events, outbox.receipts, outbox.steps, outbox.attempts, outbox.waiting"
SPANS_OF_EVENT: Final = 2
QUEUE_MIN: Final = 10_000


@dataclass(frozen=True, slots=True)
class Side:
    """What a drain showed, with traces or without: the round with the least CPU.

    Attributes:
        cost: Of the relay, the export among it.
        spans: That reached the collector, an event.
    """

    cost: Cost
    spans: float


@dataclass(slots=True)
class Collector:
    """Where spans go."""

    url: str
    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> None:
        """Count some more."""
        with self._lock:
            self.count += count


def traces(dsn: str, count: int, rounds: int, tell: Tell) -> dict[str, Side]:
    """Drain so many events on each side of each round, the sides in turns.

    Raises:
        OutboxError: The extra is not installed.
    """
    sides: dict[str, list[Side]] = {"off": [], "on": []}
    with _collector() as collector:
        for _ in range(rounds):
            for name, found in sides.items():
                before = collector.count
                cost = drain(dsn, count, tell, traces=_variables(collector, count) if name == "on" else None).cost
                found.append(Side(cost, (collector.count - before) / count))
                with connect(dsn) as connection:
                    connection.execute(TRUNCATE)
    return {name: min(found, key=lambda side: side.cost.cpu_microseconds or 0) for name, found in sides.items()}


def _variables(collector: Collector, count: int) -> dict[str, str]:
    """No span is dropped, whatever the rate: the cost of each is to be seen."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_MAX_QUEUE_SIZE": str(max(SPANS_OF_EVENT * count, QUEUE_MIN)),
        "OTEL_TRACES_SAMPLER": "always_on",
    }


@contextmanager
def _collector() -> Iterator[Collector]:
    """Run a collector for the block, which counts and forgets."""
    try:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 (an optional extra)
            ExportTraceServiceRequest,
        )
    except ImportError as error:
        raise OutboxError(
            f"expected OpenTelemetry to measure it, found no {error.name}: pip install 'outbox-relay[otel]'"
        ) from None

    class Taking(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            spans = ExportTraceServiceRequest.FromString(body).resource_spans
            collector.take(sum(len(scope.spans) for each in spans for scope in each.scope_spans))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (its parent's name)
            """Be quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
