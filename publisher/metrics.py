"""The publisher's metrics, on the registry that the relay lends. Label sets are closed."""

from __future__ import annotations

import math
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from publisher.placement import Endpoint
from publisher.reactions import Reaction
from publisher.reconcile import VERDICTS
from publisher.usage import Pace

REQUEST_SECONDS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 8, 15, 30, 60)


class Host(StrEnum):
    """Meta's hosts, each with a circuit of its own."""

    FACEBOOK = "facebook"
    INSTAGRAM = "instagram"
    UPLOAD = "upload"


class TokenState(StrEnum):
    """How an account's token stands."""

    OK = "ok"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    REFUSED = "refused"


class Limit(StrEnum):
    """What Meta limits, in the order in which `publisher.gauges` reads them."""

    APP_CALLS = "app_calls"
    ACCOUNT_CALLS = "account_calls"
    PUBLISHES = "publishes"


class PublisherMetrics:
    """Counts calls, errors and verdicts; never by account, event or media."""

    __slots__ = (
        "_all",
        "accounts_quota",
        "accounts_token",
        "circuit_open",
        "errors",
        "incomplete",
        "limit_used",
        "misses",
        "reconciled",
        "refreshes",
        "request_seconds",
        "token_expires",
    )

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
        self.incomplete = Counter(
            "outbox_incomplete_posts_total",
            "Posts that went live with fewer media than were published: a person has to look.",
            registry=registry,
        )
        self.misses = Counter(
            "outbox_variant_lookups_empty_total",
            "Lookups of a variant, or of its account, by primary key that found nothing.",
            registry=registry,
        )
        self.circuit_open = Gauge(
            "outbox_graph_circuit_open",
            "1 while a host of Meta's answers nobody and is not called, but for a probe now and then.",
            ["host"],
            registry=registry,
        )
        self.accounts_quota = Gauge(
            "outbox_accounts_quota",
            "Accounts by how near they are to Meta's limits: ok, slow from 75 %, held from 90 % or for a stated time.",
            ["state"],
            registry=registry,
        )
        self.limit_used = Gauge(
            "outbox_limit_used_ratio",
            "How much of a limit of Meta's is used up, by the account that used most of it, or by the app; NaN where "
            "Meta has not said lately.",
            ["limit"],
            registry=registry,
        )
        self.accounts_token = Gauge(
            "outbox_accounts_token",
            "Accounts by how their token stands: ok, expiring within 7 days, expired, refused by Meta.",
            ["state"],
            registry=registry,
        )
        self.token_expires = Gauge(
            "outbox_token_expires_seconds",
            "How soon the first token expires, as far as that is known; NaN where none does.",
            registry=registry,
        )
        self.refreshes = Counter(
            "outbox_token_refreshes_total",
            "Tokens of Instagram Login, refreshed or not.",
            ["result"],
            registry=registry,
        )
        self._all = (
            self.request_seconds,
            self.errors,
            self.reconciled,
            self.incomplete,
            self.misses,
            self.circuit_open,
            self.accounts_quota,
            self.limit_used,
            self.accounts_token,
            self.token_expires,
            self.refreshes,
        )
        self._announce()

    def database_lost(self) -> None:
        """Show that what the database would tell is not known."""
        for pace in Pace:
            self.accounts_quota.labels(pace).set(math.nan)
        for limit in Limit:
            self.limit_used.labels(limit).set(math.nan)
        for state in TokenState:
            self.accounts_token.labels(state).set(math.nan)
        self.token_expires.set(math.nan)

    def unregister(self, registry: CollectorRegistry) -> None:
        """Take the metrics off the registry, so that a handler can be opened there again."""
        for collector in self._all:
            registry.unregister(collector)

    def _announce(self) -> None:
        """Show every series from the start: a counter that appears at 1 has no rate."""
        for endpoint in Endpoint:
            self.request_seconds.labels(endpoint)
        for reaction in Reaction:
            self.errors.labels(reaction)
        for verdict in VERDICTS:
            self.reconciled.labels(verdict)
        for host in Host:
            self.circuit_open.labels(host)
        for result in ("refreshed", "failed"):
            self.refreshes.labels(result)
        self.database_lost()
