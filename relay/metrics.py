"""The relay's metrics. Names and labels are final; a label's values are a closed set, never an account or an event.

Age is measured, not only depth: a queue that reads zero may be one that nobody reads.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from outbox.outcome import Reason
from relay.histogram import DelayHistogram

_DELAY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

_OUTCOMES = ("published", "dead", "cancelled", "expired")

OTHER_TYPE = "other"
"""The label of an event type that nobody handles: what applications emit must not make new series."""


class RelayMetrics:
    """The relay's metrics on one registry.

    Args:
        registry: Where they are exposed.
        types: The event types that have a handler; all others are labelled `other`.
    """

    def __init__(self, registry: CollectorRegistry, types: Iterable[str]) -> None:
        self._types = frozenset(types)
        self.emitted = Counter(
            "outbox_events_emitted",
            "Events that applications emitted, as the relay reads them.",
            ["type"],
            registry=registry,
        )
        self.settled = Counter(
            "outbox_events_settled", "Events that ended, by outcome.", ["type", "outcome"], registry=registry
        )
        self.retries = Counter("outbox_retries", "Tries that failed and are repeated.", ["type"], registry=registry)
        self.deferrals = Counter(
            "outbox_deferrals", "Waits that were no failure, by reason.", ["type", "reason"], registry=registry
        )
        self.unknown = Counter(
            "outbox_unknown", "Irreversible calls whose outcome was not known afterwards.", ["type"], registry=registry
        )
        self.oldest_unsettled = Gauge(
            "outbox_oldest_unsettled_seconds",
            "Age of the oldest event that should have ended: emitted, due and without a receipt.",
            registry=registry,
        )
        self.backlog = Gauge(
            "outbox_backlog_events", "Events read or listed from the log and not settled.", registry=registry
        )
        self.waiting = Gauge(
            "outbox_waiting_events",
            "Events that wait, by reason, counted up to 10,000: a gauge that stands there means so many or more.",
            ["reason"],
            registry=registry,
        )
        self.waiting_estimate = Gauge(
            "outbox_waiting_events_estimate",
            "Events that wait, whatever the reason, as of the table's last vacuum or analyze.",
            registry=registry,
        )
        self.in_flight = Gauge("outbox_in_flight_events", "Events that a handler works on.", registry=registry)
        self.dispatch_delay = DelayHistogram(
            "outbox_dispatch_delay_seconds",
            "From emit (or publish_at, if later) to the handler's first call.",
            _DELAY_BUCKETS,
            registry,
        )
        self.settle_delay = DelayHistogram(
            "outbox_settle_delay_seconds",
            "From the handler's last call to the receipt's commit.",
            _DELAY_BUCKETS,
            registry,
        )
        self.listener_connected = Gauge(
            "outbox_listener_connected", "1 while LISTEN is connected: the doorbell is heard.", registry=registry
        )
        self.lanes_owned = Gauge("outbox_lanes_owned", "Lanes that this relay owns, of 64.", registry=registry)
        self.rings = Counter("outbox_rings", "Notifications received.", registry=registry)
        self.polls = Counter("outbox_polls", "Looks at the log that no notification asked for.", registry=registry)
        self.bell_muted = Gauge(
            "outbox_bell_muted", "1 while writers are asked not to ring and the relay polls.", registry=registry
        )
        self.incarnations = Counter(
            "outbox_incarnations", "Times that this process joined as a new relay incarnation.", registry=registry
        )
        self.verify_only = Gauge(
            "outbox_verify_only",
            "1 while the relay stands still: run outbox recover.",
            registry=registry,
        )
        self.database_up = Gauge("outbox_database_up", "1 while the lease is renewed in time.", registry=registry)
        self._announce()

    def read(self, types: Iterable[str]) -> None:
        """Count events that were read, a slice at a time."""
        for event_type, count in Tally(types).items():
            self.emitted.labels(self.type_label(event_type)).inc(count)

    def type_label(self, event_type: str) -> str:
        """Return the label of an event type."""
        return event_type if event_type in self._types else OTHER_TYPE

    def _announce(self) -> None:
        """Show every series from the start: a counter that appears at 1 has no rate."""
        for label in (*self._types, OTHER_TYPE):
            self.emitted.labels(label)
            self.retries.labels(label)
            self.unknown.labels(label)
            for outcome in _OUTCOMES:
                self.settled.labels(label, outcome)
            for reason in Reason:
                self.deferrals.labels(label, reason.value)
        for reason in Reason:
            self.waiting.labels(reason.value).set(0)
