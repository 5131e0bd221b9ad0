"""What people see of an outcome once it is durable: counts, spans, one canonical line."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter as Tally

import structlog

from outbox import trace
from outbox.batch import Wait
from outbox.outcome import Reason
from relay.decide import Rows
from relay.delivery import Delivery
from relay.metrics import RelayMetrics
from relay.pending import Pending

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def report(pending: Pending, metrics: RelayMetrics) -> None:
    """Count and log what was written."""
    now = time.monotonic()
    ended = Tally([(row.event.type, row.outcome) for row in pending.batch.receipts])
    for (event_type, outcome), count in ended.items():
        metrics.settled.labels(metrics.type_label(event_type), outcome).inc(count)
    for wait in pending.batch.waits:
        _count_wait(metrics, wait)
    metrics.settle_delay.observe_all(
        [
            now - delivery.dispatched_at
            for delivery, rows in pending.settled
            if rows.receipt is not None and delivery.dispatched_at
        ]
    )
    logged = log.is_enabled_for(logging.INFO)
    for delivery, rows in pending.settled:
        if delivery.traced is not None:
            ended_as = "waits" if rows.receipt is None else rows.receipt.outcome
            span, concluded_at = delivery.traced
            attributes = {"outbox.event_id": delivery.event.id, "outbox.outcome": ended_as}
            trace.settled(span, now - concluded_at, attributes)
        if logged or rows.receipt is None or rows.receipt.outcome != "published":
            _log(delivery, rows, now)


def _count_wait(metrics: RelayMetrics, wait: Wait) -> None:
    label = metrics.type_label(wait.event.type)
    if wait.reason is Reason.RETRY:
        metrics.retries.labels(label).inc()
    else:
        metrics.deferrals.labels(label, wait.reason.value).inc()
    if wait.reason is Reason.UNKNOWN:
        metrics.unknown.labels(label).inc()


def _log(delivery: Delivery, rows: Rows, now: float) -> None:
    """Write the one canonical line of an outcome."""
    event = delivery.event
    facts: dict[str, object] = {"event_id": event.id, "type": event.type, "key": event.key}
    facts |= {"attempts": delivery.attempts, "deferrals": delivery.deferrals}
    if delivery.dispatched_at:
        facts["handled_seconds"] = round(now - delivery.dispatched_at, 3)
    if rows.receipt is not None:
        facts |= {"outcome": rows.receipt.outcome, "reason": rows.receipt.reason, "error": rows.receipt.error}
        level = logging.WARNING if rows.receipt.outcome == "dead" else logging.INFO
        log.log(level, "event.settled", **_known(facts))
    elif rows.wait is not None:
        facts |= {"reason": rows.wait.reason.value, "error": rows.wait.error}
        if math.isfinite(rows.wait.delay_seconds):
            facts["due_seconds"] = round(rows.wait.delay_seconds, 3)
        needs_a_person = rows.wait.reason is Reason.UNKNOWN and math.isinf(rows.wait.delay_seconds)
        log.log(logging.ERROR if needs_a_person else logging.INFO, "event.waits", **_known(facts))


def _known(facts: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in facts.items() if value is not None}
