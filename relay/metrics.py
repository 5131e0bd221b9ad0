"""The relay's metrics. Names and labels are final; a label's values are a closed set, never an account or an event.

Age is measured, not only depth: a queue that reads zero may be one that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from outbox.holds import HOLD_REASONS
from outbox.outcome import Reason
from relay.histogram import DelayHistogram

_DELAY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

_OUTCOMES = ("published", "dead", "cancelled", "expired")

HOLD_SERIES = tuple((scope, reason) for scope in ("app", "key") for reason in HOLD_REASONS)

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
            "Age of the oldest event that is due, without a receipt, and held back by nothing but us; what waits for "
            "Meta, a hold, its sequence or a person is in outbox_oldest_waiting_seconds.",
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
        self.oldest_waiting = Gauge(
            "outbox_oldest_waiting_seconds",
            "By reason, how long ago the first event that waits for it should have ended.",
            ["reason"],
            registry=registry,
        )
        self.often_deferred = Gauge(
            "outbox_often_deferred_events",
            "Events that wait and were put off 25 times or more, counted up to 1,000.",
            registry=registry,
        )
        self.holds = Gauge(
            "outbox_holds", "Holds in force, on a key or on the app, by reason.", ["scope", "reason"], registry=registry
        )
        self.lanes_unowned = Gauge(
            "outbox_lanes_unowned", "Lanes, of 64, that belong to no relay whose lease is in force.", registry=registry
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
            "outbox_listener_connected", "1 while LISTEN is connected and heard in time.", registry=registry
        )
        self.listener_deaf = Counter(
            "outbox_listener_deaf",
            "Times that the listener did not hear its own notification, and was connected anew.",
            registry=registry,
        )
        self.lanes_owned = Gauge("outbox_lanes_owned", "Lanes that this relay owns, of 64.", registry=registry)
        self.notification_queue_usage = Gauge(
            "outbox_notification_queue_usage_ratio",
            "How full the server's queue of notifications is; at 1 every NOTIFY fails. All databases share it.",
            registry=registry,
        )
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

    def read(self, counts: Mapping[str, int]) -> None:
        """Count events that were read, so many of each type."""
        for event_type, count in counts.items():
            self.emitted.labels(self.type_label(event_type)).inc(count)

    def type_label(self, event_type: str) -> str:
        """Return the label of an event type."""
        return event_type if event_type in self._types else OTHER_TYPE

    def database_lost(self) -> None:
        """Show that an incarnation is over: nothing is owned or heard, and what the database would tell is not known.

        Only the age of the oldest unsettled event goes on growing.
        """
        for gauge in (self.database_up, self.lanes_owned, self.listener_connected, self.bell_muted, self.backlog):
            gauge.set(0)
        self.not_known()

    def not_known(self) -> None:
        """Show that nobody knows what only the database tells.

        Not known is NaN: Prometheus compares it with nothing, and a graph shows a gap.
        """
        for gauge in (self.waiting_estimate, self.often_deferred, self.lanes_unowned, self.notification_queue_usage):
            gauge.set(math.nan)
        for reason in Reason:
            self.waiting.labels(reason.value).set(math.nan)
            self.oldest_waiting.labels(reason.value).set(math.nan)
        for scope, hold_reason in HOLD_SERIES:
            self.holds.labels(scope, hold_reason).set(math.nan)

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
            self.waiting.labels(reason.value)
            self.oldest_waiting.labels(reason.value)
        for scope, hold_reason in HOLD_SERIES:
            self.holds.labels(scope, hold_reason)
