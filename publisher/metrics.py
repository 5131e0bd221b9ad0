"""The publisher's metrics, on the registry that the relay lends. Label sets are closed."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from publisher.placement import Endpoint
from publisher.reactions import Reaction
from publisher.reconcile import VERDICTS

REQUEST_SECONDS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 8, 15, 30, 60)


class PublisherMetrics:
    """Counts calls, errors and verdicts; never by account, event or media."""

    __slots__ = ("errors", "misses", "reconciled", "request_seconds")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.request_seconds = Histogram(
            "outbox_graph_request_seconds",
            "How long calls to the Graph API took, answered or not.",
            ["endpoint"],
            buckets=REQUEST_SECONDS_BUCKETS,
            registry=registry,
        )
        self.errors = Counter(
            "outbox_graph_errors_total",
            "Calls to the Graph API that failed, by what the publisher did next.",
            ["reaction"],
            registry=registry,
        )
        self.reconciled = Counter(
            "outbox_reconciled_total",
            "Looks at what became of an irreversible call whose answer is unknown, by verdict.",
            ["verdict"],
            registry=registry,
        )
        self.misses = Counter(
            "outbox_variant_lookups_empty_total",
            "Lookups of a variant, or of its account, by primary key that found nothing.",
            registry=registry,
        )
        for endpoint in Endpoint:
            self.request_seconds.labels(endpoint)
        for reaction in Reaction:
            self.errors.labels(reaction)
        for verdict in VERDICTS:
            self.reconciled.labels(verdict)

    def unregister(self, registry: CollectorRegistry) -> None:
        """Take the metrics off the registry, so that a handler can be opened there again."""
        for collector in (self.request_seconds, self.errors, self.reconciled, self.misses):
            registry.unregister(collector)
